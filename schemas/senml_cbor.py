"""SenML in CBOR (RFC 8428, section 6; RFC 8949): bytes to records under their JSON labels.

A pack and its maps are taken apart here, item by item, and only their items by the CBOR library.
Left to the library, a map of 1 MiB whose keys are arrays of -1 and -2 (equal hashes in Python)
takes more than a minute: the time grows with the square. So keys other than text and integers
never enter a dict, and the library refuses them in nested maps.

`fast` takes the packs that make up the traffic: records of numbers, whose values nest nothing. Those the library reads
whole, in a third of the time: keys that are no arrays collide by the hundred at most.
"""

import io
import math
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import cbor2

from schemas.name import MAX_NAME_CHARACTERS
from schemas.payload import READINGS_MAX, Unreadable, check_count, number
from schemas.reading import RELATIVE_BELOW, Part
from schemas.rejection import Reason

LABELS = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
"""RFC 8428, table 4. The text labels are understood too."""

_SHORTEST = {cbor2.dumps(key): label for key, label in LABELS.items()}
"""The labels by the one byte that senders write; the library takes three times as long for it."""

MAX_DEPTH = 16
"""A pack needs four (array, map, tag, array); unknown labels may hold more."""

BIGNUM_BYTES = 128
"""The largest double has 1024 bits; longer integers are infinite as floats."""

SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""Tag 55799, which says only: this is CBOR (RFC 8949, section 3.4.6)."""

_BN, _BT, _BU, _N, _U, _V, _T = -2, -3, -4, 0, 1, 2, 6
_USUAL = frozenset({_BN, _BT, _BU, _N, _U, _V, _T})
_NUMERIC = frozenset({_BT, _V, _T})
_TEXTS, _NUMBERS = frozenset({str, type(None)}), frozenset({float, int, type(None)})
_USUAL_DEPTH = 2

_ARRAY, _MAP, _INDEFINITE, _BREAK = 4, 5, 31, b"\xff"


def fast(payload: bytes) -> Part | None:
    """A pack whose records are numbers with names, units, times and base values of these; None: ask `load_cbor`.

    Where it answers, `senml.read` gives the same for what `load_cbor` does.
    """
    stream = io.BytesIO(payload.removeprefix(SELF_DESCRIBED))
    decoder = cbor2.CBORDecoder(
        stream, max_depth=_USUAL_DEPTH, semantic_decoders=_TAGS, allow_duplicate_keys=False
    )
    try:
        records = decoder.decode()
        if stream.read(1) or type(records) is not list or set(map(type, records)) != {dict}:
            return None
        labels = set(chain.from_iterable(records))
        types = set(map(type, chain.from_iterable(records)))  # 1.0 and true are the label 1 in a dict
        if types == {int} and labels <= _USUAL and len(records) <= READINGS_MAX:
            return _columns(records, labels)
    except (cbor2.CBORDecodeError, EOFError, RecursionError, MemoryError, OverflowError):
        pass
    return None


def _columns(records: list[dict[int, Any]], labels: set[int]) -> Part | None:
    columns: dict[int, list[Any]] = {label: [record.get(label) for record in records] for label in labels}
    for label, column in columns.items():
        if not set(map(type, column)) <= (_NUMBERS if label in _NUMERIC else _TEXTS):
            return None
    none: list[Any] = [None] * len(records)
    values, bn, bu = columns.get(_V, none), _in_force(columns.get(_BN)), _in_force(columns.get(_BU))
    names = columns.get(_N, none)
    if bn and any(len(base or "") > MAX_NAME_CHARACTERS for base in set(bn)):
        return None
    if bn:
        names = [(base or "") + (name or "") for base, name in zip(bn, names, strict=True)]
    units = columns.get(_U, none)
    if bu:
        units = [base if unit is None else unit for base, unit in zip(bu, units, strict=True)]
    bt, own = _in_force(columns.get(_BT)) or none, columns.get(_T, none)
    times = [float(base or 0) + float(time or 0) for base, time in zip(bt, own, strict=True)]
    if not all(names) or None in values or not all(map(math.isfinite, chain(values, times))):
        return None
    if max(map(len, names)) > MAX_NAME_CHARACTERS:
        return None
    absolute = max(times) >= RELATIVE_BELOW
    return Part(names, units, list(map(float, values)), times, range(len(records)), absolute=absolute)


def _in_force(column: list[Any] | None) -> list[Any] | None:
    """A base field's column with its last value where none is said."""
    last = None
    return column and [last := last if value is None else value for value in column]


