"""One look of the observer: follow the database, count, compare with the plan, decide on gaps, store, and say.

Assumes one thread and a connection of its own. Everything it remembers is in the database, or follows from
it: killed anywhere, the next one goes on from there.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import structlog
from psycopg import Connection

from devices import coverage, indicator
from devices.coverage import Grid, Report, Target
from devices.day import day_of, midnight_seconds
from devices.division import PROVINCE, city, today
from devices.gap import Gap
from devices.gap_gateways import gateway_down
from devices.gap_units import declared_units
from devices.gaps import decide
from devices.gateways import DEAF_SECONDS, GatewayNow, deaf, judge
from devices.observer import Observer
from devices.report import Summary, last_days
from devices.rhythm import intervals
from devices.states import Blind
from devices.store import identifier_nodes
from devices.tally import Counts
from ingest import gaps as gap_store
from ingest import report as reports
from ingest.settings import OnUnknownGateway, Settings
from schemas.sql import queries
from schemas.status import Status

log = structlog.get_logger()
SQL = queries("observe.sql")
QUARTER_SECONDS = 900
SNAPSHOT_SECONDS = 300
"""What a restart reads beside the blocks: bitmaps of so long."""
ASK_AGAIN_SECONDS = 3_600
"""The registry may have changed what is expected of gateways that stay quiet; all of them take 20 s at 300 million."""
RECOUNT_HOUR = 3
"""Of Shandong's night: when the fewest look."""


