"""Gaps: where terminals are missing, opened once for each cause and closed when it is gone (docs/gaps.md).

Pure. What must be remembered stands in the gaps themselves, as the database has them, so that an observer
that starts anew goes on where the last one stopped. Each round: `gap_gateways.gateway_down`, then `Fleet.count`
with it, then `decide` with the same gateways, gaps and maintenance.
"""

from collections.abc import Iterable, Mapping, Sequence

from devices.gap import Decision, Gap, Maintenance
from devices.gap_book import GapBook
from devices.gap_cells import judge_cells
from devices.gap_gateways import judge_gateways
from devices.gap_units import Unit, judge_units
from devices.gateways import GatewayNow
from devices.states import Blind
from devices.tally import Counts

MINIMUM_TERMINALS = 20
"""Under so many no cell is dark and nothing has an outage: a handful of meters is not a place."""
RETURN_SECONDS = 900
"""A cause that is back within this time is the same gap: its row opens again."""


def decide(
    counts: Counts, cells: Mapping[int, tuple[int, str]], units: Iterable[Unit], gateways: Sequence[GatewayNow],
    gaps: Iterable[Gap], planned: Sequence[Maintenance], minimum: int = MINIMUM_TERMINALS,
    blind: Blind | None = None,
) -> Decision:  # fmt: skip
    """What opens, changes and closes at `counts.at`, gateways before cells before plans.

    `cells` is division and domain by cell id; `gaps` are the open ones and those that closed within
    `RETURN_SECONDS`; `minimum` is what an outage and a dark cell need in terminals. `blind` is a time that
    nobody saw or heard: the observer was away, or the service deaf.
    """
    book = GapBook(gaps, planned, counts.at)
    behind = judge_gateways(book, gateways, counts, minimum, blind)
    explains = judge_cells(book, cells, counts, minimum, behind)
    judge_units(book, units, counts, explains)
    book.close_the_rest()
    return book.decision