def load_cbor(payload: bytes) -> list[Any]:
    """The records of a CBOR pack, maps as dicts with JSON labels; raises `Unreadable`."""
    if not payload:
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "the payload is empty", "send a CBOR array of maps")
    stream = io.BytesIO(payload.removeprefix(SELF_DESCRIBED))
    decoder = cbor2.CBORDecoder(
        stream, read_size=1, max_depth=MAX_DEPTH, semantic_decoders=_TAGS, strict_hashable_types=True
    )
    try:
        items = _items(stream, _ARRAY)
        if items is None:
            raise Unreadable(Reason.MALFORMED_PAYLOAD, "a SenML pack is an array", "put the maps in an array")
        records = [_record(stream, decoder.decode) for _ in islice(items, READINGS_MAX + 1)]
        check_count(len(records))
    except (cbor2.CBORDecodeError, EOFError, RecursionError, MemoryError, OverflowError) as error:
        detail = f"not CBOR: {str(error)[:100]}, at byte {stream.tell()}"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "send one complete CBOR item") from None
    if stream.read(1):
        detail = f"something follows the pack, at byte {stream.tell() - 1}"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "send one pack a message")
    return records


def _record(stream: io.BytesIO, decode: Callable[[], Any]) -> Any:
    items = _items(stream, _MAP)
    if items is None:
        return decode()
    record, read = {}, stream.read
    for _ in items:
        head = read(1)
        if (label := _SHORTEST.get(head)) is None:
            stream.seek(-len(head), io.SEEK_CUR)
            key = decode()
            label = LABELS.get(key) if type(key) is int else key
        value = decode()
        if isinstance(label, str):
            record[label] = _unpadded(value) if label == "vd" and isinstance(value, bytes) else value
    return record


def _unpadded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _items(stream: io.BytesIO, major: int) -> Iterator[object] | None:
    """One turn an item of the array or map (`major` type) that begins here; None where none does."""
    head = _read(stream, 1)[0]
    kind, length = head >> 5, head & 31
    if kind != major:
        stream.seek(-1, io.SEEK_CUR)
        return None
    if length == _INDEFINITE:
        return _until_break(stream)
    if length >= 24:  # RFC 8949, section 3: the length follows in 1, 2, 4 or 8 bytes
        if length > 27:
            raise cbor2.CBORDecodeError(f"reserved length {length}")
        length = int.from_bytes(_read(stream, 1 << (length - 24)), "big")
    return iter(range(length))


def _until_break(stream: io.BytesIO) -> Iterator[None]:
    while _read(stream, 1) != _BREAK:
        stream.seek(-1, io.SEEK_CUR)
        yield


def _read(stream: io.BytesIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("it ends too early")
    return data


class _Untaken:
    """Stands for an item whose tag SenML has no use for; no check takes it."""


_UNTAKEN = _Untaken()


def _bignum(value: Any, _immutable: bool) -> object:
    if not isinstance(value, bytes):
        return _UNTAKEN
    return float(int.from_bytes(value, "big")) if len(value) < BIGNUM_BYTES else math.inf


def _negative_bignum(value: Any, _immutable: bool) -> object:
    size = _bignum(value, _immutable)
    return -1 - size if isinstance(size, float) else size


def _fraction(value: Any, scaled: Callable[[int, int], float]) -> object:
    """Mantissa and exponent of tags 4 and 5, scaled; infinite where that is beyond a float."""
    if not isinstance(value, list | tuple) or len(value) != 2 or not isinstance(value[0], int):
        return _UNTAKEN
    mantissa = number(value[1])
    if mantissa is None:
        return _UNTAKEN
    try:
        return scaled(int(mantissa) if isinstance(value[1], float) else value[1], value[0])
    except OverflowError:
        return math.inf


def _decimal_fraction(value: Any, _immutable: bool) -> object:
    return _fraction(value, lambda mantissa, exponent: float(f"{mantissa}e{exponent}"))


def _bigfloat(value: Any, _immutable: bool) -> object:
    return _fraction(value, math.ldexp)


class _Tags(dict[int, Callable[[Any, bool], object]]):
    """Tags that make numbers (RFC 8949, 3.4.3 and 3.4.4). Others are not taken: the library
    would compile regular expressions, follow references and build sets for them.
    """

    def __init__(self) -> None:
        super().__init__({2: _bignum, 3: _negative_bignum, 4: _decimal_fraction, 5: _bigfloat})

    def __missing__(self, tag: int) -> Callable[[Any, bool], object]:
        return lambda _value, _immutable: _UNTAKEN


_TAGS = _Tags()
