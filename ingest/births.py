"""Sparkplug messages decoded where the births are known: in the writer's thread, beside its connection.

A birth may come to one worker and its data to another, and a worker that starts has seen no birth at all. So
births live in the database, put there by the transaction that stores their message, and each batch with Sparkplug
in it first reads what others put there of its nodes. What no birth declares even then is refused as `unknown_alias`,
and the edge node is asked for its births, once a minute at most by all workers together (`sparkplug_request`); so it
is when a number is missing in its sequence, for the message that is missing may have been a birth. And so it is when
it is first heard on a connection of this worker, unless it was born since: births are QoS 0, and no broker keeps
those that we were not there for. What it says until it is born anew is read by the birth that is known.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import psycopg
import structlog
from psycopg import Connection
from psycopg.types.json import Jsonb

from ingest.batch import Batch
from ingest.decode import bounded, failed
from ingest.sequence import SOURCES_MAX, Numbering
from schemas.message import Message
from schemas.payload import Unreadable
from schemas.reading import Decoder, Part
from schemas.sparkplug import rebirth
from schemas.sparkplug_births import SKEW_MS, Birth, Declared, Node
from schemas.sparkplug_message import PREFIX, Spoken, Topic, read, topic_of
from schemas.sql import queries

SQL = queries("births.sql")
log = structlog.get_logger()
ASK_SECONDS = 60
"""A node that is born anew sends all it has; asked more often, it does nothing else."""
NODES_MAX = 5_000
"""Nodes remembered, of some hundred metrics each; what is forgotten is read again."""
BIRTHS_MAX = 50_000
"""Births remembered, of nodes and devices: a node may have devices without end."""
SEQUENCE = 256


class Decoded(NamedTuple):
    """A batch with Sparkplug decoded: how many readings that adds, sequence numbers missing, commands to send."""

    batch: Batch
    readings: int = 0
    missing: int = 0
    commands: tuple[tuple[str, bytes], ...] = ()
    """Topic and payload of each."""


def later(_message: Message) -> list[Part]:
    """The loop's decoder of Sparkplug: no part yet."""
    return []


def keep(conn: Connection[Any], births: Iterable[Birth]) -> None:
    """Put births and deaths in the database, in the caller's transaction; sorted, or two workers deadlock."""
    ordered = sorted(births, key=lambda birth: (birth.edge, birth.device))
    if ordered:
        names = ("edge", "device", "born_ms", "received_ms", "bd_seq", "alive")
        rows = [
            {name: getattr(birth, name) for name in names}
            | {"metrics": Jsonb(birth.metrics), "skew_ms": SKEW_MS}
            for birth in ordered
        ]
        conn.cursor().executemany(SQL["put"], rows)


