"""`ganzhi terminals forget`: a terminal, its readings, events, aliases and rejections, gone for good.

First its row is emptied, and no worker writes for it any more once all have seen that; then what it sent goes,
a chunk or partition at a time, each in a transaction of its own, beside which readings come in. Breaks it off,
the same command with the code `forgotten:ID`, which it says at once, does the rest.

What stays: the row's id, rollups by cell, which name no terminal (maintenance counts those anew that still have
their readings), and backups.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from devices.code import FORGOTTEN
from devices.store import SQL as REGISTRY
from ingest.migrate import storage_of
from ingest.terminals import SQL as TERMINALS
from ingest.terminals import find
from schemas.sql import queries

SQL = queries("forget.sql")
SPANS = queries("maintain.sql")
SEEN_SECONDS = 10
"""After which every worker has seen a change of the registry (contract, section 4)."""
NAMED_CHARACTERS = 8
"""A shorter name stands in payloads by chance, and a rejection may hold other terminals' readings."""


@dataclass(slots=True)
class Forgotten:
    """What went."""

    code: str
    """What stands in the registry in its place."""
    readings: int = 0
    events: int = 0
    rejections: int = 0


def forget(conn: Connection[Any], code: str, tell: Callable[[str], object], seen_seconds: float = SEEN_SECONDS
           ) -> Forgotten:  # fmt: skip
    """Forget a terminal by its code or an alias. Raises `CommandError` when there is none."""
    conn.execute(SQL["session"])
    number = find(conn, code)
    done = Forgotten(f"{FORGOTTEN}{number}")
    rows = conn.execute(SQL["terminals"], {"id": number}).fetchall()
    ids = [id_ for id_, _ in rows]
    names = [name for _, name in rows] + [name for (name,) in conn.execute(SQL["names"], [ids])]
    # While the names are known; and again for what comes until every worker has seen it.
    done.rejections = conn.execute(SQL["rejections"], [_searched(names)]).rowcount
    _empty(conn, ids, names, done.code)
    tell(f"{done.code}: its row is empty; if this breaks off, forget {done.code}")
    time.sleep(seen_seconds)
    _delete_sent(conn, ids, done, tell)
    done.rejections += conn.execute(SQL["rejections"], [_searched(names)]).rowcount
    return done


def _empty(conn: Connection[Any], ids: list[int], names: list[str], forgotten: str) -> None:
    with conn.transaction():
        conn.execute(REGISTRY["lock"])
        conn.execute(SQL["aliases"], [ids])
        conn.execute(SQL["empty"], [ids])
        conn.execute(SQL["changed"], [ids])
        conn.execute(SQL["audited"], {"forgotten": forgotten, "names": names})
        conn.execute(TERMINALS["audit"], ["terminals forget", forgotten, Jsonb({"terminals": len(ids)})])


def _delete_sent(
    conn: Connection[Any], ids: list[int], done: Forgotten, tell: Callable[[str], object]
) -> None:
    storage = storage_of(conn)
    for name, since, until, *_ in conn.execute(SPANS[f"spans_{storage}"]).fetchall():
        if gone := conn.execute(SQL["readings"], [ids, since, until]).rowcount:
            tell(f"{name}: {gone:,} readings")
            done.readings += gone
    done.events = conn.execute(SQL["events"], [ids]).rowcount
    if storage == "timescale" and (daily := conn.execute(SQL["daily"]).fetchone()):
        conn.execute(sql.SQL(SQL["rollup"]).format(sql.Identifier(*daily[0].split("."))), [ids])


def _searched(names: list[str]) -> list[str]:
    """As senders write them: without the scheme, which is ours or written in many ways."""
    bare = {name.partition(":")[2] or name for name in names if not name.startswith(FORGOTTEN)}
    return sorted(name for name in bare if len(name) >= NAMED_CHARACTERS)
