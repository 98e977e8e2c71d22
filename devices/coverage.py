"""What the counts come to: figures of the province, its cities, counties and domains, against the plan.

Terminals are counted by cell (`tally.Counts`), a plan speaks of cities and counties. Every figure is a sum
over cells, so that a city is the sum of its counties and of what is known of the city alone. Ratios keep their
numerator and denominator; where the denominator is 0 there is no ratio.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from devices.division import DIVISIONS, DOMAINS, PROVINCE, city
from devices.states import STATES
from devices.tally import Counts

GOAL_TERMINALS = 300_000_000
"""物联网终端总数达到3亿个以上 (鲁改委发〔2022〕5号)."""
GOAL_NODES = 10_000_000
"""The floor of 千万级 sensing nodes (same source)."""
COVERED_AT_LEAST = 0.9
"""Coverage from which a county counts as covered."""
VIDEO_KINDS = ("installed", "live", "smart", "smart_unknown", "key_area_unknown", "all")
"""Columns of `Counts.video`; the fields of `Figures` are called `video_` and this."""

CITIES = (PROVINCE, *sorted(code for code, division in DIVISIONS.items() if division.level == "city"))
"""Where a terminal may be said to be: 370000 where only the province is known, and the 16 cities."""
COUNTIES = tuple(sorted(code for code, division in DIVISIONS.items() if division.level == "county"))
LIVE = STATES.index("live")

Ints = npt.NDArray[np.int64]
Targets = Mapping[tuple[int, str], int]
"""Terminals by division and domain."""


class Target(NamedTuple):
    """A row of a plan: terminals that a place should have by a day; `source` is assumed or declared."""

    division: int
    domain: str
    target: int
    due_on: date
    source: str


class Ratio(NamedTuple):
    """A share with what it is made of; the denominator is never 0."""

    numerator: float
    denominator: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.numerator / self.denominator


def ratio(numerator: float, denominator: float) -> Ratio | None:
    """The ratio of two numbers, None where there is none."""
    return Ratio(numerator, denominator) if denominator else None


class Figures(NamedTuple):
    """Terminals of one place, of all domains or of one; what the counts are is said at `tally.Counts`."""

    planned: int
    never_heard: int
    live: int
    overdue: int
    lost: int
    retired: int
    discovered: int
    active: int
    due: int
    heard_today: int
    invalid: int
    video_installed: int
    video_live: int
    video_smart: int
    video_smart_unknown: int
    video_key_area_unknown: int
    video_all: int
    nodes: int
    """Verified, in the domains whose terminals are nodes."""
    target: int
    """What the plan wants here by now; 0 where it wants nothing."""
    covered: int
    """Live terminals that fill a target: min(live, target), summed over the plan's units."""

    @property
    def verified(self) -> int:
        """核实: installed and heard at least once."""
        return self.live + self.overdue + self.lost

    @property
    def installed(self) -> int:
        """登记: in service, heard or not."""
        return self.never_heard + self.verified

    @property
    def buildout(self) -> Ratio | None:
        """建设率: installed / target. It may be more than 1."""
        return ratio(self.installed, self.target)

    @property
    def networking(self) -> Ratio | None:
        """联网率 of this moment: live / installed."""
        return ratio(self.live, self.installed)

    @property
    def networking_daily(self) -> Ratio | None:
        """联网率 of the day: heard within it, of those installed for more than 7 days."""
        return ratio(self.heard_today, self.due)

    @property
    def coverage(self) -> Ratio | None:
        """有效覆盖率: what is covered / target; never more than 1."""
        return ratio(self.covered, self.target)

    @property
    def video_smart_ratio(self) -> Ratio | None:
        """智能化覆盖率 of cameras in key public areas; unknown is not smart."""
        return ratio(self.video_smart, self.video_installed)

    @property
    def video_networking_ratio(self) -> Ratio | None:
        """联网率 of cameras in key public areas, of this moment."""
        return ratio(self.video_live, self.video_installed)


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one moment."""

    at: float
    """Unix seconds of the count."""
    province: Figures
    cities: Mapping[int, Figures]
    """By `CITIES`; 370000 stands for terminals of which only the province is known."""
    domains: Mapping[tuple[int, str], Figures]
    """By city, as above, and domain."""
    counties: Mapping[int, Figures]
    """By county. A target here is the county's own row; what a city leaves open is the city's."""

    @property
    def progress(self) -> Ratio:
        """Verified / goal."""
        return Ratio(self.province.verified, GOAL_TERMINALS)

    @property
    def declared_progress(self) -> Ratio:
        """Installed / goal."""
        return Ratio(self.province.installed, GOAL_TERMINALS)

    @property
    def counties_covered(self) -> Ratio | None:
        """Counties with coverage of at least 0.9 / all counties; None while no county has a target."""
        known = [figures.coverage for figures in self.counties.values() if figures.coverage]
        covered = sum(coverage.value >= COVERED_AT_LEAST for coverage in known)
        return Ratio(covered, len(COUNTIES)) if known else None


def targets_on(rows: Iterable[Target], day: date) -> dict[tuple[int, str], int]:
    """The target of a day by division and domain: the last row that is due by then."""
    due = sorted((row for row in rows if row.due_on <= day), key=lambda row: row.due_on)
    return {(row.division, row.domain): row.target for row in due}


def units(targets: Targets) -> dict[tuple[int, str], int]:
    """Targets that coverage is counted against, none of which holds another.

    A city's row is its total and its counties' rows divide it: a county with a row is a unit, and what the
    counties leave of the total is one more, under the city: its other counties and its own cells together.
    """
    apart = {key: target for key, target in targets.items() if DIVISIONS[key[0]].level == "county"}
    rest = {key: target for key, target in targets.items() if key not in apart}
    for (county, domain), target in apart.items():
        if (total := (city(county), domain)) in rest:
            rest[total] = max(0, rest[total] - target)
    return apart | rest


def by_city(targets: Targets) -> dict[tuple[int, str], int]:
    """Total targets by city and domain; of a city without a row its counties' sum."""
    totals: dict[tuple[int, str], int] = {}
    for (division, domain), target in units(targets).items():
        place = (city(division), domain)
        totals[place] = totals.get(place, 0) + target
    return totals


