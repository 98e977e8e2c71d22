"""How many locks a batch takes on TimescaleDB: each chunk that it reaches is locked, with all that belongs to it.

The server keeps every lock in one table of fixed size. Who fills it fails, on every try (53200), and takes the room
from everybody else. Measured with 2.28.3 and 2.29.2: 16 locks for a chunk of readings that a transaction makes, 2 for
one that is there; 10 and 1 for events.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import Connection

from ingest.copy import POSTGRES_EPOCH
from ingest.sealed import Sealed
from schemas.sql import queries

SQL = queries("check.sql")
NEW_CHUNK_LOCKS = 16
CHUNK_LOCKS = 2
SHARE = 2
"""One transaction takes half of the table at most: the other half is for all others."""
Times = npt.NDArray[np.int64]
"""Microseconds since 2000, as PostgreSQL has them."""


class TooWideError(Exception):
    """A batch reaches over more chunks or partitions than one transaction may lock."""


class Chunks:
    """The chunks of both hypertables, looked at only where a batch may be too wide."""

    def __init__(self, conn: Connection[Any]) -> None:
        self._reading, self._event = _Table(conn, "reading"), _Table(conn, "event")
        row = conn.execute(SQL["locks"]).fetchone()
        assert row is not None
        self._room = int(row[0]) // SHARE

    def check(self, sealed: Sealed) -> None:
        """Raises `TooWideError` for rows over more chunks than one transaction can take."""
        seconds = np.array([event.observed_at for event in sealed.events], np.float64) - POSTGRES_EPOCH
        readings, events = sealed.rows["observed_at"].astype(np.int64), (seconds * 1e6).astype(np.int64)
        if self._reading.at_most(readings) + self._event.at_most(events) <= self._room:
            return
        if self._count(readings, events) <= self._room:
            return
        self._reading.look()
        self._event.look()
        if (locks := self._count(readings, events)) > self._room:
            raise TooWideError(f"it reaches over so many chunks that it takes up to {locks} locks, one transaction "
                               f"takes {self._room}: half of max_locks_per_transaction * max_connections")  # fmt: skip

    def _count(self, readings: Times, events: Times) -> int:
        return self._reading.count(readings) + self._event.count(events)


class _Table:
    """The chunks of one hypertable that were there at the last look; none before the first."""

    def __init__(self, conn: Connection[Any], name: str) -> None:
        self._conn = conn
        self._name = name
        self._since = self._until = np.empty(0, np.int64)
        self._span = self._asked_span()

    def at_most(self, times: Times) -> int:
        """Locks, were each chunk between the first and the last time a new one."""
        return (int(times.max() - times.min()) // self._span + 2) * NEW_CHUNK_LOCKS if len(times) else 0

    def count(self, times: Times) -> int:
        """Locks of the chunks that these times lie in."""
        place = np.searchsorted(self._since, times, "right") - 1
        there = place >= 0
        there[there] = times[there] < self._until[place[there]]
        new = len(np.unique(times[~there] // self._span))
        return len(np.unique(place[there])) * CHUNK_LOCKS + new * NEW_CHUNK_LOCKS

    def look(self) -> None:
        """See which chunks there are, and of what span the next ones will be."""
        self._span = self._asked_span()
        rows = self._conn.execute(SQL["chunks"], [self._name]).fetchall()
        self._since, self._until = np.array(rows, np.int64).reshape(-1, 2).T

    def _asked_span(self) -> int:
        row = self._conn.execute(SQL["chunk_span"], [self._name]).fetchone()
        assert row is not None
        return int(row[0])
