"""Settings: environment `GANZHI_...` over a TOML file, checked together before anything connects."""

import math
import os
import re
import tomllib
from datetime import date
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.routes import Routes
from schemas.topic import filters_overlap

PREFIX = "GANZHI_"
SUFFIX = "_FILE"
SECRETS = ("mqtt_url", "database_url", "http_token", "push_token", "onenet_token", "onenet_aes_key")
RECEIVE_MAXIMUM_LIMIT = 65_534
"""65,535 is the protocol's default, which the codec does not send: then the broker's own limit rules."""

REFRESH_DAYS = 2
"""Until late readings are in the rollups: the day of their bucket, and a day that maintenance may be away."""
MQTT_URL = (
    "must look like mqtt://user:password@host:1883 or mqtts://host:8883, with / : @ # ? % [ ] in the password "
    "written as %2F %3A %40 %23 %3F %25 %5B %5D"
)


class SettingsError(Exception):
    """Settings that cannot work together; the text names each and what to do. Exit code 2."""


class OnUnknown(StrEnum):
    """What happens to a terminal or metric that nobody registered."""

    REGISTER = "register"
    REJECT = "reject"


class OnUnknownGateway(StrEnum):
    """What happens to a message of a gateway that nobody registered."""

    ACCEPT = "accept"
    REJECT = "reject"


class GatewayDivision(StrEnum):
    """Under which divisions a registered gateway may publish."""

    ACCEPT = "accept"
    CITY = "city"
    EXACT = "exact"


def _mqtt_url(value: SecretStr) -> SecretStr:
    """Refuses every URL that a special character in its password has cut elsewhere than its writer meant."""
    try:
        url = urlsplit(value.get_secret_value())
        whole = url.port != 0 and not (url.path.strip("/") or url.query or url.fragment)
    except ValueError:  # quotes what it does not like, which may be a part of the password
        raise ValueError(MQTT_URL) from None
    if url.scheme not in {"mqtt", "mqtts"} or not url.hostname or not whole:
        raise ValueError(MQTT_URL)
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


def _http_token(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9_.~+/=-]{16,128}", value.get_secret_value()):
        raise ValueError("must be 16 to 128 of A-Z a-z 0-9 _ . ~ + / = -")
    return value


_PUSH_TOKEN = re.compile(r"(ctwing|onenet|iotda)=[A-Za-z0-9_.~-]{8,128}")


def _push_token(value: SecretStr | None) -> SecretStr | None:
    if value and not all(_PUSH_TOKEN.fullmatch(part) for part in value.get_secret_value().split(",")):
        raise ValueError("must look like ctwing=TOKEN,onenet=TOKEN,iotda=TOKEN, each token 8 to 128 of "
                         "A-Z a-z 0-9 _ . ~ -")  # fmt: skip
    return value


def _onenet_aes_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9+/]{43}", value.get_secret_value()):
        raise ValueError("must be the 43 characters of base64 that OneNET shows beside the push address")
    return value


def _client_id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,48}", value):
        raise ValueError("must be 1 to 48 of A-Z a-z 0-9 _ . - (the broker keeps the session under it)")
    return value


def _routes(value: Path | None) -> Path | None:
    Routes.load(value)
    return value


