"""The database's side of `ganzhi check`: version, storage, durability, room, clock. Reads only."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import Connection

from ingest.check_doors import clear
from ingest.connection import connect
from ingest.finding import Finding, fail, ok, warn
from ingest.migrate import TIMESCALE_AT_LEAST, SchemaError, newest, storage_of
from ingest.settings import Settings
from ingest.settings_values import is_loopback
from schemas.sql import queries

SQL = queries("check.sql")
POSTGRES_AT_LEAST = 15
CLOCK_SECONDS = 1.0
"""Readings are judged by this machine's clock, ledger and rejections are purged by the database's."""
CONNECTIONS = 10
"""For a worker (two), the observer, a migration and a few panels."""
WAL_BYTES = 2 * 2**30
"""The server's default of 1 GB forces checkpoints by volume under load, and each writes every page anew."""
IDLE_SECONDS = 300.0
TLS = "add ?sslmode=verify-full&sslrootcert=FILE to GANZHI_DATABASE_URL (docs/tls.md)"
CHUNK_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
CHUNK_READINGS = 15_000_000
"""Recompression takes up to 1.1 us a reading, and a batch that waits for it gives up after 20 s and comes again."""
LEDGER_ROW_BYTES = 91
"""Measured, index included."""


def run(settings: Settings) -> Iterator[Finding]:
    """Everything about the database; what needs a connection or a table is left out without one."""
    try:
        with connect(settings.database_url.get_secret_value(), application="ganzhi check") as conn:
            yield from _server(conn)
            yield from _tls(conn, settings)
            yield _clock(conn)
            yield from _transactions(conn)
            yield from _schema(conn, settings)
    except psycopg.OperationalError as error:
        advice = "check GANZHI_DATABASE_URL, and that the server runs and lets us in"
        yield fail("database", " ".join(str(error).split()), advice, out_of_reach=True)
    except psycopg.Error as error:
        yield fail(
            "database", " ".join(str(error).split()), "grant this role what the service needs: ganzhi migrate"
        )


def _server(conn: Connection[Any]) -> Iterator[Finding]:
    version, fsync, commit, wal_bytes, allowed, used, size = _row(conn, "server")
    where = f"{conn.info.host}:{conn.info.port}/{conn.info.dbname}, PostgreSQL {version.split()[0]}"
    if conn.info.server_version < POSTGRES_AT_LEAST * 10_000:
        yield fail("database", where, f"upgrade it: PostgreSQL {POSTGRES_AT_LEAST} is the oldest supported")
    else:
        yield ok("database", f"{where}, {_bytes(size)}")
    yield from _durability(fsync=fsync, commit=commit)
    if wal_bytes < WAL_BYTES:
        yield warn("WAL", f"max_wal_size is {_bytes(wal_bytes)}: checkpoints follow each other under load",
                   "set max_wal_size = 8GB in postgresql.conf")  # fmt: skip
    free = allowed - used
    text = f"{used} of {allowed} connections in use"
    advice = f"raise max_connections, {CONNECTIONS} free ones are needed"
    yield ok("connections", text) if free >= CONNECTIONS else warn("connections", text, advice)


def _tls(conn: Connection[Any], settings: Settings) -> Iterator[Finding]:
    """The default of libpq takes TLS where the server offers it, and any certificate."""
    host = conn.info.hostaddr or conn.info.host
    if host.startswith(("/", "@")) or is_loopback(host):
        return
    if not conn.pgconn.ssl_in_use:
        yield clear(
            settings, "database's TLS", f"none: readings cross the network to {conn.info.host} in clear", TLS
        )
    elif conn.info.get_parameters().get("sslmode") != "verify-full":
        yield clear(settings, "database's TLS", "the server's certificate and name are not checked", TLS)
    else:
        yield ok("database's TLS", "the server's certificate and name are checked")


def _durability(*, fsync: bool, commit: str) -> Iterator[Finding]:
    """Acknowledged means committed, and committed has to mean on disk."""
    off = [name for name, is_off in (("fsync", not fsync), ("synchronous_commit", commit == "off")) if is_off]
    if off:
        yield warn("durability", f"{' and '.join(off)} off: a crash of the server loses what is acknowledged",
                   f"set {' and '.join(f'{name} = on' for name in off)} in postgresql.conf")  # fmt: skip
    else:
        yield ok("durability", f"fsync on, synchronous_commit {commit}")


