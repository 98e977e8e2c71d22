"""Gaps of cells: an outage, a cell that is dark, and terminals that were never heard.

Pure. A cell with an outage is not dark beside it, and what gateways explain is no gap of the cell.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from devices.coverage import LIVE
from devices.gap import Gap
from devices.gap_book import EXPLAINED_SHARE, RECOVERED_AT_LEAST, GapBook, is_outage
from devices.gap_gateways import Behind
from devices.states import STATES
from devices.tally import Counts

NEVER_HEARD_SHARE = 0.1
OVERDUE, LOST = STATES.index("overdue"), STATES.index("lost")


class _Cell(NamedTuple):
    """Figures of one cell in this round."""

    live: int
    silent: int
    """overdue + lost."""
    left: int
    left_behind: int
    """Of `left`, behind a gateway that may be the cause; `silent_behind` of `silent`."""
    silent_behind: int
    silent_named: int
    """Of `silent`, behind a gateway whose gap is open."""
    active: int
    ripe: int
    never: int


def judge_cells(
    book: GapBook, cells: Mapping[int, tuple[int, str]], counts: Counts, minimum: int, behind: Behind
) -> Mapping[int, int]:
    """Judge every cell; answers how many terminals its gaps stand for, by its id.

    `minimum` terminals make an outage or a dark cell.
    """
    judge = _Judge(book, minimum, behind)
    for cell, (division, domain) in cells.items():
        figures = _figures(counts, cell)
        if not judge.outage(cell, division, domain, figures):
            judge.dark(cell, division, domain, figures)
        judge.never_heard(cell, division, domain, figures)
    return judge.explains


def _figures(counts: Counts, cell: int) -> _Cell:
    states = counts.states[cell].tolist()
    named = 0 if counts.silent_named is None else int(counts.silent_named[cell])
    return _Cell(states[LIVE], states[OVERDUE] + states[LOST], int(counts.left[cell]),
                 int(counts.left_explained[cell]), int(counts.silent_explained[cell]), named,
                 int(counts.active[cell]), int(counts.ripe[cell]), int(counts.ripe_never[cell]))  # fmt: skip


class _Judge:
    """The rules of a cell's gaps, and what they found so far."""

    def __init__(self, book: GapBook, minimum: int, behind: Behind) -> None:
        self.explains: dict[int, int] = {}
        """Missing terminals by cell id, where a gap of the cell stands for them."""
        self._book, self._minimum, self._behind = book, minimum, behind

    def outage(self, cell: int, division: int, domain: str, now: _Cell) -> bool:
        """Whether the cell has an open outage after this round."""
        gap = self._book.find(("outage", division, domain))
        before = now.live + now.left
        if gap is None:
            explained = now.left_behind + self._behind.left >= EXPLAINED_SHARE * now.left
            if not is_outage(now.live, now.left, self._minimum) or explained:
                return False
            evidence = {"live": now.live, "left": now.left, "behind_gateways": now.left_behind,
                        "live_before": before}  # fmt: skip
            self.explains[cell] = now.left
            found = Gap("outage", division, domain, None, self._book.now, before, now.live, evidence)
            return self._book.start(found)
        before = max(int(gap.evidence["live_before"]), before)
        expected = min(before, now.live + now.silent)
        if now.live >= RECOVERED_AT_LEAST * expected:
            self._book.close(gap, expected, now.live, "recovered" if expected else "no terminals left")
        elif _surely_behind(now):
            self._book.close(gap, expected, now.live, "explained by gateways")
        else:
            self.explains[cell] = expected - now.live
            evidence = {**gap.evidence, "live_before": before}
            self._book.keep(replace(gap, evidence=evidence), expected, now.live)
            return True
        return False

    def dark(self, cell: int, division: int, domain: str, now: _Cell) -> None:
        """`active` remembers who was live: after 30 days of silence there is nobody left to be missed."""
        gap = self._book.find(("dark", division, domain))
        dark = now.live == 0 and now.active >= self._minimum
        if gap is None:
            if dark and now.silent_behind + self._behind.silent < EXPLAINED_SHARE * now.silent:
                evidence = {"active": now.active, "silent": now.silent, "behind_gateways": now.silent_behind}
                self.explains[cell] = now.active
                found = Gap("dark", division, domain, None, self._book.now, now.active, now.live, evidence)
                self._book.start(found)
        elif not dark:
            why = "recovered" if now.live else "not heard for 30 days"
            self._book.close(gap, now.active, now.live, why)
        elif _surely_behind(now):
            self._book.close(gap, now.active, now.live, "explained by gateways")
        else:
            self.explains[cell] = now.active
            self._book.keep(gap, now.active, now.live)

    def never_heard(self, cell: int, division: int, domain: str, now: _Cell) -> None:
        """Installed long enough ago, and not a word since."""
        gap = self._book.find(("never_heard", division, domain))
        heard = now.ripe - now.never
        if now.never > NEVER_HEARD_SHARE * now.ripe:
            figures = {"installed_long_enough": now.ripe, "never_heard": now.never}
            found = Gap("never_heard", division, domain, None, self._book.now, now.ripe, heard, figures)
            self.explains[cell] = self.explains.get(cell, 0) + now.never
            self._book.start_or_keep(gap, found)
        elif gap is not None:
            self._book.close(gap, now.ripe, heard, "recovered" if now.ripe else "no terminals left")


def _surely_behind(now: _Cell) -> bool:
    return now.silent > 0 and now.silent_named >= EXPLAINED_SHARE * now.silent
