"""What the vendor of a gateway needs to connect it: topics, names, access, and a line to try.

No setting knows where gateways reach the broker: its URL is the service's own door, in compose of an inner network. So
the line to try has a blank for the host, and the port and files of docs/gateways.md.
"""

import shlex

from devices.division import PROVINCE
from ingest.settings import Settings

GATEWAYS_PORT = 8883
"""Of deploy/mosquitto, where gateways show their certificates."""


def sheet(settings: Settings, gateway: str, division: int | None) -> list[tuple[str, str]]:
    """Labels and texts. The broker's user name, the certificate's common name and the topic's part are one name."""
    base = f"ganzhi/v1/{division or PROVINCE}/{gateway}"
    message = _message(settings, gateway, f"{base}/telemetry")
    door = ["-h", "HOST", "-p", str(GATEWAYS_PORT), "--cafile", "authority.crt"]
    shows = ["--cert", f"{gateway}.crt", "--key", f"{gateway}.key"]
    return [
        ("topic", f"{base}/telemetry (QoS 1)"),
        ("status", f'{base}/status (QoS 1, retained; as the Will: {{"online": false}})'),
        ("refusals", f"{base}/rejected (subscribe)"),
        ("certificate", f"CN={gateway}"),
        ("ACL", f"user {gateway}"),
        *(("", f"topic write {base}/{kind}") for kind in ("telemetry", "presence", "status")),
        ("", f"topic read {base}/rejected"),
        ("", "(nothing to add where deploy/mosquitto/acl is in use: it has all that by pattern)"),
        ("try", shlex.join(["mosquitto_pub", *door, *shows, *message])),
        ("", "(HOST: a name of the broker's certificate; deploy/certificate.sh makes the three files)"),
        *_without_users(settings, message),
    ]


def _message(settings: Settings, gateway: str, topic: str) -> list[str]:
    """Options that send one reading of a terminal named after the gateway."""
    version = ["-V", "5"] if settings.mqtt_version == "5" else []  # the demo's broker takes nothing else
    payload = f'[{{"n":"{gateway}-test/temperature","u":"Cel","v":21.5}}]'
    return [*version, "-q", "1", "-t", topic, "-m", payload]


def _without_users(settings: Settings, message: list[str]) -> list[tuple[str, str]]:
    """The same for a broker that asks for nothing: neither certificate nor password stands in our settings."""
    if settings.mqtt_tls or settings.mqtt_credentials()[0]:
        return []
    host, port = settings.mqtt_host_port()
    return [("or, no users", shlex.join(["mosquitto_pub", "-h", host, "-p", str(port), *message]))]
