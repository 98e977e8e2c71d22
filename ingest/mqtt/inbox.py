"""Messages that wait to be handed out, and how much is unacknowledged. Assumes one event loop, one reader."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from schemas.message import Message

WINDOW_BYTES = 64 * 1024 * 1024
"""Unacknowledged bytes above which the socket is not read, until they are below half."""
MESSAGE_BYTES = 400
"""Memory of a message beside its payload: object, topic and bytes header, estimated."""


class Inbox:
    """Messages of the current connection that wait to be handed out, and the weight of all unacknowledged."""

    def __init__(self) -> None:
        self.connection = 0
        """Number of the current connection; an acknowledgement belongs to it."""
        self.closed = False
        self._messages: deque[Message] = deque()
        self._weight_bytes = 0
        self._fault: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        return self._weight_bytes > WINDOW_BYTES

    @property
    def slack(self) -> bool:
        return self._weight_bytes < WINDOW_BYTES // 2

    def put(self, messages: Sequence[Message]) -> None:
        """Append what arrived and wake the reader once."""
        self._messages.extend(messages)
        self._weight_bytes += _weight_bytes(messages)
        self._wake()

    async def take(self, limit: int) -> list[Message]:
        """Wait for a message; up to `limit` of them, none when closed. Raises what `fail` was given."""
        while not self._messages and not self.closed:
            if self._fault:
                raise self._fault
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        popleft = self._messages.popleft
        return [popleft() for _ in range(min(limit, len(self._messages)))]

    def release(self, messages: Sequence[Message]) -> None:
        """Take the weight of acknowledged messages off."""
        self._weight_bytes -= _weight_bytes(messages)

    def forget(self) -> None:
        """The connection is over: what was not handed out comes again on the next one."""
        self._weight_bytes -= _weight_bytes(self._messages)
        self._messages.clear()
        self.connection += 1

    def close(self) -> None:
        self.closed = True
        self._wake()

    def fail(self, fault: BaseException) -> None:
        self._fault = fault
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


def _weight_bytes(messages: Iterable[Message]) -> int:
    return sum([len(message.payload) + MESSAGE_BYTES for message in messages])
