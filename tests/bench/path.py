"""The path of a worker in this process: everything but the broker's protocol, over a real database.

The pipeline, its writer's thread and the storage are the service's own; a feed hands it messages made beforehand, as
many at once as the window holds. What is measured is wall time and the processor time of this process, which is
the worker's alone: PostgreSQL is another process. Terminals are known beforehand, as after first contact.
"""

import asyncio
import gc
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np

from devices.registry import Registry, Terminal
from ingest.decode import Decode
from ingest.metrics import Metrics
from ingest.pipeline import Pipeline
from ingest.processor import stay_on_one
from ingest.service import keep_memory
from ingest.settings import Settings
from ingest.write import Writer
from schemas import scan
from schemas.message import Message
from schemas.routes import Routes
from tests.bench.publish import GATEWAYS

PACK = 100
MESSAGES = 4_000
"""Of a measurement: 400,000 readings in packs of 100, ten batches."""
WINDOW_MESSAGES = 65_535
"""What a broker has on its way at once, at most."""
DIVISION = 370102


class Cost(NamedTuple):
    """Readings a second, and microseconds of processor a reading."""

    rate: float
    cpu_us: float


class Feed:
    """A source that hands out what it is given, and knows when all of it is acknowledged."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._unacknowledged = self._taken = 0
        self._stopped = False

    async def receive(self, limit: int) -> list[Message]:
        """As many messages as there are, with the time of arrival that is now; none once stopped."""
        while not self._waiting and not self._stopped:
            self._more.clear()
            await self._more.wait()
        now, messages = time.time(), []
        while self._waiting and len(messages) < limit:
            topic, payload = self._waiting.popleft()
            messages.append(Message(topic, payload, now, packet_id=self._taken % WINDOW_MESSAGES + 1))
            self._taken += 1
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """As the pipeline does after a commit."""
        self._unacknowledged -= len(messages)
        if not self._unacknowledged:
            self._idle.set()

    async def all_of(self, messages: list[tuple[str, bytes]]) -> None:
        """Hand these out; until every one is acknowledged."""
        self._idle.clear()
        self._unacknowledged += len(messages)
        self._waiting.extend(messages)
        self._more.set()
        await self._idle.wait()

    def stop(self) -> None:
        """No more will come."""
        self._stopped = True
        self._more.set()


class Path:
    """A running pipeline, and what it costs."""

    def __init__(self, feed: Feed, metrics: Metrics, registry: Registry) -> None:
        self._feed, self.metrics, self.registry = feed, metrics, registry

    def know(self, terminals: int, metrics: Sequence[str] = ("temperature",)) -> None:
        """Let the worker have met every series of terminals 0 to `terminals`, in order of their names."""
        cell = self.registry.cells[DIVISION // 100 * 100, "other"]
        gateways = [self.registry.paths.number(f"gw{n}") for n in range(GATEWAYS)]
        for n in range(terminals):
            terminal = Terminal(n + 1, cell, gateways[n % GATEWAYS])
            for name in metrics:
                metric = self.registry.metrics[name]
                self.registry.add_series(
                    f"imei:8688{n:011d}/{name}", None, terminal, metric, 1.0, 0.0, usual=True
                )

    async def cost(self, messages: list[tuple[str, bytes]], readings: int) -> Cost:
        """From the first message to the last acknowledgement; `readings` is what the messages hold."""
        known = len(self.registry)
        gc.collect()
        gc.disable()  # as the service does while it runs
        begun, cpu = time.perf_counter(), time.process_time()
        await self._feed.all_of(messages)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        gc.enable()
        assert len(self.registry) == known, "terminals were to be known, or the registry was loaded anew"
        return Cost(readings / seconds, cpu / readings * 1e6)


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Path]:
    """A pipeline over a migrated database, with the settings as they are by default."""
    scan.prepare()
    keep_memory()
    settings, feed = Settings(database_url=url), Feed()
    routes = Routes.load(None)
    metrics = Metrics(route.name for route in routes)
    writer = Writer(settings, "bench-path", lambda _size: False, time.time)
    decode = Decode(routes, settings.max_payload_bytes, writer.registry)
    pipeline = Pipeline(settings, feed, decode, writer, metrics)
    await pipeline.open()
    staying = asyncio.create_task(stay_on_one(), name="processor")
    task = asyncio.create_task(pipeline.run(), name="pipeline")
    try:
        yield Path(feed, metrics, writer.registry)
    finally:
        staying.cancel()
        feed.stop()
        await task


def rounds(
    terminals: int, messages: int, seed: int, metrics: Sequence[str] = ("temperature",), pack: int = PACK
) -> list[tuple[str, bytes]]:
    """Packs of terminals of one gateway each, drawn at random from all, times of the last minute.

    A pack holds all metrics of a terminal together, as one that sends many does.
    """
    random, begin = np.random.default_rng(seed), time.time() - 60
    each = -(-pack // len(metrics))
    gateways = random.integers(0, min(GATEWAYS, terminals), messages).tolist()
    chosen = random.integers(0, max(1, terminals // GATEWAYS), (messages, each)).tolist()
    values = np.round(random.normal(20, 5, (messages, pack)), 2).tolist()
    times = np.round(begin + random.uniform(0, 60, (messages, pack)), 3).tolist()
    return [
        (f"ganzhi/v1/{DIVISION}/gw{gateway}/telemetry", _pack(gateway, *columns, metrics))
        for gateway, *columns in zip(gateways, chosen, values, times, strict=True)
    ]


def _pack(
    gateway: int, terminals: list[int], values: list[float], times: list[float], metrics: Sequence[str]
) -> bytes:
    names: Iterable[str] = (f"imei:8688{n * GATEWAYS + gateway:011d}/{m}" for n in terminals for m in metrics)
    records = [{"n": name, "u": "Cel", "v": value, "t": at}
               for name, value, at in zip(names, values, times, strict=False)]  # fmt: skip
    return json.dumps(records).encode()
