"""Brings a database to this version: numbered migrations, each in a transaction, one process at a time.

A step that waits for a lock makes all who come later wait behind it, so it gives up soon and tries again: who reads a
table for hours (a dump) holds up the migration, never the workers.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.errors import DeadlockDetected, Error, LockNotAvailable

from devices.division import DIVISIONS, DOMAINS
from ingest import plan
from schemas.catalogue import METRICS, Metric
from schemas.sql import Migration, Storage, migrations, queries
from schemas.units import conversion

SQL = queries("migrate.sql")
REGISTRY = queries("registry.sql")
TIMESCALE_AT_LEAST = (2, 28, 1)
"""Before it, direct compress skipped constraints."""
Tell = Callable[[str], object]
SAY: Tell = partial(print, flush=True)
LOCK_TIMEOUT = "2s"
"""A worker that waits behind a step waits no longer; its own limit is 20 s."""
PAUSE_SECONDS = 5.0
"""Between two tries, for workers to catch up."""


class SchemaError(Exception):
    """The database is not at this version, or can't be brought to it; the text says what to do."""


class NewerSchemaError(SchemaError):
    """The database is of a later release, which this one does not know."""


class Done(NamedTuple):
    """What a migration run did."""

    storage: Storage
    applied: list[str]


def newest() -> int:
    """The schema version of this release."""
    return migrations()[-1].version


def storage_of(conn: Connection[Any]) -> Storage:
    """The storage of a database that is at this version. Raises `SchemaError` when it is not."""
    row = conn.execute(SQL["has_version_table"]).fetchone()
    applied = _applied(conn) if row and row[0] else {}
    _refuse_newer(applied)
    version = max(applied, default=0)
    storage = applied.get(version, "")
    if missing := ", ".join(f"{step.version:04d}" for step in _steps(applied, storage)):
        raise SchemaError(
            f"the database is at version {version} and lacks migrations {missing}: run ganzhi migrate"
        )
    return storage


def migrate(conn: Connection[Any], tell: Tell = SAY) -> Done:
    """Bring the database to this version and seed divisions, cells and the metric catalogue; idempotent.

    `tell` gets a line about what it waits for, a TimescaleDB that it can't use, a metric in another unit. Raises
    `SchemaError` when the storage was another one, or the database is newer.
    """
    conn.execute(SQL["lock"])
    try:
        conn.execute(SQL["version_table"])
        applied = _applied(conn)
        _refuse_newer(applied)
        storage = _pick_storage(conn, set(applied.values()), tell)
        steps = _steps(applied, storage)
        for step in steps:
            _patiently(conn, partial(_apply, conn, step, storage), f"{step.version:04d} {step.name}", tell)
        _patiently(conn, partial(_seed, conn, tell), "what is known from the start", tell)
    finally:
        if not conn.closed:
            conn.execute(SQL["unlock"])
    return Done(storage, [f"{step.version:04d} {step.name}" for step in steps])


def _applied(conn: Connection[Any]) -> dict[int, Storage]:
    """The storage that each applied migration was for, by number."""
    return dict(conn.execute(SQL["applied"]).fetchall())


def _steps(applied: dict[int, str], storage: Storage) -> list[Migration]:
    """What is missing; a number below the newest may be."""
    mine = [m for m in migrations() if m.storage in {None, storage}]
    return [m for m in mine if m.version not in applied]


def _refuse_newer(applied: dict[int, str]) -> None:
    if unknown := applied.keys() - {m.version for m in migrations()}:
        raise NewerSchemaError(f"the database has migration {max(unknown):04d}, newer than this release "
                               f"({newest():04d}): upgrade ganzhi, a database is never taken back")  # fmt: skip


def _apply(conn: Connection[Any], step: Migration, storage: Storage) -> None:
    conn.execute(step.sql)
    conn.execute(SQL["record"], [step.version, step.name, storage])


