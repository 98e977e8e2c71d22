"""Half an hour under steady load: nothing of a worker or of the observer grows.

How fast memory grows is the slope of a line through the means of the last four times five minutes; before them
allocators and caches settle. The slope's error is told with it: what may hide in that is not excluded, and is judged
as if it were there.
"""

import time
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.faults.case import case
from tests.faults.cases.observer import register
from tests.faults.stand import Stand

SAMPLE_SECONDS = 2
SCRAPE_SAMPLES = 5
STILL_SECONDS = 30
"""Between two samples: nothing ran then, and what came after it in a rush is no steady load."""
PIECES = 4
"""Of the last two thirds. At full size each is as long as the longest rhythm, the 300 s between the observer's
snapshots: means over it know nothing of what comes and goes with it."""
STUDENT = 4.303
"""Of Student's t with `PIECES - 2` degrees of freedom, two-sided, 95 %."""
GROWTH_MB_PER_HOUR = 15
"""One MiB that an allocator takes in the midst of 20 minutes, and keeps, is 5 ± 8 MB/h: less can't be told."""
SHORTEST_SECONDS = 600
"""Below it the allocator still settles, and a slope says nothing."""

Numbers = npt.NDArray[np.float64]


@case(1_900, size=1_800)
def soak(stand: Stand, size: int) -> None:
    """Nothing breaks for so many seconds: memory, descriptors and threads of worker and observer stay flat."""
    register(stand)
    processes = {"worker": stand.worker(), "observer": stand.observer(observe_seconds=1)}
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
        if len(times) % SCRAPE_SAMPLES == 0:
            processes["worker"].get("metrics")
            for path in ("metrics", "", "coverage.json"):
                processes["observer"].get(path)
        time.sleep(SAMPLE_SECONDS)
    table = np.column_stack([times, *samples.values()])
    np.savetxt(
        stand.folder / "samples.csv", table, "%d", ",", header=",".join(["seconds", *map(" ".join, samples)])
    )
    if (still := np.diff(times).max(initial=0)) > STILL_SECONDS:
        stand.notes.append(f"the machine stood still for {still:.0f} s")
    for (name, what), found in samples.items():
        _judge(stand, name, what, np.array(times), np.array(found, float))
    stand.healed()


def _judge(stand: Stand, name: str, what: str, times: Numbers, found: Numbers) -> None:
    """Of the last two thirds: memory by its trend, what is counted by its least in the first and second half.

    The least: a thread that counts for a moment, or a scrape's socket, is no leak, whichever half it was seen in.
    """
    late = times >= times[-1] / 3
    if what == "memory":
        trend = trend_of(times[late] / 3600, found[late] / 1e6)
        stand.notes.append(f"{name} {found[-1] / 1e6:.0f} MB, {trend}")
        grown = trend.highest > GROWTH_MB_PER_HOUR and times[-1] > SHORTEST_SECONDS
    else:
        first, second = (int(half.min()) for half in np.array_split(found[late], 2))
        stand.notes.append(f"{what} {first} to {second}")
        grown = second > first
    if grown:
        stand.faults.append(f"{name}: {what} grows, or may")


class Trend(NamedTuple):
    """How fast memory grows, and half of the 95 % interval of that; MB/h."""

    slope: float
    error: float

    @property
    def highest(self) -> float:
        """What it may be."""
        return self.slope + self.error

    def __str__(self) -> str:
        return f"{self.slope:+.1f} ± {self.error:.1f} MB/h"


def trend_of(hours: Numbers, values: Numbers) -> Trend:
    """A line by least squares through the means of `PIECES` pieces: single samples are too like their neighbours."""
    x, y = ([piece.mean() for piece in np.array_split(column, PIECES)] for column in (hours, values))
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return Trend(float(slope), float(STUDENT * np.sqrt(covariance[0, 0])))
