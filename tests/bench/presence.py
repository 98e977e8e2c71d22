"""300 million terminals in the observer's columns: memory, one pass, one batch of arrivals, exactness.

    python -m tests.bench.presence [--terminals 300000000] [--cells 2432] [--gateways 200000]

The registry is synthetic and in the columns alone: intervals from 10 s to a day, 2 % discovered, some planned,
retired, never heard, silent or said to be offline; cells and gateways are scattered, which is the worst order.
The count is compared with plain masks over every terminal.
"""

import argparse
import os
import platform
import resource
import statistics
import time

import numpy as np

from devices.presence import THREADS, Facts, Fleet
from devices.states import EPOCH_SECONDS, NO_DAY, STATES, Kind, Life

NOW = EPOCH_SECONDS + 200_000_000
INTERVALS = (10, 60, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)
CAMERAS = [
    Kind(300, nbiot=False, video=True, smart=smart, key_area=key)
    for smart in (True, False, None)
    for key in (True, False, None)
]
KINDS = [Kind(r, nbiot, video=False, smart=None, key_area=None) for r in INTERVALS for nbiot in (False, True)]
FILL = 1 << 22
"""Rows made at once."""


def parts(size):
    """All rows, so many at once."""
    for start in range(0, size, FILL):
        yield slice(start, min(start + FILL, size))


