"""The way of a reading through the service. Start here.

    broker, HTTP push -> receive -> decode -> batch -> resolve, seal -> write (one transaction) -> acknowledge

The loop does all but one thing: a thread writes, and resolves what needs the database. One batch is being written,
one may wait, one is being filled. A message is acknowledged after the commit of the transaction that stores it, never
before; what is not acknowledged comes again, and the ledger knows it. Backpressure is the window of unacknowledged
messages and nothing else: a worker that can't write stops reading.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

import numpy as np

from ingest.batch import Batch
from ingest.births import Decoded
from ingest.decode import Decode
from ingest.metrics import Metrics
from ingest.outcome import Outcome
from ingest.sequence import Numbering
from ingest.settings import Settings
from ingest.sources import Source
from ingest.thread import WriterThread, in_daemon
from ingest.write import Writer
from schemas.message import Message

SLICE_MESSAGES = 500
SLICE_SECONDS = 0.002
"""Decoding gives the loop back this often, so that the socket, the scrape and the writer are served."""
BROKEN_OFF_SECONDS = 150
"""A transaction that lasts longer is not coming to an end: a statement is given 60 s, and most need 20 ms."""
SILENT_SECONDS = 15
"""A write takes 20 ms; one that takes this long waits for a database that is not there."""
ENOUGH = 0.5
"""Of a full batch, for a writer that has nothing to do: at half of what it can do a batch would else wait for its end
twice as long. Behind a busy one it fills: large batches are cheaper where they reach over many chunks."""
QUIET_SECONDS = 0.005
"""Nothing for this long: the batch is written at once, a lone message or a full window waits no longer."""
UNDECODED_READING_BYTES = 12
"""What a reading takes at least, about, in a message that the writer decodes: of Sparkplug an alias and a float
take 9 to 13 bytes, with a time 16 to 20."""


class Pipeline:
    """Receives, decodes, batches, writes and acknowledges until its source stops."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        decode: Decode,
        writer: Writer,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        command: Callable[[str, bytes], object] = lambda _topic, _payload: None,
    ) -> None:
        """`command` publishes a Sparkplug command or a gateway's refusals: topic and payload."""
        self._batch_readings = settings.batch_readings
        self._batch_messages = settings.batch_messages
        self._batch_seconds = settings.batch_seconds
        self._source = source
        self._decode = decode
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self._command = command
        self._numbering = None if settings.share_group else Numbering()
        self._room = asyncio.Semaphore(1)
        """One batch may wait for the writer. Room comes when the one before it waits for the database only."""
        loop = asyncio.get_running_loop()
        self._thread = WriterThread(
            writer,
            decoded=lambda decoded: loop.call_soon_threadsafe(partial(self._enter, decoded)),
            sealed=partial(loop.call_soon_threadsafe, self._room.release),
            settled=lambda *committed: loop.call_soon_threadsafe(partial(self._settle, *committed)),
            landed=partial(loop.call_soon_threadsafe, self._landed),
        )
        self._unsettled: deque[Batch] = deque()
        """Handed over and not yet committed, the oldest first."""
        self._filling = Batch()
        self._undecoded_bytes = 0
        """Payloads of the batch that the writer decodes."""
        self._received_at = time.monotonic()
        self.received = 0
        """Messages taken from the source."""

    @property
    def database_up(self) -> bool:
        """Whether the database took what it was last asked, and has not been silent since."""
        since = self._thread.writing_since
        silent = since is not None and time.monotonic() - since > SILENT_SECONDS
        return self._thread.database_up and not silent

    async def open(self) -> None:
        """Connect to the database, waiting for it and for its migrations as long as it takes."""
        await in_daemon(self._thread.open)

    def give_up(self) -> None:
        """Wait for the database no longer; what is not committed comes again."""
        self._thread.stop()

    async def run(self) -> None:
        """Until the source stops; then what was received is committed and acknowledged."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(in_daemon(self._thread.run), name="write")
            watching = tasks.create_task(self._watch(), name="watch")
            writing.add_done_callback(lambda _: watching.cancel())
            tasks.create_task(self._fill_batches(), name="receive")

    async def _watch(self) -> None:
        """Let nothing wait for a server for ever that accepts and does not answer."""
        while True:
            await asyncio.sleep(SILENT_SECONDS)
            self._thread.break_off(BROKEN_OFF_SECONDS)

    def oldest_seconds(self) -> float:
        """Age of the oldest message that is here and not yet committed; 0 without any.

        All are looked at, 3 ms for three batches: senders take turns, so the first of a batch may be its newest.
        """
        batches = (*self._unsettled, self._filling)
        arrivals = [message.received_at for batch in batches for message in batch.messages]
        if (since := self._source.waiting_since()) is not None:
            arrivals.append(since)
        return max(0.0, self._clock() - min(arrivals)) if arrivals else 0.0

    def quiet_seconds(self) -> float:
        """How long nothing has come, with nothing left to commit; 0 while there is."""
        return 0.0 if self._filling.messages or self._unsettled else time.monotonic() - self._received_at

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
        await self._hand_over()
        self._thread.end()

    async def _receive(self) -> list[Message] | None:
        """Messages; none once the source has stopped; None when it was quiet and a batch waits."""
        try:
            async with asyncio.timeout(QUIET_SECONDS if self._filling.messages else None):
                return await self._source.receive(SLICE_MESSAGES)
        except TimeoutError:
            return None

    async def _take(self, messages: list[Message]) -> None:
        """Decode messages into the batch, in slices; full batches are handed over on the way."""
        self._received_at = time.monotonic()
        self.received += len(messages)
        routes, readings, begun = Counter[str](), 0, time.perf_counter()
        for message in messages:
            if self._full() >= 1 or self._is_of_another_connection(message):
                self._metrics.receive(routes, readings)
                routes, readings = Counter(), 0
                await self._hand_over()
            way, parts = self._decode(message)
            if message.sequence is not None:
                self._follow(message, way.place.gateway)
            readings += self._filling.add(message, way.place, parts)
            if not parts:
                self._undecoded_bytes += len(message.payload)
            routes[way.route] += 1
            if time.perf_counter() - begun > SLICE_SECONDS:
                self._metrics.receive(routes, readings)
                routes, readings = Counter(), 0
                await asyncio.sleep(0)
                begun = time.perf_counter()
        self._metrics.receive(routes, readings)

    def _follow(self, message: Message, gateway: str | None) -> None:
        """Count the holes in a gateway's numbering; a member of a share group sees none but holes."""
        assert message.sequence is not None
        if not gateway or not self._numbering or message.retain:
            return
        source = gateway if message.epoch is None else f"{gateway} {message.epoch}"
        behind = message.epoch is not None and self._numbering.behind(source, message.sequence)
        if message.duplicate or behind:
            self._numbering.again(source, message.sequence)
        else:
            missing = self._numbering.missing(source, message.sequence)
            self._metrics.sequence_gaps.labels("gateway").inc(missing)

    def _enter(self, decoded: Decoded) -> None:
        """Readings of Sparkplug enter the books once they are decoded; what is missing is counted and asked for."""
        self._metrics.receive({}, decoded.readings)
        self._metrics.sequence_gaps.labels("sparkplug").inc(decoded.missing)
        for topic, payload in decoded.commands:
            self._command(topic, payload)

    def _full(self) -> float:
        """How full the batch is, 1 where it takes no more."""
        size = self._filling.size + self._undecoded_bytes // UNDECODED_READING_BYTES
        return max(size / self._batch_readings, len(self._filling.messages) / self._batch_messages)

    def _is_of_another_connection(self, message: Message) -> bool:
        """Packet ids are unique on one connection only."""
        return bool(self._filling.messages) and self._filling.messages[-1].connection != message.connection

    def _is_due(self, *, quiet: bool) -> bool:
        if not self._filling.messages:
            return False
        age = self._clock() - self._filling.messages[0].received_at
        young = 0 <= age < self._batch_seconds  # older than nothing: the clock was set back
        full = self._full()
        return full >= 1 or (not self._unsettled and (quiet or not young or full >= ENOUGH))

    async def _hand_over(self) -> None:
        """Give the batch to the writer, once there is room: beyond that the broker keeps what comes."""
        if self._filling.messages:
            ready = self._writer.ready(self._filling)
            await self._room.acquire()
            self._unsettled.append(self._filling)
            self._thread.put(self._filling, ready)
            self._filling = Batch()
            self._undecoded_bytes = 0

    # acknowledge

    def _settle(self, batch: Batch, outcome: Outcome, seconds: float) -> None:
        """A batch, or a piece of one, is committed: acknowledge it, and close its books in the same step."""
        for number, refusal in outcome.refused.items():
            batch.messages[number].refusal = refusal
        self._source.acknowledge(batch.messages)
        for topic, payload in outcome.feedback:
            self._command(topic, payload)
        self._metrics.commit(outcome, len(batch.messages), batch.readings)
        received_at = np.fromiter((m.received_at for m in batch.messages), np.float64, len(batch.messages))
        self._metrics.time(outcome, received_at, self._clock(), seconds)

    def _landed(self) -> None:
        self._unsettled.popleft()