def _patiently(conn: Connection[Any], step: Callable[[], None], what: str, tell: Tell) -> None:
    """A step in a transaction of its own, tried until it gets its locks."""
    said = ""
    while True:
        try:
            with conn.transaction():
                conn.execute(SQL["lock_timeout"], [LOCK_TIMEOUT])
                step()
        except (LockNotAvailable, DeadlockDetected):
            row = conn.execute(SQL["in_the_way"]).fetchone()
            who = row[0] if row else "who held it is gone"
            line = f"{what} waits for a lock, and tries again until it has it; {who}"
            if line != said:
                tell(line)
            said = line
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _pick_storage(conn: Connection[Any], used: set[str], tell: Tell) -> Storage:
    if used == {"postgres"}:
        return "postgres"
    offered = _enable_timescale(conn, tell)
    if "timescale" in used and not offered:
        raise SchemaError("this database was made on TimescaleDB, which the server does not offer now: "
                          "install it and set shared_preload_libraries = 'timescaledb'")  # fmt: skip
    return "timescale" if offered else "postgres"


def _enable_timescale(conn: Connection[Any], tell: Tell) -> bool:
    """Whether the extension works here: offered, loaded by the server, and new enough."""
    row = conn.execute(SQL["offers_timescale"]).fetchone()
    if not row:
        return False
    if not row[2]:  # CREATE EXTENSION would end the connection
        tell("TimescaleDB is installed on this server, but not loaded: to use it set shared_preload_libraries = "
             "'timescaledb', restart the server and migrate a new database")  # fmt: skip
        return False
    try:
        conn.execute(SQL["enable_timescale"])
    except Error as error:
        raise SchemaError(f"the server offers TimescaleDB, and does not let us use it ({error}): "
                          "CREATE EXTENSION timescaledb as a superuser") from error  # fmt: skip
    row = conn.execute(SQL["offers_timescale"]).fetchone()
    installed = tuple(int(n) for n in str(row[0]).split("-")[0].split(".")) if row else ()
    if installed < TIMESCALE_AT_LEAST:
        raise SchemaError(f"TimescaleDB {row[0] if row else '?'} is too old, 2.28.1 is the oldest that compresses "
                          "on the way in without skipping constraints: upgrade it")  # fmt: skip
    return True


def _seed(conn: Connection[Any], tell: Tell) -> None:
    divisions = list(DIVISIONS.values())
    with conn.cursor() as cursor:
        cursor.executemany(
            REGISTRY["upsert_division"],
            [(d.code, d.name_zh, d.name_en, d.level, d.parent) for d in divisions],
        )
        places = [d.code for d in divisions if d.level != "zone"]
        cells = list(zip(*((place, domain) for place in places for domain in DOMAINS), strict=True))
        cursor.execute(REGISTRY["add_cells"], [list(column) for column in cells])
        kept = {name: unit for _, name, unit, *_ in cursor.execute(REGISTRY["metrics"]).fetchall()}
        for m in METRICS.values():
            limits = _limits(m, kept.get(m.name, m.unit), tell)
            cursor.execute(REGISTRY["upsert_metric"], [m.name, m.unit, *limits])
    plan.seed(conn)


def _limits(metric: Metric, unit: str, tell: Tell) -> Sequence[float]:
    """The catalogue's limits in the unit that a metric is kept in, its first sender's where it was not ours then."""
    found = conversion(unit, metric.unit)
    if found is None:
        others = "are refused (unit_mismatch)" if unit else "are stored as they come"
        tell(f"metric {metric.name} is kept in {unit!r}, as it first came, the catalogue has {metric.unit!r}, which is "
             f"no such unit: it has no limits, and values in other units {others}")  # fmt: skip
        return -inf, inf, -inf, inf
    scale, offset = found
    limits = metric.hard_low, metric.hard_high, metric.soft_low, metric.soft_high
    return [(limit - offset) / scale for limit in limits]
