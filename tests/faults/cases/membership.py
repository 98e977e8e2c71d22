"""Workers that leave: asked to (SIGTERM) with work waiting, killed in a share group, drained away from it."""

import time

from tests.faults.case import case
from tests.faults.stand import Stand
from tests.worker import Worker

EXTRA = 900
"""A gateway's number for what a case publishes itself: a span of numbers that no gateway of the fleet uses."""
GROUP = "faults"


@case(60, size=100_000, short=2_000)
def sigterm_drains(stand: Stand, size: int) -> None:
    """SIGTERM while so many messages wait: out within 30 s, and nothing that is committed left unacknowledged."""
    worker = stand.worker(batch_readings=max(500, size // 20))
    stand.publish(100)
    stand.warm_up()
    _leave(worker)
    taken = _taken(stand)
    for _ in range(size):
        stand.fleet.extra.append(stand.ledger.message(EXTRA, 1))
    stand.wait(lambda: _taken(stand) >= taken + size, "waiting at the broker", 180)
    worker.start()
    received = worker.wait(lambda m: m("messages_committed_total") > 0, "committing")(
        "messages_received_total"
    )
    stored = stand.count("reading")
    _leave(worker)
    stand.notes.append(
        f"told to stop after {received:,.0f} messages; stored {stand.count('reading') - stored:,} more"
    )
    worker.start()
    stand.healed()  # the broker sends what is unacknowledged first, so that it has come by now
    if again := worker.metrics()("messages_duplicate_total"):
        stand.faults.append(f"{again:.0f} messages were committed and not acknowledged")


def _leave(worker: Worker) -> None:
    assert worker.terminate() == 0, "SIGTERM did not end it in order"
    ends = [line for line in worker.log if line["event"] == "worker_stopped"]
    assert ends[-1]["drained"], "it gave up before it was drained"


def _taken(stand: Stand) -> int:
    return sum(at > 0 for at in stand.ledger.taken_at)


@case(60, size=10, short=1)
def group_member_killed(stand: Stand, size: int) -> None:
    """Of two workers in a share group one is killed (SIGKILL), stays away for two seconds and comes back, so often."""
    _, second = _group(stand)
    for _ in range(size):
        second.kill()
        time.sleep(2)
        second.start()
        second.wait_ready()
        stand.healed()


@case(60)
def group_member_drained(stand: Stand, size: int) -> None:
    """Of two workers in a share group one is killed for good, and `ingest --drain-client` empties its session."""
    del size
    _, second = _group(stand)
    second.kill()
    stand.workers.remove(second)
    time.sleep(2)  # its share goes on waiting for it
    said = stand.command(
        "ingest", "--drain-client", "second-0", mqtt_url=stand.settings["mqtt_url"], share_group=GROUP
    )
    stand.notes.append(said.strip())
    stand.healed()


def _group(stand: Stand) -> list[Worker]:
    workers = [stand.worker(client_id=name, share_group=GROUP) for name in ("first", "second")]
    stand.publish()
    stand.warm_up()
    return workers
