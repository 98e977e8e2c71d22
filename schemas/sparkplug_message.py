"""A Sparkplug B message as readings and events, given the births before it (specification 3.0, chapters 5 and 6).

`spBv1.0/group/type/edge[/device]` is terminal `spb:group/edge[/device]`. A birth says `online` 1 beside the
values it carries, a death 0: of a node also for its devices, and only when its bdSeq is the birth's. bdSeq
and `Node Control/*` are no readings, a null is none either. Historical values are readings at their own times.

What would be invented is refused as `unknown_alias`, and a rebirth is wanted: an alias that no birth
declares, an integer whose datatype nobody said (a negative one is written as a large one). One known fault
of senders can't be told here: tahu for Python stamps metrics with the time its process started unless told
otherwise, and then values come at one and the same time.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from schemas import sparkplug as wire
from schemas.message import Message
from schemas.payload import Unreadable, shown, storable
from schemas.plain import seconds
from schemas.reading import RELATIVE_BELOW, Event, Part
from schemas.rejection import Reason, Refusal
from schemas.sparkplug_births import Birth, Declared, Node
from schemas.sparkplug_body import body
from schemas.topic import LONGEST_CHARACTERS

PREFIX = "spBv1.0/"
BIGINT_MAX = 2**63 - 1
BD_SEQS = 256
"""A node numbers its connections 0 to 255, and begins anew."""
NUMBERS = frozenset((wire.INT, wire.LONG, wire.FLOAT, wire.DOUBLE, wire.BOOL))
_REBIRTH_HINT = "a rebirth is asked for; replay the rejection when the births are there"
_NONE: dict[Any, Declared] = {}


class Topic(NamedTuple):
    """A topic's levels; `device` is empty for the node's own messages."""

    group: str
    type: str
    edge_name: str
    device: str

    @property
    def edge(self) -> str:
        """The edge node, as births are kept by."""
        return f"{self.group}/{self.edge_name}"

    @property
    def code(self) -> str:
        """The terminal's code."""
        return f"spb:{self.edge}/{self.device}" if self.device else f"spb:{self.edge}"


class Spoken(NamedTuple):
    """What a message says; `seq` None where it has none, `lost`: births are missing, ask for them."""

    part: Part
    seq: int | None
    lost: bool


def topic_of(message: Message) -> Topic:
    """The message's topic. Raises `Unreadable`."""
    levels = message.topic.split("/")
    if len(levels) not in (4, 5) or not all(levels) or not storable(message.topic):
        raise Unreadable(Reason.BAD_TOPIC, "not group/type/edge or group/type/edge/device",
                         "spBv1.0/group/NDATA/edge, each name of a character at least")  # fmt: skip
    _, group, type_, edge, *device = levels
    if len(message.topic) > LONGEST_CHARACTERS:
        raise Unreadable(
            Reason.BAD_TOPIC, f"{len(message.topic)} characters", f"at most {LONGEST_CHARACTERS}"
        )
    return Topic(group, type_, edge, *device or [""])


def decode(message: Message) -> list[Part]:
    """One part, read without any births but its own: for looking at a message alone."""
    return [read(message, Node()).part]


def read(message: Message, node: Node) -> Spoken:
    """What the message says, given the births of its node; those that it brings are in `part.births`."""
    try:
        topic, payload = topic_of(message), wire.load(message.payload)
    except Unreadable as fault:
        return Spoken(Part(refusals=[fault.refusal(None)], absolute=False), None, lost=False)
    if topic.type == "NDEATH":
        return _node_death(topic, payload, node)
    if topic.type == "DDEATH":
        return Spoken(_device_death(topic, payload, node, again=message.duplicate), payload.seq, lost=False)
    births = topic.type.endswith("BIRTH")
    part = _read_metrics(topic, payload, None if births else node)
    if births:
        _add_birth(part, topic, payload, message.received_at)
    part.absolute = any(t >= RELATIVE_BELOW for t in part.times) or any(
        event.time >= RELATIVE_BELOW for event in part.events
    )
    if births and not message.duplicate and node.repeats(part.births[0]):
        part.absolute = False  # equal bytes, and yet another birth
    lost = any(refusal.reason is Reason.UNKNOWN_ALIAS for refusal in part.refusals)
    return Spoken(part, payload.seq, lost)


def _read_metrics(topic: Topic, payload: wire.Payload, node: Node | None) -> Part:
    """The metrics' readings, events and refusals; `node` None: they are a birth's, and say all themselves."""
    indexes: list[int] = []
    part = Part(indexes=indexes)
    names = node.names(topic.device) if node else _NONE
    aliases = node.aliases(topic.device) if node else _NONE
    code, numbers = topic.code, NUMBERS
    stamp, time = None, 0.0
    for index, metric in enumerate(payload.metrics):
        key = None
        try:
            if isinstance(metric, Unreadable):
                part.refusals.append(metric.refusal(index))
                continue
            if metric.get(wire.IS_NULL):
                continue
            key = wire.value_key(metric)
            name, datatype, _, unit = _declared(metric, names, aliases)
            if name == "bdSeq" or name.startswith("Node Control/"):
                continue
            if (said := metric.get(wire.TIMESTAMP) or payload.timestamp_ms) != stamp:
                time, stamp = seconds(said or None, "timestamp"), said
            if key is None:
                raise _valueless(name)
            if key in (wire.INT, wire.LONG) and datatype is None:
                raise _lost(f"the datatype of {shown(name)}")
            value = wire.number(key, metric[key], datatype) if key in numbers else None
            if value is None:
                part.events.append(Event((code, name), time, body(key, metric[key], datatype), index))
                continue
        except Unreadable as fault:
            is_event = key is not None and key not in numbers
            part.refusals.append(Refusal(index, fault.reason, fault.detail, fault.hint, event=is_event))
            continue
        part.names.append((code, name))
        part.units.append(unit)
        part.values.append(value)
        part.times.append(time)
        indexes.append(index)
    return part


