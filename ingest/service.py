"""One worker: the pipeline, its HTTP side and its signals, put together and taken apart again."""

import asyncio
import contextlib
import ctypes
import gc
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import psycopg
import structlog
from psycopg.errors import InsufficientPrivilege
from starlette.applications import Starlette

from ingest import births, certificate, http, ledger, processor, push
from ingest.decode import NO_ROUTE, Decode, decoders
from ingest.metrics import Metrics
from ingest.mqtt.codec import CodecTransport
from ingest.mqtt.paho import PahoTransport
from ingest.mqtt.transport import Transport
from ingest.pipeline import Pipeline
from ingest.publish import end_session
from ingest.quota import PerMinute
from ingest.settings import OnUnknownGateway, Settings, SettingsError
from ingest.sources import Pushes, Sources
from ingest.write import Writer
from schemas import scan
from schemas.routes import Routes
from schemas.sql import queries

log = structlog.get_logger()
STATUS = queries("status.sql")
DRAIN_SECONDS = 25
"""SIGTERM to exit, below the 30 s promised: what is not committed by then comes again."""
READY_SECONDS = 5
OPEN_SECONDS = 20
GARBAGE_SECONDS = 60
WANTED_SECONDS = 0.5
GARBAGE_BYTES = 1024
"""Of a row of garbage, on average of a minute's: a flood of 1 MiB each fills 14 GiB a day by default, not 14 TiB."""
SWITCH_SECONDS = 0.0002
"""How long the writer's thread waits for the GIL behind each answer of the database, several a batch."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
KEPT_BYTES = 64 * 2**20
"""At the end of the heap; half of it is the most that M_MMAP_THRESHOLD may be."""
QUIET_SECONDS = 3.0
"""Nothing for this long, and the session of a leaving worker is empty."""


class Worker(NamedTuple):
    """A worker's parts, connected to each other and to nothing outside yet."""

    transport: Transport
    pipeline: Pipeline
    metrics: Metrics
    pushes: Pushes | None
    writer: Writer


def assemble(settings: Settings, client_id: str, *, leaving: bool = False) -> Worker:
    """A worker of this name; `leaving`: for one that will not come back, see `drain`."""
    routes = Routes.load(settings.routes)
    kind = CodecTransport if settings.mqtt_version == "5" else PahoTransport
    transport = kind(settings, settings.topics or routes.filters, client_id, leaving=leaving,
                     sender=routes.sender)  # fmt: skip
    metrics = Metrics((*routes.names, NO_ROUTE))
    limit = settings.rejections_per_minute
    quota = PerMinute(limit, time.monotonic, limit * GARBAGE_BYTES)
    writer = Writer(settings, client_id, lambda size_bytes: not quota.take(size_bytes), time.time)
    decode = Decode(routes, settings.max_payload_bytes, writer.registry,
                    only_known_gateways=settings.unknown_gateways is OnUnknownGateway.REJECT,
                    gateway_division=settings.gateway_division,
                    by_name=decoders(settings) | {"sparkplug": births.later})  # fmt: skip
    pushes = Pushes() if settings.push_port and not leaving else None
    source = Sources(transport, pushes) if pushes else transport
    pipeline = Pipeline(settings, source, decode, writer, metrics, command=transport.publish)
    return Worker(transport, pipeline, metrics, pushes, writer)


async def run(settings: Settings, number: int) -> None:
    """A worker until SIGTERM or SIGINT. Its client id and its ports carry its number. Raises `SettingsError`."""
    client_id = f"{settings.client_id}-{number}"
    worker = assemble(settings, client_id)
    port = settings.http_port + number if settings.http_port else 0
    servers = [http.server(_application(settings, worker), settings)]
    listening = [listen(settings.http_host, port)]
    if settings.push_port and worker.pushes:
        door = push.Door(settings, worker.pushes, lambda: worker.pipeline.database_up, time.time)
        servers.append(http.server(door.application(), settings, push.CONNECTIONS, anybody=True))
        listening.append(listen(settings.http_host, settings.push_port + number, "GANZHI_PUSH_PORT"))
    stop = asyncio.create_task(stop_signal(), name="stop")
    serving = [asyncio.create_task(server.serve([one]), name="http")
               for server, one in zip(servers, listening, strict=True)]  # fmt: skip
    log.info("worker_started", client_id=client_id, http_port=port)
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_memory()
    beside = [asyncio.create_task(_collect_garbage(), name="garbage"),
              asyncio.create_task(_compile_when_wanted(), name="compile"),
              asyncio.create_task(processor.stay_on_one(), name="processor")]  # fmt: skip
    for task in beside:
        task.add_done_callback(_tell_fault)
    try:
        await first(asyncio.create_task(worker.pipeline.open(), name="open"), stop, *serving)
        drained = stop.done() or await _receive_until(worker, stop, *serving)
    finally:
        for task in beside:
            task.cancel()
        worker.pipeline.give_up()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)
    log.info("worker_stopped", client_id=client_id, drained=drained)


def _tell_fault(task: asyncio.Task[None]) -> None:
    """Of what runs beside: the worker goes on without it."""
    if not task.cancelled() and (fault := task.exception()):
        log.error("beside_failed", name=task.get_name(), exc_info=fault)


