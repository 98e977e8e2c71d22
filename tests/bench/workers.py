"""`python -m tests.bench.workers`: what several workers reach together, dealt to by a share group or apart by topics.

Everything is a real process. Every worker has met every terminal before (in a division of its own), then all are held,
the broker is filled, and the clock runs when they go on. A worker's share is of what is committed when half of all
is: one that starves has less then. Each reading is to be in the table once. Then the memory of one worker as the
terminals that it knows become more.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count as numbers
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.bench.publish import GATEWAYS, packs, publish, readings
from tests.bench.stand import (
    COMPILED_SECONDS,
    Held,
    Stand,
    accounted,
    machine,
    server_here,
    stand,
    until,
    wait_accounted,
)
from tests.worker import Metrics

DIVISIONS = (370102, 370103, 370104, 370105)
"""Of one city, so that a gateway may stand in any of them."""
OWN = (370112, 370113, 370114, 370115)
"""What only one worker of a share group hears, where it meets the terminals."""
PACK = 100
AT_ONCE = 500_000
"""Readings whose messages are made at once: a message is 9 kB."""
GATEWAY_TERMINALS = 10_000_000
"""So many unknown terminals may a gateway bring: all come at once here."""
ROUND_SECONDS = 60
"""`readings` spreads its times over so much: no two fills are to be alike."""
FILLS = numbers(2)
REGISTERED = """
INSERT INTO terminal (id, code, scheme, division, gateway, state)
SELECT n + 1, 'imei:8688' || lpad(n::text, 11, '0'), 'imei', 370112, 'gw' || n %% %(gateways)s, 'installed'
FROM generate_series(0, %(count)s - 1) AS n
"""


class Result(NamedTuple):
    """Of one case; shares and memory by worker."""

    readings_a_second: float
    cpu_us: float
    duplicates: int
    shares: list[float]
    memory_mb: list[float]


def settings(how: str, workers: int, number: int) -> dict[str, object]:
    """Of worker `number`: a member of a share group, or with divisions of its own."""
    if how == "shared":
        mine, group = [*DIVISIONS, OWN[number]], {"share_group": "bench"}
    else:
        mine, group = list(DIVISIONS[number::workers]), {}
    topics = ",".join(f"ganzhi/v1/{division}/+/telemetry" for division in mine)
    return {"client_id": f"bench-{number}", "topics": topics,
            "registrations_per_gateway_hour": GATEWAY_TERMINALS} | group  # fmt: skip


def case(how: str, workers: int, terminals: int, count: int) -> Result:
    """So many workers on so many readings, `count` in all; a broker of their own, as sessions would stay in it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = stack.enter_context(stand(folder))
        team = [
            stack.enter_context(Held(folder / f"{n}.log", **place.settings, **settings(how, workers, n)))
            for n in range(workers)
        ]
        for worker in team:
            worker.wait_ready()
        met = 0
        for divisions in [(OWN[n],) for n in range(workers)] if how == "shared" else [DIVISIONS]:
            fill(place.port, terminals, terminals, divisions)
            met += terminals
            wait_accounted(team, met)
        time.sleep(COMPILED_SECONDS)
        result = drained(place, team, terminals, count, met)
        for worker in team:
            assert worker.terminate() == 0
    return result


def drained(place: Stand, team: Sequence[Held], terminals: int, count: int, met: int) -> Result:
    """Fill the broker while all are held, and let them go; `met` readings were committed before."""
    begin = [accounted(worker.metrics()) for worker in team]
    for worker in team:
        worker.hold()
    fill(place.port, count, terminals, DIVISIONS)
    cpu, begun = [worker.cpu_seconds() for worker in team], time.perf_counter()
    for worker in team:
        worker.go()
    half: list[float] = []

    def done(scrapes: list[Metrics]) -> bool:
        mine = [accounted(m) - b for m, b in zip(scrapes, begin, strict=True)]
        if not half and sum(mine) >= count / 2:
            half.extend(n / sum(mine) for n in mine)
        return sum(mine) >= count

    until(team, done)
    seconds = time.perf_counter() - begun
    used = sum(worker.cpu_seconds() - before for worker, before in zip(team, cpu, strict=True))
    duplicates = int(sum(worker.metrics()("readings_duplicate_total") for worker in team))
    with psycopg.connect(place.url) as conn:
        stored = conn.execute("SELECT count(*) FROM reading").fetchone()
    assert stored == (met + count,), f"{stored} stored of {met + count}"
    return Result(
        count / seconds, used / count * 1e6, duplicates, half, [w.memory_bytes() / 1e6 for w in team]
    )


def fill(
    port: int, count: int, terminals: int, divisions: Sequence[int],
    published: Callable[[int], object] = lambda _: None,
) -> None:  # fmt: skip
    """So many readings, every terminal once a round, from gateways that stand in these divisions.

    `published` is told how many each time that the broker has `AT_ONCE` more.
    """
    columns = readings(count, terminals, time.time() - ROUND_SECONDS * next(FILLS))
    for begin in range(0, count, AT_ONCE):
        piece = tuple(column[begin : begin + AT_ONCE] for column in columns)
        publish("127.0.0.1", port, list(packs(PACK, piece, divisions)))
        published(begin + len(piece[0]))


def memory(known: Sequence[int]) -> None:
    """What one worker has in memory when it has met so many terminals of the registry, one reading each.

    Half a million at a time: what waits in its window is memory too, and stays with it.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = stack.enter_context(stand(folder))
        with psycopg.connect(place.url) as conn:
            conn.execute(REGISTERED, {"count": max(known), "gateways": GATEWAYS})
        worker = stack.enter_context(
            Held(folder / "memory.log", **place.settings, **settings("shared", 1, 0))
        )
        worker.wait_ready()
        print(f"| 0 | {worker.memory_bytes() / 1e6:,.0f} MB |", flush=True)
        met = 0
        for terminals in known:
            fill(place.port, terminals, terminals, (OWN[0],), lambda n: wait_accounted([worker], met + n))  # noqa: B023
            met += terminals
            print(f"| {terminals:,} | {worker.memory_bytes() / 1e6:,.0f} MB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--terminals", type=int, default=100_000)
    parser.add_argument("--readings", type=int, default=4_000_000)
    parser.add_argument("--known", type=int, nargs="*", default=[1_000_000, 5_000_000])
    options = parser.parse_args()
    with server_here() as server:
        print(machine(server.version))
    print(
        "| how | workers | readings/s | CPU us/reading | duplicates | share of each at half | memory of each, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for how in ("shared", "by topic"):
        for workers in options.workers:
            got = case(how, workers, options.terminals, options.readings)
            shares = ", ".join(f"{share:.2f}" for share in got.shares)
            sizes = ", ".join(f"{size:.0f}" for size in got.memory_mb)
            print(f"| {how} | {workers} | {got.readings_a_second:,.0f} | {got.cpu_us:.2f} | {got.duplicates} | "
                  f"{shares} | {sizes} |", flush=True)  # fmt: skip
    if options.known:
        print("\n| terminals known | memory of the worker |\n|---|---|")
        memory(options.known)


if __name__ == "__main__":
    main()
