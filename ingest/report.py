"""A period in the database: what `ganzhi report` shows, and what the observer's page compares with.

Reads `indicator`, `coverage`, `coverage_gap`, `plan` and `declared` in one snapshot, and counts no terminals: the
same period says the same again, as long as these rows stay. Any role that reads them will do, a city's too.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from psycopg import Connection

from devices.coverage import Ratio, Target, ratio
from devices.day import midnight_seconds
from devices.declared import Declared
from devices.gap import Gap
from devices.indicator import HISTORY_DAYS, Row
from devices.report import (
    GAPS_SHOWN,
    Counted,
    KindCount,
    Period,
    Plan,
    Snapshot,
    Summary,
    before,
    cells,
    steps,
    within,
)
from ingest import plan as plans
from schemas.sql import queries

SQL = queries("report.sql")
TREND = ("terminals_installed", "terminals_verified", "terminals_active", "terminals_live")


def read(conn: Connection[Any], period: Period, division: int, goal_due: date) -> Summary:
    """A period of the province, a city or a county as its tables have it, and the period before it."""
    with conn.transaction():
        conn.execute(SQL["snapshot"])
        past = before(period)
        now, then = _snapshot(conn, period, division), _snapshot(conn, past, division)
        version, targets = _plan(conn, now.day, division)
        kinds, gaps = _gaps(conn, period, past, division)
        counted_at, rows = _counted(conn, now.day, division)
        return Summary(
            division=division,
            period=period,
            goal_due=goal_due,
            now=now,
            then=then,
            cells=cells(rows, targets, now.day, division) if now.day else {},
            counted_at=counted_at,
            plan=version,
            trend=_trend(
                conn, min(past.since, period.until - timedelta(days=HISTORY_DAYS - 1)), period, division
            ),
            gaps=gaps,
            gap_kinds=kinds,
            quality=_quality(conn, period, division),
            quality_before=_quality(conn, past, division),
            declared=_declared(conn, period, division),
        )


def _snapshot(conn: Connection[Any], period: Period, division: int) -> Snapshot:
    day = _one(conn, "day", since=period.since, until=period.until, division=division)[0]
    if day is None:
        return Snapshot()
    found = conn.execute(SQL["indicators"], {"day": day, "divisions": within(division)})
    return Snapshot(day, {(row[0], row[1]): Row(*row) for row in found})


def _plan(conn: Connection[Any], day: date | None, division: int) -> tuple[Plan | None, Sequence[Target]]:
    """The version that the day was counted against; without figures the newest."""
    number = _one(conn, "plan_version", day=day, division=division)[0] if day else plans.newest(conn)
    version = plans.read(conn, number) if number else None
    if version is None or not version.rows:
        return None, []
    sources = tuple(sorted({row.source for row in version.rows}))
    return Plan(version.number, sources, steps(version.rows, division)), version.rows


def _counted(conn: Connection[Any], day: date | None, division: int) -> tuple[float | None, list[Counted]]:
    if day is None:
        return None, []
    ends = midnight_seconds(day + timedelta(days=1))
    span = {"begins": midnight_seconds(day), "ends": ends, "divisions": within(division)}
    rows = conn.execute(SQL["cells"], span).fetchall()
    return rows[0][0] if rows else None, [Counted(*row[1:]) for row in rows]


def _trend(
    conn: Connection[Any], since: date, period: Period, division: int
) -> dict[str, list[tuple[date, float]]]:
    asked = {"names": list(TREND), "division": division, "since": since, "until": period.until}
    found = defaultdict(list)
    for name, day, value in conn.execute(SQL["trend"], asked):
        found[name].append((day, value))
    return dict(found)


def _gaps(
    conn: Connection[Any], period: Period, past: Period, division: int
) -> tuple[dict[str, KindCount], list[Gap]]:
    asked = {
        "began": midnight_seconds(past.since),
        "begins": midnight_seconds(period.since),
        "ends": midnight_seconds(period.until + timedelta(days=1)),
        "divisions": within(division),
    }
    counted = conn.execute(SQL["gap_kinds"], asked)
    kinds = {kind: KindCount(*counts) for kind, *counts in counted}
    shown = conn.execute(SQL["open_gaps"], asked | {"limit": GAPS_SHOWN})
    return kinds, [Gap(*row) for row in shown]


def _quality(conn: Connection[Any], period: Period, division: int) -> Ratio | None:
    good, received = _one(conn, "quality", since=period.since, until=period.until, division=division)
    return ratio(good, received or 0)


def _declared(conn: Connection[Any], period: Period, division: int) -> list[Declared]:
    if not _one(conn, "may_read_declared")[0]:
        return []
    asked = {"until": period.until, "divisions": within(division)}
    return [Declared(*row) for row in conn.execute(SQL["declared"], asked)]


def _one(conn: Connection[Any], name: str, **values: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = conn.execute(SQL[name], values).fetchone()
    assert row is not None
    return row
