"""Spans of readings, chunks or partitions: put in order, and left with one of equal readings.

Measured with 10 million readings in a chunk: finding duplicates 13 s and removing 25,000 in 1.5 s, which no COPY waits
for; recompression 6 to 11 s, which a COPY into that chunk waits for; compaction, which TimescaleDB 2.29 brought and
which is for chunks that readings come to, 6.5 s, and a COPY waits 0.03 s.
"""

import time
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from psycopg import sql
from psycopg.errors import Diagnostic

from ingest.steps import Steps
from schemas.sql import queries

SQL = queries("maintain.sql")
QUIET = timedelta(hours=1)
"""Without new rows for so long, nobody waits for a chunk that is recompressed."""
BUSY_TIMEOUT = "15s"
"""Recompression of a chunk that readings come to: below the 20 s that a worker waits for a lock."""
COMPACTIONS = 20
"""Attempts: one that begins while a COPY into the chunk is under way does nothing."""
BETWEEN_COMPACTIONS_SECONDS = 0.05
ROUNDS = 3
"""Of recompression and removal; one is enough without duplicates, two unless more come meanwhile."""
RECOMPRESSIONS = 2
"""Rows that were put back after duplicates are merged in by the first, and in order after the second."""
SLICE_READINGS = 50_000
"""Taken apart in one transaction to remove duplicates."""


class Span(NamedTuple):
    """A chunk or partition of readings."""

    name: str
    since: datetime
    until: datetime
    written: int
    ordered: bool | None
    """Compressed in order, with nothing new since; None where nothing is compressed."""
    bytes: int


class Tidy:
    """Puts spans in order that changed; with `rest` only those that are quiet, or were not looked at for so long."""

    def __init__(self, steps: Steps, now: datetime, rest: timedelta, *, timescale: bool) -> None:
        self._steps = steps
        self._conn = steps.conn
        self._now = now
        self._rest = rest
        self._timescale = timescale
        self._compacts = timescale and steps.one("may_compact")[0]

    def spans(self) -> list[Span]:
        """Those that are there, the oldest first."""
        query = SQL["spans_timescale" if self._timescale else "spans_postgres"]
        return [Span(*row) for row in self._conn.execute(query)]

    def run(self) -> None:
        """Every span that may have changed."""
        for span in self.spans():
            self._steps.attempt(span.name, partial(self._tidy, span))
        self._conn.execute(SQL["forget"], [[span.name for span in self.spans()]])

    def _tidy(self, span: Span) -> None:
        """Recompress a span that changed and remove duplicates from it, until a look at it finds none.

        In this order: what comes after the recompression shows in the chunk's status, and is seen by the next run.
        What came between a look and a recompression would be in order, and never looked at. A look that breaks off
        after the recompression shows in a mark that is set before it.
        """
        unchanged_for, done, changed, pending = self._steps.one("look", [span.name, span.written])
        quiet = unchanged_for >= QUIET
        looked_at = self._now - done if done is not None else span.since
        rested = quiet or self._now - looked_at >= self._rest
        # By hand (no rest) everything is looked at that may have changed: the server counts with a delay.
        changed = not span.ordered if self._timescale else changed or not self._rest
        loose = quiet and self._timescale and self._steps.one("compacted", [span.name])[0]
        if not (changed or loose or pending) or not rested:
            return
        self._conn.execute(SQL["begin"], [span.name])
        deleted = 0
        for _ in range(ROUNDS):
            if self._timescale:
                self._steps.attempt(span.name, partial(self._recompress, span.name, quiet=quiet))
            found = self._remove_duplicates(span)
            deleted += found
            if not found:
                break
        compacts = self._compacts and not quiet
        if self._timescale and (deleted or compacts):
            chunk = sql.Identifier(*span.name.split("."))
            self._steps.attempt(span.name, lambda: self._conn.execute(sql.SQL(SQL["vacuum"]).format(chunk)))
        if after := self._span(span.name):
            sizes = (span.bytes, after.bytes) if after.ordered or compacts else ()
            self._steps.note("compact" if compacts else "recompress", span.name, 0, span.until, *sizes)
        self._conn.execute(SQL["done"], [span.name])

    def _remove_duplicates(self, span: Span) -> int:
        """Leave one of equal readings; answers how many were deleted, those that were put back included."""
        self._conn.execute(SQL["again_clear"])
        self._conn.execute(SQL["find"], [span.since, span.until])
        self._conn.execute(SQL["again_analyze"])
        if self._steps.one("undecided")[0]:
            self._conn.execute(SQL["decide"], [span.since, span.until])
        deleted = 0
        for low, high in self._conn.execute(SQL["slices"], [SLICE_READINGS]).fetchall():
            values = {"since": span.since, "until": span.until, "low": low, "high": high}
            with self._conn.transaction():
                gone, kept = self._steps.one("leave_one", values)
                self._steps.note("duplicates", span.name, gone - kept, span.until)
            deleted += gone
        if not deleted:
            self._steps.note("differing", span.name, self._steps.one("differing")[0], span.until)
        return deleted

    def _recompress(self, chunk: str, *, quiet: bool) -> None:
        compactable = self._compacts and not quiet and self._steps.one("is_out_of_order", [chunk])[0]
        if compactable and self._compact(chunk):
            return
        if not quiet:
            self._conn.execute(SQL["limit_statement"], [BUSY_TIMEOUT])
        for _ in range(RECOMPRESSIONS):
            self._conn.execute(SQL["recompress"], [chunk])
            if (span := self._span(chunk)) is None or span.ordered:
                break

    def _compact(self, chunk: str) -> bool:
        """Put a chunk in order without holding up who writes to it; False where that can't be."""
        warnings: list[str] = []

        def note(notice: Diagnostic) -> None:
            warnings.append(notice.message_primary or "")

        self._conn.add_notice_handler(note)
        try:
            for _ in range(COMPACTIONS):
                warnings.clear()
                self._conn.execute(SQL["compact"], [chunk])
                if not any("delaying" in warning for warning in warnings):
                    return not warnings  # a chunk that an older TimescaleDB made is skipped
                time.sleep(BETWEEN_COMPACTIONS_SECONDS)
        finally:
            self._conn.remove_notice_handler(note)
        self._steps.tell(f"{chunk}: put off to the next run ({warnings[-1]})")
        return True

    def _span(self, name: str) -> Span | None:
        return next((span for span in self.spans() if span.name == name), None)
