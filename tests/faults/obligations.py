"""Gateways that publish numbered readings, and a ledger of what the broker took from them: the obligations.

Gateway g has the numbers from g times `SPAN` on. Reading number i is of terminal i modulo `TERMINALS` of that gateway,
(i modulo `SPAN`) ms after `begin`, with value i: what is missing, doubled or foreign can be told by SQL. MQTT 5 at
QoS 1 on plain connections, as in `tests.gateway`: no client of ours is tested against itself. What is unacknowledged
when a connection ends is sent again on the next one, as a repetition (DUP) where the broker kept the session, else as
if it were new.
"""

import asyncio
import itertools
import json
import time
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import mqtt5

SPAN = 10**9
"""A value is exact up to 2**53."""
TERMINALS = 100
"""Of a gateway: few, so that all are registered, in transactions of their own, when it has warmed up."""
METRIC = "number"
"""In no catalogue: no limits."""
TIMELESS = "timeless"
"""The metric of readings without a time."""
BEGIN_BEFORE_SECONDS = 20 * 3600
"""Readings begin so long ago: none is late (a day), and 72 million a gateway fit before now."""
WINDOW = 200
"""Messages of one gateway on their way at once."""
PACK = 50
"""Readings of a larger message."""
TICK_SECONDS = 0.02
RETRY_SECONDS = 0.1
ANSWER_SECONDS = 20
"""A broker that says nothing to unacknowledged messages for so long is left, and called again."""
CONNECTIONS = itertools.count(1)


class Message(NamedTuple):
    """Readings `first` to `first + count - 1`, and what of it is to be refused."""

    topic: str
    payload: bytes
    first: int = 0
    count: int = 0
    reason: str | None = None
    refused: int = 0
    """Readings that are to be refused for `reason`; an event is none."""


