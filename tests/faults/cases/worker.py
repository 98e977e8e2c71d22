"""Workers that are killed: at any moment, and at those that matter."""

import random
import time

from tests.faults.case import case
from tests.faults.stand import Stand
from tests.worker import Worker

COMMIT_SENT = b"Q\0\0\0\x0bCOMMIT\0"
COMMIT_DONE = b"C\0\0\0\x0bCOMMIT\0"
"""Messages of PostgreSQL's protocol, 3.0: Query, and CommandComplete."""
ACKNOWLEDGEMENT = b"\x40\x02"
"""PUBACK without a reason code, as a success is said."""


@case(300, size=100, short=1)
def worker_killed(stand: Stand, size: int) -> None:
    """SIGKILL at a random moment, while it starts too, and a new start at once, so many times."""
    worker = stand.worker()
    stand.publish()
    stand.warm_up()
    for _ in range(size):
        time.sleep(random.uniform(0, 2.5))  # it is at work a second after its start
        worker.restart()
    stand.healed()


@case(40, size=5)
def worker_killed_before_commit(stand: Stand, size: int) -> None:
    """SIGKILL after COPY, when COMMIT is sent and has not reached the database: all of it comes again."""
    _killed_at(stand, size, COMMIT_SENT, "client")


@case(40, size=5)
def worker_killed_after_commit(stand: Stand, size: int) -> None:
    """SIGKILL when the database has committed and the worker does not know: all of it is known when it comes again."""
    wait_known(_killed_at(stand, size, COMMIT_DONE, "server"))


def wait_known(worker: Worker) -> None:
    """Wait until it was given what is stored already: else the moment was not the one that was meant."""
    worker.wait(lambda m: m("messages_duplicate_total"), "given again what is stored")


def _killed_at(stand: Stand, size: int, moment: bytes, sender: str) -> Worker:
    worker = stand.worker()
    stand.publish()
    stand.warm_up()
    for _ in range(size):
        trap = stand.to_database.trap(moment, sender)
        assert trap.caught.wait(30), "the worker does not commit"
        worker.kill()
        stand.to_database.cut()
        worker.start()
        worker.wait_ready()
    stand.healed()
    return worker


@case(40, size=5, short=1)
def worker_killed_before_acknowledgement(stand: Stand, size: int) -> None:
    """SIGKILL when a batch is committed and its acknowledgements have not reached the broker."""
    worker = stand.worker()
    stand.publish()
    stand.warm_up()
    for _ in range(size):
        trap = stand.to_broker.trap(ACKNOWLEDGEMENT, "client")
        assert trap.caught.wait(30), "the worker does not acknowledge"
        worker.kill()
        stand.to_broker.cut()
        worker.start()
        worker.wait_ready()
    stand.healed()
    wait_known(worker)
