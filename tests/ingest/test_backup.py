"""Backups: a dump that is taken under load is a consistent whole, and the broker's session goes on where it can.

The commands are those of docs/backup.md.
"""

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest

from ingest import roles
from ingest.connection import connect
from tests.conftest import Database
from tests.postgres import Postgres
from tests.worker import environment

TOPIC = "ganzhi/v1/370102/backup/telemetry"
BEGIN = int(time.time()) - 3600
"""Fixed, so that a pack that is made twice is the same."""


def pack(number):
    """One reading, whose value is the message's number."""
    return json.dumps([{"n": f"backup-{number % 50}:level", "t": BEGIN, "v": number}]).encode()


def packs(begin, end):
    """Messages by number."""
    return [pack(number) for number in range(begin, end)]


def stored(database):
    """The numbers of the messages that are stored, in order."""
    return [int(value) for (value,) in database.rows("SELECT value FROM reading ORDER BY value")]


def run(database, program, *arguments):
    """A program of the server's own version; fails with what it said."""
    command = [database.server._programs / program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@contextmanager
def restored(database, dump, server=None):
    """The dump, in a database of its own; on the same server unless another is given."""
    server = server or database.server
    with server.database() as url:
        copy = Database(url, database.storage, server)
        if database.storage == "timescale":
            copy.execute("CREATE EXTENSION timescaledb")
            copy.rows("SELECT timescaledb_pre_restore()")
        run(database, "pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--dbname", url, dump)
        if database.storage == "timescale":
            copy.rows("SELECT timescaledb_post_restore()")
        copy.execute("ANALYZE")
        yield copy


@pytest.fixture
def dumped_under_load(database, gateway, new_worker, settled, tmp_path):
    """A dump taken while a worker ingests, the worker, and how many messages it has committed in the end."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    count, enough = 0, threading.Event()

    def publish():
        nonlocal count
        while not enough.is_set():
            gateway.publish(TOPIC, *packs(count, count + 20))
            count += 20

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    worker.wait(lambda m: m("messages_committed_total") >= 200, "at work")
    _refresh(database)
    run(database, "pg_dump", "--format=custom", "--file", tmp_path / "dump", database.url)
    enough.set()
    publishing.join()
    gateway.publish(TOPIC, *packs(count, count + 50))
    settled(worker).assert_balanced()
    return tmp_path / "dump", worker, count + 50


def test_a_worker_resumes_on_a_database_that_was_restored(
    database, dumped_under_load, gateway, new_worker, settled
):
    """What was not acknowledged comes; what was acknowledged after the dump is missing until it is published again."""
    dump, worker, count = dumped_under_load
    assert stored(database) == list(range(count))
    with database.locked():
        gateway.publish(TOPIC, *packs(count, count + 100))
        worker.wait(lambda m: m("messages_in_flight") == 100, "given what it cannot commit")
        worker.kill()
    with restored(database, dump) as copy:
        in_dump = stored(copy)
        assert in_dump == list(range(len(in_dump)))
        assert 200 <= len(in_dump) <= count - 50
        worker = new_worker(database_url=copy.url)
        worker.start()
        gateway.publish(TOPIC, *packs(count + 100, count + 150))
        metrics = _settled(worker, 150)
        assert metrics("messages_committed_total") == 150
        assert stored(copy) == in_dump + list(range(count, count + 150))
        assert metrics("direct_compress") == (database.storage == "timescale")

        gateway.publish(TOPIC, *packs(0, count))
        metrics = _settled(worker, 150 + count)
        assert metrics("messages_duplicate_total") == len(in_dump)
        assert stored(copy) == list(range(count + 150))
        _refresh(copy)
        rollup = copy.one("SELECT sum(n), sum(sum) FROM reading_hourly")
        assert rollup == copy.one("SELECT count(*), sum(value) FROM reading")


def test_a_dump_with_roles_restores_on_a_server_without_them(database, tmp_path):
    """The roles are made anew after it, and what they may do is theirs again."""
    with connect(database.url) as conn:
        roles.make(conn, None, [370100])
    run(database, "pg_dump", "--format=custom", "--file", tmp_path / "dump", database.url)
    timescale = database.storage == "timescale"
    with (
        Postgres(database.server._programs, timescale=timescale) as server,
        restored(database, tmp_path / "dump", server) as copy,
    ):
        assert copy.rows("SELECT FROM pg_roles WHERE rolname ~ '^ganzhi_'") == []
        for options in ([], ["--roles", "--city-reader", "370100"]):
            _migrate(copy, *options)
        with psycopg.connect(copy.url.replace("postgres@", "ganzhi_reader_370100@")) as conn:
            assert conn.execute("SELECT count(*) FROM reading").fetchone() == (0,)
        assert _rights(copy) == _rights(database)


def _migrate(database, *options):
    done = subprocess.run([sys.executable, "-m", "ingest.cli", "migrate", *options], capture_output=True, text=True,
                          env=environment(database_url=database.url), check=False, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr


def _rights(database):
    """Who may do what to tables, views, sequences and functions, of ours and of the extension."""
    return database.rows(
        "SELECT oid::regclass::text, relacl::text FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', "
        "'city') AND relkind <> 'i' UNION ALL SELECT oid::regprocedure::text, proacl::text FROM pg_proc ORDER BY 1, 2"
    )


def _refresh(database):
    """What the refresh policy does: it knows by a log in the database what was written since the last time."""
    if database.storage == "timescale":
        database.execute("CALL refresh_continuous_aggregate('reading_hourly', NULL, NULL)")


def _settled(worker, messages):
    """The metrics once so many messages were received, and dealt with."""
    metrics = worker.wait(
        lambda m: m("messages_received_total") == messages and not m("messages_in_flight"),
        f"done with {messages} messages",
    )
    metrics.assert_balanced()
    return metrics
