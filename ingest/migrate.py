"""Brings a database to this version: numbered migrations, each in a transaction, one process at a time."""

from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.errors import Error

from devices.division import DIVISIONS, DOMAINS
from ingest import plan
from schemas.catalogue import METRICS
from schemas.sql import Migration, Storage, migrations, queries

SQL = queries("migrate.sql")
REGISTRY = queries("registry.sql")
TIMESCALE_AT_LEAST = (2, 28, 1)
"""Before it, direct compress skipped constraints."""


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
    applied = conn.execute(SQL["applied"]).fetchall() if row and row[0] else []
    version = max((v for v, _ in applied), default=0)
    if version < newest():
        raise SchemaError(
            f"the database is at version {version}, this release needs {newest()}: run ganzhi migrate"
        )
    if version > newest():
        raise NewerSchemaError(
            f"the database is at version {version}, newer than this release ({newest()}): upgrade ganzhi"
        )
    return str(applied[-1][1])


def migrate(conn: Connection[Any]) -> Done:
    """Bring the database to this version and seed divisions, cells and the metric catalogue; idempotent.

    Raises `SchemaError` when the storage was another one, or the database is newer.
    """
    conn.execute(SQL["lock"])
    try:
        conn.execute(SQL["version_table"])
        applied = dict(conn.execute(SQL["applied"]).fetchall())
        storage = _pick_storage(conn, set(applied.values()))
        steps = _steps(applied, storage)
        for step in steps:
            with conn.transaction():
                conn.execute(step.sql)
                conn.execute(SQL["record"], [step.version, step.name, storage])
        with conn.transaction():
            _seed(conn)
    finally:
        if not conn.closed:
            conn.execute(SQL["unlock"])
    return Done(storage, [f"{step.version:04d} {step.name}" for step in steps])


def _steps(applied: dict[int, str], storage: Storage) -> list[Migration]:
    if max(applied, default=0) > newest():
        raise SchemaError(f"the database is at version {max(applied)}, newer than this release ({newest()}): "
                          "upgrade ganzhi, a database is never taken back")  # fmt: skip
    mine = [m for m in migrations() if m.storage in {None, storage}]
    return [m for m in mine if m.version not in applied]


def _pick_storage(conn: Connection[Any], used: set[str]) -> Storage:
    if used == {"postgres"}:
        return "postgres"
    row = conn.execute(SQL["offers_timescale"]).fetchone()
    offered = bool(row) and _enable_timescale(conn)
    if "timescale" in used and not offered:
        raise SchemaError("this database was made on TimescaleDB, which the server does not offer now: "
                          "install it and set shared_preload_libraries = 'timescaledb'")  # fmt: skip
    if used:
        return used.pop()
    return "timescale" if offered else "postgres"


def _enable_timescale(conn: Connection[Any]) -> bool:
    """Whether the extension works here: offered, loaded by the server, and new enough."""
    try:
        conn.execute(SQL["enable_timescale"])
    except Error:
        return False
    row = conn.execute(SQL["offers_timescale"]).fetchone()
    installed = tuple(int(n) for n in str(row[0]).split("-")[0].split(".")) if row else ()
    if installed < TIMESCALE_AT_LEAST:
        raise SchemaError(f"TimescaleDB {row[0] if row else '?'} is too old, 2.28.1 is the oldest that compresses "
                          "on the way in without skipping constraints: upgrade it")  # fmt: skip
    return True


def _seed(conn: Connection[Any]) -> None:
    divisions = list(DIVISIONS.values())
    with conn.cursor() as cursor:
        cursor.executemany(
            REGISTRY["upsert_division"],
            [(d.code, d.name_zh, d.name_en, d.level, d.parent) for d in divisions],
        )
        places = [d.code for d in divisions if d.level != "zone"]
        cells = list(zip(*((place, domain) for place in places for domain in DOMAINS), strict=True))
        cursor.execute(REGISTRY["add_cells"], [list(column) for column in cells])
        for m in METRICS.values():
            cursor.execute(
                REGISTRY["upsert_metric"], [m.name, m.unit, m.hard_low, m.hard_high, m.soft_low, m.soft_high]
            )
    plan.seed(conn)