class Settings(BaseSettings):
    """Every setting of the service; names are the contract's, in lower case without the prefix."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    mqtt_url: Annotated[
        SecretStr,
        AfterValidator(_mqtt_url),
        Field(
            description="The broker: `mqtt://user:password@host:1883`, or `mqtts://host:8883` for TLS. "
            "Secret: `_FILE` keeps it out of the environment."
        ),
    ] = SecretStr("mqtt://127.0.0.1:1883")
    mqtt_version: Annotated[
        str,
        Field(
            pattern=r"^(5|3\.1\.1)$",
            description="`5`, or `3.1.1` for brokers that know no better: slower, and without content types.",
        ),
    ] = "5"
    mqtt_ca: Annotated[
        Path | None,
        Field(
            description="PEM file of the authority that signed the broker's certificate; else the system's."
        ),
    ] = None
    mqtt_cert: Annotated[
        Path | None,
        Field(description="PEM file of the certificate that we show the broker; with `GANZHI_MQTT_KEY`."),
    ] = None
    mqtt_key: Annotated[Path | None, Field(description="PEM file of the key to `GANZHI_MQTT_CERT`.")] = None
    share_group: Annotated[
        str,
        Field(
            pattern=r"^[^/+#]*$",
            description="Name of the share group; several workers need one, or filters that do not overlap. "
            "Empty: plain subscription.",
        ),
    ] = ""
    client_id: Annotated[
        str,
        AfterValidator(_client_id),
        Field(
            description="Durable name at the broker, which keeps a worker's session and queue under it: worker n "
            "is `{id}-{n}`, the observer `{id}-observer`. Two services on one broker need two names."
        ),
    ] = "ganzhi"
    session_hours: Annotated[
        float,
        Field(
            gt=0,
            le=24 * 365,
            description="How long the broker keeps messages for a worker that is away, as far as it grants it.",
        ),
    ] = 168
    topics: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Topic filters that do not overlap, comma-separated. Empty: those of all routes."),
    ] = ()
    routes: Annotated[
        Path | None,
        AfterValidator(_routes),
        Field(
            description="TOML file of routes of one's own, with mappings of vendors' JSON, beside those of the "
            "service: see docs/routes.md."
        ),
    ] = None
    database_url: Annotated[
        SecretStr,
        AfterValidator(_database_url),
        Field(
            description="The database: `postgresql://user:password@host:5432/database`. Secret: `_FILE` keeps it "
            "out of the environment."
        ),
    ] = SecretStr("postgresql://127.0.0.1:5432/ganzhi")
    http_host: Annotated[
        str,
        Field(
            description="Address that `/metrics`, `/healthz` and `/readyz` listen on. Beyond this machine they need "
            "`GANZHI_HTTP_TOKEN`, `GANZHI_HTTP_CLIENT_CA` or `GANZHI_HTTP_PRIVATE_NETWORK`."
        ),
    ] = "127.0.0.1"
    http_port: Annotated[
        int,
        Field(ge=0, le=65_535, description="Their port: worker n listens on this + n; 0 takes any free one."),
    ] = 9108
    observer_http_port: Annotated[int, Field(ge=0, le=65_535, description="The observer's port.")] = 9107
    http_token: Annotated[
        SecretStr | None,
        AfterValidator(_http_token),
        Field(
            description="Token that `/metrics` and the reasons of `/readyz` ask for, `Authorization: Bearer TOKEN`: 16 "
            "to 128 of A-Z a-z 0-9 _ . ~ + / = -. Secret: `_FILE` keeps it out of the environment."
        ),
    ] = None
    http_cert: Annotated[
        Path | None,
        Field(
            description="PEM file of the certificate of every HTTP port, pushes too, with `GANZHI_HTTP_KEY`: they then "
            "speak HTTPS."
        ),
    ] = None
    http_key: Annotated[Path | None, Field(description="PEM file of the key to `GANZHI_HTTP_CERT`.")] = None
    http_client_ca: Annotated[
        Path | None,
        Field(
            description="PEM file of the authority whose certificates may read `/metrics`, `/healthz` and `/readyz` "
            "(mutual TLS); pushes show their token instead. Needs `GANZHI_HTTP_CERT`."
        ),
    ] = None
    http_private_network: Annotated[
        bool,
        Field(
            description="`true`: whoever reaches `GANZHI_HTTP_HOST` may read `/metrics`, as only a private network "
            "leads there."
        ),
    ] = False
    push_port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65_535,
            description="Port of `POST /push/{platform}/{gateway}` on `GANZHI_HTTP_HOST`: worker n listens on this "
            "+ n; off without it. Needs `GANZHI_PUSH_TOKEN`.",
        ),
    ] = None
    push_token: Annotated[
        SecretStr | None,
        AfterValidator(_push_token),
        Field(
            description="Tokens of the platforms that push: `ctwing=TOKEN,onenet=TOKEN,iotda=TOKEN`, each 8 to 128 of "
            "A-Z a-z 0-9 _ . ~ -; a platform without one is turned away. Secret: `_FILE` keeps it out of the "
            "environment."
        ),
    ] = None
    onenet_token: Annotated[
        SecretStr | None,
        Field(
            min_length=1,
            description="Token of OneNET's push configuration: with it signatures are checked, and pushes without "
            "one refused. Secret: `_FILE` keeps it out of the environment.",
        ),
    ] = None
    onenet_aes_key: Annotated[
        SecretStr | None,
        AfterValidator(_onenet_aes_key),
        Field(
            description="Key of OneNET's push configuration, 43 characters, for pushes that come encrypted. Secret: "
            "`_FILE` keeps it out of the environment."
        ),
    ] = None
    batch_readings: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Readings written in one transaction at most. A worker holds three batches of messages "
            "unacknowledged.",
        ),
    ] = 20_000
    batch_seconds: Annotated[
        float,
        Field(gt=0, le=60, description="How long a reading waits at most for its batch to fill."),
    ] = 0.2
    unknown_terminals: Annotated[
        OnUnknown,
        Field(
            description="A terminal that nobody registered: `register` stores it as discovered, `reject` refuses "
            "its readings as `unknown_terminal`."
        ),
    ] = OnUnknown.REGISTER
    unknown_metrics: Annotated[
        OnUnknown,
        Field(
            description="A metric that is not in the catalogue: `register` with the unit it came with, `reject` "
            "as `unknown_metric`."
        ),
    ] = OnUnknown.REGISTER
    unknown_gateways: Annotated[
        OnUnknownGateway,
        Field(description="A gateway that nobody registered: `accept`, or `reject` as `not_authorized`."),
    ] = OnUnknownGateway.ACCEPT
    gateway_division: Annotated[
        GatewayDivision,
        Field(
            description="A registered gateway whose topic names another division than it is registered in: `accept`; "
            "`city` refuses another city as `not_authorized` (gateways serve across county borders); `exact` refuses "
            "all that does not lie within its own."
        ),
    ] = GatewayDivision.CITY
    registrations_per_gateway_hour: Annotated[
        int,
        Field(
            ge=1,
            description="Unknown terminals that one gateway may bring within an hour (all topics without a gateway "
            "count as one); readings of more are refused as `unknown_terminal`, and can be replayed. Registered ones "
            "are not counted.",
        ),
    ] = 10_000
    max_age_days: Annotated[
        int,
        Field(
            ge=0,
            description="Readings observed longer ago are refused as `time_too_old`. 0: no limit, and then "
            "nothing raw is dropped by age.",
        ),
    ] = 90
    ledger_hours: Annotated[
        float,
        Field(gt=0, description="How long a message is remembered, so that it counts once; 91 B a message."),
    ] = 6
    max_payload_bytes: Annotated[
        int,
        Field(
            ge=1,
            le=268_435_455,
            description="Larger payloads are refused as `too_large` and kept cut. The broker's own limit has to "
            "be higher.",
        ),
    ] = 1_048_576
    rejections_per_minute: Annotated[
        int,
        Field(
            ge=0,
            description="Rows a minute for garbage (`malformed_payload`, `bad_topic`, `no_route`, `too_large`); "
            "beyond it is counted only. Every other refusal is always stored.",
        ),
    ] = 10_000
    retention_raw_days: Annotated[
        int, Field(ge=0, description="How long readings and events are kept; 0: for ever.")
    ] = 400
    retention_hourly_days: Annotated[
        int,
        Field(
            ge=0,
            description="How long rollups are kept, never shorter than readings; 0: for ever, which is the default "
            "where readings are. Storage timescale: the other computes them from readings.",
        ),
    ] = 3650
    retention_rejection_days: Annotated[int, Field(ge=1, description="How long rejections are kept.")] = 90
    chunk_hours: Annotated[
        int, Field(ge=1, description="Span of a chunk of readings (storage timescale).")
    ] = 24
    observe_seconds: Annotated[float, Field(gt=0, description="How often the observer counts.")] = 30
    gap_terminals: Annotated[
        int,
        Field(ge=1, description="Terminals that an outage or a dark cell needs; fewer are not a place."),
    ] = 20
    goal_due: Annotated[
        date,
        Field(description="When 300,000,000 terminals are due, an assumption: five years."),
    ] = date(2027, 12, 31)
    node_domains: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Domains whose verified terminals are nodes, comma-separated."),
    ] = (
        "manufacturing",
        "healthcare",
        "security",
        "municipal",
    )
    production: Annotated[
        bool,
        Field(
            description="`true`: `ganzhi check` names every secret that stands in the environment instead of a file, "
            "and what crosses a network in clear is a failure instead of a warning."
        ),
    ] = False
    data_dir: Annotated[
        Path | None,
        Field(
            description="Folder of the demo's data, found again by the next one. Without it: `ganzhi` in the user's "
            "data folder, `/var/lib/ganzhi` for root."
        ),
    ] = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then what `load` read from files (passed as init values)."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in ("topics", "node_domains"):
            if isinstance(text := values.get(name), str):
                values[name] = tuple(part.strip() for part in text.split(",") if part.strip())
        return values

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if overlap := filters_overlap(self.topics):
            raise ValueError(f"GANZHI_TOPICS: {overlap[0]} and {overlap[1]} overlap, every message in both "
                             "would come twice; name filters that do not overlap")  # fmt: skip
        if self.share_group and (dollar := [t for t in self.topics if t.startswith("$")]):
            raise ValueError(f"GANZHI_SHARE_GROUP with the filter {dollar[0]} delivers nothing: brokers do not "
                             "share topics that begin with $; let a bridge republish them")  # fmt: skip
        if (self.mqtt_cert is None) != (self.mqtt_key is None):
            raise ValueError("GANZHI_MQTT_CERT and GANZHI_MQTT_KEY go together: set both or neither")
        self._check_http()
        self._check_files()
        if self.push_port and not self.push_token:
            raise ValueError(
                "GANZHI_PUSH_PORT opens a door that anybody could push through: set GANZHI_PUSH_TOKEN"
            )
        self._check_retention()
        return self

    def _check_http(self) -> None:
        """What is read by HTTP names every city's terminals: a network gets it only where that is meant."""
        if (self.http_cert is None) != (self.http_key is None):
            raise ValueError("GANZHI_HTTP_CERT and GANZHI_HTTP_KEY go together: set both or neither")
        if self.http_client_ca and not self.http_cert:
            raise ValueError("GANZHI_HTTP_CLIENT_CA asks clients for certificates, which takes HTTPS: set "
                             "GANZHI_HTTP_CERT and GANZHI_HTTP_KEY")  # fmt: skip
        guarded = self.http_token or self.http_client_ca or self.http_private_network
        if not is_loopback(self.http_host) and not guarded:
            raise ValueError(f"GANZHI_HTTP_HOST {self.http_host} lets others than this machine read /metrics: set "
                             "GANZHI_HTTP_TOKEN_FILE to a file with a token, or GANZHI_HTTP_CLIENT_CA with "
                             "GANZHI_HTTP_CERT and GANZHI_HTTP_KEY for mutual TLS, or, where only a private network "
                             "leads there, GANZHI_HTTP_PRIVATE_NETWORK=true")  # fmt: skip

    def _check_files(self) -> None:
        for name in ("mqtt_ca", "mqtt_cert", "mqtt_key", "http_cert", "http_key", "http_client_ca"):
            file = getattr(self, name)
            try:
                if file:
                    file.open("rb").close()
            except OSError as error:
                raise ValueError(f"{PREFIX}{name.upper()}: {file}: {error.strerror}") from None

    def _check_retention(self) -> None:
        """A refresh of rollups over readings that are dropped deletes rollups: readings have to outlast it."""
        raw, chunk_days = self.raw_kept_days, self.chunk_hours / 24
        if raw and not self.max_age_days + REFRESH_DAYS < raw - chunk_days:
            raise ValueError(
                f"GANZHI_RETENTION_RAW_DAYS ({raw}) is too short: readings come up to GANZHI_MAX_AGE_DAYS "
                f"({self.max_age_days}) days late and are taken into rollups within {REFRESH_DAYS} more, which must "
                f"be less than it without a chunk of GANZHI_CHUNK_HOURS ({self.chunk_hours}); keep readings for "
                f"{math.floor(self.max_age_days + REFRESH_DAYS + chunk_days) + 1} days, or accept younger ones only"
            )
        if raw and 0 < self.retention_hourly_days < raw:
            raise ValueError(f"GANZHI_RETENTION_HOURLY_DAYS ({self.retention_hourly_days}) is shorter than "
                             f"GANZHI_RETENTION_RAW_DAYS ({raw}): rollups outlive readings; raise it, or 0 for "
                             "ever")  # fmt: skip
        if not raw and self.retention_hourly_days:
            if "retention_hourly_days" in self.model_fields_set:
                raise ValueError(f"GANZHI_RETENTION_HOURLY_DAYS ({self.retention_hourly_days}) drops rollups of "
                                 "readings that are kept for ever (GANZHI_RETENTION_RAW_DAYS or GANZHI_MAX_AGE_DAYS "
                                 "is 0): set it to 0, or leave it out")  # fmt: skip
            object.__setattr__(self, "retention_hourly_days", 0)  # frozen from here on

    def mqtt_host_port(self) -> tuple[str, int]:
        """Host and port of the broker, with the scheme's usual port where none is said."""
        url = urlsplit(self.mqtt_url.get_secret_value())
        return url.hostname or "", url.port or (8883 if self.mqtt_tls else 1883)

    def mqtt_credentials(self) -> tuple[str | None, str | None]:
        """User name and password of the broker URL, unquoted."""
        url = urlsplit(self.mqtt_url.get_secret_value())
        return (
            unquote(url.username) if url.username else None,
            unquote(url.password) if url.password else None,
        )

    def push_tokens(self) -> dict[str, str]:
        """The tokens of the platforms that push, by platform."""
        text = self.push_token.get_secret_value() if self.push_token else ""
        return dict(part.split("=", 1) for part in text.split(",") if part)

    def secret_values(self) -> dict[str, SecretStr]:
        """What no output may hold, by setting."""
        values = {name: getattr(self, name) for name in SECRETS}
        return {name: value for name, value in values.items() if value}

    @property
    def http_token_text(self) -> str:
        """The token that `/metrics` asks for, empty without one."""
        return self.http_token.get_secret_value() if self.http_token else ""

    @property
    def mqtt_tls(self) -> bool:
        """Whether the broker is spoken to over TLS."""
        return self.mqtt_url.get_secret_value().startswith("mqtts:")

    @property
    def raw_kept_days(self) -> int:
        """How long readings and events are kept; 0: for ever, as where they may be of any age."""
        return self.retention_raw_days if self.max_age_days else 0

    @property
    def max_age_seconds(self) -> float:
        """How old a reading may be; infinite without a limit."""
        return self.max_age_days * 86_400 or math.inf

    @property
    def receive_maximum(self) -> int:
        """Messages unacknowledged at once: three batches of one-reading messages, within the protocol."""
        return max(100, min(RECEIVE_MAXIMUM_LIMIT, 3 * self.batch_readings))


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _from_files() -> dict[str, str]:
    """Values of `GANZHI_X_FILE`, read and stripped."""
    names = [n for n in os.environ if n.startswith(PREFIX) and n.endswith(SUFFIX)]
    return {n.removeprefix(PREFIX).removesuffix(SUFFIX).lower(): _read(n) for n in names}


