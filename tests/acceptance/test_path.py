"""The order of things on the way of a reading: what is acknowledged when, and what outages, signals and refusals do."""

import json
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

TOPIC = "ganzhi/v1/370102/path/telemetry"
BEGIN = int(time.time()) - 3600
"""Fixed, so that a pack that is made twice is the same."""
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])
ON_POSTGRES = pytest.mark.parametrize("storage", ["postgres"])


def pack(number, *values):
    """Readings of the last hour, in every pack of another terminal."""
    records = [{"n": "level", "t": n, "v": value} for n, value in enumerate(values or (number,))]
    records[0] |= {"bn": f"path-{number}:", "bt": BEGIN}
    return json.dumps(records).encode()


def packs(count, begin=0):
    """So many messages of one reading."""
    return [pack(number) for number in range(begin, begin + count)]


def stored(database):
    """Rows, and distinct readings among them."""
    return database.one(
        "SELECT count(*), count(DISTINCT (terminal, metric, observed_at)) FROM reading_detail"
    )


@pytest.fixture
def outage(empty_database):
    """Makes contexts inside of which the test's database server is stopped."""

    @contextmanager
    def away():
        empty_database.server.stop()
        try:
            yield
        finally:
            empty_database.server.start()

    return away


@VERSIONS
def test_nothing_is_acknowledged_before_it_is_committed(
    version, database, outage, gateway, new_worker, settled
):
    """What a worker received and could not commit comes again, all of it, after it was killed."""
    worker = new_worker(mqtt_version=version)
    worker.start()
    worker.wait_ready()
    with outage():
        gateway.publish(TOPIC, *packs(200))
        worker.wait(lambda m: m("messages_in_flight") == 200, "given everything").assert_balanced()
        worker.wait(lambda m: m("database_up") == 0, "aware that its database is away")
        worker.kill()
    worker.start()
    metrics = settled(worker)
    assert metrics("messages_received_total") == metrics("messages_committed_total") == 201
    assert stored(database) == (200, 200)


