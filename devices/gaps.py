"""Gaps: where terminals are missing, opened once for each cause and closed when it is gone (docs/gaps.md).

Pure. What must be remembered stands in the gaps themselves, as the database has them, so that an observer
that starts anew goes on where the last one stopped. Each round: `gateway_down`, then `Fleet.count` with it,
then `decide` with the same gateways, gaps and maintenance. `blind` is a time that nobody saw or heard: the
observer was away, or the service deaf. Times are Unix seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from devices.coverage import COVERED_AT_LEAST, LIVE, Grid, Target, targets_on
from devices.coverage import units as apart
from devices.division import PROVINCE
from devices.gap import Decision, Gap, Maintenance, maintained
from devices.gateways import GatewayNow
from devices.states import STATES, Blind
from devices.tally import NAMED, Counts

MINIMUM_TERMINALS = 20
"""Under so many no cell is dark and nothing has an outage: a handful of meters is not a place."""
OUTAGE_SHARE = 0.5
RECOVERED_AT_LEAST = 0.8
"""Of those who should be live; well above what opens an outage, so that it does not flap."""
EXPLAINED_SHARE = 0.8
NEVER_HEARD_SHARE = 0.1
RETURN_SECONDS = 900
"""A cause that is back within this time is the same gap: its row opens again."""
SUSPECT_SECONDS = 300
"""A gateway silent for this long may be the cause: half the time after which the quickest counts as silent."""
FORGOTTEN_SECONDS = 30 * 86_400
"""A gateway without terminals that was away for so long is no gap; as `active` forgets terminals."""
OVERDUE, LOST = STATES.index("overdue"), STATES.index("lost")
DOWN = ("offline", "silent")


class Unit(NamedTuple):
    """A place and domain with a declared target that is due, and the ids of the cells that it is made of."""

    division: int
    domain: str
    target: int
    cells: Sequence[int]


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


def declared_units(rows: Iterable[Target], day: date, grid: Grid) -> list[Unit]:
    """The units of coverage whose target is declared and due; what is assumed is nobody's promise."""
    targets = targets_on((row for row in rows if row.source == "declared"), day)
    unit, _ = grid.spread(targets)
    return [
        Unit(*place, target, np.flatnonzero(unit == grid.id[place]).tolist())
        for place, target in apart(targets).items()
        if target
    ]


