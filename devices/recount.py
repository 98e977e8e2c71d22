"""The registry counted by SQL alone, for comparison with the observer's arrays and with what it published.

What SQL knows for itself is exact: life cycle, day of installation, and whether a terminal was ever heard
(`first_heard_at`). When it was last heard stands in no column, only in the blocks that the arrays themselves
wrote and in the rows of `heard` that are not yet in one; so live, overdue and lost can be told from each other by
nobody but the arrays, and count here as one: verified.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from psycopg import Connection

from devices.day import day_of
from devices.facts import SQL
from devices.states import STATES, Numbers
from devices.tally import Counts

COUNTED = ("planned", "never_heard", "verified", "retired", "discovered")
"""What SQL counts of a cell."""


class Difference(NamedTuple):
    """What a recount found."""

    differing: int
    """Sum of the absolute differences; 0 when all is well."""
    places: list[tuple[int, str, int, int]]
    """Cell, what was counted, running count, count of the database: where they differ."""


def in_database(conn: Connection[Any], now_seconds: float, cells: int) -> Numbers:
    """[cells, 5], as `COUNTED`: one scan of the registry. `cells` is one more than the highest cell id."""
    counted = np.zeros((cells, len(COUNTED)), np.int64)
    for cell, *numbers in conn.execute(SQL["totals"], {"today": day_of(now_seconds)}):
        counted[cell] = numbers
    return counted


def in_arrays(counts: Counts) -> Numbers:
    """[cells, 5], as `COUNTED`: the same of a pass over the arrays."""
    by_state = dict(zip(STATES, counts.states.T, strict=True))
    by_state["verified"] = by_state["live"] + by_state["overdue"] + by_state["lost"]
    return np.stack([by_state[name] for name in COUNTED], axis=1)


def difference(running: Numbers, database: Numbers, names: Sequence[str]) -> Difference:
    """Where two tables of cells by `names` are not equal."""
    places = [
        (cell, names[column], int(running[cell, column]), int(database[cell, column]))
        for cell, column in np.argwhere(running != database).tolist()
    ]
    return Difference(int(np.abs(running - database).sum()), places)
