"""`python -m tests.bench.growth`: what a reading costs as everything around it grows.

The path of a worker in one process (`tests.bench.path`) over a database of its own, in packs of 100, along six curves:
terminals known, readings stored, metrics a terminal, late messages (of the last days, or of two months),
messages of garbage, messages whose every reading is refused. Each measurement stands beside one of the first point of
its curve, taken just before, and is the median of such ratios: that of readings a second and that of processor a
reading. Readings are what is offered: a message of garbage stands for the 100 that are not in it.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path as File

import numpy as np

from devices.store import Directory
from ingest import migrate
from ingest.connection import connect
from tests.bench import stand
from tests.bench.path import MESSAGES, PACK, Cost, Path, rounds, running
from tests.bench.report import Point, picture, table, with_section
from tests.bench.storage import Bench

TERMINALS = 100_000
"""Known, where something else grows."""
DAY_SECONDS = 86_400
GARBAGE = b'[{"n":"imei:868800000000000/temperature","u":"Cel","v":'
FULL = {
    "known": (10_000, 100_000, 1_000_000, 10_000_000),
    "stored": (1_000_000, 10_000_000, 50_000_000, 100_000_000, 200_000_000),
    "metrics": (1, 2, 5, 10, 20, 50),
    "share": (0.0, 0.05, 0.2, 0.5),
}
SMALL = {"known": (10_000, 100_000), "stored": (200_000, 1_000_000), "metrics": (1, 10), "share": (0.0, 0.5)}
CHANNELS = [f"channel_{n:02}" for n in range(max(FULL["metrics"]))]

DOCS = File(__file__).parents[2] / "docs"
SECTION = """## As things grow (`make bench-report`)

{date}, {about}.
One worker's path in one process, without the broker; packs of 100; {readings:,} readings a measurement, medians of
{repeats}, each beside a measurement of its curve's first point; readings are those offered.
Late: messages of a gateway that was away, one of a day of its own among the last 3 or 60, whose chunks are there.
Garbage: no JSON.
Refused: each of the 100 values is out of range, and each refusal is stored.

{table}

