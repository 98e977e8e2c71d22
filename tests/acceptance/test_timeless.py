"""A payload without times may rightly repeat: every sending counts, a redelivery of it does not."""

import asyncio
import random
import time

import pytest

from tests.proxy import Proxy

TOPIC = "ganzhi/v1/370102/flow-meters/telemetry"
PACK = b'[{"n": "urn:imei:860000000000009/water_flow", "u": "m3/h", "v": 0.4}]'
STORED = "SELECT value, quality FROM reading_detail WHERE metric = 'water_flow'"
ROW = (0.4, 2)
"""Quality: time from arrival."""
SENDS = 20
PAUSE_SECONDS = 0.2
"""A gateway that reports every second, five times as fast."""

VERSIONS = pytest.mark.parametrize(
    ("storage", "version"),
    [pytest.param("timescale", "5", marks=pytest.mark.timescale), ("postgres", "3.1.1")],
)


@VERSIONS
@pytest.mark.parametrize("kills", [0, 3])
def test_each_sending_of_one_timeless_pack_is_a_row(kills, version, database, gateway, new_worker, settled):
    """Twenty sendings of the same bytes are twenty rows, also when the worker is killed between them."""
    seed = random.randrange(2**32)
    killed_after = random.Random(seed).sample(range(1, SENDS), kills)
    worker = new_worker(mqtt_version=version)
    worker.start()
    worker.wait_ready()
    for send in range(1, SENDS + 1):
        gateway.publish(TOPIC, PACK)
        if send in killed_after:
            worker.restart()
        time.sleep(PAUSE_SECONDS)
    settled(worker).assert_balanced()
    assert database.rows(STORED) == [ROW] * SENDS, f"seed {seed}: killed after {sorted(killed_after)}"


@VERSIONS
async def test_a_redelivery_of_a_timeless_pack_is_no_row(
    version, database, mosquitto, gateway, new_worker, settled
):
    """A pack that was committed and not acknowledged comes again marked DUP and is known, the next one is new."""
    async with Proxy(mosquitto.port) as proxy:
        worker = new_worker(mqtt_version=version, mqtt_url=f"mqtt://127.0.0.1:{proxy.port}")
        worker.start()
        await asyncio.to_thread(worker.wait_ready)
        with database.locked():
            gateway.publish(TOPIC, PACK)
            await asyncio.to_thread(worker.wait, lambda m: m("messages_in_flight") == 1, "given the pack")
            proxy.hold()
        await asyncio.to_thread(
            worker.wait, lambda m: m("messages_committed_total") == 1, "done with the pack"
        )
        worker.kill()
        await proxy.cut()
        proxy.resume()
        worker.start()
        metrics = await asyncio.to_thread(settled, worker)
        assert (metrics("messages_received_total"), metrics("messages_duplicate_total")) == (2, 1)
        metrics.assert_balanced()
        assert database.rows(STORED) == [ROW]
        gateway.publish(TOPIC, PACK)
        await asyncio.to_thread(settled, worker)
        assert database.rows(STORED) == [ROW] * 2
