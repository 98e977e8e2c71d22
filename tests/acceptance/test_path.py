"""The order of things on the way of a reading: what is acknowledged when, and what outages, signals and refusals do."""

import json
import time

import pytest

TOPIC = "ganzhi/v1/370102/path/telemetry"


def pack(number, readings=1, **replaced):
    """Readings of today, different in every pack; `replaced` are values by metric."""
    begin = int(time.time()) - 3600
    records = [{"n": f"m{n}", "t": n, "v": replaced.get(f"m{n}", number)} for n in range(readings)]
    return json.dumps([{"bn": f"path-{number}:", "bt": begin} | records[0], *records[1:]]).encode()


def stored(database):
    """Rows, and distinct readings among them."""
    return database.one(
        "SELECT count(*), count(DISTINCT (terminal, metric, observed_at)) FROM reading_detail"
    )


@pytest.fixture
def stopped(database):
    """Stops the test's database server; it runs again afterwards in any case."""
    yield lambda: database.server.stop()
    database.server.start()


VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])
ON_POSTGRES = pytest.mark.parametrize("storage", ["postgres"])


@VERSIONS
def test_nothing_is_acknowledged_before_it_is_committed(version, database, gateway, new_worker, settled):
    """What a worker received and could not commit comes again, all of it, after it was killed."""
    worker = new_worker(mqtt_version=version)
    worker.start()
    worker.wait_ready()
    database.server.stop()
    try:
        gateway.publish(TOPIC, *(pack(n) for n in range(200)))
        metrics = worker.wait(lambda m: m("messages_in_flight") == 200, "given everything")
        metrics.assert_balanced()
        worker.wait(lambda m: m("database_up") == 0, "aware that its database is away")
        worker.kill()
    finally:
        database.server.start()
    worker.start()
    metrics = settled(worker)
    assert metrics("messages_received_total") == metrics("messages_committed_total") == 201
    assert stored(database) == (200, 200)