def synthetic(terminals, cells, gateways, rng):
    """A fleet of so many terminals."""
    fleet = Fleet(terminals)
    for kind in KINDS + CAMERAS:
        fleet.kind_of(kind)
    today = (NOW + 8 * 3_600 - EPOCH_SECONDS) // 86_400
    for rows in parts(terminals):
        fleet.put(
            registry_rows(np.arange(rows.start, rows.stop, dtype=np.uint32), cells, gateways, today, rng)
        )
        fleet.heard[rows] = arrivals(fleet, rows, rng)
    fleet.say_offline(rng.integers(0, terminals, max(1, terminals // 500), dtype=np.uint32), NOW - 700)
    fleet.refuse(rng.integers(0, terminals, max(1, terminals // 1_000), dtype=np.uint32))
    return fleet


def registry_rows(ids, cells, gateways, today, rng):
    """Facts of these ids: 2 % discovered, 1 % retired, 3 % without a day or before it, 5 % cameras."""
    n = len(ids)
    share = rng.random(n, np.float32)
    kind = rng.integers(0, len(KINDS), n, np.int16)
    camera = share > 0.95
    kind[camera] = len(KINDS) + rng.integers(0, len(CAMERAS), camera.sum(), np.int16)
    day = rng.integers(today - 1_500, today + 20, n, np.int16)
    day[share < 0.02] = NO_DAY
    life = np.full(n, Life.REGISTERED, np.uint8)
    life[(share > 0.02) & (share < 0.03)] = Life.RETIRED
    life[(share > 0.03) & (share < 0.05)] = Life.DISCOVERED
    cell = rng.integers(0, cells, n, np.int16)
    gateway = rng.integers(0, gateways, n, np.int32)
    return Facts(ids, cell, kind, life, day, gateway)


def arrivals(fleet, rows, rng):
    """When they were heard: 1 % never, 88 % within an interval, the others up to 40 days ago."""
    n = rows.stop - rows.start
    interval = np.array([kind.report_seconds for kind in fleet.kinds], np.float32)[fleet.kind[rows]]
    share = rng.random(n, np.float32)
    age = np.where(share < 0.88, interval * rng.random(n, np.float32), 0)
    late = (share >= 0.88) & (share < 0.96)
    age[late] = interval[late] * 5 * rng.random(late.sum(), np.float32) + 600
    gone = share >= 0.96
    age[gone] = 40 * 86_400 * rng.random(gone.sum(), np.float32)
    heard = (NOW - EPOCH_SECONDS - age.astype(np.int64)).astype(np.int32)
    heard[share > 0.99] = 0
    return heard


def plain_counts(fleet, cells, gateways):
    """States of every cell and figures of every gateway, by plain masks over every terminal."""
    states, sums = np.zeros((cells, 7), np.int64), np.zeros((4, cells), np.int64)
    behind = np.zeros((gateways, 3), np.int64)
    today = (NOW + 8 * 3_600 - EPOCH_SECONDS) // 86_400
    interval = np.array([kind.report_seconds for kind in fleet.kinds], np.float64)
    nbiot = np.array([kind.nbiot for kind in fleet.kinds])
    for rows in parts(fleet.size):
        r, narrow = interval[fleet.kind[rows]], nbiot[fleet.kind[rows]]
        ever = fleet.heard[rows] > 0
        silence = (NOW - EPOCH_SECONDS) - fleet.heard[rows].astype(np.float64)
        said = np.full(len(r), np.inf)
        noted = (fleet.offline.ids >= rows.start) & (fleet.offline.ids < rows.stop)
        said[fleet.offline.ids[noted] - rows.start] = NOW - EPOCH_SECONDS - fleet.offline.at[noted]
        said[said > silence] = np.inf
        life, age_days = fleet.life[rows], today - fleet.installed_day[rows].astype(np.int64)
        planned = (life == Life.REGISTERED) & (age_days < 0)
        installed = (life == Life.REGISTERED) & (age_days >= 0)
        live = installed & ever & (silence <= 1.5 * r + 600) & np.isinf(said)
        overdue = installed & ever & ~live & (np.minimum(silence, said) <= 3 * r + 1_800)
        lost = installed & ever & ~live & ~overdue
        masks = (
            planned,
            installed & ~ever,
            live,
            overdue,
            lost,
            life == Life.RETIRED,
            life == Life.DISCOVERED,
        )
        left_ago = np.maximum(silence - 1.5 * r - 600, np.where(np.isinf(said), -np.inf, said))
        left = (overdue | lost) & (left_ago <= np.maximum(900, r / 2))
        due = installed & (age_days > 7)
        today_heard = due & ever & (silence <= np.where(narrow, 49, 24) * 3_600)
        active = installed & ever & (silence <= np.maximum(30 * 86_400, 3 * r))
        for column, mask in enumerate(masks):
            states[:, column] += np.bincount(fleet.cell[rows][mask], minlength=cells)
        for row, mask in enumerate((active, due, today_heard, left)):
            sums[row] += np.bincount(fleet.cell[rows][mask], minlength=cells)
        for column, mask in enumerate((installed, live, left)):
            behind[:, column] += np.bincount(fleet.gateway[rows][mask], minlength=gateways)
    behind[0] = 0
    return {"states": states, "gateway": behind} | dict(
        zip(("active", "due", "heard_today", "left"), sums, strict=True)
    )


def median(times, function):
    """Median wall and processor seconds of so many calls."""
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def batch_milliseconds(fleet, rng):
    """Median milliseconds to apply 20,000 arrivals, ascending as a bitmap gives them."""
    batches = [np.unique(rng.integers(0, fleet.size, 20_100, np.uint32))[:20_000] for _ in range(21)]
    return 1e3 * median(len(batches), lambda: fleet.hear(batches.pop(), NOW))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--terminals", type=int, default=300_000_000)
    parser.add_argument("--cells", type=int, default=2_432)
    parser.add_argument("--gateways", type=int, default=200_000)
    asked = parser.parse_args()
    size = asked.cells, asked.gateways
    rng = np.random.default_rng(3)
    print(f"{asked.terminals:,} terminals, {size[0]:,} cells, {size[1]:,} gateways")
    print(f"{os.cpu_count()} cores {platform.machine()}, load {os.getloadavg()[0]:.1f}", end=", ")
    print(f"Python {platform.python_version()}, numpy {np.__version__}")
    fleet = synthetic(asked.terminals, *size, rng)
    columns = sum(getattr(fleet, name).nbytes for name in Facts._fields[1:]) + fleet.heard.nbytes
    sparse = fleet.offline.ids.nbytes + fleet.offline.at.nbytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    print(
        f"memory: columns {columns / 1e9:.2f} GB, notices {sparse / 1e9:.3f} GB, process at most {peak / 1e9:.2f} GB"
    )
    down = np.zeros(size[1], np.bool_)
    down[1:21] = True
    wall, cpu = median(3, lambda: fleet.count(NOW, down, *size))
    print(f"one pass on {THREADS} threads: {wall:.2f} s, {cpu:.2f} s of processor")
    print(f"20,000 heard: {batch_milliseconds(fleet, rng):.2f} ms, with {len(fleet.invalid):,} invalid ones")
    counts = fleet.count(NOW, down, *size)
    differences = {
        name: int((getattr(counts, name) != plain).sum())
        for name, plain in plain_counts(fleet, *size).items()
    }
    print(f"cells and gateways that differ from plain masks over every terminal: {differences}")
    print(
        "states: " + ", ".join(f"{n:,} {s}" for s, n in zip(STATES, counts.states.sum(axis=0), strict=True))
    )


if __name__ == "__main__":
    main()
