"""The writer's thread: lands one batch after the other, in order, however long that takes.

A thread, and one that waits for nobody: each hand-over to the event loop and back would cost a slice of
decoding (measured: 12 ms a batch of 20,000, of 34). What it has done it tells by callbacks.
"""

import asyncio
import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog

from ingest.batch import Batch
from ingest.births import Decoded
from ingest.outcome import Outcome
from ingest.sealed import Sealed
from ingest.write import RefusedError, UnavailableError, Writer
from schemas.reading import Part
from schemas.rejection import Reason, Refusal

log = structlog.get_logger()
T = TypeVar("T")
IDLE_SECONDS = 5.0
"""Without a batch for this long the writer looks after its connection: changes show within 10 s."""
BACKOFF_SECONDS = (0.2, 10.0)


async def in_daemon(function: Callable[[], None]) -> None:
    """Run in a thread that nobody has to wait for: libpq may wait for a silent server longer than we may."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(fault: BaseException | None) -> None:
        if done.done():
            return
        if fault is None or isinstance(fault, StoppedError):
            done.set_result(None)
        else:
            done.set_exception(fault)

    def run() -> None:
        fault = None
        try:
            function()
        except BaseException as error:  # noqa: BLE001  raised where it is awaited
            fault = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody awaits it
            loop.call_soon_threadsafe(tell, fault)

    threading.Thread(target=run, name="write", daemon=True).start()
    await done


class StoppedError(Exception):
    """The thread was told to stop while it waited for the database; what it has comes again."""


class Once:
    """Calls what it wraps the first time only: a batch that is written again is not sealed again."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call:
            call()


class WriterThread:
    """Batches in by `put`, until `end`.

    Called for each batch: `decoded` once all of it is, `sealed` when only the database is still to be waited
    for, `landed` when it is committed; and `settled` for each piece of it that is, first.
    """

    def __init__(
        self,
        writer: Writer,
        decoded: Callable[[Decoded], object],
        sealed: Callable[[], object],
        settled: Callable[[Batch, Outcome, float], object],
        landed: Callable[[], object],
    ) -> None:
        self.database_up = False
        self.writing_since: float | None = None
        """Since when, on the monotonic clock, a batch is being written."""
        self._trying_since: float | None = None
        self._writer = writer
        self._decoded = decoded
        self._sealed = sealed
        self._settled = settled
        self._landed = landed
        self._batches: queue.SimpleQueue[tuple[Batch, Sealed | None] | None] = queue.SimpleQueue()
        self._stop = threading.Event()

    def put(self, batch: Batch, ready: Sealed | None = None) -> None:
        """Hand over a batch, sealed where it is. From any thread."""
        self._batches.put((batch, ready))

    def end(self) -> None:
        """No batch comes any more. From any thread."""
        self._batches.put(None)

    def stop(self) -> None:
        """Give up waiting for the database. From any thread."""
        self._stop.set()

    def open(self) -> None:
        """Connect, waiting for the database and its migrations. Raises `StoppedError`."""
        self._when_available(self._writer.connect)

    def run(self) -> None:
        """Land batches until the end. Raises `StoppedError`."""
        try:
            while item := self._next():
                batch, ready = item
                self.writing_since = time.monotonic()
                decoded = self._when_available(partial(self._writer.decode, batch))
                self._decoded(decoded)
                self._land(decoded.batch, Once(self._sealed), ready)
                self.writing_since = None
                self._landed()
        finally:
            self._writer.close()

    def _next(self) -> tuple[Batch, Sealed | None] | None:
        """The next batch; the database is looked after while there is none."""
        while True:
            try:
                return self._batches.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._look()

    def _look(self) -> None:
        """See whether the database is there, once: an end that is called for must not wait for it."""
        try:
            self._tried(self._writer.idle)
        except UnavailableError as error:
            if self.database_up:
                log.warning("database_unavailable", reason=str(error))
            self.database_up = False
        else:
            self.database_up = True

    def _land(
        self,
        batch: Batch,
        sealed: Callable[[], object],
        ready: Sealed | None = None,
        *,
        last_resort: bool = False,
    ) -> None:
        """Store a batch, by halves where the database refuses it: a message that it refuses alone is rejected."""
        begun = time.perf_counter()
        try:
            outcome = self._when_available(lambda: self._writer.write(batch, sealed, ready))
        except RefusedError as error:
            if last_resort:
                raise RuntimeError(f"a rejection itself is refused: {error}") from error
            if len(batch.messages) == 1:
                self._land(_as_rejection(batch, error), sealed, last_resort=True)
            else:
                for half in batch.halves():
                    self._land(half, sealed)
        else:
            self._settled(batch, outcome, time.perf_counter() - begun)

    def break_off(self, after_seconds: float) -> None:
        """Break the connection under a call that lasts longer. From any thread."""
        since = self._trying_since
        if since is not None and time.monotonic() - since > after_seconds:
            self._trying_since = None
            log.warning(
                "database_silent", seconds=after_seconds, advice="is its process stopped, or its disk?"
            )
            self._writer.break_off()

    def _tried(self, action: Callable[[], T]) -> T:
        self._trying_since = time.monotonic()
        try:
            return action()
        finally:
            self._trying_since = None

    def _when_available(self, action: Callable[[], T]) -> T:
        """What the action answers, tried with backoff while the database is away."""
        ceiling = BACKOFF_SECONDS[0]
        while True:
            try:
                result = self._tried(action)
            except UnavailableError as error:
                self.database_up = False
                log.warning("database_unavailable", reason=str(error), retry_in_seconds=ceiling)
            else:
                self.database_up = True
                return result
            if self._stop.wait(random.uniform(ceiling / 2, ceiling)):  # noqa: S311  spreads workers out
                raise StoppedError
            ceiling = min(2 * ceiling, BACKOFF_SECONDS[1])


def _as_rejection(batch: Batch, error: RefusedError) -> Batch:
    """A message that the database refuses, with every reading of it refused; known if it comes again."""
    refusal = Refusal(None, Reason.UNSUPPORTED, f"the database refuses it ({error})")
    refused = []
    for part in batch.parts:
        refused += [refusal.at(i) for i in part.indexes]
        refused += [refusal.at(event.index, event=True) for event in part.events]
        refused += part.refusals
    absolute = any(part.absolute for part in batch.parts)
    rejection = Batch()
    rejection.add(
        batch.messages[0], batch.places[0], [Part(refusals=refused or [refusal], absolute=absolute)]
    )
    return rejection
