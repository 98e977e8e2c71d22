"""Migrations: from nothing to this version, once, whoever starts."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from devices.division import DOMAINS
from ingest import migrate, store
from schemas.catalogue import METRICS
from schemas.sql import migrations


def run(database):
    with store.connect(database.url) as conn:
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
    with store.connect(database.url) as conn, pytest.raises(migrate.SchemaError, match="newer"):
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
