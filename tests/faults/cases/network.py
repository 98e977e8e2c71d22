"""The network between worker and broker: it swallows, it is half-open, it is slow."""

import time

from tests.faults.case import case
from tests.faults.cases.broker import OLD
from tests.faults.stand import Stand
from tests.worker import Worker

BYTES_PER_SECOND, DELAY_SECONDS = 50_000, 0.5
SLOW_MESSAGES_PER_SECOND = 120
"""About 30 kB/s."""


def _loaded(stand: Stand, **settings: object) -> Worker:
    worker = stand.worker(**settings)
    stand.publish(100)
    stand.warm_up()
    return worker


def _heal(stand: Stand) -> None:
    stand.to_broker.cut()  # what was held belongs to connections that are over
    stand.to_broker.resume()
    stand.healed()


@case(90, size=60)
def broker_silent_at_start(stand: Stand, size: int) -> None:
    """The broker accepts TCP and never answers for so many seconds when the worker starts."""
    stand.to_broker.hold()
    worker = stand.worker(wait=False)
    stand.publish(100)
    _wait_silent(worker)
    time.sleep(size)
    _heal(stand)
    stand.warm_up()


@case(120, size=90)
def broker_silent(stand: Stand, size: int) -> None:
    """The connection breaks, and the broker accepts the next ones and answers none, for so many seconds."""
    worker = _loaded(stand)
    stand.to_broker.hold()
    stand.to_broker.cut()
    _wait_silent(worker)
    time.sleep(size)
    _heal(stand)


@case(60, size=30)
def broker_silent_mqtt_311(stand: Stand, size: int) -> None:
    """As broker-silent, and the worker speaks MQTT 3.1.1."""
    worker = _loaded(stand, mqtt_version=OLD)
    stand.to_broker.hold()
    stand.to_broker.cut()
    worker.wait(lambda m: m("broker_connected") == 0, "aware that the connection broke")
    time.sleep(size)
    _heal(stand)


def _wait_silent(worker: Worker) -> None:
    def said(_: object) -> bool:
        return any("no CONNACK" in str(line.get("reason")) for line in worker.log)

    worker.wait(said, "saying that nobody answers")


@case(330, size=300)
def half_open(stand: Stand, size: int) -> None:
    """The network swallows both ways without closing, for so many seconds: the keep-alive has to notice."""
    _half_open(stand, size)


@case(120, size=90)
def half_open_mqtt_311(stand: Stand, size: int) -> None:
    """As half-open, and the worker speaks MQTT 3.1.1."""
    _half_open(stand, size, mqtt_version=OLD)


def _half_open(stand: Stand, size: int, **settings: object) -> None:
    worker = _loaded(stand, **settings)
    begun = time.monotonic()
    stand.to_broker.hold()
    worker.wait(lambda m: m("broker_connected") == 0, "aware of the silence")
    time.sleep(max(0, size - (time.monotonic() - begun)))
    _heal(stand)


@case(90, size=60)
def slow_line(stand: Stand, size: int) -> None:
    """50 kB/s and 500 ms each way for so many seconds; the connection holds, and is cut once in the midst."""
    stand.worker()
    stand.publish(SLOW_MESSAGES_PER_SECOND)
    stand.warm_up()
    stand.to_broker.slow(BYTES_PER_SECOND, DELAY_SECONDS)
    before = stand.deliveries.connections
    time.sleep(size / 2)
    stand.healed()
    assert stand.deliveries.connections == before, "the connection was lost because it is slow"
    stand.to_broker.cut()
    time.sleep(size / 2)
    stand.healed()
    assert stand.deliveries.connections == before + 1, "the connection was lost because it is slow"
    stand.to_broker.hurry()
