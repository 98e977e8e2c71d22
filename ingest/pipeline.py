"""The way of a reading through the service. Start here.

    broker -> receive -> decode -> batch -> resolve, seal, write (one transaction) -> acknowledge

Two tasks and one place between them: while a thread writes one batch, the next one is decoded on
the loop. A message is acknowledged after the commit of the transaction that stores it, never before;
what is not acknowledged comes again, and the ledger knows it. Backpressure is the window of
unacknowledged messages and nothing else: a worker that can't write stops reading.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
import structlog

from ingest.batch import Batch
from ingest.decode import Decode
from ingest.metrics import Metrics
from ingest.mqtt.transport import Transport
from ingest.settings import Settings
from ingest.store import Outcome
from ingest.write import RefusedError, UnavailableError, Writer
from schemas.message import Message
from schemas.reading import Part
from schemas.rejection import Reason, Refusal

log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")

SLICE_MESSAGES = 500
SLICE_SECONDS = 0.002
"""Decoding gives the loop back this often, so that the socket, the scrape and the writer are served."""
QUIET_SECONDS = 0.005
"""Nothing for this long: the batch is written at once, a lone message or a full window waits no longer."""
IDLE_SECONDS = 5.0
"""Without a batch for this long the writer looks after its connection: changes show within 10 s."""
BACKOFF_SECONDS = (0.2, 10.0)


class Pipeline:
    """Receives, decodes, batches, writes and acknowledges until its transport stops receiving."""

    def __init__(
        self, settings: Settings, transport: Transport, decode: Decode, writer: Writer, metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.database_up = False
        self._batch_readings = settings.batch_readings
        self._batch_seconds = settings.batch_seconds
        self._transport = transport
        self._decode = decode
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "write")
        self._handed: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._writing: Batch | None = None
        self._filling = Batch()
        self._received_at = clock()

    async def open(self) -> None:
        """Connect to the database, waiting for it and for its migrations as long as it takes."""
        await self._when_available(self._writer.connect)

    async def run(self) -> None:
        """Until the transport stops receiving; then what was received is committed and acknowledged."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_batches(), name="write")
            tasks.create_task(self._fill_batches(), name="receive")

    def oldest_seconds(self) -> float:
        """Age of the oldest message that is received and not yet committed; 0 without any."""
        waiting = [b.messages[0].received_at for b in (self._writing, self._filling) if b and b.messages]
        return max(0.0, self._clock() - min(waiting)) if waiting else 0.0

    def quiet_seconds(self) -> float:
        """How long nothing has come, with nothing left to commit; 0 while there is."""
        return 0.0 if self._filling.messages or self._writing else self._clock() - self._received_at

    # receive, decode, batch

    async def _fill_batches(self) -> None:
        receiving = True
        while receiving:
            messages = await self._receive()
            receiving = messages is None or bool(messages)
            if messages:
                await self._take(messages)
            if self._is_due(quiet=not messages):
                await self._hand_over()
        await self._handed.put(None)

    async def _receive(self) -> list[Message] | None:
        """Messages; none once the transport has stopped; None when it was quiet and a batch waits."""
        try:
            async with asyncio.timeout(QUIET_SECONDS if self._filling.messages else None):
                return await self._transport.receive(SLICE_MESSAGES)
        except TimeoutError:
            return None

    async def _take(self, messages: list[Message]) -> None:
        """Decode messages into the batch, in slices; full batches are handed over on the way."""
        self._received_at = self._clock()
        routes, readings, begun = Counter[str](), 0, time.perf_counter()
        for message in messages:
            if self._is_full() or self._is_of_another_connection(message):
                self._metrics.receive(routes, readings)
                routes, readings = Counter(), 0
                await self._hand_over()
            way, parts = self._decode(message)
            readings += self._filling.add(message, way.place, parts)
            routes[way.route] += 1
            if time.perf_counter() - begun > SLICE_SECONDS:
                self._metrics.receive(routes, readings)
                routes, readings = Counter(), 0
                await asyncio.sleep(0)
                begun = time.perf_counter()
        self._metrics.receive(routes, readings)

    def _is_full(self) -> bool:
        return (
            self._filling.readings >= self._batch_readings
            or len(self._filling.messages) >= self._batch_readings
        )

    def _is_of_another_connection(self, message: Message) -> bool:
        """Packet ids are unique on one connection only."""
        return bool(self._filling.messages) and self._filling.messages[-1].connection != message.connection

    def _is_due(self, *, quiet: bool) -> bool:
        if not self._filling.messages:
            return False
        old = self._clock() - self._filling.messages[0].received_at >= self._batch_seconds
        return self._is_full() or (self._idle.is_set() and (quiet or old))

    async def _hand_over(self) -> None:
        """Give the batch to the writer, waiting for it: one batch is written while one is filled, no more."""
        if self._filling.messages:
            await self._idle.wait()
            self._idle.clear()
            self._handed.put_nowait(self._filling)
            self._filling = Batch()

    # write, acknowledge

    async def _write_batches(self) -> None:
        while batch := await self._next_batch():
            self._writing = batch
            await self._land(batch)
            self._writing = None
            self._idle.set()
        await self._in_thread(self._writer.close)

    async def _next_batch(self) -> Batch | None:
        """The batch that is handed over next; the database is looked after while there is none."""
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    return await self._handed.get()
            except TimeoutError:
                await self._when_available(self._writer.idle)

    async def _land(self, batch: Batch, *, last_resort: bool = False) -> None:
        """Store a batch, by halves where the database refuses it: a message that it refuses alone is rejected."""
        begun = time.perf_counter()
        try:
            outcome = await self._write(batch, refusable=not last_resort)
        except RefusedError as error:
            if len(batch.messages) == 1:
                await self._land(_as_rejection(batch, error), last_resort=True)
            else:
                for half in batch.halves():
                    await self._land(half)
        else:
            self._settle(batch, outcome, time.perf_counter() - begun)

    async def _write(self, batch: Batch, *, refusable: bool) -> Outcome:
        try:
            return await self._when_available(self._writer.write, batch)
        except RefusedError as error:
            if refusable:
                raise
            raise RuntimeError(f"a rejection itself is refused: {error}") from error

    async def _when_available(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function answers, tried with backoff while the database is away."""
        ceiling = BACKOFF_SECONDS[0]
        while True:
            try:
                result = await self._in_thread(function, *args, **kwargs)
            except UnavailableError as error:
                self.database_up = False
                log.warning("database_unavailable", reason=str(error), retry_within_seconds=ceiling)
            else:
                self.database_up = True
                return result
            await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311  spreads workers out
            ceiling = min(2 * ceiling, BACKOFF_SECONDS[1])

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _settle(self, batch: Batch, outcome: Outcome, seconds: float) -> None:
        """The batch is committed: acknowledge it, and close its books in the same step."""
        self._transport.acknowledge(batch.messages)
        self._metrics.commit(outcome, len(batch.messages), batch.readings)
        received_at = np.fromiter((m.received_at for m in batch.messages), np.float64, len(batch.messages))
        self._metrics.time(outcome, received_at, self._clock(), seconds)


def _as_rejection(batch: Batch, error: RefusedError) -> Batch:
    """A message that the database refuses, with every reading of it refused, under the identity it had."""
    refusal = Refusal(None, Reason.MALFORMED_PAYLOAD, f"the database refuses it ({error})")
    refused = [replace(refusal, index=i) for i in range(batch.readings)] or [refusal]
    rejection = Batch()
    rejection.add(batch.messages[0], batch.places[0], [Part(refusals=refused, absolute=False)])
    return rejection
