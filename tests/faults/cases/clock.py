"""The clock of worker and observer is wrong by an hour, by libfaketime; the monotonic clock and the database's are not.

What a wrong clock makes inevitable: behind by more than five minutes, a worker refuses readings of the true time as
`time_in_future` (`ganzhi rejections replay` brings them back); readings without a time get the wrong one, and so do
arrivals: until the clock has caught up, who was heard while it was ahead counts as live for up to an hour too long.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.case import case
from tests.faults.cases.membership import EXTRA
from tests.faults.cases.observer import register, right
from tests.faults.stand import Stand
from tests.worker import Worker

HOUR = 3_600
LIBRARY = "libfaketimeMT.so.1"
NOW_MESSAGES = 20


@case(60, size=2, program="faketime")
def clock_stepped(stand: Stand, size: int) -> None:
    """The clock is set an hour back, right, an hour ahead, and right, so often: readings, books and counts go on."""
    register(stand)
    clock = stand.folder / "clock"
    _set(clock, 0)
    with _faked(clock):
        worker, observer = stand.worker(), stand.observer(observe_seconds=0.5)
    stand.publish(100)
    stand.warm_up()
    visible = []
    for number, seconds in enumerate((-HOUR, 0, HOUR, 0) * size):
        _set(clock, seconds)
        _knows(worker, "last_commit_timestamp_seconds", seconds)
        _knows(observer, "observer_last_run_timestamp_seconds", seconds)
        _publish_now(stand, EXTRA + number, refused=seconds < 0)
        visible.append(f"{stand.healed():.1f}")
    stand.notes.append(f"visible within {', '.join(visible)} s")
    observer.wait(right, "right about who is live")
    if gaps := stand.rows(
        "SELECT kind, gateway FROM coverage_gap WHERE closed_at IS NULL AND kind <> 'never_heard'"
    ):
        stand.faults.append(f"gaps are open, and everybody is there: {gaps}")


def _set(clock: Path, seconds: int) -> None:
    """Ahead by so much. Replaced whole: it is read all the time."""
    new = clock.with_suffix(".new")
    new.write_text(f"{seconds:+d}")
    new.rename(clock)


@contextmanager
def _faked(clock: Path) -> Iterator[None]:
    """What is started here has the time that the file says."""
    library = next(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))
    settings = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}  # fmt: skip
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]


def _knows(process: Worker, metric: str, seconds: int) -> None:
    """Wait until it has written that time down."""
    process.wait(
        lambda m: abs(m(metric) - time.time() - seconds) < HOUR / 2, f"{seconds} s from the true time"
    )


def _publish_now(stand: Stand, gateway: int, *, refused: bool) -> None:
    """Readings of this moment; wait until they are stored, or refused where the worker's clock is behind."""
    stand.ledger.skip(gateway, int((time.time() - stand.ledger.begin) * 1000))
    table = (
        "rejection WHERE reason = 'time_in_future'"
        if refused
        else "reading WHERE observed_at > now() - interval '1 hour'"
    )
    before = stand.count(table)
    for _ in range(NOW_MESSAGES):
        message = stand.ledger.message(gateway, 1)
        if refused:
            message = message._replace(count=0, reason="time_in_future", refused=1)
        stand.fleet.extra.append(message)
    stand.wait(lambda: stand.count(table) >= before + NOW_MESSAGES, "done with readings of this moment")