def _read(variable: str) -> str:
    """The text of the file that a variable names; whoever put the secret itself there does not see it again."""
    file = Path(os.environ[variable])
    secret = variable.removeprefix(PREFIX).removesuffix(SUFFIX).lower() in SECRETS
    where = variable if secret else f"{variable} {file}"
    try:
        return file.read_text().strip()
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}; it must be the path of a file") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: the file holds no text (UTF-8)") from None


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from the environment, `_FILE`s, and a TOML file; `overrides` (the command line's) win.

    Raises `SettingsError` with one line a fault; values never appear in it, they may be secrets.
    """
    try:
        values = tomllib.loads(config.read_text()) if config else {}
    except OSError as error:
        raise SettingsError(f"--config {config}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config {config}: not TOML: {error}") from None
    unknown = _unknown_environment()
    if unknown:
        raise SettingsError(f"no such setting: {', '.join(unknown)}; docs/settings.md lists them")
    try:
        settings = Settings(**(values | _from_files()))
        return (
            Settings.model_validate(settings.model_dump(exclude_unset=True) | overrides)
            if overrides
            else settings
        )
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _unknown_environment() -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(n for n in os.environ if n.startswith(PREFIX) and n.removesuffix("_FILE") not in known)


def _explain(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        name = f"{PREFIX}{str(fault['loc'][0]).upper()}: " if fault["loc"] else ""
        lines.append(name + fault["msg"].removeprefix("Value error, "))
    return "\n".join(lines)
