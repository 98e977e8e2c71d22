"""What a period came to: figures at its end and at the end of the one before, cells, gaps, trend.

Pure. Indicators come as rows of table `indicator`, of one day each; cells as rows of `coverage`, of one moment.
The observer's page is a period that ends now. Definitions in words: docs/plan.md.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from devices.coverage import Figures, Grid, Ratio, Target, report, targets_on, units
from devices.declared import Declared
from devices.division import DIVISIONS, DOMAINS, PROVINCE, city
from devices.gap import Gap
from devices.indicator import Row
from devices.states import STATES
from devices.tally import Counts

DAYS = 30
"""Of a period whose start nobody names."""
GAPS_SHOWN = 200
"""Largest open gaps that are listed; `ganzhi gaps list --all` has the others."""
ALARMS = ("dark", "outage", "gateway_offline")
"""Kinds of gaps in which terminals that were live are silent now."""

Cells = Mapping[tuple[int, str], Figures]
"""By city, 370000 where only the province is known, and domain."""


class Period(NamedTuple):
    """Days of Shandong; the last one is part of it."""

    since: date
    until: date


def month(day: date) -> Period:
    """The calendar month of a day."""
    return Period(day.replace(day=1), _next_month(day) - timedelta(days=1))


def last_days(until: date, days: int = DAYS) -> Period:
    """So many days, the last of which is `until`."""
    return Period(until - timedelta(days=days - 1), until)


def before(period: Period) -> Period:
    """The period before: as many whole months where it is made of such, else as many days."""
    last = period.since - timedelta(days=1)
    if period.since.day == 1 and period.until == month(period.until).until:
        months = (period.until.year - period.since.year) * 12 + period.until.month - period.since.month
        start = last
        for _ in range(months):
            start = start.replace(day=1) - timedelta(days=1)
        return Period(start.replace(day=1), last)
    return last_days(last, (period.until - period.since).days + 1)


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True)
class Snapshot:
    """The indicators of one day; `day` None: there is none."""

    day: date | None = None
    rows: Mapping[tuple[str, int], Row] = field(default_factory=dict)
    """By name and division."""

    def value(self, name: str, division: int) -> float | None:
        """An indicator of a place, None where it is not known."""
        row = self.rows.get((name, division))
        return row.value if row else None


class KindCount(NamedTuple):
    """Gaps of one kind: opened and closed in the period, and in the one before; open at its end."""

    opened: int = 0
    closed: int = 0
    opened_before: int = 0
    closed_before: int = 0
    open: int = 0


class Plan(NamedTuple):
    """What was counted against: the version, who stands for it, and the total of the place by due day."""

    version: int
    sources: tuple[str, ...]
    steps: tuple[tuple[date, int], ...]


@dataclass(frozen=True)
class Summary:
    """A period of a place, whole."""

    division: int
    period: Period
    goal_due: date
    now: Snapshot = Snapshot()
    """Of the last day of the period that has one."""
    then: Snapshot = Snapshot()
    """Of the last day of the period before that has one."""
    cells: Cells = field(default_factory=dict)
    counted_at: float | None = None
    """When terminals of cells were counted, Unix seconds; of a report the quarter of an hour in which they were."""
    live: bool = False
    """The figures are of this moment, not of a day's end."""
    plan: Plan | None = None
    trend: Mapping[str, Sequence[tuple[date, float]]] = field(default_factory=dict)
    """Value by day, oldest first, by indicator; from the start of the period before, 90 days at least."""
    gaps: Sequence[Gap] = ()
    """Open at the end, the largest first; perhaps not all of them."""
    gap_kinds: Mapping[str, KindCount] = field(default_factory=dict)
    quality: Ratio | None = None
    """Unflagged / received readings, summed over the days of the period."""
    quality_before: Ratio | None = None
    declared: Sequence[Declared] = ()
    """What others publish of this place, by the end of the period; the newest last."""

    @property
    def places(self) -> list[int]:
        """The cities of the province, or the counties of a city, by code."""
        level = {"province": "city", "city": "county"}.get(DIVISIONS[self.division].level)
        return sorted(d.code for d in DIVISIONS.values() if d.level == level and d.parent == self.division)

    @property
    def domains(self) -> dict[str, Figures]:
        """Figures by domain, all places together; those with terminals or a target."""
        found = {domain: _sum(f for (_, d), f in self.cells.items() if d == domain) for domain in DOMAINS}
        return {domain: figures for domain, figures in found.items() if any(figures)}

    @property
    def gaps_open(self) -> int:
        """How many gaps are open at the end."""
        return sum(kind.open for kind in self.gap_kinds.values())

    @property
    def alarms(self) -> int:
        """How many of them mean that something fell silent."""
        return sum(self.gap_kinds[kind].open for kind in ALARMS if kind in self.gap_kinds)

    def change(self, name: str, division: int | None = None) -> float | None:
        """An indicator's growth since the end of the period before, None where either is not known."""
        place = self.division if division is None else division
        now, then = self.now.value(name, place), self.then.value(name, place)
        return None if now is None or then is None else now - then


