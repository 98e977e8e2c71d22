"""`ganzhi terminals forget`: a terminal, its readings, events, aliases and what was refused of it, gone for good.

First its row is emptied, and no worker writes for it any more once all have seen that; then what it sent goes,
a chunk or partition at a time, each in a transaction of its own, beside which readings come in. Breaks it off,
the same command with the code `forgotten:ID`, which it says at once, does the rest.

What stays: the row's id and when that was last heard, rows of rejections without payload and details, rollups by
cell, which name no terminal (maintenance counts those anew that still have their readings), and backups.
"""

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from devices.code import FORGOTTEN, canonical
from devices.store import SQL as REGISTRY
from ingest.migrate import storage_of
from ingest.terminals import SQL as TERMINALS
from ingest.terminals import find
from schemas.payload import Unreadable
from schemas.senml_cbor import load_cbor
from schemas.sql import queries

SQL = queries("forget.sql")
SPANS = queries("maintain.sql")
SEEN_SECONDS = 10
"""After which every worker has seen a change of the registry (contract, section 4)."""
NAMED_CHARACTERS = 8
"""A shorter name stands in payloads by chance, and a rejection may hold other terminals' readings."""
IN_CODE = r"[\w.:/-]"
"""Characters that go on a code where they stand beside it."""
BEFORE = rf"(?<!{IN_CODE})(?:(?i:urn:|did:))?(?:(?i:{{scheme}}):)?"
"""The scheme, as senders write it or leave it out."""
BEFORE_IMEI = r"(?<![0-9])(?:[0-9]{5,10})?"
"""CTWing's device ids end in the IMEI, with the product's number before it; others put a letter or _ between."""
AFTER = rf"(?:[:/](?:[A-Za-z][\w.-]*|(?:[0-9]{{1,5}}/){{2}}[0-9]{{1,5}}))?[.:/]?(?!{IN_CODE})"
"""A metric or an LwM2M path, a base name's separator, or the end of a sentence."""
HIDDEN = "forgotten"
"""What stands in a topic, and as a rejection's gateway, where the name did."""


class Names:
    """What a terminal is called; nothing of one that is forgotten already."""

    def __init__(self, codes: Iterable[str]) -> None:
        """`codes` are canonical codes and aliases, with their schemes."""
        self.codes = {code for code in codes if not code.startswith(FORGOTTEN)}
        schemes = {text: scheme for scheme, text in map(_parts, self.codes)}
        self._long = {text: scheme for text, scheme in schemes.items() if len(text) >= NAMED_CHARACTERS}
        self.texts = list(self._long)
        """Without their schemes; those that do not stand anywhere by chance."""
        self.sparkplug = any(code.startswith("spb:") for code in self.codes)
        self._pattern = re.compile("|".join(map(_pattern, self.texts, self._long.values())))

    def stand_in(self, text: str) -> bool:
        """Whether one of them does, whole."""
        return bool(self.texts and self._pattern.search(text))

    def without(self, topic: str) -> str | None:
        """A topic without the levels that are one of them; None: it names another, or nobody."""
        levels = topic.split("/")
        hidden = [HIDDEN if level in self.codes or level in self._long else level for level in levels]
        is_node = False
        if levels[0] == "spBv1.0" and len(levels) in (4, 5):
            _, group, _, edge, *device = levels
            if "/".join((f"spb:{group}", edge, *device)) in self.codes:
                hidden[4:] = [HIDDEN for _ in device]
                is_node = not device  # whose name is its gateway's, which stays
        return "/".join(hidden) if is_node or hidden != levels else None


@dataclass(slots=True)
class Forgotten:
    """What went."""

    code: str
    """What stands in the registry in its place."""
    readings: int = 0
    events: int = 0
    rejections: int = 0
    """Emptied, not removed."""


