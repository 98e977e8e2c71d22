"""A batch: messages that are written in one transaction, their readings as columns. Pure."""

import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ingest.columns import Columns
from schemas.message import Message
from schemas.reading import RELATIVE_BELOW, Event, Part
from schemas.rejection import Refusal
from schemas.routes import Place
from schemas.sparkplug_births import Birth

HASHED_WITH_GIL_BYTES = 2047


@dataclass(slots=True)
class Batch:
    """Messages of one connection in order of arrival, their parts, and the readings of all as four columns.

    Parts have numbers in the batch; a part whose readings count by themselves has one for each of them.
    """

    messages: list[Message] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    first_part: list[int] = field(default_factory=list)
    """Number of the first part of each message."""
    message_of: list[int] = field(default_factory=list)
    """By number of the part: that of the message it belongs to."""
    digests: list[bytes] = field(default_factory=list)
    """By number of the part: its key in the ledger."""
    counts: list[int] = field(default_factory=list)
    """By number of the part: how many readings it has in the columns."""
    nonces: dict[int, bytes] = field(default_factory=dict)
    """Of timeless parts, drawn once, so that a batch that is written again is known."""
    events: list[tuple[int, Event]] = field(default_factory=list)
    """Each with the number of its part."""
    refusals: dict[int, list[Refusal]] = field(default_factory=dict)
    """What decoders refused, by number of the part."""
    births: list[tuple[int, Birth]] = field(default_factory=list)
    """Sparkplug births, each with the number of its part."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Of all parts."""
    undecoded: list[int] = field(default_factory=list)
    """Numbers of the messages without a part: what they say depends on the database (Sparkplug)."""
    columns: Columns = field(default_factory=Columns)
    readings: int = 0
    """Readings received in the batch, refused ones included."""
    size: int = 0
    """What it weighs: its readings and events."""
    _parts_before: list[int] = field(default_factory=list)
    """How many parts stand before those of each message."""
    _readings_before: list[int] = field(default_factory=list)
    """How many readings stand in the columns before those of each part."""

    def add(self, message: Message, place: Place, parts: list[Part]) -> int:
        """Take a decoded message in; answers how many readings it has, refused ones included."""
        number, before = len(self.messages), self.readings
        self.messages.append(message)
        self.places.append(place)
        self.first_part.append(len(self.digests))
        self._parts_before.append(len(self.parts))
        if not parts:
            self.undecoded.append(number)
        whole = b""
        for part in parts:
            if part.identities:
                self._add_apart(part)
            elif part.identity is None:
                whole = whole or _hash(message.payload + b"\0" + message.topic.encode())
                self._add_part(part, whole)
            else:
                self._add_part(part, sha256(part.identity).digest())
        self.message_of += [number] * (len(self.digests) - len(self.message_of))
        return self.readings - before

    def _add_apart(self, part: Part) -> None:
        """A part whose readings count by themselves."""
        prefixes: dict[float, bytes] = {}
        for identity, time in zip(part.identities, part.times, strict=True):
            hour = time // 3600
            prefix = prefixes.get(hour) or prefixes.setdefault(hour, _locality(time))
            self.digests.append(prefix + sha256(identity).digest()[:13])
        self.counts += [1] * len(part.values)
        self._add_columns(part)

    def _add_part(self, part: Part, hashed: bytes) -> None:
        number = len(self.digests)
        newest = part.newest
        if newest is None:
            newest = max(part.times) if part.times else 0.0
        self.digests.append(_locality(newest) + hashed[:13])
        self.counts.append(len(part.values))
        if not part.absolute:
            self.nonces[number] = os.urandom(16)
        if part.events or part.refusals or part.births:
            self._add_others(part, number)
        self._add_columns(part)

    def _add_others(self, part: Part, number: int) -> None:
        """What a part holds beside readings."""
        self.births += [(number, birth) for birth in part.births]
        self.events += [(number, event) for event in part.events]
        if part.refusals:
            self.refusals[number] = part.refusals
        refused = refused_readings(part.refusals)
        self.readings += refused
        self.size += refused + len(part.events)

    def _add_columns(self, part: Part) -> None:
        self.parts.append(part)
        self._readings_before.append(len(self.columns))
        self.columns.add(part)
        self.readings += len(part.values)
        self.size += len(part.values)
        if part.aliases:
            self.aliases |= part.aliases

    def parts_of(self, number: int) -> list[Part]:
        """The parts of one message."""
        end = self._parts_before[number + 1] if number + 1 < len(self.messages) else len(self.parts)
        return self.parts[self._parts_before[number] : end]

    def end_of(self, number: int) -> int:
        """Number of the part after the last one of a message."""
        return self.first_part[number + 1] if number + 1 < len(self.messages) else len(self.digests)

    def places_of(self, reading: int, count: int = 1) -> Sequence[int]:
        """The places in their message of so many readings of one part, from this one in the columns on."""
        part = bisect_right(self._readings_before, reading) - 1
        begin = reading - self._readings_before[part]
        return self.parts[part].indexes[begin : begin + count]

    def readings_of(self, number: int) -> int:
        """How many readings a part has by this number, refused ones included."""
        return self.counts[number] + refused_readings(self.refusals.get(number, ()))

    def with_parts(self, decoded: Mapping[int, list[Part]]) -> "Batch":
        """The batch with the parts of messages that had none; before it is written, so that nonces may change."""
        whole = Batch()
        for number, message in enumerate(self.messages):
            whole.add(message, self.places[number], decoded.get(number) or self.parts_of(number))
        return whole

    def halves(self) -> tuple["Batch", "Batch"]:
        """The batch as two, to find a message that the database refuses; identities and nonces stay."""
        middle = len(self.messages) // 2
        return self._slice(0, middle), self._slice(middle, len(self.messages))

    def _slice(self, begin: int, end: int) -> "Batch":
        piece = Batch()
        for number in range(begin, end):
            piece.add(self.messages[number], self.places[number], self.parts_of(number))
        offset = self.first_part[begin] if begin < end else 0
        for number in piece.nonces:
            piece.nonces[number] = self.nonces[number + offset]
        return piece


