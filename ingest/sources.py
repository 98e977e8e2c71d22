"""Where messages come from: the broker's transport, and the queue of HTTP pushes beside it.

The pipeline asks a source for messages and gives each back once it is committed. What an HTTP push waits
for is just that. Assumes one event loop.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ingest.mqtt.inbox import Inbox
from schemas.message import Message

WINDOW_BYTES = 64 * 1024 * 1024
"""Uncommitted pushes above which there is no room for another: who pushes waits for the answer, and pushes again."""


class Source(Protocol):
    """What the pipeline asks of where its messages come from; `Transport` says more of each."""

    async def receive(self, limit: int) -> list[Message]:
        """Wait for at least one message; none once stopped."""

    def waiting_since(self) -> float | None:
        """Arrival of the oldest message that was not handed out; None without any."""

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """These are committed. Every message received has to come back here."""


@dataclass(slots=True, eq=False)
class Push(Message):
    """A message that came by HTTP; `settled` is done once it is committed, `refusal` says what became of it."""

    settled: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Pushes:
    """Pushes that are not committed yet, up to `WINDOW_BYTES`; gateways take turns."""

    def __init__(self) -> None:
        self._inbox = Inbox(WINDOW_BYTES)

    @property
    def open(self) -> bool:
        """Whether there is room for another."""
        return not (self._inbox.closed or self._inbox.full)

    def put(self, push: Push) -> None:
        """Hand in a push; await its `settled`."""
        self._inbox.put([push])

    async def receive(self, limit: int) -> list[Message]:
        """Wait for a push, return up to `limit`; none once stopped."""
        return await self._inbox.take(limit)

    def waiting_since(self) -> float | None:
        """Arrival of the oldest push that was not handed out; None without any."""
        return self._inbox.waiting_since()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Wake the requests that wait for these."""
        self._inbox.finish(messages)
        for push in messages:
            if isinstance(push, Push) and not push.settled.done():
                push.settled.set_result(None)

    def stop_receiving(self) -> None:
        """Take nothing more in; what is here is still handed out."""
        self._inbox.close()


class Sources:
    """The broker's transport and the pushes as one source."""

    def __init__(self, transport: Source, pushes: Pushes) -> None:
        self._transport = transport
        self._pushes = pushes
        self._running: list[Source] = [transport, pushes]
        self._receiving: dict[Source, asyncio.Task[list[Message]]] = {}
        """These outlive a `receive` that is cancelled: what they took in is handed out by the next."""
        self._connection = 0

    async def receive(self, limit: int) -> list[Message]:
        """Up to `limit` messages of each; none once both have stopped. Raises what either raises."""
        while self._running:
            for source in self._running:
                if source not in self._receiving:
                    self._receiving[source] = asyncio.create_task(source.receive(limit), name="receive")
            await asyncio.wait(self._receiving.values(), return_when=asyncio.FIRST_COMPLETED)
            if messages := self._received():
                return messages
        return []

    def _received(self) -> list[Message]:
        messages: list[Message] = []
        for source, task in list(self._receiving.items()):
            if task.done():
                del self._receiving[source]
                if not (some := task.result()):
                    self._running.remove(source)
                elif source is self._pushes:
                    for push in some:  # else each would end the batch, which is of one connection
                        push.connection = self._connection
                else:
                    self._connection = some[-1].connection
                messages += some
        return messages

    def waiting_since(self) -> float | None:
        """Arrival of the oldest message that neither has handed out; None without any."""
        since = (source.waiting_since() for source in (self._transport, self._pushes))
        return min((at for at in since if at is not None), default=None)

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """To each what came from it."""
        self._pushes.acknowledge([m for m in messages if isinstance(m, Push)])
        self._transport.acknowledge([m for m in messages if not isinstance(m, Push)])