def listen(host: str, port: int, setting: str = "GANZHI_HTTP_PORT") -> socket.socket:
    """A listening socket. Raises `SettingsError` when the port is taken."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SettingsError(f"can't listen on {host}:{port} ({error.strerror}): choose another {setting} "
                            "or GANZHI_HTTP_HOST") from None  # fmt: skip


async def drain(settings: Settings, client_id: str) -> int:
    """Empty the session of a worker that will not come back, and end it; answers how many messages it had.

    Unsubscribes first, so that the share group sends it nothing more; ends when nothing came for
    `QUIET_SECONDS`. Whoever is still connected under this name loses the connection.
    """
    worker = assemble(settings, client_id, leaving=True)
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await worker.pipeline.open()
    except TimeoutError:
        worker.pipeline.give_up()
        raise ConnectionError("the database is out of reach, so nothing can be emptied into it") from None
    async with worker.transport:
        running = asyncio.create_task(worker.pipeline.run(), name="pipeline")
        await _until_quiet(worker, running)
        worker.transport.stop_receiving()
        await running
    # Noted first: a session that is there although it was noted as ended is no loss.
    await asyncio.to_thread(ledger.end_session, settings.database_url.get_secret_value(), client_id)
    await asyncio.to_thread(end_session, settings, client_id)
    return worker.pipeline.received


async def _until_quiet(worker: Worker, running: asyncio.Task[None]) -> None:
    """Until nothing comes any more. Raises ConnectionError when the broker is out of reach."""
    deadline = time.monotonic() + OPEN_SECONDS
    while not worker.transport.connected or worker.pipeline.quiet_seconds() < QUIET_SECONDS:
        if worker.transport.connected:
            deadline = time.monotonic() + OPEN_SECONDS
        elif time.monotonic() > deadline:
            worker.pipeline.give_up()
            raise ConnectionError("the broker is out of reach, so the session can't be emptied")
        await asyncio.wait([running], timeout=QUIET_SECONDS / 10)
        if running.done():
            running.result()
            raise ConnectionError("the service ended before the session was empty")


async def _collect_garbage() -> None:
    """Collect on a clock instead of by allocations: a batch is 200,000 objects without a cycle among them.

    Measured with messages of one reading: 13.0 us of CPU a message with the collector, 8.4 without.
    """
    gc.freeze()
    gc.disable()
    while True:
        await asyncio.sleep(GARBAGE_SECONDS)
        gc.collect()


def keep_memory() -> None:
    """Have glibc keep what is freed: a batch's arrays of 0.1 to 1 MB come and go, and new pages for each of them
    cost a tenth of the processor (measured). Other C libraries do as they do.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 2)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


async def _compile_when_wanted() -> None:
    """Compile the reader of large packs once one has come, in a thread: they are read in another way meanwhile."""
    while not scan.wanted:  # noqa: ASYNC110  the decoder knows no loop
        await asyncio.sleep(WANTED_SECONDS)
    try:
        await asyncio.to_thread(scan.prepare)
    except Exception as error:  # noqa: BLE001  whatever stops a compiler costs time only
        log.warning(
            "packs_not_compiled", reason=f"{type(error).__name__}: {error}", advice="large packs cost more"
        )
    else:
        log.info("packs_compiled")


def _application(settings: Settings, worker: Worker) -> Starlette:
    def refresh() -> None:
        _tell_ends(settings, worker)
        worker.metrics.observe(
            oldest_seconds=worker.pipeline.oldest_seconds(), broker_connected=worker.transport.connected,
            database_up=worker.pipeline.database_up, sessions_lost=worker.transport.sessions_lost,
        )  # fmt: skip

    which: dict[str, str] = {}

    async def ready() -> Mapping[str, str]:
        answers = await worker.transport.round_trip(READY_SECONDS)
        missing, which["database"] = await _look_at_database(settings)
        return ({} if answers else {"broker": "no answer to a ping"}) | missing

    return http.application(worker.metrics.registry, refresh, ready, settings.http_token_text, which.copy)


def _tell_ends(settings: Settings, worker: Worker) -> None:
    """When certificates end; of a file that can't be read, in the midst of a renewal say, nothing is told."""
    gauge = worker.metrics.certificate_expiry
    gauge.clear()
    for which, path, end in (("ca", settings.mqtt_ca, certificate.last_end),
                             ("client", settings.mqtt_cert, certificate.first_end),
                             ("http", settings.http_cert, certificate.first_end)):  # fmt: skip
        with contextlib.suppress(OSError, ValueError):
            if path:
                gauge.labels(which).set(end(path).timestamp())
    if worker.transport.certificate_end:
        gauge.labels("broker").set(worker.transport.certificate_end)


async def _receive_until(worker: Worker, *ends: asyncio.Task[None]) -> bool:
    # The database is there by now, and the broker has not been asked.
    worker.transport.had_session = worker.writer.had_session
    async with worker.transport:
        running = asyncio.create_task(worker.pipeline.run(), name="pipeline")
        await first(running, *ends)
        worker.transport.stop_receiving()
        if worker.pushes:
            worker.pushes.stop_receiving()
        return await _drain(running)


async def first(*tasks: asyncio.Task[None]) -> None:
    """Until one of the tasks ends; its fault is raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _drain(running: asyncio.Task[None]) -> bool:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await running
    except TimeoutError:
        log.warning("drain_incomplete", seconds=DRAIN_SECONDS, advice="what is not acknowledged comes again")
        return False
    return True


async def stop_signal() -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _look_at_database(settings: Settings) -> tuple[dict[str, str], str]:
    """Why it is missing, if it is, and which it is (empty: nobody knows), for `ganzhi status` to compare."""
    url = settings.database_url.get_secret_value()
    try:
        async with asyncio.timeout(READY_SECONDS):
            conn = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=READY_SECONDS)
            async with conn:
                row = await (await conn.execute(STATUS["identity"])).fetchone()
    except InsufficientPrivilege:  # somebody took this function from PUBLIC; the database answers
        return {}, ""
    except (psycopg.Error, TimeoutError) as error:
        return {"database": str(error).splitlines()[0] if str(error) else "no answer"}, ""
    return {}, str(row[0]) if row else ""
