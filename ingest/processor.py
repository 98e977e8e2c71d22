"""Keeps the threads of a worker together on one processor, as long as there is room on it. Linux.

The GIL lets one of them compute at a time, and wherever the writer's thread waits for it on another processor, both
wait: a fifth of the throughput and of the processor time (docs/benchmarks.md). Which processor is the kernel's
choice, by where the loop runs; when others crowd that one, the kernel chooses again.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Collection
from pathlib import Path

import structlog

log = structlog.get_logger()
THREADS = Path("/proc/self/task")
LOOK_SECONDS = 5.0
CROWDED_SHARE = 0.5
"""Of the time in which the loop could have run, so much went to others: elsewhere it could be twice as fast."""
CHOOSING_SECONDS = 0.5
"""What the kernel gets to move the loop to where there is room."""


async def stay_on_one() -> None:
    """Until cancelled; at once where there is no choice, or no Linux. For the loop's own thread."""
    if sys.platform != "linux" or len(allowed := os.sched_getaffinity(0)) == 1:
        return
    current = ctypes.CDLL(None).sched_getcpu
    kept = set[int]()
    try:
        while True:
            kept = {current()}
            keep_to(kept)
            await _until_crowded()
            if os.sched_getaffinity(0) != kept:  # somebody else has chosen meanwhile
                return
            _leave(allowed)
            await asyncio.sleep(CHOOSING_SECONDS)
    except OSError as error:
        log.info("processor_not_kept", reason=str(error), advice="it costs a fifth of a worker's throughput: "
                 "allow sched_setaffinity and /proc/self, or keep it to one from outside (docs/sizing.md)")  # fmt: skip
    finally:
        if os.sched_getaffinity(0) == kept:
            _leave(allowed)


def _leave(allowed: Collection[int]) -> None:
    """Let the kernel choose among these; among all, which it cuts to the cpuset, where none of these is left."""
    try:
        keep_to(allowed)
    except OSError:
        keep_to(range(os.cpu_count() or 1))


def keep_to(processors: Collection[int]) -> None:
    """Let every thread of this process run on these only; those that begin later take it from their maker."""
    for thread in THREADS.iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), processors)


async def _until_crowded() -> None:
    ran, waited = _ran_and_waited()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        (ran_before, waited_before), (ran, waited) = (ran, waited), _ran_and_waited()
        if is_crowded(ran - ran_before, waited - waited_before):
            return


def is_crowded(ran_nanoseconds: int, waited_nanoseconds: int) -> bool:
    """Whether it is worth another processor. What hardly ran says nothing."""
    wanted = ran_nanoseconds + waited_nanoseconds
    return wanted > LOOK_SECONDS * 1e9 / 4 and waited_nanoseconds > CROWDED_SHARE * wanted


def _ran_and_waited() -> tuple[int, int]:
    """Nanoseconds that this thread ran, and that it could have but for other processes (schedstat of proc(5)).

    Our own threads run on the same processor: while they do, it waits for them.
    """
    ran, waited = (THREADS / str(os.getpid()) / "schedstat").read_text().split()[:2]
    return int(ran), int(waited) - (time.process_time_ns() - time.thread_time_ns())
