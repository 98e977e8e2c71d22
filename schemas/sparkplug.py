"""Sparkplug B on the wire: the protobuf of its payload (org.eclipse.tahu.protobuf, proto2), read and written.

Only what the bytes say stands here; what a payload means, given the births before it, is
`sparkplug_births`. Fields that are unknown, or of another wire type than the schema's, are skipped as
protobuf does. A metric that can't be read costs itself, a payload whose frame breaks costs the message.
Assumes that whoever wrote it keeps to 64 bits a varint; a longer one is malformed.
"""

import math
import struct
from functools import lru_cache
from typing import Any, NamedTuple

from schemas.payload import Unreadable, storable
from schemas.rejection import Reason

BROKEN_MAX = 100
"""Metrics that can't be read before the payload counts as no Sparkplug: refusing each costs 2 us for 2 bytes."""
BOOLEAN, DATETIME = 11, 13
BITS = {1: 8, 2: 16, 3: 32, 4: 64, 5: 8, 6: 16, 7: 32, 8: 64, DATETIME: 64}
"""Width of the integer datatypes: 1 to 4 signed, the others not."""
SIGNED = range(1, 5)

# Keys of a metric's fields, as they stand on the wire: number and wire type (0 varint, 1 and 5 fixed, 2 bytes).
NAME, ALIAS, TIMESTAMP, DATATYPE, IS_NULL, PROPERTIES = 1 << 3 | 2, 2 << 3, 3 << 3, 4 << 3, 7 << 3, 9 << 3 | 2
INT, LONG, FLOAT, DOUBLE, BOOL = 10 << 3, 11 << 3, 12 << 3 | 5, 13 << 3 | 1, 14 << 3
STRING, BYTES, DATASET, TEMPLATE, EXTENSION = (number << 3 | 2 for number in range(15, 20))
VALUES = frozenset((INT, LONG, FLOAT, DOUBLE, BOOL, STRING, BYTES, DATASET, TEMPLATE, EXTENSION))
_PROPERTY_STRING = 8 << 3 | 2
_UNIT_PROPERTIES = frozenset({"engunit", "engineering units", "unit", "units"})
"""Names that senders give to the unit, in lower case; the specification has none (Ignition writes engUnit)."""
_COMPRESSED = b"SPBV1.0_COMPRESSED"
FLOAT_OF, DOUBLE_OF = struct.Struct("<f").unpack, struct.Struct("<d").unpack
_HINT = "send a Sparkplug B payload (protobuf)"

_FIXED = {1: 8, 5: 4}
"""Bytes of a value by wire type."""

Fields = dict[int, Any]
"""A message's fields by key; of one that repeats the last."""


class Payload(NamedTuple):
    """A payload: its time in ms and sequence number, None where they are missing, and its metrics' fields."""

    timestamp_ms: int | None
    seq: int | None
    metrics: list[Fields | Unreadable]


def load(payload: bytes) -> Payload:
    """The payload's fields; raises `Unreadable` when its frame breaks."""
    timestamp, seq, broken = None, None, 0
    metrics: list[Fields | Unreadable] = []
    for key, value in fields(payload):
        if key == 2 << 3 | 2:
            try:
                metrics.append(dict(fields(value or b"\0")))  # an empty one is broken too
            except Unreadable as fault:
                broken += 1
                if broken > BROKEN_MAX:
                    raise
                metrics.append(fault)
        elif key == 1 << 3:
            timestamp = value
        elif key == 3 << 3:
            seq = value
        elif key == 4 << 3 | 2 and value == _COMPRESSED:
            raise Unreadable(Reason.UNSUPPORTED, "a compressed payload", "switch compression off")
    return Payload(timestamp, seq, metrics)


def rebirth(at_ms: int) -> bytes:
    """The NCMD payload that asks an edge node for its births (section 6.4.10), at a time in Unix ms."""
    name = b"Node Control/Rebirth"
    said = bytes((DATATYPE, BOOLEAN, BOOL, 1))
    metric = bytes((NAME, len(name))) + name + bytes((TIMESTAMP,)) + varint_bytes(at_ms) + said
    return bytes((1 << 3,)) + varint_bytes(at_ms) + bytes((2 << 3 | 2, len(metric))) + metric


def varint_bytes(number: int) -> bytes:
    """A number that is not negative, as it stands on the wire."""
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)


