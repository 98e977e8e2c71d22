"""Kinds of values that settings have, and what each refuses by itself.

A refusal says what would be right and never what was there: that may be a secret, or a part of one.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from schemas.routes import Routes

_MQTT_URL = (
    "must look like mqtt://user:password@host:1883 or mqtts://host:8883, with / : @ # ? % [ ] in the password "
    "written as %2F %3A %40 %23 %3F %25 %5B %5D"
)
_PUSH_PART = r"(ctwing|onenet|iotda)=[A-Za-z0-9_.~-]{8,128}"


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mqtt_url(value: SecretStr) -> SecretStr:
    """Refuses every URL that a special character in its password has cut elsewhere than its writer meant."""
    try:
        url = urlsplit(value.get_secret_value())
        whole = url.port != 0 and not (url.path.strip("/") or url.query or url.fragment)
    except ValueError:  # quotes what it does not like, which may be a part of the password
        raise ValueError(_MQTT_URL) from None
    if url.scheme not in {"mqtt", "mqtts"} or not url.hostname or not whole:
        raise ValueError(_MQTT_URL)
    return value


def _database_url(value: SecretStr) -> SecretStr:
    try:
        parts = conninfo_to_dict(value.get_secret_value())
    except ProgrammingError:
        parts = {"port": "unreadable"}
    port, host = str(parts.get("port", "0")), str(parts.get("host", ""))
    # A / in a password makes a part of it the port or the database, an @ a part of the host (at its start: a socket).
    if not port.replace(",", "0").isdigit() or "@" in f"{host[1:]}{parts.get('dbname')}":
        raise ValueError("must look like postgresql://user:password@host:5432/database, with / : @ % in the "
                         "password written as %2F %3A %40 %25")  # fmt: skip
    return value


def _routes(value: Path | None) -> Path | None:
    Routes.load(value)
    return value


def _split(value: Any) -> Any:
    """A list as a variable holds it; a TOML file has lists of its own."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _matching(pattern: str, otherwise: str) -> AfterValidator:
    """Refuses a text, secret or not, that the pattern does not match as a whole; None is no text."""

    def check(value: SecretStr | str | None) -> SecretStr | str | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not re.fullmatch(pattern, text):
            raise ValueError(otherwise)
        return value

    return AfterValidator(check)


MqttUrl = Annotated[SecretStr, AfterValidator(_mqtt_url)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
RoutesFile = Annotated[Path | None, AfterValidator(_routes)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Port = Annotated[int, Field(ge=0, le=65_535)]
MqttVersion = Annotated[str, Field(pattern=r"^(5|3\.1\.1)$")]
ShareGroup = Annotated[str, Field(pattern=r"^[^/+#]*$")]
ClientId = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9_.-]{1,48}",
        "must be 1 to 48 of A-Z a-z 0-9 _ . - (the broker keeps the session under it)",
    ),
]
HttpToken = Annotated[
    SecretStr | None,
    _matching(r"[A-Za-z0-9_.~+/=-]{16,128}", "must be 16 to 128 of A-Z a-z 0-9 _ . ~ + / = -"),
]
PushToken = Annotated[
    SecretStr | None,
    _matching(
        rf"({_PUSH_PART}(,{_PUSH_PART})*)?",
        "must look like ctwing=TOKEN,onenet=TOKEN,iotda=TOKEN, each token 8 to 128 of A-Z a-z 0-9 _ . ~ -",
    ),
]
OnenetAesKey = Annotated[
    SecretStr | None,
    _matching(
        r"[A-Za-z0-9+/]{43}", "must be the 43 characters of base64 that OneNET shows beside the push address"
    ),
]
