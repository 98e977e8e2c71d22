"""A week of a county: gaps that opened wrongly, and how soon a gateway that dies is one.

    python -m tests.bench.false_gaps [--days 7] [--seed 1]

Two gateways each of daily meters (a burst after midnight), hourly and ten-second reporters, in three cells; of all
reports 2 % are lost, each by itself. In the middle 40,000 terminals are imported behind a gateway of daily meters:
they should report every minute, half of them begin to in the days that follow, the others stay unheard. Two days
before the end, an hour after the burst, one gateway of each rhythm dies. A look comes every two minutes; the fleet,
the rules and what is stored of gaps are the observer's own.
"""

import argparse
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from devices.gap_gateways import gateway_down
from devices.gaps import RETURN_SECONDS, decide
from devices.gateways import judge
from devices.presence import Facts, Fleet
from devices.rhythm import intervals
from devices.states import EPOCH_SECONDS, Kind, Life

DAY_SECONDS, LOOK_SECONDS = 86_400, 120
START = int(datetime(2026, 11, 1, 16, tzinfo=UTC).timestamp())
"""Midnight in Shandong."""
TODAY = (START + 8 * 3_600 - EPOCH_SECONDS) // DAY_SECONDS
LOST_REPORTS = 0.02
CELLS = {0: (370000, "other"), 1: (370102, "municipal"), 2: (370102, "energy"), 3: (370102, "manufacturing")}
RHYTHMS = (
    ("daily", DAY_SECONDS, 1_800, 2_000),
    ("hourly", 3_600, 3_600, 1_000),
    ("ten seconds", 10, 10, 200),
)
"""Name, interval, the time in which all of a gateway report, terminals of a gateway."""
NEW, NEW_EVERY_SECONDS = 40_000, 60


class County:
    """Terminals that report, gateways by number, and the gaps that are stored."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.fleet, self.now = Fleet(), float(START)
        self.every = self.next = np.zeros(0)
        self.seen, self.dead, self.gaps = {}, [], {}
        for cell, (_, every, spread, count) in enumerate(RHYTHMS, 1):
            for number in (2 * cell - 1, 2 * cell):
                begin = START + self.rng.uniform(0, spread, count)
                self.fleet.hear(self.add(cell, number, every, begin, TODAY - 1_000), START - every)
                self.seen[number] = START - every

    def add(self, cell, gateway, every, begin, day):
        """Install terminals that report from `begin` on, inf for never; answers their ids."""
        ids = np.arange(len(self.every), len(self.every) + len(begin), dtype=np.uint32)
        kind = self.fleet.kind_of(Kind(every, nbiot=False, video=False, smart=None, key_area=None))
        values = (cell, kind, Life.REGISTERED, day, gateway)
        self.fleet.put(Facts(ids, *(np.full(len(ids), value) for value in values)))
        self.every = np.append(self.every, np.full(len(ids), every))
        self.next = np.append(self.next, begin)
        return ids

    def report(self):
        """What arrives until the next look."""
        self.now += LOOK_SECONDS
        due = self.next <= self.now
        times = np.zeros(len(due))
        times[due] = np.floor((self.now - self.next[due]) / self.every[due]) + 1
        self.next[due] += times[due] * self.every[due]
        arrives = due & (self.rng.random(len(due)) >= LOST_REPORTS**times)
        gateway = self.fleet.gateway[: len(due)]
        ids = np.flatnonzero(arrives & ~np.isin(gateway, self.dead)).astype(np.uint32)
        self.fleet.hear(ids, self.now)
        self.seen |= dict.fromkeys(np.unique(gateway[ids]).tolist(), self.now)

    def look(self):
        """One round; answers the gaps that opened, or opened again."""
        size = 2 * len(RHYTHMS) + 1
        reports = intervals(self.fleet, self.seen, size, self.now)
        gateways = [
            judge(n, f"gw{n}", 370100, seen, None, reports.get(n), self.now) for n, seen in self.seen.items()
        ]
        since = self.now - RETURN_SECONDS
        known = [
            gap for gap in self.gaps.values() if gap.closed_seconds is None or gap.closed_seconds >= since
        ]
        was_open = {gap.id for gap in known if gap.closed_seconds is None}
        down = gateway_down(gateways, known, [], self.now, size)
        counts = self.fleet.count(self.now, down, len(CELLS), size)
        decision = decide(counts, CELLS, [], gateways, known, [])
        new = [replace(gap, id=len(self.gaps) + i) for i, gap in enumerate(decision.opened, 1)]
        self.gaps |= {gap.id: gap for gap in (*new, *decision.updated, *decision.closed)}
        return [*new, *(gap for gap in decision.updated if gap.id not in was_open)]


def play(days, seed):
    """Gaps that opened wrongly, and by rhythm the seconds until the dead gateway was one."""
    county, wrong, delays = County(seed), [], {}
    imported, died = START + days * DAY_SECONDS / 2, START + (days - 2) * DAY_SECONDS + 3_600
    while county.now < START + days * DAY_SECONDS:
        county.report()
        if imported <= county.now < imported + LOOK_SECONDS:
            begin = county.now + county.rng.uniform(0, 2 * DAY_SECONDS, NEW)
            begin[NEW // 2 :] = np.inf
            county.add(1, 1, NEW_EVERY_SECONDS, begin, TODAY + int(days / 2))
        if not county.dead and county.now >= died:
            county.dead = [2, 3, 5]
        for gap in county.look():
            number = int(gap.gateway[2:]) if gap.gateway else 0
            if number in county.dead and number not in delays:
                delays[number] = county.now - died
            elif number not in county.dead:
                wrong.append(gap)
    return wrong, {RHYTHMS[(n - 1) // 2][0]: seconds for n, seconds in delays.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    started = time.perf_counter()
    wrong, delays = play(asked.days, asked.seed)
    print(f"{asked.days} days, {LOST_REPORTS:.0%} of reports lost, {NEW:,} terminals imported, seed {asked.seed}: "
          f"{len(wrong)} gaps opened wrongly")  # fmt: skip
    for gap in wrong:
        print(f"  {gap.kind} {gap.gateway or gap.domain}: expected {gap.expected}, live {gap.live}")
    for name, seconds in delays.items():
        print(f"a dead gateway of {name} reporters is a gap after {seconds / 3_600:.2f} h")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