def _declared(metric: wire.Fields, names: dict[Any, Declared], aliases: dict[Any, Declared]) -> Declared:
    """What a metric is: by its own word, and its birth's where that is missing. Raises `Unreadable`."""
    datatype = metric.get(wire.DATATYPE)
    unit = wire.unit(metric) if wire.PROPERTIES in metric else None
    if raw := metric.get(wire.NAME):
        name = wire.text(raw)
        known = names.get(name)
        if known is None:
            return Declared(name, datatype, None, unit)
    else:
        known = aliases.get(metric.get(wire.ALIAS))
        if known is None:
            raise _lost(f"alias {metric[wire.ALIAS]}") if wire.ALIAS in metric else _nameless()
    if datatype is None and unit is None:
        return known
    return Declared(known.name, datatype or known.datatype, known.alias, unit or known.unit)


def _lost(what: str) -> Unreadable:
    return Unreadable(Reason.UNKNOWN_ALIAS, f"no birth declares {what}", _REBIRTH_HINT)


def _valueless(name: str) -> Unreadable:
    return Unreadable(Reason.NOT_A_NUMBER, f"{shown(name)} has no value", "set is_null for no value")


def _nameless() -> Unreadable:
    return Unreadable(Reason.INVALID_NAME, "a metric with neither name nor alias", "send name, alias or both")


def _add_birth(part: Part, topic: Topic, payload: wire.Payload, received_at: float) -> None:
    """The birth itself: `online`, and what it declares."""
    metrics, bd_seq = [], None
    for metric in payload.metrics:
        if isinstance(metric, Unreadable) or not metric.get(wire.NAME):
            continue
        try:
            name = wire.text(metric[wire.NAME])
        except Unreadable:
            continue  # refused where its value is read
        if name == "bdSeq":
            bd_seq = _bd_seq(metric)
        metrics.append(Declared(name, metric.get(wire.DATATYPE), metric.get(wire.ALIAS), wire.unit(metric)))
    received_ms = int(received_at * 1000)
    born_ms = min(payload.timestamp_ms or received_ms, BIGINT_MAX)
    birth = Birth(topic.edge, topic.device, born_ms, received_ms, bd_seq, alive=True, metrics=tuple(metrics))
    part.births.append(birth)
    _say_online(part, [topic.code], 1.0, _time_or_arrival(payload), len(payload.metrics))


def _device_death(topic: Topic, payload: wire.Payload, node: Node, *, again: bool) -> Part:
    """An offline notice. One that is no later than the birth it ends comes of a clock that stands: it may repeat.

    `again`: it is redelivered, so that the birth has ended already.
    """
    living, last, at_ms = node.birth(topic.device), node.last(topic.device), payload.timestamp_ms
    ends = last if again else living
    stands = ends is not None and at_ms is not None and at_ms <= ends.born_ms
    part = Part(absolute=bool(at_ms) and not stands, indexes=[])
    _say_online(part, [topic.code], 0.0, _time_or_arrival(payload), 0)
    if living:
        part.births.append(replace(living, alive=False, metrics=()))
    return part


def _node_death(topic: Topic, payload: wire.Payload, node: Node) -> Spoken:
    """Offline notices of a node and its devices, at the arrival: it is a Will, written when the node connected.

    A Will says no time of its death, and some nodes give the same bytes on each connection: it may rightly repeat.
    The death of another connection than the last birth's is none; of a later one, that birth was lost.
    """
    part = Part(absolute=False, indexes=[])
    own, said = node.own, next((_bd_seq(m) for m in payload.metrics if _is_bd_seq(m)), None)
    if own and own.bd_seq is not None and said is not None and said != own.bd_seq:
        return Spoken(part, None, lost=(said - own.bd_seq) % BD_SEQS < BD_SEQS // 2)
    dead = list(node.living())
    devices = sorted(f"{topic.code}/{birth.device}" for birth in dead if birth.device)
    _say_online(part, [topic.code, *devices], 0.0, 0.0, 0)
    part.births += [replace(birth, alive=False, metrics=()) for birth in dead if not birth.device]
    return Spoken(part, None, lost=False)


def _say_online(part: Part, codes: list[str], online: float, time: float, first: int) -> None:
    part.names += [(code, "online") for code in codes]
    part.units += [None] * len(codes)
    part.values += [online] * len(codes)
    part.times += [time] * len(codes)
    part.indexes = [*part.indexes, *range(first, first + len(codes))]


def _is_bd_seq(metric: wire.Fields | Unreadable) -> bool:
    return not isinstance(metric, Unreadable) and metric.get(wire.NAME) == b"bdSeq"


def _bd_seq(metric: Any) -> int | None:
    """The number of the node's connection, 0 to 255; it stands in an int or a long."""
    return next((metric[key] & 0xFF for key in (wire.LONG, wire.INT) if key in metric), None)


def _time_or_arrival(payload: wire.Payload) -> float:
    try:
        return seconds(payload.timestamp_ms or None, "timestamp")
    except Unreadable:
        return 0.0
