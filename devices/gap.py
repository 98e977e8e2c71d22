"""What a gap in coverage is, and planned maintenance: rows of `coverage_gap` and `planned_maintenance`.

Pure. When gaps open and close is said in `gaps`. Times are Unix seconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from devices.division import DIVISIONS, PROVINCE, city

KINDS = ("under_target", "dark", "outage", "gateway_offline", "never_heard")


@dataclass(frozen=True)
class Gap:
    """A row of `coverage_gap`; `id` None: not stored yet. `evidence` is what JSON can say."""

    kind: str
    division: int
    domain: str | None
    gateway: str | None
    opened_seconds: float
    expected: int
    live: int
    evidence: Mapping[str, Any]
    id: int | None = None
    closed_seconds: float | None = None
    acknowledged: bool = False
    """Somebody looks after it."""

    @property
    def place(self) -> tuple[str, ...] | tuple[str, int, str | None]:
        """What there is one open gap of: a gateway has one at a time, a cell one of each kind."""
        return ("gateway", self.gateway) if self.gateway else (self.kind, self.division, self.domain)


@dataclass
class Decision:
    """What to store: new rows, rows with new figures or open again, rows with the time they closed."""

    opened: list[Gap] = field(default_factory=list)
    updated: list[Gap] = field(default_factory=list)
    closed: list[Gap] = field(default_factory=list)


class Maintenance(NamedTuple):
    """A row of `planned_maintenance`: of a gateway, or of a division with the counties in it."""

    id: int
    division: int | None
    domain: str | None
    gateway: str | None
    since_seconds: float
    until_seconds: float


def maintained(
    planned: Iterable[Maintenance], now: float, division: int, domain: str | None, gateway: str | None
) -> int | None:
    """The planned maintenance of this place or gateway now, by its id."""
    for row in planned:
        if not row.since_seconds <= now < row.until_seconds:
            continue
        if row.gateway is not None:
            if row.gateway == gateway:
                return row.id
        elif row.domain in {None, domain} and _within(division, row.division):
            return row.id
    return None


def _within(division: int, outer: int | None) -> bool:
    return outer in {division, PROVINCE} or (division in DIVISIONS and outer == city(division))
