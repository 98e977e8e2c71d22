"""Gaps of plans: places and domains whose declared target is due and not covered.

Pure. A unit is a place and domain with the cells that its target counts; what their own gaps explain opens no other.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np

from devices.coverage import COVERED_AT_LEAST, LIVE, Grid, Target, targets_on
from devices.coverage import units as apart
from devices.gap import Gap
from devices.gap_book import EXPLAINED_SHARE, GapBook
from devices.tally import Counts


class Unit(NamedTuple):
    """A place and domain with a declared target that is due, and the ids of the cells that it is made of."""

    division: int
    domain: str
    target: int
    cells: Sequence[int]


def declared_units(rows: Iterable[Target], day: date, grid: Grid) -> list[Unit]:
    """The units of coverage whose target is declared and due; what is assumed is nobody's promise."""
    targets = targets_on((row for row in rows if row.source == "declared"), day)
    unit, _ = grid.spread(targets)
    return [
        Unit(*place, target, np.flatnonzero(unit == grid.id[place]).tolist())
        for place, target in apart(targets).items()
        if target
    ]


def judge_units(book: GapBook, units: Iterable[Unit], counts: Counts, explains: Mapping[int, int]) -> None:
    """Judge every unit; `explains` is how many terminals the gaps of a cell stand for, by its id."""
    for unit in units:
        live = int(counts.states[np.asarray(unit.cells, np.intp), LIVE].sum())
        gap = book.find(("under_target", unit.division, unit.domain))
        if live >= COVERED_AT_LEAST * unit.target:
            if gap is not None:
                book.close(gap, unit.target, live, "recovered")
            continue
        explained = sum(max(explains.get(i, 0), int(counts.silent_explained[i])) for i in unit.cells)
        if gap is None and explained >= EXPLAINED_SHARE * (unit.target - live):
            continue
        figures = {"target": unit.target, "live": live, "coverage": round(live / unit.target, 4)}
        book.start_or_keep(
            gap,
            Gap("under_target", unit.division, unit.domain, None, book.now, unit.target, live, figures),
        )
