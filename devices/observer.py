"""The observer's side of the database: a Fleet that follows it, and the snapshots it is rebuilt from.

`load` once, then `follow` every round and `snapshot` every few minutes. A kill at any point loses nothing: rows
of `heard` are deleted in the transaction that stores what they changed, and until then they are read again.

Assumes a connection in autocommit that is the observer's alone. After a lost connection make a new observer:
the lock that keeps a second one away went with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import structlog
from psycopg import Connection
from pyroaring import BitMap

from devices.division import today
from devices.facts import SQL, registered
from devices.presence import Fleet
from devices.reader import BLOCK_IDS, HEARD_AT_ONCE, IDS_AT_ONCE, Reader
from devices.recount import COUNTED, Difference, difference, in_arrays, in_database
from devices.states import EPOCH_SECONDS
from devices.store import SQL as REGISTRY

log = structlog.get_logger()
PLACES_NAMED = 20
"""In the log, of the places where a recount differs."""


class AnotherObserverError(Exception):
    """Another observer holds this database's lock."""


class Observer:
    """A fleet that follows the database."""

    def __init__(self, conn: Connection[Any]) -> None:
        self.conn = conn
        self._reader = Reader(conn)

    @property
    def fleet(self) -> Fleet:
        """Who is out there, as of the last `load` or `follow`."""
        return self._reader.fleet

    def load(self) -> None:
        """Rebuild the fleet from the database. Raises `AnotherObserverError` where one is at work already."""
        row = self.conn.execute(SQL["lock"]).fetchone()
        if not (row and row[0]):
            raise AnotherObserverError(
                "another observer is at work on this database: stop it first, there is one for each database"
            )
        self.number_gateways()
        self._reader = Reader(self.conn)
        with _one_moment(self.conn):
            self._reader.read_all()
        self._settle()

    def follow(self) -> None:
        """Take what has come since: changes of the registry, new terminals, who was heard or said to be offline."""
        self._settle()  # if the last round broke off: read_new tells old from reborn by first_heard_at
        new = self._reader.unheard()
        self._read_registry()
        ids = list(new)
        for start in range(0, len(ids), HEARD_AT_ONCE):
            self._reader.hear(ids[start : start + HEARD_AT_ONCE])
            self._settle()

    def _read_registry(self) -> None:
        while self._reader.read_changes():
            self._settle()
        self._reader.read_new()
        self._settle()

    def axes(self) -> tuple[int, int]:
        """How many cells and gateways there are to count by, one more than the highest number."""
        row = self.conn.execute(SQL["axes"]).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def number_gateways(self, ids: Sequence[int] | None = None) -> None:
        """Give gateways without a number the next ones; first add those that only terminals (all, or these) name."""
        with self.conn.transaction():
            self.conn.execute(SQL["unhurried"])  # without ids it scans the registry
            named = self.conn.execute(SQL["unnamed"], {"ids": None if ids is None else list(ids)}).fetchall()
        with _registering(self.conn):
            if named:
                self.conn.execute(SQL["add_gateways"], [[name for (name,) in named], [None] * len(named)])
            self.conn.execute(SQL["number_gateways"])

    def _settle(self) -> None:
        """Write what is owed; each debt goes when it is paid, so that a failure leaves the rest to the next time."""
        owed = self._reader.owed
        if owed.first_heard:
            self._write_first_heard()
            owed.first_heard.clear()
        if owed.gateways:
            self._see_gateways()
            owed.gateways.clear()
        if owed.unnumbered:
            ids = np.concatenate(owed.unnumbered)
            self.number_gateways(ids.tolist())
            owed.unnumbered.clear()
            self._reader.read_again(ids)
        if owed.changes:
            self.conn.execute(SQL["forget_changes"], [owed.changes])
            owed.changes.clear()

    def _write_first_heard(self) -> None:
        owed = self._reader.owed.first_heard
        ids = np.concatenate([some for _, some in owed])
        times = np.repeat([at for at, _ in owed], [len(some) for _, some in owed])
        for start in range(0, len(ids), IDS_AT_ONCE):
            some = slice(start, start + IDS_AT_ONCE)
            with _registering(self.conn):
                self.conn.execute(SQL["first_heard"], [ids[some].tolist(), times[some].tolist()])

    def _see_gateways(self) -> None:
        visits = self._reader.owed.gateways
        self.meet_gateways(dict.fromkeys(visits))
        names = sorted(visits)
        times = [visits[name].first for name in names], [visits[name].last for name in names]
        self.conn.execute(SQL["see_gateways"], [names, *times])
        self.place_gateways({name: visits[name].division for name in names})

    def meet_gateways(self, divisions: Mapping[str, int | None]) -> None:
        """Give gateways that the table lacks a row and a number; `divisions` are those of their topics."""
        unknown = [name for (name,) in self.conn.execute(SQL["unknown_gateways"], [list(divisions)])]
        if unknown:
            with _registering(self.conn):
                self.conn.execute(SQL["add_gateways"], [unknown, [None] * len(unknown)])
                self.conn.execute(SQL["number_gateways"])

    def place_gateways(self, divisions: Mapping[str, int | None]) -> None:
        """Keep where unregistered gateways stand, once their topics say so."""
        known = {name: place for name, code in divisions.items() if code and (place := today(code))}
        found = [name for (name,) in self.conn.execute(SQL["without_place"], [list(known)])]
        if found:
            self.conn.execute(SQL["place_gateways"], [found, [known[name] for name in found]])

    def snapshot(self) -> None:
        """Store blocks and notices that changed, and delete the rows of `heard` that made them, all or nothing."""
        self._settle()
        reader = self._reader
        with self.conn.transaction():
            self.conn.execute(SQL["unhurried"])
            for block in sorted(reader.dirty):
                self.conn.execute(SQL["put_block"], _block(reader.fleet, block))
            self._store_notices()
            self._store_quality()
            taken = reader.taken.to_array()
            for start in range(0, len(taken), HEARD_AT_ONCE):
                self.conn.execute(SQL["forget_heard"], [list(taken[start : start + HEARD_AT_ONCE])])
        reader.dirty.clear()
        reader.notices.clear()
        reader.quality.clear()
        reader.taken.clear()

    def _store_notices(self) -> None:
        notices = sorted(self._reader.notices.items())
        if notices:
            self.conn.execute(REGISTRY["lock"])
        for start in range(0, len(notices), IDS_AT_ONCE):
            ids, times = zip(*notices[start : start + IDS_AT_ONCE], strict=True)
            self.conn.execute(SQL["said_offline"], [list(ids), list(times)])

    def _store_quality(self) -> None:
        if quality := self._reader.quality:
            rows = [(*key, *counted) for key, counted in quality.items()]
            self.conn.execute(SQL["add_quality"], [list(column) for column in zip(*rows, strict=True)])

    def recount(self, now_seconds: float) -> Difference:
        """Compare the arrays with what SQL counts of the same snapshot: one scan of the registry, no second fleet.

        Exact: who is planned, never heard, verified, retired and discovered, by cell; and that nobody was heard
        later, in the rows of `heard` that are not yet in a snapshot, than the arrays say (`heard later`). A time
        that is wrong in `presence` itself has nothing to be held against, for nothing else keeps it: a terminal
        that was heard once and since missed is found as lost, not by this.
        """
        self.follow()  # what it hears is written as first_heard_at; nothing is heard in the snapshot below
        with _one_moment(self.conn):
            while self._reader.read_changes():
                pass
            self._reader.read_new()
            cells, gateways = self.axes()
            database = in_database(self.conn, now_seconds, cells)
            later = self._reader.heard_later()
        running = in_arrays(self.fleet.count(now_seconds, None, cells, gateways))
        self._settle()  # not before: what is owed is read anew, and may have changed since the snapshot
        none = np.zeros_like(running[:, :1])
        missed = np.bincount(self.fleet.cell[later], minlength=cells)[:, np.newaxis]
        found = difference(
            np.hstack((running, none)), np.hstack((database, missed)), (*COUNTED, "heard later")
        )
        if found.differing:
            advice = (
                "restart the observer, it reads all anew; whom the stored blocks lost counts once heard again"
            )
            log.warning("recount_differs", differing=found.differing, advice=advice,
                        places=found.places[:PLACES_NAMED])  # fmt: skip
        return found


