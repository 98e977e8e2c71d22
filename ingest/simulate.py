"""`ganzhi simulate`: a fleet that publishes over real MQTT at QoS 1 until its time is up or it is told.

Without fleet tables gateways publish in turn, as fast as the limit lets them; with them, each terminal at
its own rhythm, and this module keeps the clock. Either way the limit counts every message, status too.
"""

import contextlib
import csv
import itertools
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from rich.console import Console
from rich.live import Live

from devices.day import day_of
from devices.division import DIVISIONS
from ingest import fleet as fleets
from ingest.dialects import Numbers
from ingest.fleet import Gateway
from ingest.publish import Outgoing, Publisher, publish_all, stop_on_signals
from ingest.scenario import Scenario
from ingest.settings import Settings, SettingsError
from ingest.timetable import Timed, hits, timetable
from ingest.traffic import farewell, greeting, messages
from schemas.fault import faults

SHIPPED = files("schemas").joinpath("data/scenarios")
BEHIND_SECONDS = 5.0
"""From here on the live line says that the scenario asks for more than can be sent."""


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
            f"({rate:,.{rate < 10:d}f} messages/s), acknowledged {self.acknowledged:,}"
        )


def load_scenario(source: str | Path | None = None, **overrides: Any) -> Scenario:
    """A scenario from a TOML file, or one of those that come with ganzhi by its name.

    Overrides that are not None win. Raises `SettingsError` that names file and field.
    """
    try:
        values = tomllib.loads(_text(source)) if source else {}
        return Scenario(**(values | {name: v for name, v in overrides.items() if v is not None}))
    except OSError as error:
        raise SettingsError(
            f"--scenario {source}: {error.strerror}; name a file, or one of {', '.join(shipped())}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--scenario {source}: not TOML: {error}") from None
    except ValidationError as error:
        raise SettingsError("\n".join(map(str, faults(error)))) from None


def shipped() -> list[str]:
    """The names of the scenarios that come with ganzhi."""
    return sorted(path.name.removesuffix(".toml") for path in SHIPPED.iterdir())


def gateways_of(scenario: Scenario) -> list[Gateway]:
    """The fleet of a scenario. Raises `SettingsError` for a silence that concerns none of it."""
    if not scenario.fleet:
        counties = [division.code for division in DIVISIONS.values() if division.level == "county"]
        return fleets.fleet(
            counties, gateways=scenario.gateways, terminals=scenario.terminals, seed=scenario.seed
        )
    gateways = fleets.province(scenario)
    idle = [number for number, hit in enumerate(hits(gateways, scenario.silence), 1) if not hit]
    if idle and scenario.factor >= 1:  # a small part of a province need not have a gateway everywhere
        raise SettingsError(f"silence {idle[0]}: the scenario has no gateway of that division and profile")
    return gateways


def write_registry(path: Path, gateways: Sequence[Gateway]) -> int:
    """Write the fleet as CSV that `ganzhi terminals import` takes; answers how many. Raises
    `SettingsError` when it cannot be written.
    """
    return _write(path, fleets.TERMINAL_COLUMNS, fleets.registry(gateways, day_of(time.time())))


def write_gateways(path: Path, gateways: Sequence[Gateway]) -> int:
    """Write its gateways as CSV that `ganzhi gateways import` takes; answers how many. Raises
    `SettingsError` when it cannot be written.
    """
    return _write(path, fleets.GATEWAY_COLUMNS, fleets.gateway_registry(gateways))


def simulate(settings: Settings, scenario: Scenario, *, console: Console | None = None) -> Published:
    """Publish `scenario` to the broker of `settings`, then wait until all of it is acknowledged.

    SIGINT and SIGTERM end it like its time does: the gateways say goodbye. Raises `SettingsError` as
    `gateways_of`, and `BrokerOutOfReachError`.
    """
    gateways = gateways_of(scenario)
    with stop_on_signals() as stop, Publisher(settings, name="simulate") as publisher:
        return _run(publisher, gateways, scenario, stop, console or Console())


def _run(
    publisher: Publisher,
    gateways: Sequence[Gateway],
    scenario: Scenario,
    stop: threading.Event,
    console: Console,
) -> Published:
    started, readings, limit = time.monotonic(), 0, scenario.limit_per_second
    clock = Clock(stop)
    greeted: list[Gateway] = []

    def so_far() -> Published:
        return Published(publisher.published, publisher.acknowledged, readings, time.monotonic() - started)

    def count(message: Outgoing) -> None:
        nonlocal readings
        readings += message.readings

    def line() -> str:
        behind = f"; {clock.behind_seconds:,.0f} s behind" if clock.behind_seconds > BEHIND_SECONDS else ""
        return f"{so_far()}{behind}{'' if publisher.connected else '; the broker is away, trying again'}"

    def hello() -> Iterator[Outgoing]:
        for gateway in gateways:
            greeted.append(gateway)
            yield from greeting(gateway, time.time())

    with Live(console=console, get_renderable=line, transient=True, auto_refresh=console.is_terminal):
        everything = map(Numbers().put, itertools.chain(hello(), _messages(gateways, scenario, clock)))
        with _time_up(stop, scenario.seconds):
            publish_all(publisher, everything, stop=stop, per_second=limit, progress=count)
        goodbyes = (message for gateway in greeted for message in farewell(gateway, time.time()))
        publish_all(publisher, goodbyes, stop=threading.Event(), per_second=limit, progress=count)
    result = so_far()
    for text in (str(result), *publisher.complaints()):
        console.print(text, highlight=False, soft_wrap=True)
    return result


class Clock:
    """Lets messages pass when they are due, until `stop`. `behind_seconds`: how late the last one was."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.behind_seconds = 0.0

    def keep(self, timed: Timed) -> Iterator[Outgoing]:
        """The messages, each at its Unix time or as soon after it as they are asked for."""
        for due, message in timed:
            self._stop.wait(max(0.0, due - time.time()))
            if self._stop.is_set():
                return
            self.behind_seconds = time.time() - due
            yield message


def _messages(gateways: Sequence[Gateway], scenario: Scenario, clock: Clock) -> Iterator[Outgoing]:
    if scenario.fleet:
        yield from clock.keep(timetable(gateways, scenario, time.time()))
    else:
        yield from messages(
            gateways, time.time, readings=scenario.readings, bad_share=scenario.bad_share,
            duplicate_share=scenario.duplicate_share, seed=scenario.seed,
        )  # fmt: skip


def _text(source: str | Path) -> str:
    """The file, or the shipped scenario of this name where there is no such file."""
    ours = SHIPPED.joinpath(f"{source}.toml")
    if str(source) in shipped() and not Path(source).exists():
        return ours.read_text(encoding="utf-8")
    return Path(source).read_text(encoding="utf-8")


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    lines = itertools.count()
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(columns)
            out.writerows(row for row, _ in zip(rows, lines, strict=False))
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None
    return next(lines)


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
