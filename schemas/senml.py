"""SenML packs (RFC 8428) to columns: the records one by one, and a short cut for the usual pack.

`read` is the reference: plain Python objects in, any pack, a refusal for each bad record. `fast`
takes the JSON packs that make up the traffic, numbers whose base fields stand in the first record,
at a tenth of the time, and leaves all else to `read`; where it answers, both answer the same.

What the RFC leaves open is settled so. A base field that is bad refuses every record until a good
one replaces it, for their names or times would be wrong. A label that ends in `_` refuses its
record, and the rest of the pack where it begins with `b` too (base labels do, section 12.2). A
member that is null counts as absent. With a value, the sum `s` is not stored. Whether a name is
well formed is checked by `schemas.name`, when it is first met.
"""

import math
import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from schemas import scan
from schemas.name import MAX_NAME_CHARACTERS
from schemas.payload import Unreadable, check_count, number, shown, storable
from schemas.reading import RELATIVE_BELOW, Event, Name, Part
from schemas.rejection import Reason

VERSION = 10
"""The highest `bver` understood (RFC 8428, section 4.4)."""

VALUES = ("v", "vs", "vb", "vd")
NUMBERS = {
    "bt": Reason.MALFORMED_PAYLOAD, "bv": Reason.NOT_A_NUMBER, "bs": Reason.NOT_A_NUMBER,
    "v": Reason.NOT_A_NUMBER, "s": Reason.NOT_A_NUMBER,
    "t": Reason.MALFORMED_PAYLOAD, "ut": Reason.MALFORMED_PAYLOAD,
}  # fmt: skip
TEXTS = {
    "bn": Reason.INVALID_NAME, "n": Reason.INVALID_NAME,
    "bu": Reason.MALFORMED_PAYLOAD, "u": Reason.MALFORMED_PAYLOAD,
    "vs": Reason.MALFORMED_PAYLOAD, "vd": Reason.MALFORMED_PAYLOAD,
}  # fmt: skip
NAMES_AND_UNITS = frozenset({"bn", "n", "bu", "u"})
"""Of any text; names are checked when they are first met."""
BASES = frozenset({"bn", "bt", "bu", "bv", "bs"})

LARGEST_FAST_BASE_TIME = 1e290
"""Below it, base time plus any finite time is finite: a double's last digit is worth 2e292 at its top."""


class _Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    v: float
    n: str = ""
    u: str | None = None
    t: float = 0.0


class _First(_Record, forbid_unknown_fields=True, gc=False):
    bn: str = ""
    bt: float = 0.0
    bu: str | None = None


_first = msgspec.json.Decoder(list[_First]).decode
_rest = msgspec.json.Decoder(list[_Record]).decode
_n, _u, _v, _t = (attrgetter(label) for label in "nuvt")


def fast(payload: bytes) -> Part | None:
    """A JSON pack of numbers with base fields in the first record only; None: ask `read`."""
    if len(payload) >= scan.LARGE_BYTES and (part := scan.columns(payload)):
        return part
    end = payload.find(b"}") + 1
    try:
        [first] = _first(payload[:end] + b"]")
        tail = payload[end:]
        if tail == b"]":
            return _single(first)
        tail = tail.lstrip()
        rest = _rest(b"[" + tail[1:]) if tail.startswith(b",") else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return _columns(first, [first, *rest]) if rest else None


def _single(first: _First) -> Part | None:
    name, time = first.bn + first.n, first.bt + first.t
    if not 0 < len(name) <= MAX_NAME_CHARACTERS or not math.isfinite(time):
        return None
    unit = first.bu if first.u is None else first.u
    return Part([name], [unit], [first.v], [time], range(1), absolute=time >= RELATIVE_BELOW)


def _columns(first: _First, records: Sequence[_Record]) -> Part | None:
    bn, bt, bu = first.bn, first.bt, first.bu
    names: list[Name] = list(map(_n, records))
    times: list[float] = list(map(_t, records))
    units: list[str | None] = list(map(_u, records))
    long = len(bn) + max(map(len, names)) > MAX_NAME_CHARACTERS
    if long or (not bn and not all(names)) or not -LARGEST_FAST_BASE_TIME < bt < LARGEST_FAST_BASE_TIME:
        return None
    if bn:
        names = [bn + n for n in names]  # type: ignore[operator]  # all are str here
    if bu is not None:
        units = [bu if u is None else u for u in units]
    times = [bt + t for t in times] if any(times) else [bt] * len(times)
    absolute = max(times) >= RELATIVE_BELOW
    return Part(names, units, list(map(_v, records)), times, range(len(records)), absolute=absolute)


class _Base:
    """The base fields in force, and what is wrong with those that are bad."""

    __slots__ = ("faults", "fields")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {"bn": "", "bt": 0.0, "bu": None, "bv": 0.0, "bs": 0.0}
        self.faults: dict[str, tuple[Reason, str, str]] = {}


def read(records: Any) -> Part:
    """The part of a pack, given as JSON objects; raises `Unreadable` if no record can be used."""
    if not isinstance(records, list):
        detail = f"a SenML pack is an array of records, not {shown(records)}"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "put the records in [ ]")
    if not records:
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "no records in the pack", "leave empty packs out")
    check_count(len(records))
    _check_version(records)
    indexes: list[int] = []
    part, base = Part(indexes=indexes), _Base()
    for index, record in enumerate(records):
        try:
            if reading := _read_record(record, base, index, part.events):
                name, unit, value, time = reading
                part.names.append(name)
                part.units.append(unit)
                part.values.append(value)
                part.times.append(time)
                indexes.append(index)
        except Unreadable as fault:
            part.refusals.append(fault.refusal(index))
    part.absolute = any(t >= RELATIVE_BELOW for t in part.times) or any(
        event.time >= RELATIVE_BELOW for event in part.events
    )
    return part


