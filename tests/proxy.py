"""A real TCP proxy for outages: it can be cut, held (accepts, never answers), resumed, stopped, started, slowed.

Works for anything on TCP. `sent` keeps every byte that the client sent, connection after connection; `watch` makes a
watcher of each connection. A trap holds one connection at a precise moment: when these bytes pass.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self

Side = Literal["client", "server"]
Watch = Callable[[Side, bytes], object]
"""Is told what a side of a connection sends, as it is read."""
PIECE_BYTES = 65_536


class Trap:
    """Stops what one side of one connection sends, just before `pattern`, until it is released or cut.

    The pattern has to be sent in one piece, as a message is that waits for the answer to the one before it.
    """

    def __init__(self, pattern: bytes, sender: Side) -> None:
        self.pattern = pattern
        self.sender = sender
        self.caught = threading.Event()
        """May be waited for on any thread."""
        self._go = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def hold(self) -> None:
        self.caught.set()
        await self._go.wait()

    def release(self) -> None:
        """Pass on what was held, and what comes after it. From any thread."""
        self._loop.call_soon_threadsafe(self._go.set)


class Proxy:
    """Listens on a free port of 127.0.0.1 and relays to `upstream_port`; an async context manager."""

    def __init__(
        self, upstream_port: int, *, keep: bool = True, watch: Callable[[], Watch] | None = None
    ) -> None:
        """`keep`: in `sent`."""
        self.port = 0
        self._watch = watch
        self._piece_bytes = PIECE_BYTES
        self._delay_seconds = 0.0
        self.sent: list[bytearray] = []
        """Bytes from the client, one entry for each connection."""
        self._keep = keep
        self._traps: list[Trap] = []
        self._upstream_port = upstream_port
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new connections and cut the present ones."""
        if self._server:
            self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Close every connection; new ones are welcome."""
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    def hold(self) -> None:
        """Accept connections and bytes, pass nothing on; neither side learns that the other has closed."""
        self._open.clear()

    def slow(self, bytes_per_second: int, delay_seconds: float) -> None:
        """Each way: what this delay takes is read, and passed on this much later; half the delay more on average."""
        self._piece_bytes, self._delay_seconds = int(bytes_per_second * delay_seconds), delay_seconds

    def hurry(self) -> None:
        """As fast as it goes again."""
        self._piece_bytes, self._delay_seconds = PIECE_BYTES, 0

    def resume(self) -> None:
        """Pass on again, also what was held."""
        self._open.set()

    def trap(self, pattern: bytes, sender: Side) -> Trap:
        """Catch the next connection on which `sender` sends this."""
        trap = Trap(pattern, sender)
        self._traps.append(trap)
        return trap

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._relays.add(task)
        sent = bytearray()
        if self._keep:
            self.sent.append(sent)
        watch = self._watch() if self._watch else None
        writers = [writer]
        try:
            await self._open.wait()
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            writers.append(up_writer)
            up = asyncio.ensure_future(
                self._pump(reader, up_writer, "client", watch, sent if self._keep else None)
            )
            down = asyncio.ensure_future(self._pump(up_reader, writer, "server", watch))
            try:
                await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel(), down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the upstream is away or the connection was cut: the client sees it close
        finally:
            self._relays.discard(task)
            for each in writers:
                each.transport.abort()
                with suppress(OSError):
                    await each.wait_closed()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sender: Side,
        watch: Watch | None,
        kept: bytearray | None = None,
    ) -> None:
        while data := await reader.read(self._piece_bytes):
            if kept is not None:
                kept += data
            if watch:
                watch(sender, data)
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            await self._open.wait()
            for trap in [t for t in self._traps if t.sender == sender and t.pattern in data]:
                self._traps.remove(trap)
                before, data = data[: data.index(trap.pattern)], data[data.index(trap.pattern) :]
                writer.write(before)
                await trap.hold()
            writer.write(data)
            await writer.drain()
        await self._open.wait()
