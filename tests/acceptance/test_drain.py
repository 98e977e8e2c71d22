"""A worker that will not come back: its session is emptied into the database and ended."""

import subprocess
import sys
import time

import pytest

from ingest.publish import end_session
from ingest.settings import Settings
from tests.worker import environment


@pytest.mark.parametrize("storage", ["postgres"])
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_waits_for_a_lost_worker_is_not_lost(version, database, mosquitto, gateway, new_worker):
    """Every message that its session holds is stored once, and the broker keeps no session for it."""
    worker = new_worker(mqtt_version=version, client_id="gone")
    worker.start()
    worker.wait_ready()
    worker.kill()
    at = int(time.time())
    packs = [b'[{"n": "a:temperature", "v": %d, "t": %d}]' % (n, at + n) for n in range(50)]
    gateway.publish("ganzhi/v1/370102/gw1/telemetry", *packs)
    variables = environment(
        mqtt_url=f"mqtt://127.0.0.1:{mosquitto.port}", database_url=database.url, mqtt_version=version
    )
    drain = [sys.executable, "-m", "ingest.cli", "ingest", "--drain-client", "gone-0"]
    for _ in range(2):
        done = subprocess.run(drain, env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert database.one("SELECT count(*), count(DISTINCT value) FROM reading") == (50, 50)
    with pytest.raises(AssertionError, match="did not take"):  # reason 0x10: nobody subscribes any more
        gateway.publish("ganzhi/v1/370102/gw1/telemetry", packs[0])
    worker.start()
    assert worker.wait_ready()("sessions_lost_total") == 0, "it was ended on purpose"


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_session_that_was_lost_while_the_worker_was_away_is_counted(
    database, mosquitto, gateway, new_worker
):
    """A worker that committed before counts a lost session when it starts and finds none, and not when it finds one."""
    worker = new_worker(client_id="away")
    worker.start()
    assert worker.wait_ready()("sessions_lost_total") == 0, "it is new"
    gateway.publish(
        "ganzhi/v1/370102/gw1/telemetry", b'[{"n": "a:temperature", "v": 1, "t": %d}]' % time.time()
    )
    worker.wait(lambda m: m("messages_committed_total") == 1, "done with the message")
    worker.terminate()
    mqtt_url = f"mqtt://127.0.0.1:{mosquitto.port}"
    end_session(Settings(mqtt_url=mqtt_url, database_url=database.url), "away-0")
    for lost in (1, 0):
        worker.start()
        assert worker.wait_ready()("sessions_lost_total") == lost
        worker.terminate()
