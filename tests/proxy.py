"""A real TCP proxy for outages: it can be cut, held (accepts, never answers), resumed, stopped, started.

Works for anything on TCP. `sent` keeps every byte that the client sent, connection after connection.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self


class Proxy:
    """Listens on a free port of 127.0.0.1 and relays to `upstream_port`; an async context manager."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self.sent: list[bytearray] = []
        """Bytes from the client, one entry for each connection."""
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
        """Accept connections and bytes, pass nothing on."""
        self._open.clear()

    def resume(self) -> None:
        """Pass on again, also what was held."""
        self._open.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._relays.add(task)
        sent = bytearray()
        self.sent.append(sent)
        writers = [writer]
        try:
            await self._open.wait()
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            writers.append(up_writer)
            up = asyncio.ensure_future(self._pump(reader, up_writer, sent.extend))
            down = asyncio.ensure_future(self._pump(up_reader, writer, lambda _: None))
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
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], object]
    ) -> None:
        read: Callable[[int], Awaitable[bytes]] = reader.read
        while data := await read(65_536):
            note(data)
            await self._open.wait()
            writer.write(data)
            await writer.drain()
