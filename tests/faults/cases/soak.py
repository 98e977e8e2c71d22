"""Half an hour under steady load: nothing of a worker or of the observer grows."""

import time
from collections import defaultdict

import numpy as np

from tests.faults.case import case
from tests.faults.stand import Stand

SAMPLE_SECONDS = 2
GROWTH_MB_PER_HOUR = 10
"""What the fit over 20 minutes is unsure of: memory moves by the allocator's MiB, the observer's by three of them while
rows of `heard` come and go between two snapshots."""
SHORTEST_SECONDS = 600
"""Below it the allocator still settles, and a slope says nothing."""


@case(1_900, size=1_800)
def soak(stand: Stand, size: int) -> None:
    """Nothing breaks for so many seconds: memory, descriptors and threads of worker and observer stay flat."""
    processes = {"worker": stand.worker(), "observer": stand.observer(observe_seconds=5)}
    stand.publish(200)
    stand.warm_up()
    times: list[float] = []
    samples: dict[tuple[str, str], list[int]] = defaultdict(list)
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < size:
        times.append(passed)
        for name, process in processes.items():
            samples[name, "memory"].append(process.memory_bytes())
            samples[name, "descriptors"].append(process.descriptors())
            samples[name, "threads"].append(process.threads())
        time.sleep(SAMPLE_SECONDS)
    table = np.column_stack([times, *samples.values()])
    np.savetxt(
        stand.folder / "samples.csv", table, "%d", ",", header=",".join(["seconds", *map(" ".join, samples)])
    )
    for (name, what), found in samples.items():
        _flat(stand, name, what, np.array(times), np.array(found))
    stand.healed()


def _flat(stand: Stand, name: str, what: str, times: np.ndarray, found: np.ndarray) -> None:
    """Of the last two thirds: memory by a linear fit, what is counted by its maximum in the first and second half."""
    late = times >= times[-1] / 3
    times, found = times[late], found[late]
    if what == "memory":
        slope = np.polyfit(times / 3600, found / 1e6, 1)[0]
        stand.notes.append(f"{name} {found[-1] / 1e6:.0f} MB, {slope:+.1f} MB/h")
        grown = slope > GROWTH_MB_PER_HOUR and times[-1] > SHORTEST_SECONDS
    else:
        first, second = (int(half.max()) for half in np.array_split(found, 2))
        stand.notes.append(f"{what} {first} to {second}")
        grown = second > first
    if grown:
        stand.faults.append(f"{name}: {what} grows")
