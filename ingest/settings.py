"""Settings: environment `GANZHI_...` over a TOML file, checked together before anything connects.

A setting's docstring is its line in docs/settings.md. The kinds of values are in `settings_values`, what is refused
together in `settings_together`, TOML and files that variables name in `settings_sources`.
"""

import math
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ingest import settings_together as together
from ingest.settings_sources import PREFIX, explain, from_files, from_toml, refuse_unknown
from ingest.settings_values import (
    ClientId,
    DatabaseUrl,
    HttpToken,
    MqttUrl,
    MqttVersion,
    OnenetAesKey,
    Port,
    PushToken,
    RoutesFile,
    ShareGroup,
    Texts,
)

SECRETS = ("mqtt_url", "database_url", "http_token", "push_token", "onenet_token", "onenet_aes_key")
PEM_FILES = ("mqtt_ca", "mqtt_cert", "mqtt_key", "http_cert", "http_key", "http_client_ca")
RECEIVE_MAXIMUM_LIMIT = 65_534
"""65,535 is the protocol's default, which the codec does not send: then the broker's own limit rules."""


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


class Settings(BaseSettings):
    """Every setting of the service; names are the contract's, in lower case without the prefix."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    mqtt_url: MqttUrl = SecretStr("mqtt://127.0.0.1:1883")
    """The broker: `mqtt://user:password@host:1883`, or `mqtts://host:8883` for TLS. Secret: `_FILE` keeps it
    out of the environment."""
    mqtt_version: MqttVersion = "5"
    """`5`, or `3.1.1` for brokers that know no better: slower, and without content types."""
    mqtt_ca: Path | None = None
    """PEM file of the authority that signed the broker's certificate; else the system's."""
    mqtt_cert: Path | None = None
    """PEM file of the certificate that we show the broker; with `GANZHI_MQTT_KEY`."""
    mqtt_key: Path | None = None
    """PEM file of the key to `GANZHI_MQTT_CERT`."""
    share_group: ShareGroup = ""
    """Name of the share group; several workers need one, or filters that do not overlap. Empty: plain
    subscription."""
    client_id: ClientId = "ganzhi"
    """Durable name at the broker, which keeps a worker's session and queue under it: worker n is `{id}-{n}`,
    the observer `{id}-observer`. Two services on one broker need two names."""
    session_hours: Annotated[float, Field(gt=0, le=24 * 365)] = 168
    """How long the broker keeps messages for a worker that is away, as far as it grants it."""
    topics: Texts = ()
    """Topic filters that do not overlap, comma-separated. Empty: those of all routes."""
    routes: RoutesFile = None
    """TOML file of routes of one's own, with mappings of vendors' JSON, beside those of the service: see
    docs/routes.md."""

    database_url: DatabaseUrl = SecretStr("postgresql://127.0.0.1:5432/ganzhi")
    """The database: `postgresql://user:password@host:5432/database`. Secret: `_FILE` keeps it out of the
    environment."""

    http_host: str = "127.0.0.1"
    """Address that `/metrics`, `/healthz` and `/readyz` listen on. Beyond this machine they need
    `GANZHI_HTTP_TOKEN`, `GANZHI_HTTP_CLIENT_CA` or `GANZHI_HTTP_PRIVATE_NETWORK`."""
    http_port: Port = 9108
    """Their port: worker n listens on this + n; 0 takes any free one."""
    observer_http_port: Port = 9107
    """The observer's port."""
    http_token: HttpToken = None
    """Token that `/metrics` and the reasons of `/readyz` ask for, `Authorization: Bearer TOKEN`: 16 to 128
    of A-Z a-z 0-9 _ . ~ + / = -. Secret: `_FILE` keeps it out of the environment."""
    http_cert: Path | None = None
    """PEM file of the certificate of every HTTP port, pushes too, with `GANZHI_HTTP_KEY`: they then speak
    HTTPS."""
    http_key: Path | None = None
    """PEM file of the key to `GANZHI_HTTP_CERT`."""
    http_client_ca: Path | None = None
    """PEM file of the authority whose certificates may read `/metrics`, `/healthz` and `/readyz` (mutual
    TLS); pushes show their token instead. Needs `GANZHI_HTTP_CERT`."""
    http_private_network: bool = False
    """`true`: whoever reaches `GANZHI_HTTP_HOST` may read `/metrics`, as only a private network leads
    there."""

    push_port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    """Port of `POST /push/{platform}/{gateway}` on `GANZHI_HTTP_HOST`: worker n listens on this + n; off
    without it. Needs `GANZHI_PUSH_TOKEN`."""
    push_token: PushToken = None
    """Tokens of the platforms that push: `ctwing=TOKEN,onenet=TOKEN,iotda=TOKEN`, each 8 to 128 of A-Z a-z
    0-9 _ . ~ -; a platform without one is turned away. Secret: `_FILE` keeps it out of the environment."""
    onenet_token: Annotated[SecretStr | None, Field(min_length=1)] = None
    """Token of OneNET's push configuration: with it signatures are checked, and pushes without one refused.
    Secret: `_FILE` keeps it out of the environment."""
    onenet_aes_key: OnenetAesKey = None
    """Key of OneNET's push configuration, 43 characters, for pushes that come encrypted. Secret: `_FILE`
    keeps it out of the environment."""

    batch_readings: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Readings written in one transaction at most. A worker holds three batches of messages
    unacknowledged, 65,534 at most."""
    batch_seconds: Annotated[float, Field(gt=0, le=60)] = 0.2
    """How long a reading waits at most for its batch to fill."""

    unknown_terminals: OnUnknown = OnUnknown.REGISTER
    """A terminal that nobody registered: `register` stores it as discovered, `reject` refuses its readings
    as `unknown_terminal`."""
    unknown_metrics: OnUnknown = OnUnknown.REGISTER
    """A metric that is not in the catalogue: `register` with the unit it came with, `reject` as
    `unknown_metric`."""
    unknown_gateways: OnUnknownGateway = OnUnknownGateway.ACCEPT
    """A gateway that nobody registered: `accept`, or `reject` as `not_authorized`."""
    gateway_division: GatewayDivision = GatewayDivision.CITY
    """A registered gateway whose topic names another division than it is registered in: `accept`; `city`
    refuses another city as `not_authorized` (gateways serve across county borders); `exact` refuses all that
    does not lie within its own."""
    registrations_per_gateway_hour: Annotated[int, Field(ge=1)] = 10_000
    """Unknown terminals that one gateway may bring within an hour (all topics without a gateway count as
    one); readings of more are refused as `unknown_terminal`, and can be replayed. Registered ones are not
    counted."""

    max_age_days: Annotated[int, Field(ge=0)] = 90
    """Readings observed longer ago are refused as `time_too_old`. 0: no limit, and then nothing raw is
    dropped by age."""
    ledger_hours: Annotated[float, Field(gt=0)] = 6
    """How long a message is remembered, so that it counts once; 91 B a message."""
    max_payload_bytes: Annotated[int, Field(ge=1, le=268_435_455)] = 1_048_576
    """Larger payloads are refused as `too_large` and kept cut. The broker's own limit has to be higher."""
    rejections_per_minute: Annotated[int, Field(ge=0)] = 10_000
    """Rows a minute for garbage (`malformed_payload`, `bad_topic`, `no_route`, `too_large`); beyond it is
    counted only. Every other refusal is always stored."""

    retention_raw_days: Annotated[int, Field(ge=0)] = 400
    """How long readings and events are kept; 0: for ever."""
    retention_hourly_days: Annotated[int, Field(ge=0)] = 3650
    """How long rollups are kept, never shorter than readings; 0: for ever, which is the default where
    readings are. Storage timescale: the other computes them from readings."""
    retention_rejection_days: Annotated[int, Field(ge=1)] = 90
    """How long rejections are kept."""
    chunk_hours: Annotated[int, Field(ge=1)] = 24
    """Span of a chunk of readings (storage timescale)."""

    observe_seconds: Annotated[float, Field(gt=0)] = 30
    """How often the observer counts."""
    gap_terminals: Annotated[int, Field(ge=1)] = 20
    """Terminals that an outage or a dark cell needs; fewer are not a place."""
    goal_due: date = date(2027, 12, 31)
    """When 300,000,000 terminals are due, an assumption: five years."""
    node_domains: Texts = ("manufacturing", "healthcare", "security", "municipal")
    """Domains whose verified terminals are nodes, comma-separated."""

    production: bool = False
    """`true`: `ganzhi check` names every secret that stands in the environment instead of a file, and what
    crosses a network in clear is a failure instead of a warning."""
    data_dir: Path | None = None
    """Folder of the demo's data, found again by the next one. Without it: `ganzhi` in the user's data
    folder, `/var/lib/ganzhi` for root."""

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

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        together.check_topics(self.topics, self.share_group)
        together.check_pair("MQTT", self.mqtt_cert, self.mqtt_key)
        together.check_pair("HTTP", self.http_cert, self.http_key)
        together.check_http(
            self.http_host,
            https=bool(self.http_cert),
            client_ca=bool(self.http_client_ca),
            guarded=bool(self.http_token or self.http_client_ca or self.http_private_network),
        )
        together.check_files({name: getattr(self, name) for name in PEM_FILES})
        if self.push_port and not self.push_token:
            raise ValueError(
                "GANZHI_PUSH_PORT opens a door that anybody could push through: set GANZHI_PUSH_TOKEN"
            )
        together.check_raw_days(self.raw_kept_days, self.max_age_days, self.chunk_hours)
        said = "retention_hourly_days" in self.model_fields_set
        hourly = together.hourly_days(self.retention_hourly_days, self.raw_kept_days, said=said)
        object.__setattr__(self, "retention_hourly_days", hourly)  # frozen from here on
        return self

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

    @property
    def batch_messages(self) -> int:
        """Messages in a batch at most: a third of the window, so that one fills while the one before it is written."""
        return min(self.batch_readings, self.receive_maximum // 3)


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from the environment, `_FILE`s, and a TOML file; `overrides` (the command line's) win.

    Raises `SettingsError` with one line a fault; values never appear in it, they may be secrets.
    """
    try:
        values = from_toml(config) if config else {}
        refuse_unknown(Settings.model_fields)
        settings = Settings(**(values | from_files(SECRETS)))
        if overrides:
            settings = Settings.model_validate(settings.model_dump(exclude_unset=True) | overrides)
    except ValidationError as error:
        raise SettingsError(explain(error)) from None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return settings