def reading_count(part: Part) -> int:
    """Readings of a part, those refused by its decoder included; an undecodable message has none."""
    return len(part.values) + (refused_readings(part.refusals) if part.refusals else 0)


def element_count(parts: Iterable[Part]) -> int:
    """Readings and events of these parts, refused ones included."""
    return sum([reading_count(p) + len(p.events) + sum([r.event for r in p.refusals]) for p in parts])


def refused_readings(refusals: Iterable[Refusal]) -> int:
    """How many readings were refused."""
    return sum([r.count for r in refusals if r.index is not None and not r.event])


def _locality(newest: float) -> bytes:
    """How a part's key in the ledger begins, before 13 bytes of a hash: the newest hour that it speaks of."""
    hour = int(newest / 3600) if RELATIVE_BELOW <= newest < 6e10 else 0
    return hour.to_bytes(3, "big")


def _hash(whole: bytes) -> bytes:
    """Of payload and topic, what tells a message from others, as 32 bytes.

    SHA-256 has instructions of its own: 5 us for a pack of 8.5 kB, BLAKE2b takes 9. In pieces, because hashlib
    gives the GIL away for larger ones, and then waits for the writer's thread to give it back.
    """
    if len(whole) <= HASHED_WITH_GIL_BYTES:
        return sha256(whole).digest()
    digest = sha256(whole[:HASHED_WITH_GIL_BYTES])
    for begin in range(HASHED_WITH_GIL_BYTES, len(whole), HASHED_WITH_GIL_BYTES):
        digest.update(whole[begin : begin + HASHED_WITH_GIL_BYTES])
    return digest.digest()
