"""Migrations: from nothing to this version, once, whoever starts."""

import queue
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from devices.division import DOMAINS
from ingest import migrate
from ingest.connection import connect
from schemas.catalogue import METRICS
from schemas.sql import migrations
from tests.conftest import Database
from tests.postgres import Postgres, timescale_programs


def run(database):
    with connect(database.url) as conn:
        return migrate.migrate(conn)


def test_the_storage_is_what_the_server_offers(empty_database):
    """TimescaleDB where there is one, plain PostgreSQL otherwise; a second run changes nothing."""
    assert run(empty_database).storage == empty_database.storage
    assert run(empty_database).applied == []


def test_what_is_known_from_the_start_is_there(database):
    """Divisions, cells and the catalogue's metrics, under ids that the next migration keeps."""
    assert database.one("SELECT count(*) FROM division") == (168,)
    assert database.one("SELECT count(*) FROM cell") == (153 * len(DOMAINS),)
    metrics = database.rows("SELECT id, name FROM metric ORDER BY id")
    assert len(metrics) == len(METRICS)
    run(database)
    assert database.rows("SELECT id, name FROM metric ORDER BY id") == metrics


@pytest.mark.parametrize(
    ("unit", "hard_high", "told"),
    [("K", 1273.15, 0), ("Cel", 1000.0, 0), ("kPa", float("inf"), 1), ("", float("inf"), 1)],
)
@pytest.mark.parametrize("storage", ["postgres"])
def test_limits_of_the_catalogue_are_in_the_unit_that_a_metric_is_kept_in(database, unit, hard_high, told):
    """It may have come before it was in the catalogue; where the units are none of each other it is said."""
    database.execute(f"UPDATE metric SET unit = '{unit}', catalogued = false WHERE name = 'temperature'")
    said = []
    with connect(database.url, patient=True) as conn:
        migrate.migrate(conn, said.append)
    kept = database.one("SELECT unit, hard_high FROM metric WHERE name = 'temperature'")
    assert kept == (unit, pytest.approx(hard_high))
    assert sum("temperature is kept in" in line for line in said) == told


def test_two_that_start_at_once_do_it_once(empty_database):
    """The second waits for the first, and finds nothing left to do."""
    with ThreadPoolExecutor(2) as pool:
        done = [future.result() for future in [pool.submit(run, empty_database) for _ in range(2)]]
    assert min(len(d.applied) for d in done) == 0
    assert max(len(d.applied) for d in done) > 0


def test_a_newer_database_is_left_alone(database):
    """An old release refuses, to migrate and to work."""
    database.execute("INSERT INTO schema_version (version, name, storage) VALUES (9999, 'later', 'postgres')")
    with pytest.raises(migrate.SchemaError, match="newer"):
        run(database)
    with connect(database.url) as conn, pytest.raises(migrate.SchemaError, match="newer"):
        migrate.storage_of(conn)


def test_storages_do_not_mix(empty_database):
    """A database that was made on TimescaleDB is not continued without it."""
    if empty_database.storage == "timescale":
        pytest.skip("the other storage's test")
    run(empty_database)
    empty_database.execute("UPDATE schema_version SET storage = 'timescale'")
    with pytest.raises(migrate.SchemaError, match="TimescaleDB"):
        run(empty_database)


def test_numbers_are_unique_for_each_storage():
    """Two migrations of one number would hide each other."""
    for storage in ("timescale", "postgres"):
        numbers = [m.version for m in migrations() if m.storage in {None, storage}]
        assert len(numbers) == len(set(numbers))


def test_a_failed_step_leaves_nothing_behind(empty_database, monkeypatch):
    """Each step is a transaction with its mark: what failed is done whole the next time."""
    broken = migrate.Migration(9000, "broken", None, "CREATE TABLE half_made (x int); SELECT 1 / 0")
    monkeypatch.setattr(migrate, "migrations", lambda: (*migrations(), broken))
    with pytest.raises(psycopg.errors.DivisionByZero):
        run(empty_database)
    monkeypatch.undo()
    assert empty_database.one("SELECT to_regclass('half_made')") == (None,)
    assert run(empty_database).storage == empty_database.storage


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_hole_below_the_newest_number_is_seen(database):
    """A step that was left out is waited for, and one that this release does not know is a newer release's."""
    hole = [m.version for m in migrations() if m.storage is None][-2]
    database.execute(f"UPDATE schema_version SET version = 8999 WHERE version = {hole}")
    with connect(database.url) as conn, pytest.raises(migrate.NewerSchemaError, match="8999"):
        migrate.storage_of(conn)
    database.execute("DELETE FROM schema_version WHERE version = 8999")
    with (
        connect(database.url) as conn,
        pytest.raises(migrate.SchemaError, match=f"lacks migrations {hole:04d}: run ganzhi migrate"),
    ):
        migrate.storage_of(conn)


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_long_reader_holds_up_the_migration_and_nobody_else(database, monkeypatch):
    """Who keeps a table open is named; workers write between the tries; the step is done when it is gone."""
    step = migrate.Migration(9000, "later", None, "ALTER TABLE heard ADD COLUMN later int")
    monkeypatch.setattr(migrate, "migrations", lambda: (*migrations(), step))
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(migrate, "PAUSE_SECONDS", 0.2)
    said = queue.Queue()
    with (
        connect(database.url, patient=True) as conn,
        psycopg.connect(database.url, application_name="dump") as reader,
        connect(database.url) as worker,
        ThreadPoolExecutor(1) as pool,
    ):
        dump, _ = reader.execute("SELECT pg_backend_pid(), count(*) FROM heard").fetchone()
        done = pool.submit(migrate.migrate, conn, said.put)
        try:
            line = said.get(timeout=10)
            for _ in range(20):
                worker.execute("INSERT INTO heard (heard_at) VALUES (now())")
        finally:
            reader.rollback()
        assert done.result(timeout=10).applied == ["9000 later"]
    assert line.startswith("9000 later waits for a lock")
    assert f"process {dump} (dump), in a transaction since" in line
    assert said.empty()
    assert database.one("SELECT count(*), count(later) FROM heard") == (20, 0)


@pytest.mark.timescale
def test_an_extension_that_is_not_loaded_is_said():
    """It is installed, but enabling it would end the connection: plain PostgreSQL, with a line on what to do."""
    programs = timescale_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server here offers TimescaleDB")
    said = []
    with Postgres(programs, timescale=False) as server, server.database() as url:
        with connect(url) as conn:
            assert migrate.migrate(conn, said.append).storage == "postgres"
            assert migrate.storage_of(conn) == "postgres"
        assert "shared_preload_libraries" in said[0]
        made_on_timescale = Database(url, "timescale", server)
        made_on_timescale.execute("UPDATE schema_version SET storage = 'timescale'")
        with pytest.raises(migrate.SchemaError, match="does not offer now"):
            run(made_on_timescale)
