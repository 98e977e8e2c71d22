"""Keeps the database as it has to be: retention, duplicates across envelopes, recompression, rollups, the ledger.

Runs beside workers, as the owner of the tables, in short steps, each a transaction of its own; a step that does
not get its lock in time is put off, said so, and done by the next run; one that fails is said, and costs itself
alone. Only one runs at a time.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection

from ingest.migrate import storage_of
from ingest.settings import Settings
from ingest.steps import Steps, Tell
from ingest.terminal import CommandError
from ingest.tidy import QUIET, Span, Tidy
from schemas.sql import queries

SQL = queries("maintain.sql")
DAY = timedelta(days=1)
REST = timedelta(hours=12)
"""A chunk that late readings keep coming to is looked at this often: duplicates are gone a day after they came."""
SLICE_KEYS = 20_000
"""Of the ledger in one transaction, as many as a batch has: a worker that meets one of them waits no longer."""
HEARD_KEPT = timedelta(days=7)
"""Bitmaps of who was heard, where no observer takes them into a snapshot."""
HEARD_KEPT_FOR_OBSERVER = timedelta(days=30)
"""Where one does: away for less, it loses nobody's last word. Who was heard in 30 days is active."""


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
        self._steps = Steps(conn, tell)
        self._timescale = storage_of(conn) == "timescale"
        self._now: datetime = self._steps.one("now")[0]
        """By the database's clock: the one that stamps the ledger."""
        self._tidy = Tidy(self._steps, self._now, rest, timescale=self._timescale)

    def run(self) -> list[str]:
        """Every step; answers what failed."""
        self._conn.execute(SQL["session"])
        self._conn.execute(SQL["again_table"])
        if not self._timescale:
            self._steps.attempt("partitions ahead", lambda: self._conn.execute(SQL["days_ahead"]))
        self._steps.attempt("ledger", self.purge_ledger)
        # What is older is refused as such; without a limit all numbers are kept.
        if numbered := self._settings.max_age_days:
            self._steps.attempt("numbers", lambda: self._purge("gateway_sequence", (numbered + 1) * DAY))
        self._steps.attempt("heard", lambda: self._purge("heard", HEARD_KEPT_FOR_OBSERVER, HEARD_KEPT))
        kept = timedelta(days=self._settings.retention_rejection_days)
        self._steps.attempt("rejection", lambda: self._purge("rejection", kept))
        self._steps.attempt("retention", self._drop_raw)
        self._steps.attempt("chunks", self._tidy.run)
        if self._timescale:
            self._steps.attempt("rollups' retention", self._drop_rollups)
            self._steps.attempt("rollups", self._refresh)
        return self._steps.failed

    # ledger, heard, rejections

    def purge_ledger(self) -> None:
        """By ranges of keys, which begin with the payload's newest hour: first those of hours beyond the horizon,
        then those of hours to come, which no good payload has. What lies between is too young to look at.
        """
        horizon = timedelta(hours=self._settings.ledger_hours)
        gone = self._purge_keys(UUID(int=0), _last_key(self._now - horizon), horizon)
        gone += self._purge_keys(_last_key(self._now), UUID(int=2**128 - 1), horizon)
        self._steps.note("ledger", "ledger", gone)
        if gone:
            self._conn.execute(SQL["vacuum_ledger"])
        timeless = self._conn.execute(SQL["ledger_timeless"], [horizon]).rowcount
        self._steps.note("ledger_timeless", "ledger_timeless", timeless)

    def _purge_keys(self, after: UUID, until: UUID, horizon: timedelta) -> int:
        gone = 0
        while after < until:
            values = {"after": after, "until": until, "rows": SLICE_KEYS - 1, "horizon": horizon}
            after, removed = self._steps.one("ledger", values)
            gone += removed
        return gone

    def _purge(self, table: str, *kept: timedelta) -> None:
        gone = 0
        while removed := self._conn.execute(SQL[table], kept).rowcount:
            gone += removed
        self._steps.note(table, table, gone)

    # retention

    def _drop_raw(self) -> None:
        days = self._settings.raw_kept_days
        if not days:
            return
        before = self._now - days * DAY
        for until in (*(span.until for span in self._tidy.spans() if span.until <= before), before):
            self._steps.attempt("retention", partial(self._drop_raw_before, until))

    def _drop_raw_before(self, until: datetime) -> None:
        with self._conn.transaction():
            self._steps.note("drop_raw", "reading, event", self._steps.one("drop_raw", [until])[0], until)

    def _drop_rollups(self) -> None:
        if self._settings.retention_hourly_days:
            before = self._now - self._settings.retention_hourly_days * DAY
            with self._conn.transaction():
                self._steps.note(
                    "drop_rollups", "rollups", self._steps.one("drop_rollups", {"before": before})[0], before
                )

    # rollups

    def _refresh(self) -> None:
        """Materialise what changed, day by day, over every day that still has all of its raw readings.

        Up to the hour before the last full one, so that stragglers find their bucket open: what is not materialised
        is computed when it is read.
        """
        dropped: datetime | None = self._steps.one("dropped_until")[0]
        oldest = (
            _midnight(dropped + DAY - timedelta.resolution) if dropped else datetime.min.replace(tzinfo=UTC)
        )
        now_hour = self._now.replace(minute=0, second=0, microsecond=0)
        for day in _days(self._tidy.spans()):
            if day < oldest:
                continue
            hours_until = min(day + DAY, now_hour - QUIET)
            if hours_until > day:
                self._refresh_one("reading_hourly", day, hours_until)
            if hours_until == day + DAY:
                self._refresh_one("reading_daily", day, hours_until)

    def _refresh_one(self, rollup: str, day: datetime, until: datetime) -> None:
        values = [rollup, day, until]
        self._steps.attempt(f"{rollup} of {day:%Y-%m-%d}", lambda: self._conn.execute(SQL["refresh"], values))


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