def _check_version(records: list[Any]) -> None:
    for record in records:
        version = record.get("bver") if isinstance(record, dict) else None
        if version is None:
            continue
        value = number(version)
        if value is None or value != int(value):
            detail = f"bver is {shown(version)}, not a whole number"
            raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, f"leave it out or send {VERSION}")
        if value > VERSION:
            detail = f"bver is {shown(version)}, the highest understood is {VERSION}"
            raise Unreadable(Reason.UNSUPPORTED, detail, f"leave it out or send {VERSION}")


def _read_record(
    record: Any, base: _Base, index: int, events: list[Event]
) -> tuple[str, str | None, float, float] | None:
    """Name, unit, value and time of a reading; an event goes to `events`, base fields to `base`."""
    if not isinstance(record, dict):
        raise Unreadable(Reason.MALFORMED_PAYLOAD, f"a record is an object, not {shown(record)}")
    fields = _take_fields(record, base)
    value_label = _value_label(fields, record)
    if value_label is None:
        return None
    bases = base.fields
    name, time = _name(bases["bn"], fields.get("n", "")), bases["bt"] + fields.get("t", 0.0)
    if not name:
        raise Unreadable(Reason.INVALID_NAME, "no name: neither n nor bn", "name the terminal and the metric")
    if not math.isfinite(time):
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "bt + t is beyond 64-bit floats", "send Unix seconds")
    value = fields[value_label]
    if value_label == "vb":
        return name, fields.get("u", bases["bu"]), float(value), time
    if value_label in {"v", "s"}:
        value += bases["b" + value_label]
        if not math.isfinite(value):
            detail = f"b{value_label} + {value_label} is beyond 64-bit floats"
            raise Unreadable(Reason.NOT_A_NUMBER, detail)
        if value_label == "v":
            return name, fields.get("u", bases["bu"]), value, time
    events.append(Event(name, time, {value_label: value}, index))
    return None


def _name(base: str, own: str) -> str:
    if len(base) + len(own) > MAX_NAME_CHARACTERS:
        detail = f"the name has {len(base) + len(own)} characters"
        raise Unreadable(Reason.INVALID_NAME, detail, f"at most {MAX_NAME_CHARACTERS}, bn and n together")
    return base + own


def _take_fields(record: dict[str, Any], base: _Base) -> dict[str, Any]:
    """The checked fields of a record; its base fields go to `base` even if the record is refused."""
    fields: dict[str, Any] = {}
    first_fault: tuple[Reason, str, str] | None = None
    for label, value in record.items():
        if value is None:
            continue
        try:
            checked = value if type(value) is str and label in NAMES_AND_UNITS else check_field(label, value)
        except Unreadable as error:
            fault = error.reason, error.detail, error.hint
            if label.startswith("b"):
                base.faults[label] = fault
            else:
                first_fault = first_fault or fault
            continue
        if label in BASES:
            base.fields[label] = checked
            base.faults.pop(label, None)
        elif checked is not None:
            fields[label] = checked
    if base.faults:
        first_fault = next(iter(base.faults.values()))
    if first_fault:
        raise Unreadable(*first_fault)
    return fields


def _value_label(fields: dict[str, Any], record: dict[str, Any]) -> str | None:
    """Which label carries the record's value; None for a record that only sets base fields."""
    given = list(filter(fields.__contains__, VALUES)) or (["s"] if "s" in fields else [])
    if len(given) > 1:
        detail = f"{' and '.join(given)} in one record"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "send one value a record")
    if given:
        return given[0]
    if fields or not any(record.get(label) is not None for label in (*BASES, "bver")):
        raise Unreadable(Reason.NOT_A_NUMBER, "no value", "send v, vs, vb, vd or s")
    return None


def check_field(label: str, value: Any) -> Any:
    """The field's value, numbers as floats; None for a label that is not known.

    Raises `Unreadable` for a wrong type, a number that is not finite, `vd` that is not base64url
    without padding (RFC 8428, section 4.3), and a label that must be understood (section 4.4).
    """
    if reason := NUMBERS.get(label):
        if (result := number(value)) is None:
            raise Unreadable(reason, f"{label} is {shown(value)}, not a finite number", "send a number")
        return result
    if reason := TEXTS.get(label):
        if not isinstance(value, str):
            raise Unreadable(reason, f"{label} is {shown(value)}, not text")
        if label == "vs" and not storable(value):
            raise Unreadable(reason, "vs holds U+0000 or a lone surrogate", "send Unicode text")
        if label == "vd" and not is_base64url(value):
            raise Unreadable(reason, f"vd is {shown(value)}, not base64url", "send base64url without padding")
        return value
    if label == "vb":
        if not isinstance(value, bool):
            raise Unreadable(Reason.NOT_A_NUMBER, f"vb is {shown(value)}, not true or false")
        return value
    if label.endswith("_"):
        detail = f"the label {shown(label)} must be understood and is not"
        raise Unreadable(Reason.UNSUPPORTED, detail, "leave it out (RFC 8428, section 4.4)")
    return None


def is_base64url(text: str) -> bool:
    """Whether `text` is base64url without padding (RFC 4648, section 5)."""
    return len(text) % 4 != 1 and re.fullmatch(r"[A-Za-z0-9_-]*", text) is not None