class Births:
    """The births that this worker knows. One thread at a time."""

    def __init__(self, clock: Callable[[], float], *, alone: bool) -> None:
        """`alone`: no share group, so that all messages of a node come here and its numbering tells."""
        self._clock = clock
        self._alone = alone
        self._nodes: dict[str, Node] = {}
        self._versions: dict[str, dict[str, str]] = {}
        """Of each birth that was read, by edge and device: the transaction that wrote it."""
        self._connection = (-1, 0.0)
        """The connection that messages come on, and when its first one came, Unix seconds."""
        self._sure_on: dict[str, int] = {}
        """The connection since whose begin no birth of a node can have been missed, or it was asked for it."""
        self._numbering = Numbering(SEQUENCE)
        self._asked_at: dict[str, float] = {}

    def forget(self) -> None:
        """Know nothing: the database may be another one."""
        self._nodes.clear()
        self._versions.clear()

    def decode(self, conn: Connection[Any], batch: Batch) -> Decoded:
        """Decode the batch's Sparkplug messages, in order. Raises psycopg.Error before anything is changed."""
        waiting = {n: m for n in batch.undecoded if (m := batch.messages[n]).topic.startswith(PREFIX)}
        topics = {n: _topic(message) for n, message in waiting.items()}
        self._learn(conn, {topic.edge for topic in topics.values() if topic})
        parts, missing, unsure = {}, 0, {}
        for number, message in waiting.items():
            topic = topics[number]
            spoken = self._read(message, topic)
            parts[number] = [spoken.part]
            if topic is None:
                continue
            step = self._step(topic, spoken, message)
            missing += max(step, 0)
            if (self._may_have_missed(topic, message) or spoken.lost or step != 0) and self._may_ask(
                topic.edge
            ):
                unsure[topic.edge] = topic
        whole = batch.with_parts(parts)
        return Decoded(whole, whole.readings - batch.readings, missing, self._commands(conn, unsure))

    def reader(self, conn: Connection[Any]) -> Decoder:
        """A decoder by the births that are there now, which changes none: for messages that are run again."""

        def decode(message: Message) -> list[Part]:
            topic = _topic(message)
            if topic is None:
                return [self._read(message, None).part]
            self._learn(conn, {topic.edge})
            return [read(message, self._nodes[topic.edge]).part]

        return decode

    def _learn(self, conn: Connection[Any], edges: Collection[str]) -> None:
        """Read what is new here, or changed by others, of the births of these nodes."""
        if not edges:
            return
        if len(self._nodes) > NODES_MAX or sum(map(len, self._versions.values())) > BIRTHS_MAX:
            self.forget()
        known = [(edge, *one) for edge in edges for one in self._versions.get(edge, {}).items()]
        seen = {name: [row[n] for row in known] for n, name in enumerate(("edge", "device", "changed"))}
        rows = conn.execute(SQL["read"], seen | {"edges": list(edges)}).fetchall()
        self._nodes |= {edge: Node() for edge in edges if edge not in self._nodes}
        for version, edge, device, born_ms, received_ms, bd_seq, alive, metrics in rows:
            declared = tuple(Declared(*metric) for metric in metrics)
            self._nodes[edge].put(Birth(edge, device, born_ms, received_ms, bd_seq, alive, declared))
            self._versions.setdefault(edge, {})[device] = version

    def _read(self, message: Message, topic: Topic | None) -> Spoken:
        """What a message says; the births that it brings count from the next one on."""
        node = self._nodes[topic.edge] if topic else Node()
        try:
            spoken = read(message, node)
        except Exception as error:  # costs its message, which is kept, never the service
            log.exception("decoder_failed", route="sparkplug", topic=message.topic)
            return Spoken(Part(refusals=[failed(error)], absolute=False), None, lost=False)
        (part,) = bounded([spoken.part])  # one with too many readings is refused, and its births with it
        if not message.retain:
            for birth in part.births:
                node.put(birth)
        return spoken._replace(part=part)

    def _step(self, topic: Topic, spoken: Spoken, message: Message) -> int:
        """How far the message's number is off; 0 where that says nothing."""
        if spoken.seq is None or not self._alone or message.retain:
            return 0
        number = spoken.seq % SEQUENCE
        if topic.type == "NBIRTH":
            self._numbering.begin(topic.edge, number)
            return 0
        if message.duplicate:
            self._numbering.again(topic.edge, number)
            return 0
        return self._numbering.ahead(topic.edge, number)

    def _may_have_missed(self, topic: Topic, message: Message) -> bool:
        """Whether the node may have been born while we were away: not since on this connection, as far as anybody saw.

        Its own death needs no answer: it will be born anew. Births that another worker got count as well.
        """
        if message.connection != self._connection[0]:
            self._connection = (message.connection, message.received_at)
        if message.retain or self._sure_on.get(topic.edge) == message.connection:
            return False
        own, since_ms = self._nodes[topic.edge].own, self._connection[1] * 1000
        if topic.type in ("NBIRTH", "NDEATH") or (own is not None and own.received_ms >= since_ms):
            self._be_sure(topic.edge, message.connection)
            return False
        return True

    def _be_sure(self, edge: str, connection: int) -> None:
        if len(self._sure_on) >= SOURCES_MAX:
            self._sure_on.clear()
        self._sure_on[edge] = connection

    def _commands(self, conn: Connection[Any], unsure: dict[str, Topic]) -> tuple[tuple[str, bytes], ...]:
        """Rebirth requests to those of these nodes that no other worker asked just now."""
        if not unsure:
            return ()
        try:
            granted = conn.execute(SQL["ask"], {"edges": list(unsure), "seconds": ASK_SECONDS}).fetchall()
        except psycopg.Error as error:  # the batch is decoded by now; its write finds out what is wrong
            log.warning("rebirth_not_asked", nodes=len(unsure), reason=str(error).splitlines()[0])
            return ()
        topics = [unsure[edge] for (edge,) in granted]
        for topic in topics:
            self._be_sure(topic.edge, self._connection[0])
        asked = rebirth(self._now_ms())
        return tuple((f"{PREFIX}{topic.group}/NCMD/{topic.edge_name}", asked) for topic in topics)

    def _may_ask(self, edge: str) -> bool:
        now = self._clock()
        if 0 <= now - self._asked_at.get(edge, -ASK_SECONDS) < ASK_SECONDS:
            return False
        if len(self._asked_at) > NODES_MAX:
            self._asked_at.clear()
        self._asked_at[edge] = now
        return True

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _topic(message: Message) -> Topic | None:
    try:
        return topic_of(message)
    except Unreadable:
        return None
