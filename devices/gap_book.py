"""The gaps of one round: those that are open, and what opens, changes and closes among them.

Pure. Knows no kind of gap; what all kinds are judged by stands here too. Who judges a place finds its gap first: an
open one that nobody looked for is of a place that is there no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from devices.gap import Decision, Gap, Maintenance, maintained

OUTAGE_SHARE = 0.5
RECOVERED_AT_LEAST = 0.8
"""Of those who should be live; well above what opens an outage, so that it does not flap."""
EXPLAINED_SHARE = 0.8


def is_outage(live: int, left: int, minimum: int) -> bool:
    """Whether so many left, of a place with `minimum` terminals or more, that it is one event."""
    return live + left >= minimum and left >= OUTAGE_SHARE * (live + left)


class GapBook:
    """The gaps that are open or closed a moment ago, and what this round decides of them."""

    def __init__(self, gaps: Iterable[Gap], planned: Sequence[Maintenance], now: float) -> None:
        self.now = now
        self.decision = Decision()
        self._planned = planned
        self._open: dict[tuple[Any, ...], Gap] = {}
        self._recent: dict[tuple[Any, ...], Gap] = {}
        for gap in gaps:
            (self._recent if gap.closed_seconds is not None else self._open)[gap.place] = gap
        self._judged: set[tuple[Any, ...]] = set()

    def find(self, place: tuple[Any, ...]) -> Gap | None:
        """The open gap of a place that is judged now."""
        self._judged.add(place)
        return self._open.get(place)

    def start(self, found: Gap) -> bool:
        """Open it, or open again what closed a moment ago; False: nothing opens, maintenance is planned."""
        if self._maintained(found) is not None:
            return False
        before = self._recent.get(found.place)
        if before is None:
            self.decision.opened.append(found)
        else:
            again = {"returned": int(before.evidence.get("returned", 0)) + 1}
            past = {name: value for name, value in before.evidence.items() if name != "closed"}
            self.decision.updated.append(
                replace(
                    found,
                    id=before.id,
                    opened_seconds=before.opened_seconds,
                    evidence={**past, **found.evidence, **again},
                )
            )
        return True

    def keep(self, gap: Gap, expected: int, live: int) -> None:
        """It stays open, with the figures of now; no row is written for one that stays as it is."""
        evidence = {name: value for name, value in gap.evidence.items() if name != "maintenance"}
        planned = self._maintained(gap)
        if planned is not None:
            evidence["maintenance"] = planned
        kept = replace(gap, expected=expected, live=live, evidence=evidence)
        if kept != self._open[gap.place]:
            self.decision.updated.append(kept)

    def start_or_keep(self, gap: Gap | None, found: Gap) -> None:
        """Start what was found where no gap is open, else keep that with its figures."""
        if gap is None:
            self.start(found)
        else:
            self.keep(gap, found.expected, found.live)

    def close(self, gap: Gap, expected: int, live: int, why: str) -> None:
        """Its cause is gone; `why` goes into its evidence."""
        evidence = {**gap.evidence, "closed": why}
        self.decision.closed.append(
            replace(gap, expected=expected, live=live, evidence=evidence, closed_seconds=self.now)
        )

    def close_the_rest(self) -> None:
        """Gaps of what is there no more: a gateway that was removed, a target that a new plan has not."""
        for place, gap in self._open.items():
            if place not in self._judged:
                why = "no such target is due" if gap.kind == "under_target" else "no longer registered"
                self.close(gap, gap.expected, gap.live, why)

    def _maintained(self, gap: Gap) -> int | None:
        return maintained(self._planned, self.now, gap.division, gap.domain, gap.gateway)