@dataclass(frozen=True)
class Seen:
    """What a look came to, for whoever asks next."""

    report: Report
    gaps: Sequence[Gap]
    """Those that are open."""
    gateways: Counter[tuple[int, str]]
    """How many, by city and state."""
    quality: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Unflagged and received readings of 24 h by city."""
    identifier_nodes: Mapping[str, int] = field(default_factory=dict)
    ledger_rows: int = 0
    database_bytes: int = 0
    duplicates_removed: int = 0
    forecast_on: date | None = None
    recount_difference: int | None = None
    """None until the first recount."""
    past: Summary | None = None
    """The last 30 days as they were kept a quarter of an hour ago at most: what the page compares with."""


class Rounds:
    """The looks of one observer over one connection."""

    def __init__(self, conn: Connection[Any], settings: Settings) -> None:
        self._conn = conn
        self._settings = settings
        self._observer = Observer(conn)
        self._grid = Grid({})
        self._plan: tuple[int | None, list[Target]] = (None, [])
        self._reports: dict[int, tuple[float, float | None]] = {}
        """By gateway: when it was last heard, and the interval that followed from it."""
        self._blind: Blind | None = None
        self._looked = False
        self._rest: dict[str, Any] = {}
        self._quarter = self._snapshot_at = self._asked_at = 0.0

    def load(self) -> None:
        """Rebuild everything from the database. Raises `AnotherObserverError`."""
        self._observer.load()
        if row := self._conn.execute(SQL["last_recount"]).fetchone():
            self._rest["recount_difference"] = row[1]

    def hear_statuses(self, said: Sequence[tuple[Status, bool]]) -> None:
        """Store what gateways say of themselves, the last word of each; True marks a retained one.

        Of gateways that nobody registered nothing is stored where they are to be rejected.
        """
        last = {status.gateway: (status, retained) for status, retained in said}
        if self._settings.unknown_gateways is OnUnknownGateway.REJECT:
            known = self._conn.execute(SQL["registered_gateways"], [list(last)]).fetchall()
            last = {name: last[name] for (name,) in known}
        columns = [[s.gateway for s, _ in last.values()], [s.online for s, _ in last.values()],
                   [r for _, r in last.values()], [s.firmware for s, _ in last.values()]]  # fmt: skip
        divisions = {name: status.division for name, (status, _) in last.items()}
        self._observer.meet_gateways(divisions)
        self._conn.execute(SQL["say_status"], columns)
        self._observer.place_gateways(divisions)

    def look(self, now: float) -> Seen:
        """Count everything at a Unix time and store what follows from it."""
        self._observer.follow()
        self._observer.number_gateways([])
        cells, numbers = self._observer.axes()
        if cells != self._grid.size:
            self._grid = Grid(
                {id_: (place, domain) for id_, place, domain in self._conn.execute(SQL["cells"])}
            )
        if _is_due(now, self._asked_at, ASK_AGAIN_SECONDS):
            self._asked_at = now
            self._reports.clear()
        gateways = self._gateways(now, numbers)
        known, planned = gap_store.read(self._conn, now)
        down = gateway_down(gateways, known, planned, now, numbers)
        blind = self._unseen(gateways, now)
        counts = self._observer.fleet.count(now, down, cells, numbers, blind)
        plan = self._newest_plan()
        day = day_of(now)
        targets = coverage.targets_on(plan, day)
        units = declared_units(plan, day, self._grid)
        minimum = self._settings.gap_terminals
        gap_store.write(
            self._conn, decide(counts, self._places(), units, gateways, known, planned, minimum, blind)
        )
        report = coverage.report(counts, self._grid, targets, self._settings.node_domains)
        if _is_due(now, self._quarter, QUARTER_SECONDS):
            self._quarter = now - now % QUARTER_SECONDS
            self._snapshot(now)  # what is kept of quality is counted in the table that this fills
            self._keep(counts, report, day)
        return Seen(report, self._open_gaps(now), by_city(gateways), **self._rest)

    def _unseen(self, gateways: Sequence[GatewayNow], now: float) -> Blind | None:
        """The last time of which silence proves nothing; when the service is deaf, and hears again, stands in audit."""
        if not self._looked:
            self._blind, self._looked = gap_store.unseen(self._conn, now, gateways), True
        seen = [g.last_seen_seconds for g in gateways if g.last_seen_seconds is not None]
        newest = self._observer.fleet.newest_seconds() or max(seen, default=now)
        was, is_deaf = self._blind, deaf(gateways, newest, now)
        lasts = was is not None and was.until_seconds == math.inf
        if is_deaf and not lasts:
            again = was is not None and was.deaf and now - was.until_seconds < QUARTER_SECONDS
            self._blind = Blind(was.since_seconds if was and again else newest, math.inf, deaf=True)
            advice = "no gateway is heard: silence opens no gap until workers commit again; ganzhi status"
            log.warning("deaf", seconds=round(now - newest), advice=advice)
            gap_store.note_deafness(self._conn, self._blind)
        elif was is not None and lasts and not is_deaf:
            self._blind = was._replace(until_seconds=now)
            gap_store.note_deafness(self._conn, self._blind)
        return self._blind

    def chores(self, now: float) -> None:
        """What can wait until the figures are out. What a recount finds is in the next ones."""
        if _is_due(now, self._snapshot_at, SNAPSHOT_SECONDS):
            self._snapshot(now)
        self._recount(now)

    def _snapshot(self, now: float) -> None:
        self._snapshot_at = now
        self._observer.snapshot()

    def leave(self) -> None:
        """Store what is known, so that the next start is quick."""
        self._observer.snapshot()

    def _recount(self, now: float) -> None:
        day = day_of(now)
        row = self._conn.execute(SQL["last_recount"]).fetchone()
        if (now - midnight_seconds(day)) / 3600 < RECOUNT_HOUR or (row and row[0] == day):
            return
        found = self._observer.recount(now).differing
        self._rest["recount_difference"] = found
        self._keep_indicators(day, [indicator.Row("recount_difference", PROVINCE, None, None, found)])
        for chore in ("thin_coverage", "thin_quality"):
            self._conn.execute(SQL[chore])

    def _gateways(self, now: float, numbers: int) -> list[GatewayNow]:
        rows = self._conn.execute(SQL["gateways"]).fetchall()
        self._ask_reports({row[0]: row[3] for row in rows if row[3] is not None}, now, numbers)
        found = [
            judge(number, name, division, seen, offline, self._report_of(number), now, registered=registered)
            for number, name, division, seen, offline, registered, _ in rows
        ]
        changed = [g for g, row in zip(found, rows, strict=True) if g.state != row[-1]]
        if changed:
            self._conn.execute(SQL["keep_states"], [[g.number for g in changed], [g.state for g in changed]])
        return found

    def _ask_reports(self, last_seen: Mapping[int, float], now: float, numbers: int) -> None:
        """Find out how often something comes from gateways that are quiet (at the first look all) and heard since."""
        asked = {
            number: seen
            for number, seen in last_seen.items()
            if (now - seen > DEAF_SECONDS or not self._looked)
            and self._reports.get(number, (None,))[0] != seen
        }
        if asked:
            found = intervals(self._observer.fleet, asked, numbers, now)
            self._reports |= {number: (seen, found.get(number)) for number, seen in asked.items()}

    def _report_of(self, number: int) -> float | None:
        return self._reports.get(number, (0.0, None))[1]

    def _newest_plan(self) -> list[Target]:
        (version,) = self._one("plan_version")
        if version != self._plan[0]:
            self._plan = version, [Target(*row) for row in self._conn.execute(SQL["plan"])]
        return self._plan[1]

    def _places(self) -> Mapping[int, tuple[int, str]]:
        return {number: place for place, number in self._grid.id.items()}

    def _open_gaps(self, now: float) -> list[Gap]:
        return [gap for gap in gap_store.read(self._conn, now)[0] if gap.closed_seconds is None]

    def _keep(self, counts: Counts, report: Report, day: date) -> None:
        """What is kept of a quarter of an hour; all of it may be written again."""
        self._keep_coverage(counts)
        history = [(past, float(n)) for past, n in self._conn.execute(SQL["verified_history"], [day, day])]
        history = [*(known for known in history if known[0] < day), (day, float(report.province.verified))]
        ledger, size, duplicates = self._one("housekeeping")
        opened, closed = self._one("gaps_of_day", day)
        given = indicator.Given(
            identifier_nodes=dict(
                zip(("secondary", "enterprise"), identifier_nodes(self._conn), strict=True)
            ),
            quality={place: (good, received) for place, good, received in self._conn.execute(SQL["quality"])},
            gaps_opened=opened,
            gaps_closed=closed,
            baseline={(name, place): value for name, place, value in self._conn.execute(SQL["baseline"])},
            history=history,
        )
        self._keep_indicators(day, indicator.rows(report, given))
        self._rest |= {
            "quality": given.quality,
            "identifier_nodes": given.identifier_nodes,
            "ledger_rows": int(ledger or 0),
            "database_bytes": int(size),
            "duplicates_removed": int(duplicates),
            "forecast_on": indicator.forecast(history),
            "past": reports.read(self._conn, last_days(day), PROVINCE, self._settings.goal_due),
        }

    def _one(self, name: str, *values: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._conn.execute(SQL[name], values).fetchone()
        assert row is not None
        return row

    def _keep_coverage(self, counts: Counts) -> None:
        places = self._places()
        columns = np.column_stack([counts.states, counts.active])
        used = [number for number in np.flatnonzero(columns.any(axis=1)).tolist() if number in places]
        by_column = [columns[used, column].tolist() for column in range(columns.shape[1])]
        division, domain = ([places[number][i] for number in used] for i in (0, 1))
        at = counts.at - counts.at % QUARTER_SECONDS
        self._conn.execute(SQL["keep_coverage"], [at, division, domain, *by_column])

    def _keep_indicators(self, day: date, rows: Iterable[indicator.Row]) -> None:
        names, divisions, *figures = (list(column) for column in zip(*rows, strict=True))
        floats = [[None if n is None else float(n) for n in column] for column in figures]
        self._conn.execute(SQL["keep_indicators"], [day, self._plan[0], names, divisions, *floats])


def _is_due(now: float, last: float, seconds: float) -> bool:
    """Whether so long has passed; also where the last time lies ahead, because the clock was set back since."""
    return not 0 <= now - last < seconds


def by_city(gateways: Iterable[GatewayNow]) -> Counter[tuple[int, str]]:
    """How many gateways, by city and state."""
    return Counter((city(today(g.division or PROVINCE) or PROVINCE), g.state) for g in gateways)