![Ratios to the first point of each curve](growth.svg)
"""

Messages = list[tuple[str, bytes]]
Measure = Callable[[], Awaitable[Cost]]


def aged(messages: Messages, share: float, days: float, seed: int) -> Messages:
    """So many of the messages more than a day old, each of a day of its own among so many."""
    random = np.random.default_rng(seed)

    def older(payload: bytes) -> bytes:
        back, records = DAY_SECONDS * (1 + random.uniform(0.01, days)), json.loads(payload)
        return json.dumps([record | {"t": round(record["t"] - back, 3)} for record in records]).encode()

    return _some(messages, share, older, random)


def spoilt(messages: Messages, share: float, seed: int) -> Messages:
    """So many of the messages cut, so that they are no JSON, and no two alike."""
    random = np.random.default_rng(seed)
    return _some(messages, share, lambda _: GARBAGE + str(random.random()).encode(), random)


def refused(messages: Messages, share: float, seed: int) -> Messages:
    """So many of the messages with values that no thermometer has: every reading is refused."""

    def hotter(payload: bytes) -> bytes:
        return json.dumps([record | {"v": record["v"] + 2e3} for record in json.loads(payload)]).encode()

    return _some(messages, share, hotter, np.random.default_rng(seed))


def _some(
    messages: Messages, share: float, change: Callable[[bytes], bytes], random: np.random.Generator
) -> Messages:
    chosen = random.random(len(messages)) < share
    return [(topic, change(payload) if some else payload)
            for (topic, payload), some in zip(messages, chosen, strict=True)]  # fmt: skip


async def measure_with(path: Path, messages: int, make: Callable[[int], Messages]) -> Cost:
    """The cost of messages that are made anew each time, so that none is a duplicate."""
    made = make(time.time_ns() % 2**32)
    return await path.cost(made, messages * PACK)


async def curve(name: str, points: Sequence[tuple[float, Measure]], repeats: int) -> list[Point]:
    """Each point beside the first."""
    return [await beside(points[0][1], name, at, measure, repeats) for at, measure in points]


async def beside(first: Measure, name: str, at: float, measure: Measure, repeats: int) -> Point:
    """One after the other, so many times: what else the machine does meets both alike."""
    pairs = [(await first(), await measure()) for _ in range(repeats)]
    cost = Cost(*(statistics.median(column) for column in zip(*(cost for _, cost in pairs), strict=True)))
    ratios = [statistics.median(cost[n] / base[n] for base, cost in pairs) for n in (0, 1)]
    point = Point(name, at, *cost, *((1.0, 1.0) if measure is first else ratios))
    print(
        f"{name}: {at:,g}: {cost.rate:,.0f}/s, {cost.cpu_us:.2f} us, {ratios[0]:.2f}, {ratios[1]:.2f}",
        flush=True,
    )
    return point


async def known(url: str, counts: Sequence[float], messages: int, repeats: int) -> list[Point]:
    """Against terminals known: a path for each count, all of them at once."""
    async with AsyncExitStack() as stack:
        points = []
        for count in map(int, counts):
            path = await stack.enter_async_context(running(url))
            path.know(count)
            points.append((count, partial(measure_with, path, messages, partial(rounds, count, messages))))
        return await curve("terminals known", points, repeats)


async def metrics(url: str, counts: Sequence[float], messages: int, repeats: int) -> list[Point]:
    """Against metrics a terminal, each known; a pack holds 100 readings whatever they are."""
    with connect(url) as conn:
        Directory(conn).register_metrics(dict.fromkeys(CHANNELS, "Cel"))
    async with AsyncExitStack() as stack:
        points = []
        for count in map(int, counts):
            path = await stack.enter_async_context(running(url))
            path.know(TERMINALS // 5, CHANNELS[:count])
            make = partial(rounds, TERMINALS // 5, messages, metrics=CHANNELS[:count])
            points.append((count, partial(measure_with, path, messages, make)))
        return await curve("metrics a terminal", points, repeats)


async def shares(url: str, counts: Sequence[float], messages: int, repeats: int) -> list[Point]:
    """Against the share of late, unreadable and refused messages."""
    changes: dict[str, Callable[[Messages, float, int], Messages]] = {
        "late, of 3 days": lambda m, share, seed: aged(m, share, 3, seed),
        "late, of 60 days": lambda m, share, seed: aged(m, share, 60, seed),
        "garbage": spoilt,
        "refused": refused,
    }
    found = []
    async with running(url) as path:
        path.know(TERMINALS)

        def make(change: Callable[[Messages, float, int], Messages], share: float, seed: int) -> Messages:
            return change(rounds(TERMINALS, messages, seed), share, seed)

        for name, change in changes.items():
            points = [(share, partial(measure_with, path, messages, partial(make, change, share)))
                      for share in counts]  # fmt: skip
            await points[-1][1]()  # makes the chunks of all days: 5 ms each, which is no cost of what is late
            found += await curve(name, points, repeats)
    return found


def stored(url: str, empty: str, counts: Sequence[float], messages: int, repeats: int) -> list[Point]:
    """Against readings stored, filled by COPY, each size beside a database that has next to none."""
    bench, found = Bench(url, int(max(counts))), []
    for count in map(int, (0, *counts)):
        bench.fill(count)
        bench.conn.execute("VACUUM ANALYZE reading")
        found.append(asyncio.run(_at_size(count, url if count else empty, empty, messages, repeats)))
    return found


async def _at_size(count: int, url: str, empty: str, messages: int, repeats: int) -> Point:
    async with running(url) as path, running(empty) as other:
        for one in (path, other):
            one.know(TERMINALS)
        make = partial(rounds, TERMINALS, messages)
        first, measure = (partial(measure_with, one, messages, make) for one in (other, path))
        return await beside(first, "readings stored", count, measure if count else first, repeats)


def run(scale: dict[str, tuple[float, ...]], messages: int, repeats: int) -> tuple[str, list[Point]]:
    """The machine, as a line, and all curves, each on a database of its own."""
    found = []
    with stand.server_here() as server:
        about = stand.machine(server.version)
        for measure, which in ((known, "known"), (metrics, "metrics"), (shares, "share")):
            with server.database() as url:
                with connect(url, patient=True) as conn:
                    migrate.migrate(conn)
                found += asyncio.run(measure(url, scale[which], messages, repeats))
        with server.database() as url, server.database() as empty:
            with connect(empty, patient=True) as conn:
                migrate.migrate(conn)
            found += stored(url, empty, scale["stored"], messages, repeats)
    return about, found


def write(about: str, points: list[Point], messages: int, repeats: int) -> None:
    """The section of docs/benchmarks.md, and the picture beside it."""
    text = SECTION.format(
        date=datetime.now(UTC).date(),
        about=about,
        readings=messages * PACK,
        repeats=repeats,
        table=table(points),
    )
    page = DOCS / "benchmarks.md"
    page.write_text(with_section(page.read_text(encoding="utf-8"), "growth", text), encoding="utf-8")
    (DOCS / "growth.svg").write_text(picture(points), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a minute's worth, to see that it works")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--messages", type=int, default=MESSAGES, help="of 100 readings, a measurement")
    parser.add_argument("--report", action="store_true", help="write docs/benchmarks.md and docs/growth.svg")
    options = parser.parse_args()
    about, points = run(SMALL if options.small else FULL, options.messages, options.repeats)
    print(about, table(points), sep="\n")
    if options.report:
        write(about, points, options.messages, options.repeats)


if __name__ == "__main__":
    main()
