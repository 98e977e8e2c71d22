"""A batch: messages that are written in one transaction, their readings as columns. Pure."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from ingest.columns import Columns
from schemas.message import Message
from schemas.reading import RELATIVE_BELOW, Part
from schemas.rejection import Refusal
from schemas.routes import Place
from schemas.sparkplug_births import Birth

HASHED_WITH_GIL_BYTES = 2047


@dataclass(slots=True)
class Batch:
    """Messages of one connection in order of arrival, their parts, and the readings of all as four columns."""

    messages: list[Message] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    first_part: list[int] = field(default_factory=list)
    """Number of the first part of each message."""
    message_of: list[int] = field(default_factory=list)
    """Number of the message that a part belongs to."""
    digests: list[bytes] = field(default_factory=list)
    nonces: dict[int, bytes] = field(default_factory=dict)
    """Of timeless parts, drawn once, so that a batch that is written again is known."""
    undecoded: list[int] = field(default_factory=list)
    """Numbers of the messages without a part: what they say depends on the database (Sparkplug)."""
    births: list[tuple[int, Birth]] = field(default_factory=list)
    """Sparkplug births, each with the number of its part."""
    columns: Columns = field(default_factory=Columns)
    readings: int = 0
    """Readings received in the batch, refused ones included."""
    size: int = 0
    """What it weighs: its readings and events."""

    def add(self, message: Message, place: Place, parts: list[Part]) -> int:
        """Take a decoded message in; answers how many readings it has, refused ones included."""
        number, before = len(self.messages), self.readings
        self.messages.append(message)
        self.places.append(place)
        self.first_part.append(len(self.parts))
        if not parts:
            self.undecoded.append(number)
        whole = b""
        for part in parts:
            if part.identity is None:
                whole = whole or _hash(message.payload + b"\0" + message.topic.encode())
            self._add_part(part, whole if part.identity is None else _hash(part.identity))
        self.message_of += [number] * len(parts)
        return self.readings - before

    def _add_part(self, part: Part, hashed: bytes) -> None:
        if not part.absolute:
            self.nonces[len(self.parts)] = os.urandom(16)
        if part.births:
            self.births += [(len(self.parts), birth) for birth in part.births]
        self.parts.append(part)
        self.digests.append(_digest(part, hashed))
        self.columns.add(part)
        readings = reading_count(part) if part.refusals else len(part.values)
        self.readings += readings
        self.size += readings + len(part.events)

    def parts_of(self, number: int) -> list[Part]:
        """The parts of one message."""
        end = self.first_part[number + 1] if number + 1 < len(self.messages) else len(self.parts)
        return self.parts[self.first_part[number] : end]

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
    return len(part.values) + refused_readings(part.refusals)


def element_count(parts: Iterable[Part]) -> int:
    """Readings and events of these parts, refused ones included."""
    return sum(reading_count(p) + len(p.events) + sum(r.event for r in p.refusals) for p in parts)


def is_reading(refusal: Refusal) -> bool:
    """Whether a refusal is of readings, rather than of a message or an event."""
    return refusal.index is not None and not refusal.event


def refused_readings(refusals: Iterable[Refusal]) -> int:
    """How many readings were refused."""
    return sum(refusal.count for refusal in refusals if is_reading(refusal))


def _digest(part: Part, hashed: bytes) -> bytes:
    """The key of a part in the ledger: 3 bytes of the newest hour it speaks of, for locality, and 13 of a hash."""
    newest = max(part.times, default=0.0) if part.hashes is None else float(np.max(part.times))
    hour = int(newest / 3600) if RELATIVE_BELOW <= newest < 6e10 else 0
    return hour.to_bytes(3, "big") + hashed[:13]


def _hash(whole: bytes) -> bytes:
    """What tells a part from others, or topic and payload of its message, as 32 bytes.

    SHA-256 has instructions of its own: 5 us for a pack of 8.5 kB, BLAKE2b takes 9. In pieces, because hashlib
    gives the GIL away for larger ones, and then waits for the writer's thread to give it back.
    """
    if len(whole) <= HASHED_WITH_GIL_BYTES:
        return sha256(whole).digest()
    digest = sha256(whole[:HASHED_WITH_GIL_BYTES])
    for begin in range(HASHED_WITH_GIL_BYTES, len(whole), HASHED_WITH_GIL_BYTES):
        digest.update(whole[begin : begin + HASHED_WITH_GIL_BYTES])
    return digest.digest()
