"""Gaps in coverage, in and out of the database: for the observer, and for who is on call.

The observer calls `read`, decides (`devices.gaps`), and calls `write` in the transaction of its round.
What people do (acknowledge, plan maintenance) leaves a line in `audit`, and the observer never undoes it.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from devices.gap import Decision, Gap, Maintenance
from devices.gaps import RETURN_SECONDS
from devices.gateways import DEAF_SECONDS, GatewayNow, missed
from devices.states import Blind
from ingest.terminal import CommandError
from schemas.sql import queries

SQL = queries("gaps.sql")
LOOK_KNOWN_SECONDS = 900
"""A row of `coverage` bears the start of the quarter of an hour of its look."""
LIST_MAX = 200
"""Gaps shown at once; as many have a series of their own."""


class Planned(NamedTuple):
    """A planned maintenance: of a gateway, or of a division and all within it, in one domain or all."""

    division: int | None
    domain: str | None
    gateway: str | None
    since: datetime
    until: datetime
    reason: str


def read(conn: Connection[Any], now_seconds: float) -> tuple[list[Gap], list[Maintenance]]:
    """Gaps that `decide` needs to know, and maintenance that is not over; at a Unix time."""
    gaps = conn.execute(SQL["known"], [now_seconds - RETURN_SECONDS]).fetchall()
    planned = conn.execute(SQL["planned"], [now_seconds]).fetchall()
    return [Gap(*row) for row in gaps], [Maintenance(*row) for row in planned]


def write(conn: Connection[Any], decision: Decision) -> None:
    """Store what was decided. What opened gets its id when it is next read."""
    with conn.transaction():
        if changed := [*decision.closed, *decision.updated]:  # closed first: a place may open anew
            conn.execute(SQL["change"], _columns((g.id, g.kind, g.division, g.expected, g.live, Jsonb(g.evidence),
                                                  g.closed_seconds) for g in changed))  # fmt: skip
        if decision.opened:
            conn.execute(SQL["open"], _columns((g.kind, g.division, g.domain, g.gateway, g.opened_seconds, g.expected,
                                                g.live, Jsonb(g.evidence)) for g in decision.opened))  # fmt: skip


def unseen(conn: Connection[Any], now_seconds: float, gateways: Iterable[GatewayNow]) -> Blind | None:
    """What an observer that starts was not there for, or the service deaf; None: nothing, or it is the first start.

    A deafness that an observer met stands in `audit`; one that nobody was there for is a hole in the
    arrivals, in which gateways should have been heard.
    When the last look was is known to a quarter of an hour.
    """
    last_look, noted, since, until = conn.execute(SQL["last_look"]).fetchone() or (None,) * 4
    if last_look is None:
        return None
    met = Blind(float(since or 0), math.inf if until is None else float(until), deaf=True) if noted else None
    if met and met.until_seconds > last_look:
        return met
    hole = conn.execute(SQL["silence"], {"since": last_look, "seconds": DEAF_SECONDS}).fetchone()
    if hole and missed(gateways, hole[1] - hole[0]):
        return Blind(hole[0], hole[1], deaf=True)
    return met if now_seconds - last_look <= LOOK_KNOWN_SECONDS else Blind(last_look, now_seconds, deaf=False)


def note_deafness(conn: Connection[Any], blind: Blind) -> None:
    """Keep in `audit` that the service is deaf, or since when it hears again."""
    lasts = blind.until_seconds == math.inf
    detail = {"since": blind.since_seconds, "until": None if lasts else blind.until_seconds}
    conn.execute(SQL["audit"], ["observer deaf" if lasts else "observer hears", "", Jsonb(detail)])


def _columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def list_gaps(
    conn: Connection[Any], division: int | None = None, *, closed: bool = False, limit: int = LIST_MAX
) -> list[Any]:
    """Gaps as rows with names (columns of query `list`), open ones first, the largest first."""
    return _list(conn, {"id": None, "all": closed, "division": division, "limit": limit})


def show(conn: Connection[Any], number: int) -> Any:
    """One gap, as in `list_gaps`. Raises `CommandError` when there is none."""
    rows = _list(conn, {"id": number, "all": True, "division": None, "limit": 1})
    if not rows:
        raise CommandError(f"no gap {number}; ganzhi gaps list --all shows them")
    return rows[0]


def _list(conn: Connection[Any], chosen: dict[str, Any]) -> list[Any]:
    with conn.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(SQL["list"], chosen).fetchall()


def acknowledge(conn: Connection[Any], number: int, by: str | None = None) -> bool:
    """Note who looks after a gap, by default the role that is logged in; False: somebody does already.

    Raises `CommandError` when there is no such gap.
    """
    with conn.transaction():
        row = conn.execute(SQL["acknowledge"], {"id": number, "by": by}).fetchone()
        if row is None:
            show(conn, number)
            return False
        detail = dict(zip(("kind", "division", "domain", "gateway", "by"), row, strict=True))
        conn.execute(SQL["audit"], ["gaps ack", str(number), Jsonb(detail)])
    return True


def plan_maintenance(conn: Connection[Any], planned: Planned) -> int:
    """Plan a maintenance; answers its id. Raises `CommandError` for a gateway that nobody knows."""
    with conn.transaction():
        if planned.gateway is not None:
            (known,) = conn.execute(SQL["gateway_exists"], [planned.gateway]).fetchone() or (False,)
            if not known:
                raise CommandError(f"no gateway {planned.gateway}; ganzhi gateways list shows them")
        (number,) = conn.execute(SQL["plan_maintenance"], planned._asdict()).fetchone() or (0,)
        detail = planned._asdict() | {"since": planned.since.isoformat(), "until": planned.until.isoformat()}
        conn.execute(SQL["audit"], ["maintenance add", str(number), Jsonb(detail)])
    return int(number)


def end_maintenance(conn: Connection[Any], number: int) -> bool:
    """End a maintenance now: True; False: it had not begun, and is removed. Raises `CommandError` without one."""
    with conn.transaction():
        row = conn.execute(SQL["end_maintenance"], {"id": number}).fetchone()
        if row is None:
            raise CommandError(
                f"no maintenance {number} that is not over; ganzhi maintenance list shows them"
            )
        began, planned = row
        conn.execute(SQL["audit"], ["maintenance end", str(number), Jsonb(planned | {"removed": not began})])
    return bool(began)


def list_maintenance(conn: Connection[Any], *, past: bool = False) -> list[tuple[Any, ...]]:
    """id, since, until, whether it is now, division, its names, domain, gateway, reason, who planned it."""
    return conn.execute(SQL["maintenance"], {"all": past}).fetchall()
