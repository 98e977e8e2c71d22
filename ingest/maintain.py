"""Keeps the database as it has to be: retention, duplicates across envelopes, recompression, rollups, the ledger.

Runs beside workers, as the owner of the tables, in short steps, each a transaction of its own; a step that does
not get its lock in time is put off, said so, and done by the next run; one that fails is said, and costs itself
alone. Only one runs at a time. Measured with
10 million readings in a chunk: finding duplicates 13 s and removing 25,000 in 1.5 s, which no COPY waits for;
recompression 6 to 11 s, which a COPY into that chunk waits for; compaction, which TimescaleDB 2.29 brought and which
is for chunks that readings come to, 6.5 s, and a COPY waits 0.03 s.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import Connection, sql
from psycopg.errors import DeadlockDetected, Diagnostic, LockNotAvailable, QueryCanceled

from ingest.migrate import storage_of
from ingest.settings import Settings
from ingest.terminal import CommandError
from schemas.sql import queries

SQL = queries("maintain.sql")
Tell = Callable[[str], object]
DAY = timedelta(days=1)
QUIET = timedelta(hours=1)
"""Without new rows for so long, nobody waits for a chunk that is recompressed."""
REST = timedelta(hours=12)
"""A chunk that late readings keep coming to is looked at this often: duplicates are gone a day after they came."""
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
SLICE_KEYS = 20_000
"""Of the ledger in one transaction, as many as a batch has: a worker that meets one of them waits no longer."""
HEARD_KEPT = timedelta(days=7)
"""Bitmaps of who was heard, where no observer takes them into a snapshot."""
HEARD_KEPT_FOR_OBSERVER = timedelta(days=30)
"""Where one does: away for less, it loses nobody's last word. Who was heard in 30 days is active."""


class Span(NamedTuple):
    """A chunk or partition of readings."""

    name: str
    since: datetime
    until: datetime
    written: int
    ordered: bool | None
    """Compressed in order, with nothing new since; None where nothing is compressed."""
    bytes: int


def run(conn: Connection[Any], settings: Settings, tell: Tell, rest: timedelta = timedelta()) -> bool:
    """Everything once; answers False when another one is running.

    With `rest`, as on a schedule, chunks that are neither quiet nor longer than this without a look are left alone,
    and what fails is left to the next run. Raises `CommandError` at the end where a step failed (without `rest`),
    `SchemaError`, and `psycopg.Error` when the connection is lost.
    """
    row = conn.execute(SQL["try_lock"]).fetchone()
    if not row or not row[0]:
        return False
    try:
        failed = _Pass(conn, settings, tell, rest).run()
    finally:
        if not conn.closed:
            conn.execute(SQL["unlock"])
    if failed and not rest:
        raise CommandError(
            f"maintenance failed at {', '.join(failed)}; the other steps are done: see above for why"
        )
    return True


def purge_ledger(conn: Connection[Any], settings: Settings) -> None:
    """Only what the ledger may forget; for whoever measures it."""
    _Pass(conn, settings, lambda _: None, timedelta()).purge_ledger()


def set_chunk_hours(conn: Connection[Any], settings: Settings) -> None:
    """Let chunks to come span `GANZHI_CHUNK_HOURS`; for storage timescale."""
    conn.execute(SQL["chunk_interval"], [settings.chunk_hours])


