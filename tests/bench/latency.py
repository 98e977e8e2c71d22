"""`python -m tests.bench.latency`: from a publisher's sending to the commit, at shares of the most that there is.

Everything is a real process. A message counts from when it was due, so that what holds its publisher up is part of
the wait, to the commit timestamp that the server has for its row in the ledger. First the most: messages published as
fast as the broker takes them, committed at the same time. Then shares of that at a steady pace, each with the setting
that bounds a batch's age, and lone messages while nothing else comes. Made beforehand: packs of 100 by 100 gateways.
"""

import argparse
import contextlib
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psycopg

from tests.bench.backlog import connected, key, packet
from tests.bench.publish import packs, publish, readings
from tests.bench.stand import COMPILED_SECONDS, Held, Stand, stand, wait_accounted

TERMINALS, PACK = 100_000, 100
STEADY_PER_SECOND = 2_000
"""Messages of one reading: a batch would fill in 10 s, and it is never quiet; its age is what ends it."""
TICK_SECONDS = 0.001
"""A publisher that slept for each message would be the limit."""
LONE, LONE_SECONDS = 20, 0.5
"""Messages to a quiet system, and the time between them."""
LONE_LIMIT_SECONDS = 0.3
SHARES = (0.1, 0.5, 0.8)
COMMITTED = """
SELECT key, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM ledger WHERE key = ANY(%s)
"""

Messages = list[tuple[str, bytes]]


class Waits(NamedTuple):
    """Seconds from due to committed, of all messages of one run."""

    p50: float
    p99: float
    longest: float


class Bench:
    """A worker with every terminal known, and messages that nobody has sent yet."""

    def __init__(self, place: Stand, worker: Held) -> None:
        self._place, self._worker = place, worker
        self._committed = 0
        self._seed_seconds = 0

    def meet(self) -> None:
        """Let the worker meet every terminal, and compile."""
        self.fresh_and_published(TERMINALS // PACK)
        time.sleep(COMPILED_SECONDS)

    def fresh(self, count: int, pack: int = PACK) -> Messages:
        """Messages like no others before: times of a minute of their own."""
        self._seed_seconds += 60
        return list(packs(pack, readings(count * pack, TERMINALS, time.time() - self._seed_seconds)))

    def fresh_and_published(self, count: int) -> float:
        """Messages a second, from the first that is sent to the last that is committed."""
        messages = self.fresh(count)
        begun = time.perf_counter()
        publish("127.0.0.1", self._place.port, messages)
        self._wait(messages)
        return len(messages) / (time.perf_counter() - begun)

    def paced(self, per_second: float, count: int, pack: int = PACK) -> Waits:
        """So many messages a second, from a process that does nothing else."""
        messages = self.fresh(count, pack)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            first = pool.submit(_pace, self._place.port, messages, per_second).result()
        self._wait(messages)
        due = first + np.arange(len(messages)) / per_second
        return self._waits(messages, due)

    def lone(self) -> Waits:
        """One message after the other, with nothing else to do between them."""
        return self.paced(1 / LONE_SECONDS, LONE)

    def _wait(self, messages: Messages) -> None:
        self._committed += sum(payload.count(b'"n"') for _, payload in messages)
        wait_accounted([self._worker], self._committed)

    def _waits(self, messages: Messages, due: np.ndarray) -> Waits:
        keys = [key(*message) for message in messages]
        with psycopg.connect(self._place.url) as conn:
            committed = dict(conn.execute(COMMITTED, [keys]).fetchall())
        waits = np.array([committed[which] for which in keys]) - due
        return Waits(*(float(np.percentile(waits, p)) for p in (50, 99, 100)))


def _pace(port: int, messages: Messages, per_second: float) -> float:
    """Send each when it is due, without waiting for acknowledgements; answers when the first was, in Unix seconds."""
    packets = [packet(topic, payload, number) for number, (topic, payload) in enumerate(messages)]
    sock = connected(port, "bench-pace")
    sent, begun = 0, time.time() + TICK_SECONDS
    while sent < len(packets):
        due = max(0, int((time.time() - begun) * per_second + 1))
        for data in packets[sent:due]:
            sock.sendall(data)
        sent = min(max(sent, due), len(packets))
        with contextlib.suppress(BlockingIOError):  # acknowledgements, as far as they are here
            sock.recv(1 << 20, socket.MSG_DONTWAIT)
        time.sleep(TICK_SECONDS)
    sock.settimeout(1)
    with contextlib.suppress(TimeoutError):  # the rest of them: a socket closed with data unread breaks off
        while sock.recv(1 << 20):
            pass
    return begun


def run(batch_seconds: float, shares: Sequence[float], most: float, seconds: float) -> float:
    """Print a line a share, and one of lone messages; answers the most, which is found first where it is not known."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = stack.enter_context(stand(folder, timestamps=True))
        worker = stack.enter_context(
            Held(folder / "worker.log", **place.settings, batch_seconds=batch_seconds)
        )
        worker.wait_ready()
        bench = Bench(place, worker)
        bench.meet()
        if not most:
            most = bench.fresh_and_published(int(seconds * 3_000))
            print(
                f"{place.versions}\nthe most, published at the same time: {most:,.0f} messages/s of {PACK} readings\n"
            )
            print(
                "| GANZHI_BATCH_SECONDS | messages/s | p50, s | p99, s | longest, s |\n|---|---|---|---|---|"
            )
        for share in shares:
            waits = bench.paced(most * share, int(most * share * seconds))
            _say(batch_seconds, f"{most * share:,.0f} ({share:.0%})", waits)
        steady = bench.paced(STEADY_PER_SECOND, int(STEADY_PER_SECOND * seconds), 1)
        _say(batch_seconds, f"{STEADY_PER_SECOND:,} of one reading", steady)
        lone = bench.lone()
        _say(batch_seconds, f"one in {LONE_SECONDS} s", lone)
        print(
            f"lone messages within {LONE_LIMIT_SECONDS} s: {'yes' if lone.longest < LONE_LIMIT_SECONDS else 'no'}"
        )
    return most


def _say(batch_seconds: float, rate: str, waits: Waits) -> None:
    print(
        f"| {batch_seconds} | {rate} | {waits.p50:.3f} | {waits.p99:.3f} | {waits.longest:.3f} |", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="of each pace")
    parser.add_argument("--batch-seconds", type=float, nargs="+", default=[0.2, 0.05, 1.0],
                        help="GANZHI_BATCH_SECONDS: the first with all shares, others with the lowest")  # fmt: skip
    options = parser.parse_args()
    most = 0.0
    for batch_seconds in options.batch_seconds:
        most = run(batch_seconds, SHARES if not most else SHARES[:1], most, options.seconds)


if __name__ == "__main__":
    main()