class Ledger:
    """What was sent, by number of the message, and when the broker took it (Unix seconds; 0: it has not)."""

    def __init__(self) -> None:
        self.begin = int(time.time()) - BEGIN_BEFORE_SECONDS
        self.first, self.count, self.taken_at = array("q"), array("q"), array("d")
        self.refusals: dict[int, Message] = {}
        """Messages that are to be refused, wholly or in part."""
        self._next_numbers: dict[int, int] = {}
        self._turn = 0

    @property
    def next_numbers(self) -> list[int]:
        """What each gateway sends next."""
        return list(self._next_numbers.values())

    def enter(self, message: Message) -> int:
        """Before it is sent for the first time; the number of the message."""
        number = len(self.first)
        self.first.append(message.first)
        self.count.append(message.count)
        self.taken_at.append(0)
        if message.reason:
            self.refusals[number] = message
        return number

    def taken(self, number: int) -> None:
        """The broker acknowledged it with success."""
        self.taken_at[number] = time.time()

    def make(self, gateway: int) -> Message:
        """The next message in a mixture: 1 in 19 is a pack, 1 in 101 holds a bad reading, 1 in 199 nothing else.

        Primes: each kind goes round the gateways.
        """
        turn = self._turn = self._turn + 1
        count = 0 if turn % 199 == 0 else PACK if turn % 19 == 0 else 1
        return self.message(gateway, count, bad=turn % 199 == 0 or turn % 101 == 0)

    def message(self, gateway: int, count: int, *, bad: bool = False, timed: bool = True) -> Message:
        """A message of so many readings with the next numbers, and one more that is out of range."""
        first = self._next_numbers.get(gateway, gateway * SPAN)
        self._next_numbers[gateway] = first + max(1, count)
        records = [self._record(n) for n in range(first, first + count)]
        if bad:
            records.insert(count // 2, self._record(first, "temperature", 1e6))
        if not timed:
            records = [{"n": r["n"].replace(METRIC, TIMELESS), "v": r["v"]} for r in records]
        payload = json.dumps(records, separators=(",", ":")).encode()
        topic = f"ganzhi/v1/370100/faults-{gateway}/telemetry"
        return Message(topic, payload, first, count, "out_of_range" if bad else None, int(bad))

    def skip(self, gateway: int, numbers: int) -> None:
        """Use so many numbers of this gateway for nothing: what follows is observed so many ms later."""
        self._next_numbers[gateway] = self._next_numbers.get(gateway, gateway * SPAN) + numbers

    def _record(self, number: int, metric: str = METRIC, value: float | None = None) -> dict[str, Any]:
        gateway, n = divmod(number, SPAN)
        return {
            "n": f"faults-{gateway}-{n % TERMINALS}:{metric}",
            "t": round(self.begin + n / 1000, 3),
            "v": number if value is None else value,
        }


class Fleet:
    """Gateways that publish `messages_per_second` between them until they are stopped. Lives on an event loop.

    `extra` holds messages that are to go out next, before those of the mixture.
    """

    def __init__(self, ledger: Ledger, port: int, messages_per_second: float, gateways: int) -> None:
        self.extra: deque[Message] = deque()
        self.reconnects = 0
        self._ledger = ledger
        self._port = port
        self._rate = messages_per_second / gateways
        self._stopping = asyncio.Event()
        self._tasks = [asyncio.create_task(self._gateway(n), name=f"gateway-{n}") for n in range(gateways)]

    async def stop(self, patience_seconds: float) -> None:
        """Send nothing new, and wait until the broker has taken everything. Raises TimeoutError."""
        self._stopping.set()
        try:
            async with asyncio.timeout(patience_seconds):
                await asyncio.gather(*self._tasks)
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Leave as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _gateway(self, number: int) -> None:
        """One gateway over all its connections."""
        name = f"faults-{number}-{next(CONNECTIONS)}"
        source = self._source(number)
        waiting: dict[int, tuple[int, Message]] = {}
        while not self._stopping.is_set() or waiting or self.extra:
            with suppress(OSError, EOFError, TimeoutError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await Connection(reader, writer, self._ledger, waiting).run(name, source, self._stopping)
                finally:
                    writer.transport.abort()
            if waiting or not self._stopping.is_set():
                self.reconnects += 1
                await asyncio.sleep(RETRY_SECONDS)

    def _source(self, gateway: int) -> Iterator[Message | None]:
        """The next message; None while none is due."""
        begun, sent = time.monotonic(), 0
        while True:
            if self.extra:
                yield self.extra.popleft()
            elif self._stopping.is_set():
                yield None
            elif sent < (time.monotonic() - begun) * self._rate:
                sent += 1
                yield self._ledger.make(gateway)
            else:
                yield None


class Connection:
    """One connection of a gateway; `waiting` is what the broker has not acknowledged, by packet id."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ledger: Ledger,
        waiting: dict[int, tuple[int, Message]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._ledger = ledger
        self._waiting = waiting
        self._rest = b""
        self._packet_id = max(waiting, default=0)
        self._window = WINDOW

    async def run(self, name: str, source: Iterator[Message | None], stopping: asyncio.Event) -> None:
        """Connect, repeat what waits, and publish until told to stop. Raises OSError, EOFError, TimeoutError."""
        connect = mqtt5.ConnectPacket(name, clean_start=False, session_expiry_interval=3600, keep_alive=600)
        self._writer.write(connect.write())
        (answer,) = await self._read()
        assert isinstance(answer, mqtt5.ConnAckPacket), answer
        if answer.reason_code.value:
            raise ConnectionRefusedError(answer.reason_code)
        self._window = min(WINDOW, answer.receive_max)
        for packet_id, (_, message) in self._waiting.items():
            self._send(packet_id, message, again=answer.session_present)
        async with asyncio.timeout(None) as patience:
            reading = asyncio.create_task(self._read_acknowledgements(patience))
            try:
                await self._publish(source, stopping, reading)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _publish(
        self, source: Iterator[Message | None], stopping: asyncio.Event, reading: asyncio.Task[None]
    ) -> None:
        while not reading.done():
            message = next(source) if len(self._waiting) < self._window else None
            if message:
                number = self._ledger.enter(message)
                packet_id = self._next_packet_id()
                self._waiting[packet_id] = number, message
                self._send(packet_id, message)
            elif stopping.is_set() and not self._waiting:
                return
            else:
                await self._writer.drain()
                await asyncio.sleep(TICK_SECONDS)
        reading.result()

    def _next_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id % 0xFFFF + 1
            if self._packet_id not in self._waiting:
                return self._packet_id

    def _send(self, packet_id: int, message: Message, *, again: bool = False) -> None:
        packet = mqtt5.PublishPacket(message.topic, message.payload, qos=mqtt5.QoS.AT_LEAST_ONCE,
                                     packet_id=packet_id, duplicate=again)  # fmt: skip
        self._writer.write(packet.write())

    async def _read_acknowledgements(self, patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            patience.reschedule(loop.time() + ANSWER_SECONDS)
            for packet in await self._read():
                assert isinstance(packet, mqtt5.PubAckPacket), packet
                number, _ = self._waiting.pop(packet.packet_id)
                if packet.reason_code.value < 0x10:
                    self._ledger.taken(number)

    async def _read(self) -> list[mqtt5.Packet]:
        """The next packets, at least one."""
        packets: list[mqtt5.Packet] = []
        while not packets:
            data = await self._reader.read(65_536)
            if not data:
                raise EOFError("the broker closed the publisher's connection")
            self._rest += data
            view = memoryview(self._rest)
            with suppress(IndexError):
                while True:
                    packet, size = mqtt5.read(view)
                    packets.append(packet)
                    view = view[size:]
            self._rest = bytes(view)
        return packets
