"""Messages that wait to be handed out, by turns of their senders, and the order in which to acknowledge them.

A broker's session is one queue: who flushes a backlog into it stands before everybody. So what waits here is handed
out fairly (deficit round robin by bytes): the next message of a sender waits for a turn of each other sender,
however much those have here. Of one sender the order stays. Acknowledgements go out in order of arrival all the same
(MQTT 5, section 4.6): what is committed early is remembered until everything before it is. Assumes one event loop,
one reader, and that all that is handed out comes back by `finish`.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice

from schemas.message import Message
from schemas.topic import LONGEST_CHARACTERS

WINDOW_BYTES = 384 * 1024 * 1024
"""Uncommitted bytes above which the socket is not read: fairness ends where the broker's queue begins again, so it
holds three days of a gateway with 200 terminals, 5 million readings in packs of 100 (measured: docs/numbering.md)."""
PACKET_IDS = 65_535
"""Unacknowledged messages above which the socket is not read: a broker without a limit gives ids out twice."""
MESSAGE_BYTES = 400
"""Memory of a message beside its payload: object, topic and bytes header, estimated."""
TURN_BYTES = 16 * 1024
"""What a sender hands in before the next one: three packs of 100 readings, or 27 messages of one."""
TAKE_BYTES = 512 * 1024
"""Handed out at once, at most about: 8,000 readings, less than half a batch, which who comes next has to wait for."""
TOPICS_MAX = 100_000
"""Topics whose sender is remembered."""


class Inbox:
    """Messages of the current connection that wait to be handed out, and the weight of all uncommitted."""

    def __init__(self, window_bytes: int = WINDOW_BYTES, sender: Callable[[str], str] = str) -> None:
        """`sender` says of a topic whose it is; by default each topic is a sender of its own."""
        self.connection = 0
        """Number of the current connection; an acknowledgement belongs to it."""
        self.closed = False
        self._window_bytes = window_bytes
        self._sender, self._remembered_sender = sender, lru_cache(TOPICS_MAX)(sender)
        self._arrived: deque[Message] = deque()
        """Not yet put into a line."""
        self._turns: deque[_Line] = deque()
        """Lines that somebody waits in; the first is next."""
        self._line_of_sender: dict[str, _Line] = {}
        self._line_of_topic: dict[str, _Line] = {}
        self._waiting_bytes = 0
        self._weight_bytes = 0
        self._unacknowledged: deque[int] = deque()
        """Packet ids of the current connection in order of arrival."""
        self._early: Counter[int] = Counter()
        """Of these the finished ones; counted, as a broker may send one again that it has no answer to."""
        self._fault: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """How many wait to be handed out."""
        return len(self._arrived) + sum([len(line.messages) for line in self._turns])

    @property
    def full(self) -> bool:
        """Whether to read no more."""
        return self._weight_bytes > self._window_bytes or len(self._unacknowledged) > PACKET_IDS

    @property
    def slack(self) -> bool:
        """Whether to read again: a little room is enough, for what comes next waits in the broker's queue."""
        return (
            self._weight_bytes < self._window_bytes // 16 * 15
            and len(self._unacknowledged) < PACKET_IDS // 16 * 15
        )

    def waiting_since(self) -> float | None:
        """Arrival of the oldest message that waits to be handed out; None without any."""
        heads = [line.messages[0] for line in self._turns] + list(islice(self._arrived, 1))
        return min((message.received_at for message in heads), default=None)

    def put(self, messages: Sequence[Message]) -> None:
        """Append what arrived and wake the reader once."""
        self._arrived.extend(messages)
        self._unacknowledged.extend([m.packet_id for m in messages if m.packet_id is not None])
        weight_bytes = _weight_bytes(messages)
        self._waiting_bytes += weight_bytes
        self._weight_bytes += weight_bytes
        self._wake()

    async def take(self, limit: int) -> list[Message]:
        """Wait for a message; up to `limit` of them, none when closed. Raises what `fail` was given.

        In order of arrival while all that waits is handed out at once, else by turns.
        """
        while not self._waiting_bytes and not self.closed:
            if self._fault:
                raise self._fault
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._turns or self._waiting_bytes > TAKE_BYTES or len(self._arrived) > limit:
            self._line_up()
            return self._by_turns(limit)
        messages = list(self._arrived)
        self._arrived.clear()
        self._waiting_bytes = 0
        return messages

    def _line_up(self) -> None:
        line_of = self._line_of_topic.get
        for message in self._arrived:
            topic = message.topic
            (line_of(topic) or self._line(topic)).messages.append(message)
        self._arrived.clear()

    def _line(self, topic: str) -> "_Line":
        known = self._remembered_sender if len(topic) <= LONGEST_CHARACTERS else self._sender
        sender = known(topic)
        line = self._line_of_sender.get(sender)
        if line is None:
            line = self._line_of_sender[sender] = _Line(sender)
            self._turns.append(line)
        line.topics.append(topic)
        self._line_of_topic[topic] = line
        return line

    def _by_turns(self, limit: int) -> list[Message]:
        taken: list[Message] = []
        taken_bytes = 0
        while self._turns and len(taken) < limit and taken_bytes < TAKE_BYTES:
            line = self._turns.popleft()
            taken_bytes += line.turn(taken, limit)
            if line.messages:
                self._turns.append(line)
            else:
                del self._line_of_sender[line.sender]
                for topic in line.topics:
                    del self._line_of_topic[topic]
        self._waiting_bytes -= taken_bytes
        return taken

    def finish(self, messages: Sequence[Message]) -> list[int]:
        """Take the weight of committed messages off; the packet ids to acknowledge now, in order of arrival."""
        self._weight_bytes -= _weight_bytes(messages)
        current = self.connection
        ids = [m.packet_id for m in messages if m.connection == current and m.packet_id is not None]
        if not self._early and list(islice(self._unacknowledged, len(ids))) == ids:
            self._acknowledge(len(ids))
            return ids
        return self._ready(ids)

    def _ready(self, ids: list[int]) -> list[int]:
        early, ready = self._early, []
        early.update(ids)
        for packet_id in self._unacknowledged:
            if not (count := early.pop(packet_id, 0)):
                break
            ready.append(packet_id)
            if count > 1:
                early[packet_id] = count - 1
        self._acknowledge(len(ready))
        return ready

    def _acknowledge(self, count: int) -> None:
        for _ in range(count):
            self._unacknowledged.popleft()

    def forget(self) -> None:
        """The connection is over: what was not handed out comes again on the next one."""
        self._weight_bytes -= self._waiting_bytes
        self._waiting_bytes = 0
        for each in (self._arrived, self._turns, self._line_of_sender, self._line_of_topic,
                     self._unacknowledged, self._early):  # fmt: skip
            each.clear()
        self.connection += 1

    def close(self) -> None:
        """Nothing more comes; what is here is still handed out."""
        self.closed = True
        self._wake()

    def fail(self, fault: BaseException) -> None:
        """Let the reader know, once nothing waits."""
        self._fault = fault
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


class _Line:
    """What waits of one sender, in order, and how much of its next turns it has used up already."""

    __slots__ = ("credit_bytes", "messages", "sender", "topics")

    def __init__(self, sender: str) -> None:
        self.sender = sender
        self.topics: list[str] = []
        """Of which something came since the line began."""
        self.messages: deque[Message] = deque()
        self.credit_bytes = 0

    def turn(self, taken: list[Message], limit: int) -> int:
        """Move messages to `taken` while there is credit; how heavy they are. A message larger than that is a debt."""
        credit_bytes = given = min(self.credit_bytes, 0) + TURN_BYTES
        messages, room = self.messages, limit - len(taken)
        while messages and room and credit_bytes > 0:
            message = messages.popleft()
            credit_bytes -= len(message.payload) + MESSAGE_BYTES
            taken.append(message)
            room -= 1
        self.credit_bytes = credit_bytes
        return given - credit_bytes


def _weight_bytes(messages: Iterable[Message]) -> int:
    return sum([len(message.payload) + MESSAGE_BYTES for message in messages])
