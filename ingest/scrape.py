"""The workers' `/metrics`, read by `ganzhi status`: which workers answer, and what they say; and `/readyz`.

Worker n listens on `GANZHI_HTTP_PORT` + n. Ports beside it may belong to others: what is not Ganzhi is passed
over, and a port that is closed counts only where a worker of a higher number answers.
"""

import json
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from prometheus_client.parser import text_string_to_metric_families

from ingest import certificate
from ingest.settings import Settings

PORTS = 16
"""Workers looked for, from the first port on."""
ANSWER_SECONDS = 2.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""Addresses to listen on, and where they answer."""

Values = dict[str, float]
"""Sample name to value, summed over labels."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker said, or in `fault` why it says nothing."""

    worker: int
    values: Values
    fault: str = ""


def workers(settings: Settings) -> list[Answer]:
    """Every worker that answers, and those that should; none when nobody answers at all."""
    if not settings.http_port:
        return []
    ports = [p for p in range(settings.http_port, settings.http_port + PORTS) if p <= 65_535]
    with ThreadPoolExecutor(PORTS) as threads:
        said = list(threads.map(lambda port: _ask(settings, port), ports))
    count = max((n for n, values in enumerate(said, start=1) if isinstance(values, dict)), default=0)
    if not count and isinstance(said[0], TimeoutError | PermissionError):
        count = 1
    return [_answer(n, said[n]) for n in range(count)]


def _answer(worker: int, said: Values | OSError | None) -> Answer:
    if isinstance(said, dict):
        return Answer(worker, said)
    if isinstance(said, TimeoutError):
        return Answer(worker, {}, f"does not answer within {ANSWER_SECONDS:g} s")
    if isinstance(said, PermissionError):
        return Answer(worker, {}, str(said))
    return Answer(worker, {}, "does not run, while others of a higher number do")


def databases(settings: Settings, workers: Iterable[int]) -> dict[int, str]:
    """The identity (`status.sql`) of the database of each worker, as far as they know and say it."""
    ports = {worker: settings.http_port + worker for worker in workers}
    with ThreadPoolExecutor(PORTS) as threads:
        said = threads.map(lambda port: _database(settings, port), ports.values())
    return {worker: name for worker, name in zip(ports, said, strict=True) if name}


def _database(settings: Settings, port: int) -> str:
    try:
        return str(json.loads(_page(settings, port, "/readyz")).get("database", ""))
    except (OSError, HTTPException, ValueError, AttributeError):
        return ""  # busy or gone: its metrics tell


def metrics(settings: Settings, port: int, timeout_seconds: float = ANSWER_SECONDS) -> str:
    """What `/metrics` says at this port of `GANZHI_HTTP_HOST`, asked as its settings ask for.

    Raises OSError, PermissionError where the token is refused, and HTTPException where it is not HTTP.
    """
    return _page(settings, port, "/metrics", timeout_seconds)


def _page(settings: Settings, port: int, path: str, timeout_seconds: float = ANSWER_SECONDS) -> str:
    host = EVERYWHERE.get(settings.http_host, settings.http_host)
    tls = _trusting_ours(settings)
    connection = (
        HTTPSConnection(host, port, timeout=timeout_seconds, context=tls)
        if tls
        else HTTPConnection(host, port, timeout=timeout_seconds)
    )
    headers = {"Connection": "close"}
    if settings.http_token:
        headers["Authorization"] = f"Bearer {settings.http_token_text}"
    with closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise PermissionError("refuses our token: give this command the GANZHI_HTTP_TOKEN of the service")
        return text


def _trusting_ours(settings: Settings) -> ssl.SSLContext | None:
    """Trusts the very certificate that the service shows, whatever its names: it is a file of our own settings.

    Shows it too, where clients have to show one.
    """
    if not settings.http_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    certificate.load_authority(context, settings.http_cert, "GANZHI_HTTP_CERT")
    if settings.http_client_ca:
        certificate.load_chain(context, settings.http_cert, settings.http_key, "GANZHI_HTTP_CERT")
    return context


def _ask(settings: Settings, port: int) -> Values | OSError | None:
    """A worker's samples; None where something else answers."""
    try:
        values = _values(metrics(settings, port))
    except OSError as error:
        return error
    except (HTTPException, ValueError):
        return None
    return values if "ganzhi_messages_in_flight" in values else None


def _values(text: str) -> Values:
    values: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values
