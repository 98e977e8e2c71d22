"""The registry's cache: a sender's name for a series -> terminal, metric, cell and unit, in one look-up.

Pure: who fills it asks the database. Entries are rows of a numpy table, found by the hash of the
name, or of name and unit, so that a batch is resolved by a few passes over whole columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from devices.division import today
from devices.index import MISSING, Hashes, HashIndex, Rows, hashes
from devices.paths import NO_GATEWAY, Paths
from schemas.catalogue import is_identity
from schemas.reading import Name
from schemas.routes import Place

NO_UNIT = 0
SPELLINGS_MAX = 20_000
"""A unit may be written with blanks in many ways; what is not remembered is looked up reading by reading."""
METRICS_MAX = 32_768
"""Metric ids are smallint."""
SERIES_MAX = 100_000_000
"""Series remembered, 40 to 64 bytes each: of a third of the province's terminals, or one's name in any spelling."""
EVENTS_MAX = 1_000_000
"""Names of events remembered, 0.4 kB each; senders may make up as many as they like."""

ENTRY = np.dtype([("terminal", "i4"), ("metric", "i2"), ("cell", "i2"), ("unit", "i2"), ("conversion", "i2"),
                  ("gateway", "i4")])  # fmt: skip


class Terminal(NamedTuple):
    """What the path needs of a terminal. A negative `cell` marks a discovered one: its cell is that of the
    message's division, and only without one -`cell`.
    """

    id: int
    cell: int
    gateway: int = NO_GATEWAY
    """Number in `Registry.paths` of the gateway it is known to come through."""


class Metric(NamedTuple):
    """A metric as the database has it; limits are ±inf where there are none."""

    id: int
    name: str
    unit: str
    hard_low: float
    hard_high: float
    soft_low: float
    soft_high: float


@dataclass(frozen=True)
class Gateway:
    """What the path needs of a registered gateway."""

    division: int | None
    utc_offset_seconds: float | None


class Registry:
    """Names, units, metrics, cells and gateways that this worker knows."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        self.cells: Mapping[tuple[int, str], int] = {}
        self.gateways: Mapping[str, Gateway] = {}
        self.domain_of_cell: Mapping[int, str] = {}
        self.city_of_cell: Mapping[int, int] = {}
        self.limits = np.empty((4, METRICS_MAX))
        self.limits[:] = [[-np.inf], [np.inf], [-np.inf], [np.inf]]
        self.identities = np.zeros(METRICS_MAX, np.bool_)
        """Whether what comes under a metric's id names a thing, so that it is an event."""
        self._units: dict[str | None, int] = {None: NO_UNIT, "": NO_UNIT}
        self._unit_count = 1
        self._conversions: dict[tuple[float, float], int] = {(1.0, 0.0): 0}
        self.conversion_table = np.array([[1.0, 0.0]])
        self.generation = 0
        """Another one after each `clear`."""
        self.clear()

    def clear(self) -> None:
        """Forget every series and metric, as after a change of the registry; units stay."""
        self.generation += 1
        self.metrics.clear()
        self._index = HashIndex()
        self._events: dict[Name, tuple[Terminal, str]] = {}
        self._entries = np.zeros(1024, ENTRY)
        self._count = 0
        self.paths = Paths()

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether so much is remembered that it is time to `clear` and begin anew."""
        return self._count > SERIES_MAX or len(self._events) > EVENTS_MAX

    def division_of(self, place: Place) -> int | None:
        """Where a message is from: as its topic says, else where its gateway is registered."""
        if place.division is not None:
            return place.division
        gateway = self.gateways.get(place.gateway or "")
        return today(gateway.division) if gateway and gateway.division else None

    def find(
        self, names: Hashes, sent: npt.NDArray[np.int16], wanted: Callable[[int], tuple[Name, str | None]]
    ) -> Rows:
        """Row numbers of the readings' series, `MISSING` where unknown.

        `sent`: their units by `unit_number`; `wanted`: name and unit of a reading.
        """
        rows = self._index.find(names)
        other = np.flatnonzero(
            (rows == MISSING) | ((sent != NO_UNIT) & (sent != self._entries["unit"][rows]))
        )
        if len(other):
            rows[other] = self._index.find(hashes(map(wanted, other.tolist()), len(other)))
        return rows

    def unit_number(self, spelling: str | None) -> int:
        """Number of a unit as sent, -1 for a spelling that is not known."""
        return self._units.get(spelling, -1)

    def entries(self, rows: Rows) -> npt.NDArray[np.void]:
        """The entries at these rows, fields as in `ENTRY`."""
        return self._entries[rows]

    def met(self, terminal: int, *gateways: str) -> None:
        """That this terminal (by id) comes through these gateways is no news from now on."""
        for gateway in gateways:
            self.paths.remember(terminal, self.paths.number(gateway))

    def follow(self, rows: Rows, gateways: npt.NDArray[np.int32]) -> None:
        """Let these series come through these gateways from now on."""
        self._entries["gateway"][rows] = gateways

    def event(self, name: Name) -> tuple[Terminal, str] | None:
        """The terminal and the event's name behind a sender's name, if this worker has met it."""
        return self._events.get(name)

    def add_event(self, name: Name, terminal: Terminal, event: str) -> None:
        """Remember an event's name."""
        self._events[name] = (terminal, event)

    def add_metric(self, metric: Metric) -> None:
        """Remember a metric that the database has; its unit becomes a known spelling."""
        self.metrics[metric.name] = metric
        self.limits[:, metric.id] = metric[3:]
        self.identities[metric.id] = is_identity(metric.name)
        self._unit(metric.unit)

    def add_spelling(self, spelling: str, unit: str) -> bool:
        """Let a spelling stand for a unit that needs no conversion; False: no more of them are remembered."""
        if spelling not in self._units and len(self._units) >= SPELLINGS_MAX:
            return False
        self._units[spelling] = self._unit(unit)
        return True

    def add_series(
        self, name: Name, unit: str | None, terminal: Terminal, metric: Metric, scale: float, offset: float, *,
        usual: bool,
    ) -> None:  # fmt: skip
        """Remember a series. `usual`: found by the name alone when the unit is missing or the metric's own."""
        if self._count == len(self._entries):
            self._entries = np.concatenate([self._entries, np.zeros_like(self._entries)])
        conversion = self._conversion(scale, offset)
        self._entries[self._count] = (
            terminal.id,
            metric.id,
            terminal.cell,
            self._unit(metric.unit),
            conversion,
            terminal.gateway,
        )
        self._index.add(hash(name if usual else (name, unit)), self._count)
        self._count += 1

    def _unit(self, unit: str) -> int:
        if unit not in self._units:
            self._units[unit] = self._unit_count
            self._unit_count += 1
        return self._units[unit]

    def _conversion(self, scale: float, offset: float) -> int:
        number = self._conversions.setdefault((scale, offset), len(self._conversions))
        if number == len(self.conversion_table):
            self.conversion_table = np.vstack([self.conversion_table, [scale, offset]])
        return number
