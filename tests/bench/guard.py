"""`python -m tests.bench.guard [--record]`: whether a step of the hot path costs more than when it was last recorded.

Each step is timed beside a loop of numpy and msgspec in the same process, many times in turn, as processor time of the
thread. Compared with guard.json is what the cheapest tenth of both cost, one by the other, the median of several
processes: beside others on the machine medians moved by 20 % from run to run, these by 5. Ratios outlive a change
of machine roughly: there record anew, before the change that is to be judged. Without a database: the registry is
filled.
"""

import argparse
import gc
import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from devices.registry import Metric, Registry, Terminal
from ingest import copy
from ingest.batch import Batch
from ingest.decode import Decode
from ingest.seal import seal
from ingest.sealed import Sealed, Targets
from schemas import scan
from schemas.message import Message
from schemas.routes import Routes
from tests.bench.path import DIVISION, rounds
from tests.bench.publish import GATEWAYS

FILE = Path(__file__).with_name("guard.json")
MOVED = 0.10
STEPS = ("decode", "batch", "resolve", "seal", "encode")
WAYS = {"packs of 100": 100, "one reading": 1}
READINGS = 20_000
"""Of a batch: half of a full one in packs, nearly a full one of single readings."""
TERMINALS = 100_000
REPEATS, PROCESSES = 20, 5
CHEAPEST = 0.1
ENCODINGS = 10
"""Of the same rows: one takes 0.2 ms."""
CELL, METRIC = 1, 1
DAY_SECONDS = 86_400
_PAYLOAD = msgspec.json.encode([{"n": f"terminal{n}", "u": "Cel", "v": n / 7} for n in range(2_000)])
_NUMBERS = np.random.default_rng(1).normal(size=200_000)
_PLACES = np.random.default_rng(2).permutation(200_000)


def calibration() -> None:
    """Half of it msgspec making objects, half numpy gathering and comparing, 5 ms in all."""
    for _ in range(4):
        msgspec.json.decode(_PAYLOAD)
    for _ in range(4):
        gathered = _NUMBERS[_PLACES]
        np.flatnonzero((gathered > 0) & np.isfinite(gathered))


class Steps:
    """The steps of one batch, each on what the one before it made."""

    def __init__(self, pack: int) -> None:
        scan.prepare()
        self._registry = registry()
        self._decode = Decode(Routes.load(None), 1 << 20, self._registry)
        self._messages = [
            Message(topic, payload, time.time(), packet_id=number + 1)
            for number, (topic, payload) in enumerate(rounds(TERMINALS, READINGS // pack, 1, pack=pack))
        ]
        self.decode()
        self.batch()
        self.resolve()
        self.seal()
        assert len(self._sealed.rows) == READINGS, "every reading was to be known and good"

    def decode(self) -> None:
        """Topics and payloads to parts."""
        self._decoded = [self._decode(message) for message in self._messages]

    def batch(self) -> None:
        """Parts to columns, and their keys in the ledger."""
        self._batch = Batch()
        for message, (way, parts) in zip(self._messages, self._decoded, strict=True):
            self._batch.add(message, way.place, parts)

    def resolve(self) -> None:
        """Names to rows of the registry, all of them known."""
        columns = self._batch.columns
        rows = self._registry.find(columns.hashes(), columns.units(self._registry.unit_number), columns.name)
        self._targets = Targets(rows, {}, {}, {})

    def seal(self) -> None:
        """Checks, flags, and rows for COPY."""
        self._sealed: Sealed = seal(self._batch, self._targets, self._registry, 90 * DAY_SECONDS)

    def encode(self) -> None:
        """Rows to the bytes of a COPY, `ENCODINGS` times."""
        for _ in range(ENCODINGS):
            copy.copy_bytes(self._sealed.rows)

    def all(self) -> dict[str, Callable[[], None]]:
        """By name, in order."""
        return {name: getattr(self, name) for name in STEPS}


def registry() -> Registry:
    """One that knows every terminal and one metric."""
    known = Registry()
    known.cells = {(DIVISION // 100 * 100, "other"): CELL, (DIVISION, "other"): CELL}
    metric = Metric(METRIC, "temperature", "Cel", -100.0, 200.0, -40.0, 60.0)
    known.add_metric(metric)
    for n in range(TERMINALS):
        terminal = Terminal(n + 1, CELL, known.paths.number(f"gw{n % GATEWAYS}"))
        known.add_series(f"imei:8688{n:011d}/temperature", None, terminal, metric, 1.0, 0.0, usual=True)
    return known


def seconds(action: Callable[[], None]) -> float:
    """Processor time of this thread."""
    begun = time.thread_time()
    action()
    return time.thread_time() - begun


def ratios(repeats: int) -> dict[str, float]:
    """What each step costs for a batch, in calibrations: in packs of 100, and with one reading a message."""
    steps = {
        f"{name}, {what}": action for what, pack in WAYS.items() for name, action in Steps(pack).all().items()
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    calibrations = []
    gc.disable()
    for _ in range(repeats):
        for name, action in steps.items():
            calibrations.append(seconds(calibration))
            found[name].append(seconds(action))
        gc.collect()
    gc.enable()
    return {name: _cheap(costs) / _cheap(calibrations) for name, costs in found.items()}


def _cheap(costs: list[float]) -> float:
    return sorted(costs)[int(len(costs) * CHEAPEST)]


def of_processes(repeats: int, processes: int) -> dict[str, float]:
    """Medians of the ratios of so many processes, one after the other: memory lies otherwise in each."""
    os.environ["PYTHONHASHSEED"] = "1"  # where names meet in the registry's table is not to be what moved
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        runs = list(pool.map(ratios, [repeats] * processes))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def recorded() -> dict[str, float]:
    """The ratios that are compared with; none before the first record."""
    return json.loads(FILE.read_text())["ratios"] if FILE.exists() else {}


def moved(before: dict[str, float], found: dict[str, float]) -> list[str]:
    """A line for each step that costs a tenth more or less than recorded, or is not in both."""
    lines = [f"{name}: not recorded" for name in found if name not in before]
    lines += [f"{name}: no longer there" for name in before if name not in found]
    for name, ratio in found.items():
        change = ratio / before.get(name, ratio) - 1
        if abs(change) > MOVED:
            lines.append(f"{name}: {change:+.0%}, {before[name]:.3f} -> {ratio:.3f} calibrations")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="what is found becomes what is compared with")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    options = parser.parse_args()
    found = of_processes(options.repeats, options.processes)
    before = recorded()
    for name, ratio in found.items():
        print(f"{name}: {ratio:.3f} calibrations, recorded {before.get(name, math.nan):.3f}")
    changes = moved(before, found)
    print(f"moved by more than {MOVED:.0%}:", *changes or ["nothing"], sep="\n  ")
    if options.record:
        about = f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} processors"
        rounded = {name: round(ratio, 4) for name, ratio in found.items()}
        FILE.write_text(json.dumps({"made on": about, "ratios": rounded}, indent=2) + "\n")


if __name__ == "__main__":
    main()
