"""The broker: killed, frozen, without its memory, and giving one session to two workers in turn."""

import time

from tests.faults.case import case
from tests.faults.oracle import UNSAVED_SECONDS, owed_messages, unsettled
from tests.faults.stand import Stand

OLD = "3.1.1"
CONNECTIONS = 20
"""Of two workers that throw each other out: their pauses double up to 15 s; beside one a second, in all."""


@case(150, size=10)
def broker_killed(stand: Stand, size: int) -> None:
    """Mosquitto is killed (SIGKILL) and started again from its persistence, so many times."""
    _killed(stand, size)


@case(60, size=3)
def broker_killed_mqtt_311(stand: Stand, size: int) -> None:
    """As broker-killed, and the worker speaks MQTT 3.1.1."""
    _killed(stand, size, mqtt_version=OLD)


def _killed(stand: Stand, size: int, **settings: object) -> None:
    stand.worker(**settings)
    stand.publish()
    stand.warm_up()
    for _ in range(size):
        time.sleep(2 * UNSAVED_SECONDS)  # of which half are on its disk
        stand.kill_broker()
        stand.broker.start()
        stand.healed()


@case(60, size=20)
def broker_killed_with_backlog(stand: Stand, size: int) -> None:
    """The database is away for so many seconds, then Mosquitto is killed: what waits for the worker is on its disk."""
    worker = stand.worker()
    stand.publish()
    stand.warm_up()
    stand.server.stop()
    worker.wait(lambda m: m("database_up") == 0, "aware that its database is away")
    time.sleep(size)
    stand.kill_broker()
    stand.broker.start()
    stand.server.start()
    stand.healed()


@case(130, size=90)
def broker_frozen(stand: Stand, size: int) -> None:
    """Mosquitto is stopped (SIGSTOP) for so many seconds: its socket accepts and nobody answers; then it goes on."""
    worker = stand.worker()
    stand.publish(100)
    stand.warm_up()
    with stand.broker.frozen():
        begun = time.monotonic()
        worker.wait(lambda m: m("broker_connected") == 0, "aware that its broker says nothing")
        time.sleep(max(0, size - (time.monotonic() - begun)))
    stand.healed()


@case(60, size=5, short=1)
def session_lost(stand: Stand, size: int) -> None:
    """Mosquitto starts again without its persistence, so many times: the worker counts each, and subscribes anew."""
    _session_lost(stand, size)


@case(40, size=3)
def session_lost_mqtt_311(stand: Stand, size: int) -> None:
    """As session-lost, and the worker speaks MQTT 3.1.1."""
    _session_lost(stand, size, mqtt_version=OLD)


def _session_lost(stand: Stand, size: int, **settings: object) -> None:
    worker = stand.worker(**settings)
    stand.publish()
    stand.warm_up()
    for number in range(1, size + 1):
        stand.to_gateways.stop()
        assert not unsettled(stand, owed_messages(stand.ledger, [])), "what it forgets has to be with us"
        stand.broker.stop()
        stand.broker.forget()
        stand.broker.start()
        stand.to_gateways.start()
        worker.wait(lambda m, n=number: m("sessions_lost_total") == n, "counting the session that was lost")
        stand.healed()


@case(110, size=60)
def session_taken_over(stand: Stand, size: int) -> None:
    """A second worker runs under the same client id for so many seconds; they take turns, at a bounded rate."""
    _taken_over(stand, size)


@case(110, size=60)
def session_taken_over_mqtt_311(stand: Stand, size: int) -> None:
    """As session-taken-over, and both speak MQTT 3.1.1."""
    _taken_over(stand, size, mqtt_version=OLD)


def _taken_over(stand: Stand, size: int, **settings: object) -> None:
    stand.worker(**settings)
    stand.publish()
    stand.warm_up()
    before = stand.deliveries.connections
    second = stand.worker(wait=False, **settings)
    stand.wait(lambda: stand.deliveries.connections >= before + 3, "taking turns")
    time.sleep(size)
    connections = stand.deliveries.connections - before
    assert connections < CONNECTIONS + size, f"{connections} connections in {size} s"
    second.metrics().assert_balanced()
    second.kill()
    stand.workers.remove(second)
    stand.healed()
