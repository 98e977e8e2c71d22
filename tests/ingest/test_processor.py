"""Keeping a worker's threads on one processor: real threads, real processes."""

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from ingest.processor import is_crowded

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="affinity and schedstat are Linux's"),
    pytest.mark.skipif(
        sys.platform == "linux" and len(os.sched_getaffinity(0)) == 1, reason="there is one processor only"
    ),
]
STAYING = """
import asyncio, os, sys, threading
from ingest import processor

def where(count):
    return [os.sched_getaffinity(int(name)) for name in os.listdir("/proc/self/task")][:count]

async def main():
    allowed, enough = os.sched_getaffinity(0), threading.Event()
    threading.Thread(target=enough.wait).start()
    staying = asyncio.create_task(processor.stay_on_one())
    await asyncio.sleep(0.1)
    threading.Thread(target=enough.wait).start()
    kept = where(3)
    print(len(kept), all(one == kept[0] and len(one) == 1 for one in kept))
    staying.cancel()
    await asyncio.wait([staying])
    print(all(one == allowed for one in where(3)))
    enough.set()

asyncio.run(main())
"""
CROWDED = """
import asyncio, os
from ingest import processor

processor.LOOK_SECONDS = 0.4

async def main():
    staying = asyncio.create_task(processor.stay_on_one())
    await asyncio.sleep(0)
    [here] = os.sched_getaffinity(0)
    print(here, flush=True)
    while len(os.sched_getaffinity(0)) == 1:
        sum(range(20_000))
        await asyncio.sleep(0)
    print("left", flush=True)

asyncio.run(main())
"""
BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def test_threads_of_before_and_after_stay_together_until_the_end():
    """All threads share one processor while it is wanted, and have their choice again after."""
    command = [sys.executable, "-c", STAYING]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (["3 True", "True"], "")


def test_a_crowded_processor_is_left():
    """Where others take most of the time, the kernel may choose again."""
    with ExitStack() as stack:
        command = [sys.executable, "-c", CROWDED]
        worker = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(worker.kill)
        assert worker.stdout
        here = worker.stdout.readline().strip()
        for _ in range(4):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY, here]))
            stack.callback(other.kill)
        assert worker.communicate(timeout=60)[0] == "left\n"


@pytest.mark.parametrize(
    ("ran", "waited", "crowded"),
    [(1, 0, False), (1, 0.8, False), (1, 1.3, True), (0.1, 0.9, False), (0, 0, False), (0.5, 4.5, True)],
)
def test_crowded_is_who_gets_less_than_half(ran, waited, crowded):
    """A loop that waits longer than it runs is crowded; one that hardly wants to run is not."""
    assert is_crowded(int(ran * 1e9), int(waited * 1e9)) == crowded
