"""The database's rows, taken into a Fleet: registry, blocks of presence, and what workers said since.

Only reads. What a reader owes the database (who was heard for the first time, which gateways were, which
changes were read) it gathers, and `observer` writes it.

Exact whatever the workers do meanwhile. A row of `heard` is known by its id, never by a high-water mark, for
rows commit late; taking one twice changes nothing. An id counts only where the registry has a row: the registry
is read after the list of new rows, and whoever is heard was registered before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
from psycopg import Connection
from pyroaring import BitMap, BitMap64

from devices.facts import NOTICE, SQL, Registered, registered, rows
from devices.presence import Fleet
from devices.states import EPOCH_SECONDS, Life

BLOCK_IDS = 65_536
"""Of a row of `presence`: 256 KiB, and bitmaps are cut at the same places."""
CHANGES_AT_ONCE = 20
"""Rows of `registry_change`; an import names up to 50,000 terminals in one."""
IDS_AT_ONCE = 100_000
HEARD_AT_ONCE = 1_000
"""Rows of `heard`, up to 40 kB each: memory stays flat after a week without an observer."""

Ids = npt.NDArray[np.uint32]
log = structlog.get_logger()


@dataclass
class Visit:
    """When a gateway was heard, as far as it is not written yet; Unix seconds."""

    division: int | None
    first: float
    last: float


@dataclass
class Owed:
    """What the database has yet to be told."""

    first_heard: list[tuple[float, Ids]] = field(default_factory=list)
    gateways: dict[str, Visit] = field(default_factory=dict)
    changes: list[int] = field(default_factory=list)
    """Rows of `registry_change` that are read."""
    unnumbered: list[Ids] = field(default_factory=list)
    """Terminals whose gateway had no number."""


class Reader:
    """A Fleet and what of the database is in it."""

    def __init__(self, conn: Connection[Any]) -> None:
        self.conn = conn
        self.fleet = Fleet()
        self.highest = 0
        """The highest id that the registry is known to have."""
        self.taken = BitMap64()
        """Ids of the rows of `heard` that are in the fleet."""
        self.unreadable = BitMap64()
        """Ids of rows that can't be read; they stay in the table, to be looked at."""
        self.dirty: set[int] = set()
        """Numbers of blocks that differ from `presence`."""
        self.quality: dict[tuple[int, int], list[int]] = {}
        """Unflagged and received readings by hour (Unix seconds) and city, as far as the rows are not in a snapshot."""
        self.notices: dict[int, int] = {}
        """Terminals said to be offline, and when (Unix seconds), as far as the rows are not in a snapshot."""
        self.owed = Owed()

    def read_all(self) -> None:
        """The database as one snapshot has it; the caller's transaction is REPEATABLE READ."""
        row = self.conn.execute(SQL["size"]).fetchone()
        assert row is not None
        self.fleet.reserve(row[0])
        self._read_blocks()
        for piece in registered(self.conn, self.fleet):
            self._put(piece)
        self._read_notices()
        self.owed.changes += [id_ for (id_,) in self.conn.execute(SQL["change_ids"])]
        self.hear(self.unheard())

    def _read_blocks(self) -> None:
        fleet = self.fleet
        with self.conn.cursor(binary=True) as cursor:
            for first, heard, invalid in cursor.stream(SQL["blocks"]):
                fleet.heard[first : first + BLOCK_IDS] = np.frombuffer(heard, "<i4")
                fleet.size = max(fleet.size, first + BLOCK_IDS)
                if invalid is not None:
                    fleet.refuse(BitMap.deserialize(invalid))

    def _read_notices(self) -> None:
        pieces = [piece.copy() for piece in rows(self.conn, SQL["offline"], NOTICE)]
        if pieces:
            notices = np.concatenate(pieces)
            at = (notices["at"] - EPOCH_SECONDS).astype(np.int32)
            self.fleet.offline.put(notices["id"].astype(np.uint32), at)

    def _put(self, piece: Registered) -> None:
        """Take registry rows. Who was never heard, as the database says, bears the id of one who is forgotten."""
        ids = piece.facts.ids
        fresh = ids[piece.fresh]
        fresh = fresh[fresh < self.fleet.size]
        reborn = fresh[self.fleet.heard[fresh] > 0]
        if len(reborn):
            self._remove(reborn)
        self.fleet.put(piece.facts)
        self.highest = max(self.highest, int(ids.max()))
        if piece.unnumbered.any():
            self.owed.unnumbered.append(ids[piece.unnumbered])

    def _remove(self, ids: Ids) -> None:
        self.fleet.remove(ids)
        self._soil(ids)
        for id_ in ids.tolist():
            self.notices.pop(id_, None)

    def _soil(self, ids: Ids) -> None:
        self.dirty.update(np.unique(ids // BLOCK_IDS).tolist())

    def unheard(self) -> BitMap64:
        """Ids of the rows of `heard` that are not taken yet."""
        found = BitMap64()
        with self.conn.cursor(binary=True) as cursor:
            for (ids,) in cursor.stream(SQL["heard_ids"]):
                found.update(np.frombuffer(ids, ">i8"))
        return found - self.taken - self.unreadable

    def read_changes(self) -> bool:
        """The next changes of the registry; answers whether there were any. They are owed until deleted."""
        changes = self.conn.execute(SQL["changes"], [self.owed.changes, CHANGES_AT_ONCE]).fetchall()
        named = [np.array(ids, np.uint32) for _, ids in changes]
        if named:
            self.read_again(np.unique(np.concatenate(named)))
        self.owed.changes += [id_ for id_, _ in changes]
        return bool(changes)

    def read_again(self, ids: Ids) -> None:
        """The registry's rows of these terminals as they are now; those without one are forgotten."""
        for start in range(0, len(ids), IDS_AT_ONCE):
            asked = ids[start : start + IDS_AT_ONCE]
            found = [np.empty(0, np.uint32)]
            for piece in registered(self.conn, self.fleet, ids=asked.tolist()):
                self._put(piece)
                found.append(piece.facts.ids)
            self._remove(np.setdiff1d(asked, np.concatenate(found)))
        while self.highest and self.fleet.life[self.highest] == Life.ABSENT:
            self.highest -= 1  # the next terminal gets this id again

    def read_new(self) -> None:
        """Terminals that are new to the registry."""
        for piece in registered(self.conn, self.fleet, above=self.highest):
            self._put(piece)

    def hear(self, ids: Iterable[int]) -> None:
        """Take these rows of `heard`."""
        for id_, at, terminals, offline, refused, gateways, quality in self._heard_rows(list(ids)):
            try:
                maps = [self._ids(data) for data in (terminals, offline, refused)]
            except (ValueError, IndexError) as error:
                self.unreadable.add(id_)
                log.warning("heard_unreadable", row=id_, heard_at=at, reason=str(error),
                            advice="the row stays in table heard, its terminals count as not heard")  # fmt: skip
                continue
            self._take(at, *maps)
            for name, division in (gateways or {}).items():
                visit = self.owed.gateways.setdefault(name, Visit(division, at, at))
                visit.first, visit.last = min(visit.first, at), max(visit.last, at)
                visit.division = visit.division or division
            for city, counted in (quality or {}).items():
                sums = self.quality.setdefault((int(at // 3600 * 3600), int(city)), [0, 0])
                sums[:] = [sums[0] + counted[0], sums[1] + counted[1]]
            self.taken.add(id_)

    def heard_later(self) -> Ids:
        """Who is named by a row of `heard` that is taken and not deleted, later than the fleet says; should be nobody.

        Leaves out who was never heard here at all: the registry knows who was, or that the id is another's now.
        """
        fleet, found = self.fleet, BitMap()
        for _, at, terminals, *_ in self._heard_rows(list(self.taken)):
            ids = self._ids(terminals)
            heard = fleet.heard[ids]
            found |= BitMap(ids[(heard > 0) & (heard < int(at) - EPOCH_SECONDS)])
        return np.array(found.to_array(), np.uint32)

    def _heard_rows(self, ids: list[int]) -> Iterator[tuple[Any, ...]]:
        """In the order in which they were heard, one at a time: a bitmap is up to 40 kB."""
        for start in range(0, len(ids), HEARD_AT_ONCE):
            with self.conn.cursor(binary=True) as cursor:
                yield from cursor.stream(SQL["heard"], [ids[start : start + HEARD_AT_ONCE]])

    def _ids(self, data: bytes | None) -> Ids:
        """A bitmap's ids, without those that the registry has no row for."""
        found = np.array(BitMap.deserialize(data).to_array() if data is not None else (), np.uint32)
        return found[: np.searchsorted(found, self.highest, side="right")]

    def _take(self, at: float, terminals: Ids, offline: Ids, refused: Ids) -> None:
        fleet = self.fleet
        first = fleet.hear(terminals, at)
        if len(first):
            self.owed.first_heard.append((at, first))
        if len(refused):
            fleet.refuse(refused[fleet.heard[refused] <= int(at) - EPOCH_SECONDS])
        if len(offline):
            fleet.say_offline(offline, at)
            for id_ in offline.tolist():
                self.notices[id_] = max(int(at), self.notices.get(id_, 0))
        self._soil(terminals)
        self._soil(refused)