def fields(data: bytes) -> list[tuple[int, Any]]:  # noqa: C901  the hot loop: a call a field would double it
    """Key and value of each field; varints as int, all else as bytes. Raises `Unreadable`."""
    found: list[tuple[int, Any]] = []
    at, end = 0, len(data)
    try:
        while at < end:
            key = data[at]
            at += 1
            if key > 0x7F:
                key, at = varint(data, at - 1)
            elif key < 8:
                raise _broken("field 0")
            kind = key & 7
            if kind == 0:
                value: Any = data[at]
                at += 1
                if value > 0x7F:
                    value, at = varint(data, at - 1)
            else:
                if kind == 2:
                    size = data[at]
                    at += 1
                    if size > 0x7F:
                        size, at = varint(data, at - 1)
                elif (size := _FIXED.get(kind, 0)) == 0:
                    raise _broken(f"wire type {kind}")
                value = data[at : at + size]
                at += size
            found.append((key, value))
    except IndexError:
        raise _broken("cut off") from None
    if at > end:
        raise _broken("cut off")
    return found


@lru_cache(1024)
def _of_six_bytes(data: bytes) -> int:
    """A varint of six bytes, remembered: times in ms are (until 2109), and those of a message mostly equal."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data))


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint of up to ten bytes and the place behind it; bits beyond 64 are dropped, as protobuf does."""
    six = data[at : at + 6]
    if len(six) == 6 and six[5] < 0x80 and min(six[:5]) > 0x7F:
        return _of_six_bytes(six), at + 6
    number, shift = 0, 0
    try:
        while (byte := data[at]) > 0x7F and shift < 63:
            number |= (byte & 0x7F) << shift
            at += 1
            shift += 7
    except IndexError:
        raise _broken("cut off") from None
    if byte > 0x7F:
        raise _broken("a number of more than ten bytes")
    return (number | byte << shift) & 0xFFFF_FFFF_FFFF_FFFF, at + 1


def _broken(what: str) -> Unreadable:
    return Unreadable(Reason.MALFORMED_PAYLOAD, f"not protobuf: {what}", _HINT)


def text(value: bytes) -> str:
    """A string field; raises `Unreadable`."""
    try:
        found = value.decode()
    except UnicodeDecodeError:
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "a text that is not UTF-8", "send text as UTF-8") from None
    if not storable(found):
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "a text that holds U+0000", "send Unicode text")
    return found


def unit(metric: Fields) -> str | None:
    """The unit that a metric's properties name, if they do."""
    try:
        pairs = fields(metric.get(PROPERTIES, b""))
        keys = [text(value) for key, value in pairs if key == 1 << 3 | 2]
        values = [dict(fields(value)) for key, value in pairs if key == 2 << 3 | 2]
        named = dict(zip(map(str.lower, keys), values, strict=False))
        found = (named[name].get(_PROPERTY_STRING) for name in _UNIT_PROPERTIES & named.keys())
        return next((text(said) for said in found if said), None)
    except Unreadable:  # properties are an adornment: the value stands without
        return None


def value_key(metric: Fields) -> int | None:
    """Which of the value fields a metric has: the last one that came, None without any."""
    for key in reversed(metric):  # a generator would cost 0.2 us
        if key in VALUES:
            return key
    return None


def number(key: int, value: Any, datatype: int | None) -> float | None:
    """A numeric field as a number, None where `key` and datatype make it something else.

    An integer needs its datatype to have a sign. Raises `Unreadable`.
    """
    if key in (DOUBLE, FLOAT):
        (result,) = DOUBLE_OF(value) if key == DOUBLE else FLOAT_OF(value)
        if not math.isfinite(result):
            raise Unreadable(Reason.NOT_A_NUMBER, f"{result}", "send null (is_null) for no value")
        return float(result)
    if key == BOOL or (datatype == BOOLEAN and key in (INT, LONG)):
        return float(value != 0)
    if key not in (INT, LONG) or datatype == DATETIME:
        return None
    return float(integer(value, datatype))


def integer(value: int, datatype: int | None) -> int:
    """An integer with its sign. Raises `Unreadable` where it doesn't fit its datatype.

    Senders write a negative number in two's complement of its own width (tahu for Python, pysparkplug), or
    extended to 32 bits (tahu for Java), or to the 64 of a varint: all three are taken.
    """
    bits = BITS.get(datatype or 0)
    if bits is None:
        raise Unreadable(Reason.NOT_A_NUMBER, f"an integer of datatype {datatype}", "declare an integer type")
    if value < 1 << bits:
        return value - (1 << bits) if datatype in SIGNED and value >> (bits - 1) else value
    for width in (32, 64) if datatype in SIGNED else ():
        if (1 << width) - (1 << (bits - 1)) <= value < 1 << width:
            return value - (1 << width)
    raise Unreadable(Reason.OUT_OF_RANGE, f"{value} does not fit datatype {datatype}, {bits} bits")
