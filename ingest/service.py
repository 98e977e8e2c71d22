"""One worker: the pipeline, its HTTP side and its signals, put together and taken apart again."""

import asyncio
import gc
import signal
import time
from collections.abc import Mapping

import psycopg
import structlog

from ingest import http
from ingest.decode import NO_ROUTE, Decode
from ingest.metrics import Metrics
from ingest.mqtt.codec import CodecTransport
from ingest.mqtt.paho import PahoTransport
from ingest.pipeline import Pipeline
from ingest.quota import PerMinute
from ingest.settings import OnUnknownGateway, Settings
from ingest.write import Writer
from schemas.routes import Routes

log = structlog.get_logger()
DRAIN_SECONDS = 25
"""SIGTERM to exit, below the 30 s promised: what is not committed by then comes again."""
READY_SECONDS = 5


async def run(settings: Settings, worker: int) -> None:
    """A worker until SIGTERM or SIGINT. Its client id and HTTP port carry its number."""
    client_id = f"{settings.client_id}-{worker}"
    routes = Routes.default()
    filters = settings.topics or routes.filters
    transport = (CodecTransport if settings.mqtt_version == "5" else PahoTransport)(
        settings, filters, client_id
    )
    metrics = Metrics((*routes.names, NO_ROUTE))
    quota = PerMinute(settings.rejections_per_minute, time.monotonic)
    writer = Writer(settings, client_id, lambda _: not quota.take(), time.time)
    decode = Decode(routes, settings.max_payload_bytes, writer.registry,
                    only_known_gateways=settings.unknown_gateways is OnUnknownGateway.REJECT)  # fmt: skip
    pipeline = Pipeline(settings, transport, decode, writer, metrics)
    gc.freeze()

    def refresh() -> None:
        metrics.observe(oldest_seconds=pipeline.oldest_seconds(), broker_connected=transport.connected,
                        database_up=pipeline.database_up, sessions_lost=transport.sessions_lost)  # fmt: skip

    async def ready() -> Mapping[str, str]:
        missing = {} if transport.connected else {"broker": "not connected"}
        return missing | await _database_missing(settings)

    server = http.server(http.application(metrics.registry, refresh, ready), settings.http_host,
                         settings.http_port + worker if settings.http_port else 0)  # fmt: skip
    stop = asyncio.create_task(_stop_signal(), name="stop")
    serving = asyncio.create_task(server.serve(), name="http")
    log.info("worker_started", client_id=client_id, filters=list(filters), http_port=server.config.port)
    try:
        await _first(asyncio.create_task(pipeline.open(), name="open"), stop, serving)
        if not stop.done():
            async with transport:
                running = asyncio.create_task(pipeline.run(), name="pipeline")
                await _first(running, stop, serving)
                transport.stop_receiving()
                await _drain(running)
    finally:
        server.should_exit = True
        await serving
    log.info("worker_stopped", client_id=client_id)


async def _first(*tasks: asyncio.Task[None]) -> None:
    """Until one of the tasks ends; its fault is raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _drain(running: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await running
    except TimeoutError:
        log.warning("drain_incomplete", seconds=DRAIN_SECONDS, advice="what is not acknowledged comes again")


async def _stop_signal() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _database_missing(settings: Settings) -> dict[str, str]:
    url = settings.database_url.get_secret_value()
    try:
        async with asyncio.timeout(READY_SECONDS):
            conn = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=READY_SECONDS)
            async with conn:
                await conn.execute("SELECT 1")
    except (psycopg.Error, TimeoutError) as error:
        return {"database": str(error).splitlines()[0] if str(error) else "no answer"}
    return {}
