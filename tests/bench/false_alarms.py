"""A month of terminals in one process: how often a living one counts as overdue, how soon a dead one does.

    python -m tests.bench.false_alarms [--days 30] [--terminals 200] [--seed 1]

Daily meters report within half an hour of their time of day, hourly ones within three minutes, ten-second ones
within a second; bursty machines state an hour, pause for a normal hour with a quarter of it as deviation, and
then send five reports two seconds apart. Of all reports 2 % are lost, each by itself. A fifth of the terminals
die at a random moment that leaves time to notice. The fleet is the observer's own, a cell for each terminal, so
that the counts of a pass say the state of everyone; a pass comes every minute, for hourly reporters every
two and for daily ones every ten.
"""

import argparse
import platform
import time
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from devices.presence import Facts, Fleet
from devices.states import STATES, Kind, Life

DAY_SECONDS = 86_400
START = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
LOST_REPORTS, DYING = 0.02, 0.2
LIVE, OVERDUE, LOST = (STATES.index(state) for state in ("live", "overdue", "lost"))
BURST, BURST_GAP_SECONDS = 5, 2


class Rhythm(NamedTuple):
    """How a kind of terminal reports, and how often it is looked at.

    `pause` is the deviation between bursts, as a share of the interval.
    """

    name: str
    every_seconds: int
    jitter_seconds: float
    pass_seconds: int
    pause: float = 0


RHYTHMS = (
    Rhythm("daily", DAY_SECONDS, 1_800, 600),
    Rhythm("hourly", 3_600, 180, 120),
    Rhythm("ten seconds", 10, 1, 60),
    Rhythm("bursty", 3_600, 0, 120, pause=0.25),
)


class Result(NamedTuple):
    """Of one rhythm: living terminals' months and what they were called by mistake; the dead ones' delays."""

    name: str
    terminal_months: float
    false_overdue: int
    false_lost: int
    dead: int
    delays_seconds: np.ndarray

    def line(self) -> str:
        """For people."""
        hours = np.percentile(self.delays_seconds, (50, 95)) / 3_600
        return (
            f"{self.name}: false overdue {self.false_overdue / self.terminal_months:.3g}, "
            f"false lost {self.false_lost / self.terminal_months:.2g} per terminal-month "
            f"({self.terminal_months:.0f} months); {len(self.delays_seconds)} of {self.dead} dead ones noticed, "
            f"median {hours[0]:.2f} h, p95 {hours[1]:.2f} h"
        )


def reports(rhythm, terminals, days, rng):
    """Yield, day by day, the terminal and second of each report that arrives."""
    phase = rng.uniform(0, rhythm.every_seconds, terminals)
    if rhythm.pause:
        yield from _bursts(rhythm, phase, days, rng)
        return
    per_day = DAY_SECONDS // rhythm.every_seconds
    for day in range(days):
        regular = phase[:, None] + (day * per_day + np.arange(per_day)) * rhythm.every_seconds
        yield _arriving(regular + rng.uniform(-1, 1, regular.shape) * rhythm.jitter_seconds, rng)


def _bursts(rhythm, phase, days, rng):
    """Bursts of the whole time at once: there are few."""
    count = int(days * DAY_SECONDS / rhythm.every_seconds * 1.2) + 10
    pauses = rng.normal(rhythm.every_seconds, rhythm.pause * rhythm.every_seconds, (len(phase), count)).clip(
        60
    )
    at = phase[:, None] + np.cumsum(pauses, axis=1)
    at = (at[:, :, None] + np.arange(BURST) * BURST_GAP_SECONDS).reshape(len(phase), -1)
    yield _arriving(at, rng)


def _arriving(at, rng):
    """Terminal and second of what is not lost on the way."""
    arrives = rng.random(at.shape) >= LOST_REPORTS
    return np.broadcast_to(np.arange(len(at))[:, None], at.shape)[arrives], at[arrives]


def passes(parts, died, days, every_seconds):
    """Yield the time of each pass, and who was heard since the one before. Parts come a day at a time or at once.

    A report within the jitter of midnight may come with the next day's: what is ahead waits, what is late
    is heard at the next pass.
    """
    terminal, at = np.empty(0, np.int64), np.empty(0)
    steps_a_day = DAY_SECONDS // every_seconds
    for day in range(days):
        new = next(parts, None)
        if new is not None:
            alive = new[1] < died[new[0]]
            terminal, at = np.append(terminal, new[0][alive]), np.append(at, new[1][alive])
        due = np.maximum(np.ceil(at / every_seconds).astype(np.int64), day * steps_a_day + 1)
        order = np.argsort(due, kind="stable")
        terminal, at, due = terminal[order], at[order], due[order]
        steps = np.arange(day * steps_a_day + 1, (day + 1) * steps_a_day + 1)
        ends = np.searchsorted(due, steps, side="right")
        for step, first, last in zip(steps.tolist(), [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            yield step * every_seconds, np.unique(terminal[first:last]).astype(np.uint32)
        terminal, at = terminal[ends[-1] :], at[ends[-1] :]


def fleet_of(rhythm, terminals):
    """As many installed terminals, each in a cell of its own."""
    fleet = Fleet(terminals)
    kind = fleet.kind_of(Kind(rhythm.every_seconds, nbiot=False, video=False, smart=None, key_area=None))
    ids = np.arange(terminals, dtype=np.uint32)
    same = np.zeros(terminals, np.int16)
    life = np.full(terminals, Life.REGISTERED, np.uint8)
    fleet.put(Facts(ids, ids.astype(np.int16), same + np.int16(kind), life, same, same.astype(np.int32)))
    fleet.hear(ids, START)
    return fleet


def play(rhythm, terminals, days, seed):
    """One rhythm's `Result`. Deaths leave five intervals, at least an hour, in which to be noticed."""
    rng = np.random.default_rng(seed)
    fleet, end = fleet_of(rhythm, terminals), days * DAY_SECONDS
    died = np.full(terminals, np.inf)
    dying = int(terminals * DYING)
    died[:dying] = rng.uniform(0, end - max(3_600, 5 * rhythm.every_seconds), dying)
    noticed = np.full(terminals, np.inf)
    false = np.zeros(len(STATES), np.int64)
    before = np.full(terminals, LIVE)
    for now, heard in passes(reports(rhythm, terminals, days, rng), died, days, rhythm.pass_seconds):
        fleet.hear(heard, START + now)
        state = fleet.count(START + now, None, terminals, 1).states.argmax(axis=1)
        changed = state != before
        if changed.any():
            false += np.bincount(state[changed & (now < died)], minlength=len(STATES))
            before = state
        noticed[(now >= died) & (state != LIVE) & np.isinf(noticed)] = now
    delays = noticed[:dying] - died[:dying]
    months = np.minimum(died, end).sum() / (30 * DAY_SECONDS)
    found = delays[np.isfinite(delays)]
    return Result(rhythm.name, months, int(false[OVERDUE]), int(false[LOST]), dying, found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument(
        "--terminals", type=int, default=200, help="of each rhythm; a quarter of the ten-second ones"
    )
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print(f"{asked.days} days, {LOST_REPORTS:.0%} of reports lost, seed {asked.seed}; numpy {np.__version__}, "
          f"Python {platform.python_version()}, {platform.machine()}")  # fmt: skip
    started = time.perf_counter()
    for rhythm in RHYTHMS:
        terminals = asked.terminals if rhythm.every_seconds > 60 else asked.terminals // 4
        print(play(rhythm, terminals, asked.days, asked.seed).line(), flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
