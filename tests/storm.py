"""`python -m tests.storm broker|database|garbage TIMES`: what a service says in a storm, from the code that says it.

In a process of its own, as the log is the process's. Pauses between tries are left out: they would make a storm of
ten thousand last for days.
"""

import asyncio
import sys
import time
from itertools import count

from devices.registry import Registry
from ingest import thread
from ingest.decode import Decode
from ingest.logs import configure_logs
from ingest.mqtt.backoff import Patience
from ingest.mqtt.codec import CodecTransport
from ingest.settings import load
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes
from tests.brokers import free_port


async def broker(times: int) -> None:
    """A broker that hangs up on everybody."""
    calls, enough = count(1), asyncio.Event()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(calls) >= times:
            enough.set()
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    patience = Patience(first_retry_seconds=0, longest_retry_seconds=0)
    settings = load(mqtt_url=f"mqtt://127.0.0.1:{port}")
    async with CodecTransport(settings, ["a/#"], "storm", patience=patience):
        await enough.wait()
    server.close()


def database(times: int) -> None:
    """A database that refuses every connection."""
    thread.BACKOFF_SECONDS = (0.0, 0.0)
    settings = load(database_url=f"postgresql://127.0.0.1:{free_port()}/none")
    writer = Writer(settings, "storm", lambda _: False, time.time)
    waiting = thread.WriterThread(writer, *[lambda *_: None] * 4)
    tries, connect = count(1), writer.connect

    def counted() -> None:
        if next(tries) >= times:
            waiting.stop()
        connect()

    writer.connect = counted
    try:
        waiting.open()
    except thread.StoppedError:
        return


def garbage(times: int) -> None:
    """Messages that a decoder fails on, each under another topic."""

    def fails(_: Message) -> None:
        raise RuntimeError("a decoder's fault")

    decode = Decode(Routes.default(), 1000, Registry(), by_name=dict.fromkeys(
        ("telemetry", "presence", "sparkplug", "ctwing", "iotda", "onenet"), fails))  # fmt: skip
    for n in range(times):
        decode(Message(f"nbiot/ctwing/gw{n}", b"{}", 1.795e9))


if __name__ == "__main__":
    what, times = sys.argv[1], int(sys.argv[2])
    configure_logs()
    asyncio.run(broker(times)) if what == "broker" else {"database": database, "garbage": garbage}[what](
        times
    )
