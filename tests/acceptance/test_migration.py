"""Migrations beside real workers: an older database is waited for, a newer one refused, none loses or doubles."""

import itertools
import json
import subprocess
import sys
import threading
import time

import pytest

from ingest import migrate
from ingest.connection import connect
from schemas.sql import migrations
from tests.worker import environment

TOPIC = "ganzhi/v1/370102/migration/telemetry"
BEGIN = int(time.time()) - 500_000
PACK = 20
POSTGRES_ONLY = pytest.mark.parametrize("storage", ["postgres"])
LATER = """
ALTER TABLE reading ADD COLUMN later int;
ALTER TABLE heard ADD COLUMN later int;
CREATE TABLE later (x int)
"""


def command(name, url):
    """A `ganzhi` command on this database, started."""
    return subprocess.Popen([sys.executable, "-m", "ingest.cli", name], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=environment(database_url=url))  # fmt: skip


def apply_all_but_the_last(database):
    """The database as the release before this one left it, without what it seeded."""
    steps = [m for m in migrations() if m.storage in {None, database.storage}]
    with connect(database.url) as conn:
        conn.execute(migrate.SQL["version_table"])
        for step in steps[:-1]:
            conn.execute(step.sql)
            conn.execute(migrate.SQL["record"], [step.version, step.name, database.storage])


def pack(number):
    """Readings of one terminal, of seconds of their own."""
    base = {"bn": "migration:1", "bt": BEGIN + number * PACK, "bu": "Cel", "n": "/temperature", "v": 20}
    return json.dumps([base, *({"n": "/temperature", "t": t, "v": 20} for t in range(1, PACK))]).encode()


@POSTGRES_ONLY
def test_a_worker_waits_for_its_migration(empty_database, new_worker, gateway, settled):
    """On an older database a worker says what it waits for; of two that migrate at once one does, and it works."""
    apply_all_but_the_last(empty_database)
    worker = new_worker()
    worker.start()
    worker.wait(
        lambda _: any("run ganzhi migrate" in str(line.get("reason")) for line in worker.log), "waiting"
    )
    assert worker.metrics()("database_up") == 0
    both = [command("migrate", empty_database.url) for _ in range(2)]
    assert sorted(each.communicate(timeout=60)[0].count("applied") for each in both) == [0, 1]
    worker.wait_ready()
    gateway.publish(TOPIC, pack(0))
    assert settled(worker)("readings_committed_total") == PACK


@POSTGRES_ONLY
def test_a_worker_refuses_a_newer_database(database, mosquitto):
    """It ends with 1 and says that it is to be upgraded, instead of waiting for what never comes."""
    database.execute("INSERT INTO schema_version (version, name, storage) VALUES (9999, 'later', 'postgres')")
    settings = {
        "mqtt_url": f"mqtt://127.0.0.1:{mosquitto.port}",
        "http_port": 0,
        "database_url": database.url,
    }
    done = subprocess.run([sys.executable, "-m", "ingest.cli", "ingest"], env=environment(**settings),
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert done.returncode == 1
    assert "newer than this release" in done.stderr
    assert "Traceback" not in done.stderr


def test_migrating_under_a_worker_loses_and_doubles_nothing(
    database, new_worker, gateway, settled, monkeypatch
):
    """A step that changes the tables it writes to, and one that finds nothing to do, go by under load."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    sent, enough = itertools.count(), threading.Event()

    def publish():
        while not enough.is_set():
            gateway.publish(TOPIC, pack(next(sent)))
            enough.wait(0.005)

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    worker.wait(lambda m: m("readings_committed_total") > 0, "committing")
    again = command("migrate", database.url)
    assert "applied" not in again.communicate(timeout=60)[0]
    assert again.returncode == 0
    step = migrate.Migration(9000, "later", None, LATER)
    monkeypatch.setattr(migrate, "migrations", lambda: (*migrations(), step))
    with connect(database.url, patient=True) as conn:
        assert migrate.migrate(conn).applied == ["9000 later"]
    before = worker.metrics()("readings_committed_total")
    worker.wait(lambda m: m("readings_committed_total") > before, "committing after it")
    enough.set()
    publishing.join()
    metrics = settled(worker)
    metrics.assert_balanced()
    readings = next(sent) * PACK
    assert (metrics("readings_committed_total"), metrics("readings_duplicate_total")) == (readings, 0)
    stored = database.one("SELECT count(*), count(DISTINCT (terminal_id, observed_at)) FROM reading")
    assert stored == (readings, readings)
    assert worker.terminate() == 0
