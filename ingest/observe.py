"""`ganzhi observe`: looks again and again, serves what it saw, and hears what gateways say of themselves.

The database is one thread's: looks and statuses come to it one after the other, while the loop serves
`/metrics` and takes status messages, which are acknowledged once they are stored. A database that is away
is waited for; everything is read anew then, since another observer may have been at work meanwhile.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import psycopg
import structlog

from devices.observer import AnotherObserverError
from ingest import http
from ingest.connection import break_off, connect
from ingest.migrate import storage_of
from ingest.mqtt.codec import CodecTransport
from ingest.mqtt.paho import PahoTransport
from ingest.mqtt.transport import Transport
from ingest.observer_metrics import ObserverMetrics
from ingest.page import Page
from ingest.round import Rounds
from ingest.service import READY_SECONDS, first, listen, stop_signal
from ingest.settings import Settings
from ingest.terminal import CommandError
from schemas.message import Message
from schemas.payload import shown
from schemas.status import FILTER, BadStatusError, Status, read

T = TypeVar("T")
log = structlog.get_logger()
STATUSES = 1_000
"""Stored together."""
RETRY_SECONDS = 2.0
SILENT_SECONDS = 3_600
"""Loading 300 million terminals takes 20 minutes or so; what takes this long waits for a server that hangs."""
LEAVE_SECONDS = 10
"""What the database is given on SIGTERM; what it does not take by then is in table `heard` still."""
STALE_LOOKS = 3
"""Looks missed before it counts as not ready."""
PATIENCE_SECONDS = 300
"""For the night's recount, which holds looks up."""
APPLICATION = "ganzhi observe"


class There(Protocol):
    """Runs an action in the database's thread."""

    async def __call__(self, action: Callable[[], T]) -> T: ...


async def run(settings: Settings) -> None:
    """Observe until SIGTERM or SIGINT. Raises `CommandError` where another observer is at work, `SchemaError`."""
    subscription = _transport(settings)
    metrics = ObserverMetrics(settings, lambda: subscription.connected)
    ready = _ready_of(settings, metrics, subscription)
    application = http.application(metrics.registry, lambda: None, ready, settings.http_token_text)
    application.router.routes.extend(Page(settings, lambda: metrics.seen).routes())
    server = http.server(application, settings)
    listening = listen(settings.http_host, settings.observer_http_port, "GANZHI_OBSERVER_HTTP_PORT")
    stop = asyncio.create_task(stop_signal(), name="stop")
    serving = asyncio.create_task(server.serve([listening]), name="http")
    log.info("observer_started", http_port=settings.observer_http_port)
    try:
        async with subscription as transport:
            statuses = Statuses(transport)
            while not stop.done():
                await first(
                    asyncio.create_task(_watch(settings, metrics, statuses, stop), name="watch"), serving
                )
    finally:
        server.should_exit = True
        await serving
    log.info("observer_stopped")


def _transport(settings: Settings) -> Transport:
    """A session of its own, whatever group the workers share; retained statuses come with every connect."""
    kind = CodecTransport if settings.mqtt_version == "5" else PahoTransport
    alone = settings.model_copy(update={"share_group": ""})
    return kind(alone, [FILTER], f"{settings.client_id}-observer", retained=True)


