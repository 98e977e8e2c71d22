"""The doors' side of `ganzhi check`: certificates that end, secrets that lie about, what crosses a network in clear.

From settings and files alone; what takes a connection to see is `check_broker`'s and `check_database`'s.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from ingest import certificate
from ingest.finding import Finding, fail, ok, warn
from ingest.settings import Settings
from ingest.settings_sources import PREFIX, SUFFIX
from ingest.settings_values import is_loopback

CERTIFICATE_DAYS = 30
"""A renewal takes people, and some of them are on holiday."""


def run(settings: Settings) -> Iterator[Finding]:
    """Everything that can be said without a connection."""
    yield from _certificates(settings)
    host, _ = settings.mqtt_host_port()
    if not (settings.mqtt_tls or is_loopback(host)):
        what = "password and readings cross" if settings.mqtt_credentials()[1] else "readings cross"
        yield clear(settings, "broker's TLS", f"none: {what} the network to {host} in clear",
                    "give it a certificate and set GANZHI_MQTT_URL=mqtts://... with GANZHI_MQTT_CA")  # fmt: skip
    yield from _http(settings)
    if settings.production:
        yield _environment(settings)


def clear(settings: Settings, name: str, found: str, advice: str) -> Finding:
    """What should not be so: a warning, in production a failure."""
    return fail(name, found, advice) if settings.production else warn(name, found, advice)


def ending(name: str, end: datetime) -> Finding:
    """How long a certificate is good for."""
    days = (end - datetime.now(UTC)).total_seconds() / 86_400
    text = f"until {end:%Y-%m-%d}, {days:.0f} days"
    if days < 0:
        return fail(name, text, "renew it: it has expired")
    return ok(name, text) if days > CERTIFICATE_DAYS else warn(name, text, "renew it now")


def _certificates(settings: Settings) -> Iterator[Finding]:
    """Those that lie in files; the database's are named in its URL."""
    first, last = certificate.first_end, certificate.last_end
    if settings.mqtt_tls:
        yield from _certificate("broker's CA", settings.mqtt_ca, last, "GANZHI_MQTT_CA")
        yield from _certificate("our certificate", settings.mqtt_cert, first, "GANZHI_MQTT_CERT")
    yield from _certificate("HTTP certificate", settings.http_cert, first, "GANZHI_HTTP_CERT")
    yield from _certificate("HTTP clients' CA", settings.http_client_ca, last, "GANZHI_HTTP_CLIENT_CA")
    database = conninfo_to_dict(settings.database_url.get_secret_value())
    for name, key, end in (
        ("database's CA", "sslrootcert", last),
        ("database certificate", "sslcert", first),
    ):
        if (file := str(database.get(key) or "")) not in {"", "system"}:
            yield from _certificate(name, Path(file), end, f"{key} in GANZHI_DATABASE_URL")


def _certificate(
    name: str, file: Path | None, end: Callable[[Path], datetime], setting: str
) -> Iterator[Finding]:
    if not file:
        return
    try:
        yield ending(name, end(file))
    except OSError as error:
        yield fail(name, f"{file}: {error.strerror}", f"check {setting}")
    except ValueError:
        yield fail(name, f"{file}: no certificate as PEM", f"check {setting}")


def _http(settings: Settings) -> Iterator[Finding]:
    if settings.http_cert or is_loopback(settings.http_host) or settings.http_private_network:
        return
    crossing = "/metrics and its token" + (", pushes and theirs" if settings.push_port else "")
    yield clear(settings, "HTTP", f"{settings.http_host} without TLS: {crossing} cross the network in clear",
                "set GANZHI_HTTP_CERT and GANZHI_HTTP_KEY, or GANZHI_HTTP_PRIVATE_NETWORK=true where only a "
                "private network leads there")  # fmt: skip


def _environment(settings: Settings) -> Finding:
    """Child processes, crash dumps and `docker inspect` show the environment."""
    named = [PREFIX + name.upper() for name, value in settings.secret_values().items()
             if PREFIX + name.upper() in os.environ and _holds_secret(value.get_secret_value())]  # fmt: skip
    if named:
        return warn("secrets", f"in the environment: {', '.join(named)}",
                    f"put each into a file and name it: {named[0]}{SUFFIX}")  # fmt: skip
    return ok("secrets", "none in the environment")


def _holds_secret(text: str) -> bool:
    """A URL without a password is none."""
    return "://" not in text or bool(urlsplit(text).password) or "password" in text