def gateway_down(
    gateways: Iterable[GatewayNow], gaps: Iterable[Gap], planned: Sequence[Maintenance], now_seconds: float, size: int
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """By gateway number, which may explain that terminals are silent (1; `NAMED`: its gap is open).

    `size` is that of the array. Those with an open gap, those that are down or under maintenance, and those
    from which nothing came for `SUSPECT_SECONDS`: they turn silent, or are heard, before anything else is
    opened for their terminals.
    """
    down = np.zeros(size, np.uint8)
    named = {gap.gateway for gap in gaps if gap.gateway and gap.closed_seconds is None}
    for gateway in gateways:
        seen = gateway.last_seen_seconds
        quiet = seen is not None and now_seconds - seen > SUSPECT_SECONDS
        if gateway.name in named:
            down[gateway.number] = NAMED
        else:
            covered = maintained(planned, now_seconds, _division(gateway), None, gateway.name) is not None
            down[gateway.number] = gateway.state in DOWN or quiet or covered
    return down


def decide(
    counts: Counts, cells: Mapping[int, tuple[int, str]], units: Iterable[Unit], gateways: Sequence[GatewayNow],
    gaps: Iterable[Gap], planned: Sequence[Maintenance], minimum: int = MINIMUM_TERMINALS,
    blind: Blind | None = None,
) -> Decision:  # fmt: skip
    """What opens, changes and closes at `counts.at`.

    `cells` is division and domain by cell id; `gaps` are the open ones and those that closed within
    `RETURN_SECONDS`; `minimum` is what an outage and a dark cell need in terminals.
    """
    round_ = _Round(counts, gaps, planned, minimum, blind)
    round_.judge_gateways(gateways)
    round_.judge_cells(cells)
    round_.judge_units(units)
    round_.close_the_rest()
    return round_.decision


class _Round:
    """One call of `decide`, gateways before cells before plans."""

    def __init__(
        self, counts: Counts, gaps: Iterable[Gap], planned: Sequence[Maintenance], minimum: int,
        blind: Blind | None,
    ) -> None:  # fmt: skip
        self.now, self.counts, self.planned, self.minimum = counts.at, counts, planned, minimum
        self.blind = blind
        self.decision = Decision()
        self._open: dict[tuple[Any, ...], Gap] = {}
        self._recent: dict[tuple[Any, ...], Gap] = {}
        for gap in gaps:
            (self._recent if gap.closed_seconds is not None else self._open)[gap.place] = gap
        self._judged: set[tuple[Any, ...]] = set()
        self._explains: dict[int, int] = {}
        """Missing terminals by cell id, where a gap of the cell stands for them."""
        self._new_left = self._new_silent = 0
        """Behind gateways whose outage opened just now: which cells theirs are, only the next count says."""

    # Gateways.

    def judge_gateways(self, gateways: Sequence[GatewayNow]) -> None:
        for gateway, figures in zip(
            gateways, self.counts.gateway[[g.number for g in gateways]].tolist(), strict=True
        ):
            installed, live, left = figures
            gap = self._find(("gateway", gateway.name))
            if gap is not None:
                self._follow_gateway(gap, gateway, installed, live, left)
            else:
                self._open_gateway(gateway, installed, live, left)

    def _open_gateway(self, gateway: GatewayNow, installed: int, live: int, left: int) -> None:
        figures = {"installed": installed, "live": live, "left": left, "live_before": live + left}
        if gateway.state in DOWN:
            if not self._matters(gateway, installed) or not self._proven(gateway):
                return
            figures |= {"state": gateway.state, "since": _iso(gateway.since_seconds)}  # type: ignore[dict-item]
            kind, expected = "gateway_offline", installed
        elif self._is_outage(live, left):
            kind, expected = "outage", min(live + left, installed)
        else:
            return
        division = _division(gateway)
        opened = self._start(Gap(kind, division, None, gateway.name, self.now, expected, live, figures))
        if opened and kind == "outage":
            self._new_left += left
            self._new_silent += installed - live

    def _proven(self, gateway: GatewayNow) -> bool:
        """What it says is; its silence only where somebody listened for long enough."""
        listened = self.blind is None or self.now >= self.blind.fair_seconds(gateway.quiet_seconds)
        return gateway.state == "offline" or bool(listened)

    def _matters(self, gateway: GatewayNow, installed: int) -> bool:
        away = self.now - (self.now if gateway.since_seconds is None else gateway.since_seconds)
        return installed > 0 or (gateway.registered and away <= FORGOTTEN_SECONDS)

    def _follow_gateway(self, gap: Gap, gateway: GatewayNow, installed: int, live: int, left: int) -> None:
        """While it is down, and then until its terminals are back: an outage once the gateway is."""
        before = max(int(gap.evidence.get("live_before", 0)), live + left)
        expected = min(before, installed)
        evidence = {**gap.evidence, "live_before": before}
        if gateway.state in DOWN:
            if not self._matters(gateway, installed):
                self._close(gap, expected, live, "no terminals, and not heard for 30 days")
                return
            evidence |= {"state": gateway.state, "since": _iso(gateway.since_seconds)}
            self._keep(replace(gap, kind="gateway_offline", evidence=evidence), installed, live)
        elif live >= RECOVERED_AT_LEAST * expected or (
            gap.kind == "gateway_offline" and before < self.minimum
        ):
            self._close(gap, expected, live, "recovered" if installed else "no terminals left")
        else:
            evidence["state"] = gateway.state
            self._keep(replace(gap, kind="outage", evidence=evidence), expected, live)

    # Cells.

    def judge_cells(self, cells: Mapping[int, tuple[int, str]]) -> None:
        for cell, (division, domain) in cells.items():
            figures = self._figures(cell)
            outage = self._judge_outage(cell, division, domain, figures)
            if not outage:
                self._judge_dark(cell, division, domain, figures)
            self._judge_never_heard(cell, division, domain, figures)

    def _figures(self, cell: int) -> _Cell:
        c = self.counts
        states = c.states[cell].tolist()
        named = 0 if c.silent_named is None else int(c.silent_named[cell])
        return _Cell(states[LIVE], states[OVERDUE] + states[LOST], int(c.left[cell]), int(c.left_explained[cell]),
                     int(c.silent_explained[cell]), named, int(c.active[cell]), int(c.ripe[cell]),
                     int(c.ripe_never[cell]))  # fmt: skip

    def _judge_outage(self, cell: int, division: int, domain: str, now: _Cell) -> bool:
        """Whether the cell has an open outage after this round."""
        gap = self._find(("outage", division, domain))
        before = now.live + now.left
        if gap is None:
            explained = now.left_behind + self._new_left >= EXPLAINED_SHARE * now.left
            if not self._is_outage(now.live, now.left) or explained:
                return False
            evidence = {"live": now.live, "left": now.left, "behind_gateways": now.left_behind,
                        "live_before": before}  # fmt: skip
            self._explains[cell] = now.left
            return self._start(Gap("outage", division, domain, None, self.now, before, now.live, evidence))
        before = max(int(gap.evidence["live_before"]), before)
        expected = min(before, now.live + now.silent)
        if now.live >= RECOVERED_AT_LEAST * expected:
            self._close(gap, expected, now.live, "recovered" if expected else "no terminals left")
        elif self._surely_behind(now):
            self._close(gap, expected, now.live, "explained by gateways")
        else:
            self._explains[cell] = expected - now.live
            self._keep(replace(gap, evidence={**gap.evidence, "live_before": before}), expected, now.live)
            return True
        return False

    def _judge_dark(self, cell: int, division: int, domain: str, now: _Cell) -> None:
        """`active` remembers who was live: after 30 days of silence there is nobody left to be missed."""
        gap = self._find(("dark", division, domain))
        dark = now.live == 0 and now.active >= self.minimum
        if gap is None:
            if dark and now.silent_behind + self._new_silent < EXPLAINED_SHARE * now.silent:
                evidence = {"active": now.active, "silent": now.silent, "behind_gateways": now.silent_behind}
                self._explains[cell] = now.active
                self._start(Gap("dark", division, domain, None, self.now, now.active, now.live, evidence))
        elif not dark:
            self._close(gap, now.active, now.live, "recovered" if now.live else "not heard for 30 days")
        elif self._surely_behind(now):
            self._close(gap, now.active, now.live, "explained by gateways")
        else:
            self._explains[cell] = now.active
            self._keep(gap, now.active, now.live)

    def _judge_never_heard(self, cell: int, division: int, domain: str, now: _Cell) -> None:
        gap = self._find(("never_heard", division, domain))
        if now.never > NEVER_HEARD_SHARE * now.ripe:
            figures = {"installed_long_enough": now.ripe, "never_heard": now.never}
            found = Gap(
                "never_heard", division, domain, None, self.now, now.ripe, now.ripe - now.never, figures
            )
            self._explains[cell] = self._explains.get(cell, 0) + now.never
            self._start_or_keep(gap, found)
        elif gap is not None:
            self._close(gap, now.ripe, now.ripe - now.never, "recovered" if now.ripe else "no terminals left")

    # Plans.

    def judge_units(self, units: Iterable[Unit]) -> None:
        for unit in units:
            cells = np.asarray(unit.cells, np.intp)
            live = int(self.counts.states[cells, LIVE].sum())
            gap = self._find(("under_target", unit.division, unit.domain))
            if live >= COVERED_AT_LEAST * unit.target:
                if gap is not None:
                    self._close(gap, unit.target, live, "recovered")
                continue
            explained = sum(
                max(self._explains.get(i, 0), int(self.counts.silent_explained[i])) for i in unit.cells
            )
            if gap is None and explained >= EXPLAINED_SHARE * (unit.target - live):
                continue
            figures = {"target": unit.target, "live": live, "coverage": round(live / unit.target, 4)}
            self._start_or_keep(
                gap,
                Gap("under_target", unit.division, unit.domain, None, self.now, unit.target, live, figures),
            )

    def close_the_rest(self) -> None:
        """Gaps of what is there no more: a gateway that was removed, a target that a new plan has not."""
        for place, gap in self._open.items():
            if place not in self._judged:
                why = "no such target is due" if gap.kind == "under_target" else "no longer registered"
                self._close(gap, gap.expected, gap.live, why)

    # What all of them do.

    def _is_outage(self, live: int, left: int) -> bool:
        return live + left >= self.minimum and left >= OUTAGE_SHARE * (live + left)

    def _surely_behind(self, now: _Cell) -> bool:
        return now.silent > 0 and now.silent_named >= EXPLAINED_SHARE * now.silent

    def _find(self, place: tuple[Any, ...]) -> Gap | None:
        self._judged.add(place)
        return self._open.get(place)

    def _start_or_keep(self, gap: Gap | None, found: Gap) -> None:
        if gap is None:
            self._start(found)
        else:
            self._keep(gap, found.expected, found.live)

    def _start(self, found: Gap) -> bool:
        """Open it, or open again what closed a moment ago; False: nothing opens, maintenance is planned."""
        if maintained(self.planned, self.now, found.division, found.domain, found.gateway) is not None:
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

    def _keep(self, gap: Gap, expected: int, live: int) -> None:
        """It stays open, with the figures of now; no row is written for one that stays as it is."""
        evidence = {name: value for name, value in gap.evidence.items() if name != "maintenance"}
        planned = maintained(self.planned, self.now, gap.division, gap.domain, gap.gateway)
        if planned is not None:
            evidence["maintenance"] = planned
        kept = replace(gap, expected=expected, live=live, evidence=evidence)
        if kept != self._open[gap.place]:
            self.decision.updated.append(kept)

    def _close(self, gap: Gap, expected: int, live: int, why: str) -> None:
        evidence = {**gap.evidence, "closed": why}
        self.decision.closed.append(
            replace(gap, expected=expected, live=live, evidence=evidence, closed_seconds=self.now)
        )


def _division(gateway: GatewayNow) -> int:
    return PROVINCE if gateway.division is None else gateway.division


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
