"""Partitions of the postgres storage: made for the days that a batch holds, before its transaction.

Remembers those that it made. Maintenance whose retention is shorter may drop one of them: `forget` then.
"""

from datetime import date, timedelta
from typing import Any

import numpy as np
from psycopg import Connection

from ingest.chunks import TooWideError
from ingest.copy import POSTGRES_EPOCH
from ingest.sealed import Sealed
from schemas.sql import queries

SQL = queries("ingest.sql")
FIRST_DAY = date(2000, 1, 1)
DAYS_AT_ONCE = 50
DAYS_MAX = 500
"""Partitions that one transaction may touch: each is locked, with its indexes, in a table of fixed size."""


class Days:
    """The days whose partitions are there, of readings and of events."""

    def __init__(self, conn: Connection[Any]) -> None:
        self._conn = conn
        self.forget()

    def forget(self) -> None:
        """Take none for there."""
        self._there: dict[str, set[int]] = {"reading": set(), "event": set()}

    def make(self, sealed: Sealed) -> None:
        """Make those that are missing. Raises `TooWideError` for more than one transaction can take."""
        days = np.unique(sealed.rows["observed_at"].astype(np.int64) // 86_400_000_000).tolist()
        events = {
            int((event.observed_at - POSTGRES_EPOCH) // 86_400) for event in sealed.events + sealed.moves
        }
        if len(days) + len(events) > DAYS_MAX:
            raise TooWideError(f"it holds {len(days) + len(events)} days, one transaction takes {DAYS_MAX}")
        for table, wanted in (("reading", set(days)), ("event", events)):
            new = sorted(wanted - self._there[table])
            for begin in range(0, len(new), DAYS_AT_ONCE):
                piece = new[begin : begin + DAYS_AT_ONCE]
                self._conn.execute(SQL["ensure_days"], [table, [FIRST_DAY + timedelta(day) for day in piece]])
                self._there[table].update(piece)
