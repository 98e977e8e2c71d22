"""When the certificates in use expire: the broker's own and the one that we show it."""

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest.mqtt.transport import tls_context
from ingest.settings import Settings


def of_broker(settings: Settings, timeout_seconds: float) -> datetime:
    """End of the broker's certificate, over `mqtts`. Raises OSError, also when it is not trusted."""
    context = tls_context(settings)
    assert context
    host, port = settings.mqtt_host_port()
    with (
        socket.create_connection((host, port), timeout_seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        return _end(wrapped.getpeercert() or {})


def of_file(path: Path) -> datetime:
    """End of the first certificate in a PEM file. Raises OSError when there is none."""
    # The one decoder of certificates in the standard library has no public name; it has been there since 2.6.
    return _end(ssl._ssl._test_decode_cert(str(path)))  # type: ignore[attr-defined]  # noqa: SLF001


def _end(certificate: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