def test_an_outage_ends_without_a_restart(database, outage, gateway, new_worker, settled):
    """A worker whose database went away says that it is not ready, waits, and commits when it is back."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    assert worker.get("readyz")[0] == 200
    with outage():
        gateway.publish(TOPIC, *packs(50))
        worker.wait(lambda m: m("database_up") == 0, "aware that its database is away")
        status, body = worker.get("readyz")
        assert (status, list(json.loads(body)["missing"])) == (503, ["database"])
        assert worker.get("healthz") == (200, "ok\n")
        assert "database_unavailable" in {line["event"] for line in worker.log}
    metrics = settled(worker)
    metrics.assert_balanced()
    assert metrics("messages_received_total") == metrics("messages_committed_total") == 51
    assert worker.get("readyz")[0] == 200
    assert stored(database) == (50, 50)


@ON_POSTGRES
@VERSIONS
def test_without_its_broker_a_worker_is_not_ready(version, database, mosquitto, new_worker):
    """It says which part is missing, lives on, and is ready again when the broker is back."""
    worker = new_worker(mqtt_version=version)
    worker.start()
    worker.wait_ready()
    mosquitto.stop()
    worker.wait(lambda m: m("broker_connected") == 0, "aware that its broker is away")
    status, body = worker.get("readyz")
    assert (status, list(json.loads(body)["missing"])) == (503, ["broker"])
    assert worker.get("healthz") == (200, "ok\n")
    mosquitto.start()
    worker.wait_ready()
    assert worker.get("readyz")[0] == 200


@VERSIONS
def test_a_worker_that_is_told_to_leave_settles_what_it_has(version, database, gateway, new_worker, settled):
    """After SIGTERM under load it exits 0; the next finds nothing that is committed, and nothing is lost."""
    worker = new_worker(mqtt_version=version, batch_readings=100)
    worker.start()
    worker.wait_ready()
    publishing = threading.Thread(target=gateway.publish, args=(TOPIC, *packs(4000)), daemon=True)
    publishing.start()
    worker.wait(lambda m: m("messages_committed_total") > 0, "at work")
    assert worker.terminate() == 0
    publishing.join()
    (committed,) = database.one("SELECT count(*) FROM reading")
    worker.start()
    metrics = settled(worker)
    assert metrics("messages_received_total") == metrics("messages_committed_total") == 4001 - committed
    assert stored(database) == (4000, 4000)
    assert worker.terminate() == 0
    worker.start()
    assert settled(worker)("messages_received_total") == 1


@ON_POSTGRES
def test_a_worker_that_waits_can_leave(empty_database, new_worker):
    """SIGTERM ends also a worker that never found its database."""
    worker = new_worker(database_url=f"{empty_database.url}_elsewhere")
    worker.start()
    worker.wait(lambda m: m("database_up") == 0, "up")
    assert worker.terminate() == 0


def test_what_only_the_database_refuses_is_found_by_halves(database, gateway, new_worker, settled):
    """One message in a big batch costs itself: it becomes a rejection, all others land."""
    database.execute("ALTER TABLE reading ADD CHECK (value <> 12345)")
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    refused = pack(1000, 1, 12345, 3)
    with database.locked():
        gateway.publish(TOPIC, *packs(40), refused, *packs(40, begin=40))
        worker.wait(lambda m: m("messages_in_flight") == 81, "given everything")
    metrics = settled(worker)
    metrics.assert_balanced()
    assert stored(database) == (80, 80)
    reason, rejected, total, payload, detail = database.one(
        "SELECT reason, rejected, total, payload, detail FROM rejection"
    )
    assert (reason, rejected, total, payload) == ("unsupported", 3, 3, refused)
    assert "23514" in detail[0]["detail"]
    assert metrics("messages_rejected_total", "unsupported") == 1
    assert metrics("readings_rejected_total", "unsupported") == 3
    assert metrics("messages_committed_total") == 81


def test_a_message_that_is_refused_is_refused_once(database, gateway, new_worker, settled):
    """Sent again, the message that only the database refuses is one row in the quarantine, not two."""
    database.execute("ALTER TABLE reading ADD CHECK (value <> 12345)")
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    refused = pack(1000, 12345)
    for _ in range(2):
        gateway.publish(TOPIC, refused)
        settled(worker).assert_balanced()
    assert database.one("SELECT count(*) FROM rejection") == (1,)
    assert settled(worker)("messages_duplicate_total") == 1


def test_a_worker_waits_for_its_database_and_its_migrations(
    empty_database, outage, gateway, new_worker, settled
):
    """Started first, it says what it waits for, and takes in what came to its session meanwhile."""
    worker = new_worker()

    def said(text):
        return lambda _: any(text in str(line.get("reason")) for line in worker.log)

    with outage():
        worker.start()
        worker.wait(said("connection"), "heard of the database that is away")
    worker.wait(said("run ganzhi migrate"), "heard of the migrations that are missing")
    status, body = worker.get("readyz")
    assert (status, worker.metrics()("database_up")) == (503, 0), body
    empty_database.migrate()
    worker.wait_ready()
    gateway.publish(TOPIC, pack(1))
    settled(worker)
    assert stored(empty_database) == (1, 1)


def test_two_workers_of_a_share_group_store_nothing_twice(database, gateway, new_worker):
    """Each message goes to one of them, new terminals get one id, and a kill on the way doubles nothing."""
    workers = [
        new_worker(share_group="ganzhi", client_id=name, batch_readings=100) for name in ("one", "two")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.wait_ready()
    gateway.publish(TOPIC, *packs(2000), *packs(500))
    workers[1].restart()
    gateway.publish(TOPIC, *packs(500, begin=1500), *packs(500, begin=2000))
    workers[0].wait(lambda _: stored(database)[0] >= 2500, "done with the other")
    for worker in workers:
        worker.wait(
            lambda m: m("messages_received_total") and m("messages_in_flight") == 0, "done"
        ).assert_balanced()
    assert stored(database) == (2500, 2500)
    assert database.one("SELECT count(DISTINCT id), max(id) FROM terminal") == (2500, 2500)


def test_every_scrape_balances(database, gateway, new_worker, settled):
    """Under load, with a batch waiting and with bad messages between, no scrape shows books that do not balance."""
    worker = new_worker(batch_readings=500)
    worker.start()
    worker.wait_ready()
    scrapes, done = [], threading.Event()

    def scrape():
        while not done.wait(0.05):
            scrapes.append(worker.metrics())

    scraping = threading.Thread(target=scrape, daemon=True)
    scraping.start()
    load = [
        m
        for n in range(1000)
        for m in (pack(n, *range(10)), b"?", pack(n, *range(10)), pack(n + 5000, -1e300, 2))
    ]
    with database.locked():
        gateway.publish(TOPIC, *load[:2000])
        worker.wait(lambda m: m("readings_in_flight") >= 500, "waiting for the database")
    gateway.publish(TOPIC, *load[2000:])
    scrapes.append(settled(worker))
    done.set()
    scraping.join()
    for metrics in scrapes:
        metrics.assert_balanced()
    assert max(metrics("readings_in_flight") for metrics in scrapes) >= 500
    final = scrapes[-1]
    assert final("messages_duplicate_total") == final("messages_rejected_total") == 1000
    assert final("readings_committed_total") == database.one("SELECT count(*) FROM reading")[0]


@ON_POSTGRES
def test_a_database_that_falls_silent_holds_nobody(database, gateway, new_worker, settled):
    """A server that hangs is said to be away; a worker that is told to leave leaves, and nothing is lost."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    (backend,) = database.one("SELECT pid FROM pg_stat_activity WHERE application_name = 'ganzhi'")
    os.kill(backend, signal.SIGSTOP)
    try:
        gateway.publish(TOPIC, *packs(20))
        worker.wait(lambda m: m("database_up") == 0, "aware that its database is silent")
        assert worker.terminate() == 0
    finally:
        os.kill(backend, signal.SIGCONT)
    worker.start()
    metrics = settled(worker)
    metrics.assert_balanced()
    assert stored(database) == (20, 20)


@ON_POSTGRES
def test_what_waits_behind_a_slow_write_is_settled_too(database, gateway, new_worker, settled):
    """A worker told to leave while a batch is written commits what has gathered behind it: nothing comes again."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    with database.locked():
        gateway.publish(TOPIC, *packs(10))
        worker.wait(lambda m: m("messages_in_flight") == 10, "given the first")
        gateway.publish(TOPIC, *packs(10, begin=10))
        worker.wait(lambda m: m("messages_in_flight") == 20, "given everything")
        leaving = threading.Thread(target=worker.terminate, daemon=True)
        leaving.start()
        time.sleep(1)  # the signal is read while the write still waits
    leaving.join(60)
    assert stored(database) == (20, 20)
    worker.start()
    worker.wait_ready()
    assert settled(worker)("messages_duplicate_total") == 0