def last_heard(conn: Connection[Any], terminal: int) -> datetime | None:
    """When a terminal was last heard, to the second; None for never. Looks into what is in no snapshot yet."""
    at = _pending(conn, terminal, "terminals")
    row = conn.execute(SQL["seen"], {"id": terminal}, binary=True).fetchone()
    if row and (seconds := int.from_bytes(row[0], "little")):
        at = max(at or 0, EPOCH_SECONDS + seconds)
    return datetime.fromtimestamp(int(at), UTC) if at else None


def state_of(conn: Connection[Any], terminal: int, now_seconds: float) -> str:
    """The state of one terminal, from the database alone. Raises KeyError where it has no row."""
    fleet, here = Fleet(1), np.zeros(1, np.uint32)
    for piece in registered(conn, fleet, ids=[terminal]):
        fleet.put(piece.facts._replace(ids=here))  # under 0: the columns are as long as the highest id
    if at := last_heard(conn, terminal):
        fleet.hear(here, at.timestamp())
    row = conn.execute(SQL["said"], [terminal]).fetchone()
    said = max((row and row[0]) or 0, _pending(conn, terminal, "offline") or 0)
    if said:
        fleet.say_offline(here, said)
    return fleet.state(0, now_seconds)


def _pending(conn: Connection[Any], terminal: int, which: str) -> float | None:
    """When a row of `heard` last named this terminal among those heard (or said to be offline)."""
    with conn.cursor(binary=True) as cursor:
        for at, data in cursor.stream(SQL[f"pending_{which}"]):
            with suppress(ValueError, IndexError):  # the observer says so when it meets the row
                if terminal in BitMap.deserialize(data):
                    return float(at)
    return None


def _block(fleet: Fleet, block: int) -> tuple[int, bytes, bytes | None]:
    """A row of `presence`."""
    first = block * BLOCK_IDS
    heard = np.zeros(BLOCK_IDS, "<i4")
    known = fleet.heard[first : min(first + BLOCK_IDS, fleet.size)]
    heard[: len(known)] = known
    invalid = fleet.invalid & BitMap(range(first, first + BLOCK_IDS))
    return first, heard.tobytes(), invalid.serialize() if invalid else None


@contextmanager
def _one_moment(conn: Connection[Any]) -> Iterator[None]:
    """A transaction that sees one snapshot of the database, and may take its time."""
    with conn.transaction():
        conn.execute(SQL["snapshot"])
        conn.execute(SQL["unhurried"])
        yield


@contextmanager
def _registering(conn: Connection[Any]) -> Iterator[None]:
    """A transaction under the registry's lock: an import that updates the same rows in another order waits."""
    with conn.transaction():
        conn.execute(REGISTRY["lock"])
        yield