def _clock(conn: Connection[Any]) -> Finding:
    """The database's clock against ours, in the middle of the question."""
    before = time.time()
    (theirs,) = _row(conn, "clock")
    difference = theirs - (before + time.time()) / 2
    text = (
        f"the database is {abs(difference):.3f} s {'ahead of' if difference > 0 else 'behind'} this machine"
    )
    if abs(difference) > CLOCK_SECONDS:
        return warn("clock", text, "let both machines follow one time source (chrony)")
    return ok("clock", text)


def _transactions(conn: Connection[Any]) -> Iterator[Finding]:
    count, oldest_seconds = _row(conn, "long_transactions", [IDLE_SECONDS])
    if count:
        yield warn("open transactions", f"{count} idle, the oldest for {oldest_seconds / 60:.0f} min: locks are "
                   "held, and vacuum can't clean the ledger",
                   "end them, and set idle_in_transaction_session_timeout for their role")  # fmt: skip


def _schema(conn: Connection[Any], settings: Settings) -> Iterator[Finding]:
    try:
        storage = storage_of(conn)
    except SchemaError as error:
        found, _, advice = str(error).partition(": ")
        yield fail("schema", found, advice)
        return
    yield ok("schema", f"version {newest()}, storage {storage}")
    if not _row(conn, "may_write")[0]:
        yield fail("rights", f"{conn.info.user} may not write readings, rejections or the ledger",
                   "connect as the writing role, or grant it INSERT")  # fmt: skip
    if storage == "timescale":
        yield from _timescale(conn)
        yield _chunks(conn, settings.chunk_hours)
    yield _ledger(_row(conn, "ledger")[0], settings.ledger_hours)
    yield ok("rejections", f"{_bytes(_row(conn, 'rejections')[0])}, each kept for "
             f"{settings.retention_rejection_days} days (GANZHI_RETENTION_REJECTION_DAYS)")  # fmt: skip


def _timescale(conn: Connection[Any]) -> Iterator[Finding]:
    (version,) = _row(conn, "timescale_version")
    at_least = ".".join(map(str, TIMESCALE_AT_LEAST))
    if tuple(int(n) for n in version.split("-")[0].split(".")) < TIMESCALE_AT_LEAST:
        yield fail(
            "TimescaleDB", version, f"upgrade it to {at_least}: older ones skip constraints on the way in"
        )
    else:
        yield ok("TimescaleDB", version)
    against = [str(row[0]) for row in conn.execute(SQL["against_direct_compress"])]
    if against:
        yield warn("direct compress", f"off on reading: {', '.join(against)}",
                   "drop it: the ledger makes writes idempotent, and reading needs no index")  # fmt: skip
    else:
        yield ok("direct compress", "readings are compressed on the way in")


def _chunks(conn: Connection[Any], hours: int) -> Finding:
    """Whether a chunk holds few enough readings, at the rate of the last day's busiest hour."""
    if not _row(conn, "may_read_rollups")[0]:
        return ok(
            "chunks", f"{hours} h each; {conn.info.user} may not read the rollups, so not whether that fits"
        )
    (an_hour,) = _row(conn, "busiest_hour")
    if not an_hour:
        return ok("chunks", f"{hours} h each; no rollups of the last day to see by whether that fits")
    found = f"{hours} h each, {an_hour * hours:,.0f} readings by the busiest hour of the last day"
    fitting = max((n for n in CHUNK_HOURS if an_hour * n <= CHUNK_READINGS), default=CHUNK_HOURS[0])
    if an_hour * hours <= CHUNK_READINGS or fitting >= hours:
        return ok("chunks", found)
    return warn("chunks", f"{found}: above {CHUNK_READINGS:,} late batches wait long for recompression",
                f"set GANZHI_CHUNK_HOURS={fitting} and run ganzhi migrate: new chunks are of that span")  # fmt: skip


def _ledger(size_bytes: int, hours: float) -> Finding:
    """Its size now, and what it grows to by message for each 1,000 messages/s."""
    rows = int(1_000 * 3600 * hours)
    return ok("ledger", f"{_bytes(size_bytes)}; each 1,000 messages/s keep {rows:,} rows for "
              f"{hours:g} h, {_bytes(rows * LEDGER_ROW_BYTES)}")  # fmt: skip


def _row(conn: Connection[Any], name: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = conn.execute(SQL[name], parameters).fetchone()
    assert row is not None
    return row


def _bytes(size: int) -> str:
    """In the largest unit below it, of 1,000."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1_000 or unit == "TB":
            break
        value /= 1_000
    return f"{value:.3g} {unit}"