class Grid:
    """Where each cell counts; made once for a table of cells."""

    def __init__(self, cells: Mapping[int, tuple[int, str]]) -> None:
        """Of division and domain by cell id. An id without a cell counts as 370000, other."""
        self.size = max(cells, default=0) + 1
        """Cells that counts must have, from id 0."""
        self.id = {place: number for number, place in cells.items()}
        places = [cells.get(number, (PROVINCE, "other")) for number in range(self.size)]
        cities = {code: number for number, code in enumerate(CITIES)}
        counties = {code: number for number, code in enumerate(COUNTIES)}
        self.domain = np.array([DOMAINS.index(domain) for _, domain in places])
        self.city_domain = np.array([cities[city(d)] for d, _ in places]) * len(DOMAINS) + self.domain
        self.county = np.array([counties.get(division, len(COUNTIES)) for division, _ in places])
        """Number in `COUNTIES`, and one more for what is in none."""
        self.city_cell = np.array(
            [self.id.get((city(division), domain), n) for n, (division, domain) in enumerate(places)]
        )

    def spread(self, targets: Targets) -> tuple[Ints, Ints]:
        """By cell: the cell whose target its live terminals fill, and its own target. Raises KeyError."""
        unit, target = self.city_cell.copy(), np.zeros(self.size, np.int64)
        for place, wanted in units(targets).items():
            cell = self.id[place]
            unit[cell], target[cell] = cell, wanted
        return unit, target


def report(counts: Counts, grid: Grid, targets: Targets, node_domains: Collection[str]) -> Report:
    """The figures of one count against the targets of its day. `counts` has as many cells as `grid`."""
    unit, target = grid.spread(targets)
    live = np.zeros(grid.size, np.int64)
    np.add.at(live, unit, counts.states[:, LIVE])
    verified = counts.states[:, LIVE : STATES.index("lost") + 1].sum(axis=1)
    is_node = np.array([domain in node_domains for domain in DOMAINS])[grid.domain]
    columns = np.column_stack(
        (counts.states, counts.active, counts.due, counts.heard_today, counts.invalid, counts.video,
         verified * is_node, target, np.minimum(live, target))
    )  # fmt: skip
    domains = _summed(columns, grid.city_domain, len(CITIES) * len(DOMAINS))
    cities = domains.reshape(len(CITIES), len(DOMAINS), -1).sum(axis=1)
    counties = _summed(columns, grid.county, len(COUNTIES) + 1)[:-1]
    names = [(place, domain) for place in CITIES for domain in DOMAINS]
    return Report(
        at=counts.at,
        province=Figures._make(cities.sum(axis=0).tolist()),
        cities=dict(zip(CITIES, map(Figures._make, cities.tolist()), strict=True)),
        domains=dict(zip(names, map(Figures._make, domains.tolist()), strict=True)),
        counties=dict(zip(COUNTIES, map(Figures._make, counties.tolist()), strict=True)),
    )


def _summed(columns: Ints, place: npt.NDArray[np.int_], places: int) -> Ints:
    sums = np.zeros((places, columns.shape[1]), np.int64)
    np.add.at(sums, place, columns)
    return sums
