"""TLS towards the broker: version 1.2 or later, the host name checked, our certificate where one is set."""

import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ingest import certificate
from ingest.certificate import Stamp
from ingest.settings import Settings

ADVICE = (
    "check the host name and dates of the broker's certificate, GANZHI_MQTT_CA, and GANZHI_MQTT_CERT with "
    "GANZHI_MQTT_KEY"
)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """A context made of the files as they are now; None for plain TCP. Raises `CertificateError`, an OSError."""
    if not settings.mqtt_tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not settings.mqtt_ca:
        context.load_default_certs()
    reload(context, settings)
    return context


def reload(context: ssl.SSLContext, settings: Settings) -> None:
    """Take the files up anew, for the connections to come. Raises `CertificateError`."""
    if settings.mqtt_ca:
        certificate.load_authority(context, settings.mqtt_ca, "GANZHI_MQTT_CA")
    if settings.mqtt_cert:
        certificate.load_chain(context, settings.mqtt_cert, settings.mqtt_key, "GANZHI_MQTT_CERT")


def stamp(settings: Settings) -> Stamp:
    """Of the files that a connection is made of."""
    return certificate.stamp(settings.mqtt_ca, settings.mqtt_cert, settings.mqtt_key)


def end_of(peer: Mapping[str, Any] | None) -> float | None:
    """When the certificate that the broker showed ends, Unix seconds; None without TLS."""
    return ssl.cert_time_to_seconds(str(peer["notAfter"])) if peer else None


def of_broker(settings: Settings, timeout_seconds: float) -> datetime:
    """End of the broker's certificate, over `mqtts`. Raises OSError, also when it is not trusted."""
    context = tls_context(settings)
    assert context
    host, port = settings.mqtt_host_port()
    with (
        socket.create_connection((host, port), timeout_seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        return datetime.fromtimestamp(end_of(wrapped.getpeercert()) or 0, UTC)
