"""What comes again: redelivered by the broker, published again, with and without times, and after the horizon."""

from tests.faults.case import case
from tests.faults.cases.broker import OLD
from tests.faults.cases.worker import ACKNOWLEDGEMENT
from tests.faults.obligations import PACK, Message
from tests.faults.stand import Stand
from tests.proxy import Trap

OWN = 9
"""The gateway of a case's own messages; those that publish by themselves have smaller numbers."""
BATCH_MESSAGES = 40
DAY_SECONDS = 18 * 3600
"""From 20 h to 2 h ago: the ledger forgets whole hours."""
HORIZON = {"ledger_hours": 1}
PASS_HOURS = (
    "UPDATE ledger SET seen_at = seen_at - interval '2 hours'",
    "UPDATE ledger_client SET resumed_at = resumed_at - interval '2 hours'",
)
"""In the ledger, beyond its horizon: what it knows, and the worker's time without a break."""
STORED = "SELECT count(*) FROM reading WHERE value >= %s"


@case(60, size=10, short=1)
def redelivered(stand: Stand, size: int) -> None:
    """The connection breaks before the acknowledgements of what is committed pass: all of it comes again with DUP."""
    _redelivered(stand, size)


@case(60, size=5)
def redelivered_mqtt_311(stand: Stand, size: int) -> None:
    """As redelivered, and the worker speaks MQTT 3.1.1."""
    _redelivered(stand, size, mqtt_version=OLD)


def _redelivered(stand: Stand, size: int, **settings: object) -> None:
    worker = stand.worker(**settings)
    stand.publish()
    stand.warm_up()
    for _ in range(size):
        before = stand.deliveries.repeated
        _acknowledgements_held(stand)
        stand.healed()  # what has come since is not acknowledged either
        stand.to_broker.cut()
        stand.healed()
        assert stand.deliveries.repeated > before, "the broker delivered nothing again"
    worker.wait(lambda m: m("messages_duplicate_total") >= size, "told what it knows")


def _acknowledgements_held(stand: Stand) -> Trap:
    trap = stand.to_broker.trap(ACKNOWLEDGEMENT, "client")
    assert trap.caught.wait(30), "the worker does not acknowledge"
    return trap


@case(60, size=9, short=1)
def timeless_redelivered(stand: Stand, size: int) -> None:
    """Payloads without times are committed and come again with DUP: connection, worker and broker end in turn."""
    _timeless(stand, size)


@case(60, size=3)
def timeless_redelivered_mqtt_311(stand: Stand, size: int) -> None:
    """As timeless-redelivered, and the worker speaks MQTT 3.1.1."""
    _timeless(stand, size, mqtt_version=OLD)


def _timeless(stand: Stand, size: int, **settings: object) -> None:
    worker = stand.worker(**settings)
    stand.publish()
    stand.warm_up()
    for number in range(size):
        before = stand.deliveries.repeated
        trap = _acknowledgements_held(stand)
        messages = [stand.ledger.message(OWN, 1, timed=False) for _ in range(BATCH_MESSAGES)]
        stand.fleet.extra.extend(messages)
        _wait_stored(stand, messages)
        match number % 3:
            case 1:
                worker.kill()
                stand.to_broker.cut()
                worker.start()
                worker.wait_ready()
            case 2:
                stand.broker.stop()
                stand.broker.start()
            case _:
                stand.to_broker.cut()
        trap.release()
        stand.healed()
        assert stand.deliveries.repeated >= before + BATCH_MESSAGES, "the broker delivered nothing again"


def _wait_stored(stand: Stand, messages: list[Message], times: int = 1) -> None:
    first, count = messages[0].first, times * sum(message.count for message in messages)
    stand.wait(lambda: stand.rows(STORED, first)[0][0] == count, f"holding {count} of them")


@case(40, size=500)
def published_twice(stand: Stand, size: int) -> None:
    """A publisher sends so many messages a second time, and a third, without DUP."""
    worker = stand.worker()
    stand.publish()
    stand.warm_up()
    messages = [stand.ledger.message(OWN, PACK) for _ in range(size)]
    stand.fleet.extra.extend(messages)
    stand.publish_again(messages)  # while they come for the first time
    _wait_stored(stand, messages)
    stand.publish_again(messages)
    worker.wait(lambda m: m("messages_duplicate_total") >= 2 * size, "told what it knows")
    stand.healed()


@case(90, size=2000)
def day_again(stand: Stand, size: int) -> None:
    """18 hours of readings come again, known, and once more, forgotten by the ledger: maintenance leaves one each."""
    _day_again(stand, size)


@case(90, size=2000, timescale=False)
def day_again_without_timescale(stand: Stand, size: int) -> None:
    """As day-again, on plain PostgreSQL."""
    _day_again(stand, size)


def _day_again(stand: Stand, size: int) -> None:
    worker = stand.worker()
    stand.publish(100)
    stand.warm_up()
    day = []
    for _ in range(size):
        day.append(stand.ledger.message(OWN, PACK))
        stand.ledger.skip(OWN, DAY_SECONDS * 1000 // size - PACK)
    stand.fleet.extra.extend(day)
    _wait_stored(stand, day)
    stand.publish_again(day)
    worker.wait(lambda m: m("messages_duplicate_total") >= size, "told what it knows")
    _wait_stored(stand, day)
    stand.execute(*PASS_HOURS)
    stand.healed()  # what is purged is settled: its worker has committed since
    stand.command("migrate", "--maintain", **HORIZON)
    stand.publish_again(day)
    _wait_stored(stand, day, times=2)
    stand.command("migrate", "--maintain")
    _wait_stored(stand, day)
    stand.healed()