def forget(conn: Connection[Any], code: str, tell: Callable[[str], object], seen_seconds: float = SEEN_SECONDS
           ) -> Forgotten:  # fmt: skip
    """Forget a terminal by its code or an alias. Raises `CommandError` when there is none."""
    conn.execute(SQL["session"])
    number = find(conn, code)
    done = Forgotten(f"{FORGOTTEN}{number}")
    rows = conn.execute(SQL["terminals"], {"id": number}).fetchall()
    ids = [id_ for id_, _ in rows]
    names = Names([name for _, name in rows] + [name for (name,) in conn.execute(SQL["names"], [ids])])
    # While the names are known; and again for what comes until every worker has seen it.
    done.rejections = _empty_rejections(conn, names)
    _empty(conn, ids, names, done.code)
    tell(f"{done.code}: its row is empty; if this breaks off, forget {done.code}")
    time.sleep(seen_seconds)
    _delete_sent(conn, ids, done, tell)
    done.rejections += _empty_rejections(conn, names)
    return done


def _empty(conn: Connection[Any], ids: list[int], names: Names, forgotten: str) -> None:
    with conn.transaction():
        conn.execute(REGISTRY["lock"])
        gateways = conn.execute(SQL["own_gateways"], {"names": names.texts, "ids": ids}).fetchall()
        for n, (name,) in enumerate(gateways):
            renamed = {"name": name, "forgotten": f"{forgotten}-{n}" if n else forgotten}
            for step in ("empty_gateway", "unhear", "unnumber", "rename_gaps", "rename_maintenance"):
                conn.execute(SQL[step], renamed)
        for step in ("births", "requests"):
            conn.execute(SQL[step], [list(names.codes)])
        conn.execute(SQL["aliases"], [ids])
        conn.execute(SQL["empty"], [ids])
        conn.execute(SQL["changed"], [ids])
        subjects = [*names.codes, *(name for (name,) in gateways)]
        conn.execute(SQL["audited"], {"forgotten": forgotten, "names": subjects})
        conn.execute(TERMINALS["audit"], ["terminals forget", forgotten, Jsonb({"terminals": len(ids)})])


def _delete_sent(
    conn: Connection[Any], ids: list[int], done: Forgotten, tell: Callable[[str], object]
) -> None:
    storage = storage_of(conn)
    for name, since, until, *_ in conn.execute(SPANS[f"spans_{storage}"]).fetchall():
        gone = sum(conn.execute(SQL["readings"], [id_, since, until]).rowcount for id_ in ids)
        if gone:
            tell(f"{name}: {gone:,} readings")
            done.readings += gone
    done.events = conn.execute(SQL["events"], [ids]).rowcount
    for step in ("gateways", "empty"):  # a worker that had not seen it may have noted what it came through
        conn.execute(SQL[step], [ids])
    if storage == "timescale" and (daily := conn.execute(SQL["daily"]).fetchone()):
        conn.execute(sql.SQL(SQL["rollup"]).format(sql.Identifier(*daily[0].split("."))), [ids])


def _empty_rejections(conn: Connection[Any], names: Names) -> int:
    """Empty the rejections that name the terminal; how many. Whoever's name only begins like its keeps theirs."""
    if not names.codes:
        return 0
    asked = {"sparkplug": names.sparkplug, "texts": names.texts}
    found: dict[int, str] = {}
    for number, topic, payload, detail in conn.cursor().stream(SQL["mentions"], asked):
        without = names.without(topic)
        if without is not None or names.stand_in(_text(payload)) or names.stand_in(detail):
            found[number] = topic if without is None else without
    emptied = {"ids": list(found), "topics": list(found.values()), "names": names.texts}
    return conn.execute(SQL["empty_rejections"], emptied).rowcount


def _parts(name: str) -> tuple[str, str]:
    """Scheme and value; a code of no scheme is its own value."""
    scheme, _, value = name.partition(":")
    return (scheme, value) if canonical(name).scheme == scheme or scheme == "other" else ("other", name)


def _pattern(text: str, scheme: str) -> str:
    """What matches this name and no longer one."""
    before = BEFORE_IMEI if scheme == "imei" else BEFORE.format(scheme=scheme)
    return before + re.escape(text) + AFTER


def _text(payload: bytes) -> str:
    """A payload as text. Strings of CBOR stand without quotes, so they are taken out of it: no CBOR is UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        pass
    try:
        return json.dumps(load_cbor(payload), default=str, ensure_ascii=False)
    except (Unreadable, TypeError, ValueError, RecursionError):
        return payload.decode(errors="replace")
