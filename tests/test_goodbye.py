"""How the MQTT 3.1.1 transport leaves: not before the broker has read what was acknowledged."""

import asyncio
from contextlib import asynccontextmanager

from ingest.mqtt.backoff import Patience
from ingest.mqtt.paho import PahoTransport
from ingest.settings import Settings

SUBSCRIBE, PINGREQ, DISCONNECT = 8, 12, 14
CONNACK, PINGRESP = b"\x20\x02\x01\x00", b"\xd0\x00"


class Broker:
    """Answers CONNECT and SUBSCRIBE, and only the first ping."""

    def __init__(self):
        self.seen = []
        self.pinged = asyncio.Event()

    async def serve(self, reader, writer):
        await reader.read(65_536)
        writer.write(CONNACK)
        try:
            while True:
                kind, length = await reader.readexactly(2)
                self._answer(kind >> 4, await reader.readexactly(length), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, kind, body, writer):
        if kind == SUBSCRIBE:
            writer.write(b"\x90\x03" + body[:2] + b"\x01")
        if kind == PINGREQ and PINGREQ not in self.seen:
            writer.write(PINGRESP)
            self.pinged.set()
        self.seen.append(kind)


@asynccontextmanager
async def listening(broker):
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_the_answer_to_an_earlier_ping_is_no_goodbye():
    """Who was paused waits for the answer to its last ping, though that of an earlier one lies unread before it."""
    broker, patience = Broker(), Patience(goodbye_seconds=0.3)
    async with asyncio.timeout(20), listening(broker) as port:
        settings = Settings(mqtt_url=f"mqtt://127.0.0.1:{port}", mqtt_version="3.1.1")
        async with PahoTransport(settings, ["a/+"], "test-0", patience=patience) as transport:
            while not transport.connected:
                await asyncio.sleep(0.01)
            assert transport._pause()
            await broker.pinged.wait()
            begun = asyncio.get_running_loop().time()
        waited = asyncio.get_running_loop().time() - begun
    assert waited >= patience.goodbye_seconds