class _Pass:
    """One run over everything; has the lock."""

    def __init__(self, conn: Connection[Any], settings: Settings, tell: Tell, rest: timedelta) -> None:
        self._conn = conn
        self._settings = settings
        self._tell = tell
        self._rest = rest
        self._timescale = storage_of(conn) == "timescale"
        self._compacts = self._timescale and self._one("may_compact")[0]
        self._now = _now(conn)
        self._failed: list[str] = []

    def run(self) -> list[str]:
        """Every step; answers what failed."""
        self._conn.execute(SQL["session"])
        self._conn.execute(SQL["again_table"])
        if not self._timescale:
            self._try("partitions ahead", lambda: self._conn.execute(SQL["days_ahead"]))
        self._try("ledger", self.purge_ledger)
        if (
            numbered := self._settings.max_age_days
        ):  # what is older is refused as such; without a limit, all is known
            self._try("numbers", lambda: self._purge("gateway_sequence", (numbered + 1) * DAY))
        self._try("heard", lambda: self._purge("heard", HEARD_KEPT_FOR_OBSERVER, HEARD_KEPT))
        kept = timedelta(days=self._settings.retention_rejection_days)
        self._try("rejection", lambda: self._purge("rejection", kept))
        self._try("retention", self._drop_raw)
        self._try("chunks", self._tidy_all)
        if self._timescale:
            self._try("rollups' retention", self._drop_rollups)
            self._try("rollups", self._refresh)
        return self._failed

    def _try(self, subject: str, step: Callable[[], object]) -> None:
        """A step that would hold others up is left to the next run; one that fails does not keep others from theirs."""
        try:
            step()
        except (LockNotAvailable, QueryCanceled, DeadlockDetected) as error:
            self._tell(f"{subject}: put off to the next run ({str(error).splitlines()[0]})")
        except psycopg.Error as error:
            if self._conn.closed:
                raise
            self._failed.append(subject)
            self._tell(f"{subject}: failed ({error.sqlstate}: {str(error).splitlines()[0]})")
        finally:
            if not self._conn.closed:
                self._conn.execute(SQL["limit_statement"], ["0"])

    def _note(self, job: str, subject: str, rows: int, until: datetime | None = None, *sizes: int) -> None:
        if rows or sizes:
            self._conn.execute(SQL["note"], [job, subject, rows, until, *(sizes or (None, None))])
            change = f", {sizes[0]:,} to {sizes[1]:,} bytes" if sizes else f" {rows:,}"
            self._tell(f"{subject}: {job}{change}")

    # ledger, heard, rejections

    def purge_ledger(self) -> None:
        """By ranges of keys, which begin with the payload's newest hour: first those of hours beyond the horizon,
        then those of hours to come, which no good payload has. What lies between is too young to look at.
        """
        horizon = timedelta(hours=self._settings.ledger_hours)
        gone = self._purge_keys(UUID(int=0), _last_key(self._now - horizon), horizon)
        gone += self._purge_keys(_last_key(self._now), UUID(int=2**128 - 1), horizon)
        self._note("ledger", "ledger", gone)
        if gone:
            self._conn.execute(SQL["vacuum_ledger"])
        timeless = self._conn.execute(SQL["ledger_timeless"], [horizon]).rowcount
        self._note("ledger_timeless", "ledger_timeless", timeless)

    def _purge_keys(self, after: UUID, until: UUID, horizon: timedelta) -> int:
        gone = 0
        while after < until:
            values = {"after": after, "until": until, "rows": SLICE_KEYS - 1, "horizon": horizon}
            after, removed = self._one("ledger", values)
            gone += removed
        return gone

    def _purge(self, table: str, *kept: timedelta) -> None:
        gone = 0
        while removed := self._conn.execute(SQL[table], kept).rowcount:
            gone += removed
        self._note(table, table, gone)

    # retention

    def _drop_raw(self) -> None:
        days = self._settings.raw_kept_days
        if not days:
            return
        before = self._now - days * DAY
        for until in (*(span.until for span in self._spans() if span.until <= before), before):
            self._try("retention", partial(self._drop_raw_before, until))

    def _drop_raw_before(self, until: datetime) -> None:
        with self._conn.transaction():
            self._note("drop_raw", "reading, event", self._one("drop_raw", [until])[0], until)

    def _drop_rollups(self) -> None:
        if self._settings.retention_hourly_days:
            before = self._now - self._settings.retention_hourly_days * DAY
            with self._conn.transaction():
                self._note(
                    "drop_rollups", "rollups", self._one("drop_rollups", {"before": before})[0], before
                )

    # duplicates, recompression

    def _spans(self) -> list[Span]:
        query = SQL["spans_timescale" if self._timescale else "spans_postgres"]
        return [Span(*row) for row in self._conn.execute(query)]

    def _span(self, name: str) -> Span | None:
        return next((span for span in self._spans() if span.name == name), None)

    def _tidy_all(self) -> None:
        for span in self._spans():
            self._try(span.name, partial(self._tidy, span))
        self._conn.execute(SQL["forget"], [[span.name for span in self._spans()]])

    def _tidy(self, span: Span) -> None:
        """Recompress a span that changed and remove duplicates from it, until a look at it finds none.

        In this order: what comes after the recompression shows in the chunk's status, and is seen by the next run.
        What came between a look and a recompression would be in order, and never looked at. A look that breaks off
        after the recompression shows in a mark that is set before it.
        """
        unchanged_for, done, changed, pending = self._one("look", [span.name, span.written])
        quiet = unchanged_for >= QUIET
        looked_at = self._now - done if done is not None else span.since
        rested = quiet or self._now - looked_at >= self._rest
        # By hand (no rest) everything is looked at that may have changed: the server counts with a delay.
        changed = not span.ordered if self._timescale else changed or not self._rest
        loose = quiet and self._timescale and self._one("compacted", [span.name])[0]
        if not (changed or loose or pending) or not rested:
            return
        self._conn.execute(SQL["begin"], [span.name])
        deleted = 0
        for _ in range(ROUNDS):
            if self._timescale:
                self._try(span.name, partial(self._recompress, span.name, quiet=quiet))
            found = self._remove_duplicates(span)
            deleted += found
            if not found:
                break
        compacts = self._compacts and not quiet
        if self._timescale and (deleted or compacts):
            chunk = sql.Identifier(*span.name.split("."))
            self._try(span.name, lambda: self._conn.execute(sql.SQL(SQL["vacuum"]).format(chunk)))
        if after := self._span(span.name):
            sizes = (span.bytes, after.bytes) if after.ordered or compacts else ()
            self._note("compact" if compacts else "recompress", span.name, 0, span.until, *sizes)
        self._conn.execute(SQL["done"], [span.name])

    def _remove_duplicates(self, span: Span) -> int:
        """Leave one of equal readings; answers how many were deleted, those that were put back included."""
        self._conn.execute(SQL["again_clear"])
        self._conn.execute(SQL["find"], [span.since, span.until])
        self._conn.execute(SQL["again_analyze"])
        if self._one("undecided")[0]:
            self._conn.execute(SQL["decide"], [span.since, span.until])
        deleted = 0
        for low, high in self._conn.execute(SQL["slices"], [SLICE_READINGS]).fetchall():
            values = {"since": span.since, "until": span.until, "low": low, "high": high}
            with self._conn.transaction():
                gone, kept = self._one("leave_one", values)
                self._note("duplicates", span.name, gone - kept, span.until)
            deleted += gone
        if not deleted:
            self._note("differing", span.name, self._one("differing")[0], span.until)
        return deleted

    def _recompress(self, chunk: str, *, quiet: bool) -> None:
        compactable = self._compacts and not quiet and self._one("is_out_of_order", [chunk])[0]
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
        self._tell(f"{chunk}: put off to the next run ({warnings[-1]})")
        return True

    # rollups

    def _refresh(self) -> None:
        """Materialise what changed, day by day, over every day that still has all of its raw readings.

        Up to the hour before the last full one, so that stragglers find their bucket open: what is not materialised
        is computed when it is read.
        """
        dropped: datetime | None = self._one("dropped_until")[0]
        oldest = (
            _midnight(dropped + DAY - timedelta.resolution) if dropped else datetime.min.replace(tzinfo=UTC)
        )
        now_hour = self._now.replace(minute=0, second=0, microsecond=0)
        for day in _days(self._spans()):
            if day < oldest:
                continue
            hours_until = min(day + DAY, now_hour - QUIET)
            if hours_until > day:
                self._refresh_one("reading_hourly", day, hours_until)
            if hours_until == day + DAY:
                self._refresh_one("reading_daily", day, hours_until)

    def _refresh_one(self, rollup: str, day: datetime, until: datetime) -> None:
        values = [rollup, day, until]
        self._try(f"{rollup} of {day:%Y-%m-%d}", lambda: self._conn.execute(SQL["refresh"], values))

    def _one(self, name: str, values: Any = None) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._conn.execute(SQL[name], values).fetchone()
        assert row is not None
        return row


def _now(conn: Connection[Any]) -> datetime:
    """The database's clock: the one that stamps the ledger."""
    row = conn.execute(SQL["now"]).fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def _midnight(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _days(spans: list[Span]) -> list[datetime]:
    """The days (UTC) that spans touch."""
    days = {
        _midnight(span.since) + n * DAY
        for span in spans
        for n in range(-(-(span.until - _midnight(span.since)) // DAY))
    }
    return sorted(days)


def _last_key(time: datetime) -> UUID:
    """The greatest key in the ledger of a payload that speaks of the hour after this one, or earlier.

    The hour after, because payloads may be some minutes ahead.
    """
    hour = int(time.timestamp() // 3600) + 1
    return UUID(bytes=hour.to_bytes(3, "big") + b"\xff" * 13)
