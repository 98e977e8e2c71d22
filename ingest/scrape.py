"""The workers' `/metrics`, read by `ganzhi status`: which workers answer, and what they say.

Worker n listens on `GANZHI_HTTP_PORT` + n. Ports beside it may belong to others: what is not Ganzhi is passed
over, and a port that is closed counts only where a worker of a higher number answers.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from prometheus_client.parser import text_string_to_metric_families

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
    host = EVERYWHERE.get(settings.http_host, settings.http_host)
    ports = [p for p in range(settings.http_port, settings.http_port + PORTS) if p <= 65_535]
    with ThreadPoolExecutor(PORTS) as threads:
        said = list(threads.map(lambda port: _ask(host, port), ports))
    count = max((n for n, values in enumerate(said, start=1) if isinstance(values, dict)), default=0)
    if not count and isinstance(said[0], TimeoutError):
        count = 1
    return [_answer(n, said[n]) for n in range(count)]


def _answer(worker: int, said: Values | OSError | None) -> Answer:
    if isinstance(said, dict):
        return Answer(worker, said)
    if isinstance(said, TimeoutError):
        return Answer(worker, {}, f"does not answer within {ANSWER_SECONDS:g} s")
    return Answer(worker, {}, "does not run, while others of a higher number do")


def _ask(host: str, port: int) -> Values | OSError | None:
    """A worker's samples; None where something else answers."""
    connection = HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        text = connection.getresponse().read().decode(errors="replace")
        values = _values(text)
    except OSError as error:
        return error
    except (HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return values if "ganzhi_messages_in_flight" in values else None


def _values(text: str) -> Values:
    values: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values