async def _watch(
    settings: Settings, metrics: ObserverMetrics, statuses: "Statuses", stop: asyncio.Task[None]
) -> None:
    """One life with the database, until it is away or we are to stop."""
    with ThreadPoolExecutor(1, "observer") as thread:
        made: list[psycopg.Connection[Any]] = []

        async def there(action: Callable[[], T]) -> T:
            future = asyncio.get_running_loop().run_in_executor(thread, action)
            either: list[asyncio.Future[Any]] = [future, stop]
            await asyncio.wait(either, timeout=SILENT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                await asyncio.wait([future], timeout=LEAVE_SECONDS)
            if not future.done() and made:
                log.warning("database_silent", seconds=LEAVE_SECONDS if stop.done() else SILENT_SECONDS,
                            advice="is its process stopped, or its disk?")  # fmt: skip
                break_off(made[-1])
            return await future

        try:
            conn = await there(lambda: _connect(settings, made.append))
            try:
                await _live(settings, metrics, statuses, stop, Rounds(conn, settings), there)
            finally:
                await there(conn.close)  # behind whatever the thread still does
        except psycopg.OperationalError as error:
            log.warning("database_unavailable", reason=str(error).strip(), retry_in_seconds=RETRY_SECONDS)
            await asyncio.wait([stop], timeout=RETRY_SECONDS)


def _connect(
    settings: Settings, made: Callable[[psycopg.Connection[Any]], object]
) -> psycopg.Connection[Any]:
    conn = connect(settings.database_url.get_secret_value(), application=APPLICATION, made=made)
    storage_of(conn)
    return conn


async def _live(
    settings: Settings, metrics: ObserverMetrics, statuses: "Statuses", stop: asyncio.Task[None], rounds: Rounds,
    there: There,
) -> None:  # fmt: skip
    try:
        await there(rounds.load)
    except AnotherObserverError as error:
        if metrics.seen is None:
            raise CommandError(str(error)) from None
        log.warning("lock_held", reason="by our own connection that was lost, or by another observer",
                    retry_in_seconds=RETRY_SECONDS)  # fmt: skip
        await asyncio.wait([stop], timeout=RETRY_SECONDS)
        return
    log.info("observer_loaded")
    hearing = asyncio.create_task(statuses.hear(rounds, there), name="statuses")
    try:
        while not stop.done():
            began = time.monotonic()
            metrics.seen = await there(lambda: rounds.look(time.time()))
            await there(lambda: rounds.chores(time.time()))
            pause = max(0.0, settings.observe_seconds - (time.monotonic() - began))
            await asyncio.wait([stop, hearing], timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                hearing.result()
        await there(rounds.leave)
    finally:
        hearing.cancel()
        await asyncio.wait([hearing])


class Statuses:
    """What gateways say of themselves, on its way into the database; outlives a database that is away."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._waiting: list[Message] = []

    async def hear(self, rounds: Rounds, there: There) -> None:
        """Store and acknowledge until cancelled."""
        while True:
            if not self._waiting:
                self._waiting = await self._transport.receive(STATUSES)
            said = [(status, message.retain) for message in self._waiting if (status := self._read(message))]
            await there(lambda: self._store(rounds, said))  # noqa: B023  awaited before `said` changes
            self._transport.acknowledge(self._waiting)
            self._waiting = []

    def _store(self, rounds: Rounds, said: list[tuple[Status, bool]]) -> None:
        """What the database refuses, though it was read, costs itself alone: it would come again for ever."""
        try:
            rounds.hear_statuses(said)
        except psycopg.DataError as error:
            if len(said) > 1:
                for one in said:
                    self._store(rounds, [one])
            else:
                log.warning("bad_status", gateway=said[0][0].gateway, reason=str(error).strip())

    def _read(self, message: Message) -> Status | None:
        try:
            return read(message.topic, message.payload)
        except BadStatusError as error:
            log.warning("bad_status", topic=shown(message.topic), reason=str(error))
            return None


def _ready_of(settings: Settings, metrics: ObserverMetrics, transport: Transport) -> http.Ready:
    async def ready() -> Mapping[str, str]:
        answers = await transport.round_trip(READY_SECONDS)
        missing = {} if answers else {"broker": "no answer to a ping"}
        if metrics.seen is None:
            return missing | {"counts": "nothing counted yet: reading the database"}
        age_seconds = time.time() - metrics.seen.report.at
        if age_seconds > STALE_LOOKS * settings.observe_seconds + PATIENCE_SECONDS:
            missing |= {"counts": f"last counted {age_seconds:.0f} s ago"}
        return missing

    return ready