def largest_first(gaps: Iterable[Gap]) -> list[Gap]:
    """Gaps by the terminals that are missing."""
    return sorted(gaps, key=lambda gap: (gap.live - gap.expected, gap.id or 0))


def within(division: int) -> list[int] | None:
    """A place and all in it, None: everything."""
    if division == PROVINCE:
        return None
    return [d.code for d in DIVISIONS.values() if division in {d.code, d.parent}]


class Counted(NamedTuple):
    """A row of `coverage`: terminals of a cell by state, as `STATES`, and active."""

    division: int
    domain: str
    states: Sequence[int]
    active: int


def cells(
    rows: Sequence[Counted], targets: Iterable[Target], day: date, division: int
) -> dict[tuple[int, str], Figures]:
    """Figures by city and domain of what was counted, against the targets of a day; of a county its own.

    What a row of `coverage` does not say is 0 in them: due, heard today, invalid, video, nodes.
    """
    places = [(code, domain) for code in DIVISIONS for domain in DOMAINS]
    grid = Grid(dict(enumerate(places)))
    states, active = np.zeros((grid.size, len(STATES)), np.int64), np.zeros(grid.size, np.int64)
    for row in rows:
        states[grid.id[row.division, row.domain]] = row.states
        active[grid.id[row.division, row.domain]] = row.active
    none, video = np.zeros(grid.size, np.int64), np.zeros((grid.size, 6), np.int64)
    counts = Counts(0.0, states, active, none, none, none, none, none, none, none, video, none, none)
    inside = within(division)
    wanted = {key: n for key, n in targets_on(targets, day).items() if inside is None or key[0] in inside}
    found = report(counts, grid, wanted, ())
    return {key: figures for key, figures in found.domains.items() if any(figures)}


def steps(targets: Sequence[Target], division: int) -> tuple[tuple[date, int], ...]:
    """The plan's total of a place by each day on which something is due."""
    inside = within(division)
    rows = [row for row in targets if inside is None or row.division in inside]
    days = sorted({row.due_on for row in rows})
    return tuple((day, sum(units(targets_on(rows, day)).values())) for day in days)


def planned_on(plan: Plan | None, day: date) -> int | None:
    """What the plan wants by a day, None where it wants nothing yet."""
    due = [total for at, total in plan.steps if at <= day] if plan else []
    return due[-1] if due else None


def beside(summary: Summary) -> Iterator[tuple[Declared, float | None]]:
    """Each declared figure with the measured one of the same name and place; they are never merged."""
    for declared in summary.declared:
        yield declared, summary.now.value(declared.indicator, declared.division)


def baseline(declared: Sequence[Declared]) -> dict[tuple[str, int], float]:
    """The first declared value by indicator and division."""
    newest_first = sorted(declared, key=lambda row: row.as_of, reverse=True)
    return {(row.indicator, row.division): row.value for row in newest_first}


def place_of(gap: Gap) -> int:
    """The division of a gap for who reads of it: an unknown one is the province's."""
    return gap.division if gap.division in DIVISIONS else PROVINCE


def city_of(gap: Gap) -> int:
    """The city of a gap."""
    return city(place_of(gap))


def _sum(figures: Iterable[Figures]) -> Figures:
    rows = list(figures) or [Figures(*[0] * len(Figures._fields))]
    return Figures(*map(sum, zip(*rows, strict=True)))
