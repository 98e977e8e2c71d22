"""`ganzhi simulate`: a fleet that publishes over real MQTT at QoS 1 until its time is up or it is told."""

import contextlib
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.live import Live

from devices.division import DIVISIONS
from ingest.fleet import Gateway, fleet
from ingest.publish import Outgoing, Publisher, publish_all, stop_on_signals
from ingest.settings import Settings, SettingsError
from ingest.traffic import messages, status


class Scenario(BaseModel):
    """What is simulated. Shares are probabilities; `messages_per_second` 0 is as fast as possible."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gateways: Annotated[int, Field(ge=1, le=100_000)] = 100
    terminals: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000
    messages_per_second: Annotated[float, Field(ge=0)] = 50
    seconds: Annotated[float, Field(gt=0)] | None = None
    readings: Annotated[int, Field(ge=1, le=10_000)] = 20
    bad_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    duplicate_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    seed: int = 1


class Published(NamedTuple):
    """What a run came to. Readings count those of duplicates and spoilt messages too."""

    messages: int
    acknowledged: int
    readings: int
    seconds: float

    def __str__(self) -> str:
        rate = self.messages / self.seconds if self.seconds else 0
        return (
            f"published {self.messages:,} messages with {self.readings:,} readings in {self.seconds:.1f} s "
            f"({rate:,.0f} messages/s), acknowledged {self.acknowledged:,}"
        )


def load_scenario(path: Path | None = None, **overrides: Any) -> Scenario:
    """A scenario from a TOML file with the fields of `Scenario`; overrides that are not None win.

    Raises `SettingsError` that names file and field.
    """
    try:
        values = tomllib.loads(path.read_text()) if path else {}
        return Scenario(**(values | {name: v for name, v in overrides.items() if v is not None}))
    except OSError as error:
        raise SettingsError(f"--scenario {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--scenario {path}: not TOML: {error}") from None
    except ValidationError as error:
        faults = "\n".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_url=False))
        raise SettingsError(faults) from None


def simulate(settings: Settings, scenario: Scenario, *, console: Console | None = None) -> Published:
    """Publish `scenario` to the broker of `settings`, then wait until all of it is acknowledged.

    SIGINT and SIGTERM end it like its time does: the gateways say goodbye. Raises `BrokerOutOfReachError`.
    """
    counties = [division.code for division in DIVISIONS.values() if division.level == "county"]
    gateways = fleet(counties, gateways=scenario.gateways, terminals=scenario.terminals, seed=scenario.seed)
    with stop_on_signals() as stop, Publisher(settings, name="simulate") as publisher:
        return _run(publisher, gateways, scenario, stop, console or Console())


def _run(
    publisher: Publisher,
    gateways: Sequence[Gateway],
    scenario: Scenario,
    stop: threading.Event,
    console: Console,
) -> Published:
    started, readings = time.monotonic(), 0

    def so_far() -> Published:
        return Published(publisher.published, publisher.acknowledged, readings, time.monotonic() - started)

    def count(message: Outgoing) -> None:
        nonlocal readings
        readings += message.readings

    def line() -> str:
        return f"{so_far()}{'' if publisher.connected else '; the broker is away, trying again'}"

    def say(*, online: bool) -> None:
        statuses = (status(gateway, time.time(), online=online) for gateway in gateways)
        publish_all(publisher, statuses, stop=threading.Event())

    with Live(console=console, get_renderable=line, transient=True, auto_refresh=console.is_terminal):
        say(online=True)
        sent = messages(
            gateways, time.time, readings=scenario.readings, bad_share=scenario.bad_share,
            duplicate_share=scenario.duplicate_share, seed=scenario.seed,
        )  # fmt: skip
        with _time_up(stop, scenario.seconds):
            publish_all(publisher, sent, stop=stop, per_second=scenario.messages_per_second, progress=count)
        say(online=False)
    result = so_far()
    for text in (str(result), *publisher.complaints()):
        console.print(text, highlight=False, soft_wrap=True)
    return result


@contextlib.contextmanager
def _time_up(stop: threading.Event, seconds: float | None) -> Iterator[None]:
    """Set `stop` after so many seconds; a timer, because a broker that is away holds up everything else."""
    timer = threading.Timer(seconds, stop.set) if seconds else None
    if timer:
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
