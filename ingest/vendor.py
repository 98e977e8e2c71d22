"""What the vendor of a gateway needs to connect it: topics, names, access, and a line to try."""

import shlex

from devices.division import PROVINCE
from ingest.settings import Settings

PASSWORD = "PASSWORD"  # noqa: S105 - a place to fill in


def sheet(settings: Settings, gateway: str, division: int | None) -> list[tuple[str, str]]:
    """Labels and texts. The broker's user name, the certificate's common name and the topic's part are one name."""
    base = f"ganzhi/v1/{division or PROVINCE}/{gateway}"
    return [
        ("topic", f"{base}/telemetry (QoS 1)"),
        ("status", f'{base}/status (QoS 1, retained; as the Will: {{"online": false}})'),
        ("refusals", f"{base}/rejected (subscribe)"),
        ("certificate", f"CN={gateway}"),
        ("ACL", f"user {gateway}"),
        *(("", f"topic write {base}/{kind}") for kind in ("telemetry", "presence", "status")),
        ("", f"topic read {base}/rejected"),
        ("", "(nothing to add where deploy/mosquitto/acl is in use: it has all that by pattern)"),
        ("try", publish_line(settings, gateway, f"{base}/telemetry")),
    ]


def publish_line(settings: Settings, gateway: str, topic: str) -> str:
    """A `mosquitto_pub` command that sends one reading of a terminal named after the gateway."""
    host, port = settings.mqtt_host_port()
    words = ["mosquitto_pub", "-h", host, "-p", str(port)]
    if settings.mqtt_version == "5":  # the demo's broker takes nothing else
        words += ["-V", "5"]
    if settings.mqtt_tls:
        words += ["--cafile", "authority.crt", "--cert", f"{gateway}.crt", "--key", f"{gateway}.key"]
    if settings.mqtt_credentials()[0]:
        words += ["-u", gateway, "-P", PASSWORD]
    payload = f'[{{"n":"{gateway}-test/temperature","u":"Cel","v":21.5}}]'
    return shlex.join([*words, "-q", "1", "-t", topic, "-m", payload])
