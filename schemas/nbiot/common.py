"""What the decoders of NB-IoT platforms share: tolerant values and times, terminal codes, identities.

Senders break their platforms' documents: numbers come as text ("+27.90", "071"), what is unused as
"", null or "undefined", RSRP as its magnitude. All that is read as it is meant. What could be meant
in two ways is kept as text, in an event.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from schemas.catalogue import is_identity
from schemas.name import MAX_METRIC_CHARACTERS
from schemas.payload import Unreadable, load_json, number, shown, storable
from schemas.plain import MILLISECONDS_FROM, seconds, terminal_code
from schemas.reading import RELATIVE_BELOW, Event, Part
from schemas.rejection import Reason, Refusal
from schemas.remember import remembering

Hook = Callable[[bytes], Sequence[tuple[str, str | None, float]]]
"""Reads the transparent bytes of one product: metric, unit (None: the catalogue's) and value of each reading."""

_DECIMAL = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,15})?")
"""Numbers as text. No exponent (12e4 may be hex) and at most 12 digits: longer ones are identities."""
_DIGITS = re.compile(r"[0-9]{10,13}")
MILLISECONDS_MAX = 10**15
"""Beyond it is no time, and may be beyond a float."""
_TIME_CHARACTERS = 40
"""What is longer is no time, and is not kept to be found again."""
_ALIAS = re.compile(r"[\x21-\x7E]{1,128}")
BROKEN_MAX = 100
"""Refused elements of a message that are told one by one, the others are counted: a megabyte holds half a million."""
_STRONGEST_RSRP_DBM, _WEAKEST_RSRP_DBM = 44, 156
"""NRSRP as TS 36.133 reports it; a value between is a magnitude, the minus sign left out."""
_SIGNALS = frozenset({"rsrp", "nrsrp"})
_EXACT = 2**53
"""Integers up to here are floats as they are."""
_NEVER_GIVEN = frozenset(digit * 15 for digit in "0123456789")
"""000000000000000 is the IMEI of a module that was never given one."""
_STATES: Mapping[Any, float] = {0: 0.0, 1: 1.0, "0": 0.0, "1": 1.0, "offline": 0.0, "online": 1.0}
_packed = msgspec.msgpack.Encoder().encode
"""A fifth of the time that `repr` takes for a reading."""
_canonical = json.JSONEncoder(sort_keys=True).encode
_DEPTH = 16
"""Levels of an event's body; documented ones have two."""


def load_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in `payload`; raises `Unreadable` (malformed_payload)."""
    return an_object(load_json(payload), "the push")


def an_object(value: Any, label: str) -> dict[str, Any]:
    """`value`, when it is an object that isn't empty; raises `Unreadable`."""
    if isinstance(value, dict) and value:
        return value
    what = "empty" if value == {} else f"{shown(value)}, not an object"
    raise Unreadable(Reason.MALFORMED_PAYLOAD, f"{label} is {what}", "send the platform's push unchanged")


def refused(fault: Unreadable, time: float = 0.0, content: Any = None) -> Part:
    """The part of a message that can't be read; where it says its `time`, the same again is a retry.

    The same is the same `content` in whatever envelope; without one, topic and bytes.
    """
    identity = identity_of(fault.reason, content)
    return Part(refusals=[fault.refusal(None)], absolute=time >= RELATIVE_BELOW, identity=identity)


def identity_of(reason: str, content: Any) -> bytes | None:
    """What tells refused `content`, decoded JSON, from other content; None: nothing, or nested too deeply."""
    try:
        return None if content is None else _canonical(["refused", reason, content]).encode()
    except RecursionError:
        return None


class Broken:
    """The elements of a message that can't be read: one part, known by the message as a whole."""

    def __init__(self) -> None:
        self.timed = False
        """Whether the message says a time anywhere, so that the same bytes again are a retry."""
        self._refusals: list[Refusal] = []
        self._runs: list[tuple[Reason, int, int]] = []
        """Of elements that are only counted, one after the other: reason, first place and the one behind the last."""

    @property
    def full(self) -> bool:
        """Whether further elements are only counted."""
        return len(self._refusals) >= BROKEN_MAX

    def add(self, fault: Unreadable, index: int) -> None:
        """Take the refusal of the element at `index`."""
        if self.full:
            self.count(index, fault.reason)
        else:
            self._refusals.append(fault.refusal(index))

    def count(self, index: int, reason: Reason = Reason.MALFORMED_PAYLOAD) -> None:
        """Take the element at `index`, once it is `full`."""
        if self._runs and self._runs[-1][::2] == (reason, index):
            self._runs[-1] = (reason, self._runs[-1][1], index + 1)
        else:
            self._runs.append((reason, index, index + 1))

    def parts(self, good: Sequence[Part] = (), content: Any = None) -> list[Part]:
        """The part, if anything is broken; `good`: the parts of what could be read, `content` as in `refused`."""
        if not self._refusals:
            return []
        more = [Refusal(first, reason, f"{end - first} more from here on can't be read either", count=end - first)
                for reason, first, end in self._runs]  # fmt: skip
        timed = self.timed or any(part.absolute for part in good)
        return [Part(refusals=self._refusals + more, absolute=timed, identity=identity_of("some", content))]


def said(value: Any) -> bool:
    """Whether a field is in use: platforms fill unused ones with null, "" or "undefined"."""
    return value is not None and value not in ("", "undefined", "null")


def imei_of(value: Any) -> str | None:
    """The IMEI in a field, which some send as a number; None where there is none."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or len(text) != 15 or not (text.isascii() and text.isdigit()):
        return None
    return None if text in _NEVER_GIVEN else text


def terminal(platform: str, device: Any, imei: str | None) -> tuple[str, dict[str, str]]:
    """A terminal's code and its aliases: the IMEI where it is known, else the platform's device id.

    Raises `Unreadable` (invalid_name) where there is neither.
    """
    if imei is None:
        return f"{platform}:{terminal_code(device if said(device) else None, 'the device id')}", {}
    code = f"imei:{imei}"
    text = str(device) if isinstance(device, str | int) and said(device) else ""
    return code, {f"{platform}:{text}": code} if _ALIAS.fullmatch(text) else {}


def time_of(*values: Any) -> float:
    """The first of these fields that is a time, of what is refused for another reason; 0.0 where none is."""
    for value in values:
        try:
            if time := push_seconds(value, "time"):
                return time
        except Unreadable:
            continue
    return 0.0


def push_seconds(value: Any, label: str) -> float:
    """The time in a field as Unix seconds, also where its digits are text; 0.0 where none is said.

    0 is a clock that was never set, as good as missing: the push's own time is at hand. Raises `Unreadable`.
    """
    if type(value) is int and MILLISECONDS_FROM <= value < MILLISECONDS_MAX:  # as documented, nearly always
        return value / 1000
    if isinstance(value, str) and len(value) <= _TIME_CHARACTERS:
        return _text_seconds(value, label)
    if not said(value) or (type(value) is int and value == 0):
        return 0.0
    return seconds(value, label)


@lru_cache(maxsize=4096)  # the devices of a batch mostly speak of the same second
def _text_seconds(text: str, label: str) -> float:
    return seconds(int(text) if _DIGITS.fullmatch(text) else text, label) if said(text) else 0.0


def online(value: Any, label: str) -> float:
    """1.0 or 0.0 for what a platform says of a connection; raises `Unreadable`."""
    if isinstance(value, str | int) and not isinstance(value, bool) and value in _STATES:
        return _STATES[value]
    hint = "1 or online, 0 or offline"
    raise Unreadable(Reason.UNSUPPORTED, f"{label} is {shown(value)}, neither online nor offline", hint)


def plain_number(name: str, value: Any) -> float | None:
    """The reading that nearly every value is; None: ask `any_value`."""
    if (
        (type(value) is float or (type(value) is int and -_EXACT < value < _EXACT))
        and -math.inf < value < math.inf
        and len(name) <= MAX_METRIC_CHARACTERS
        and _is_plain(name)
    ):
        return float(value)
    return None


@lru_cache(maxsize=4096)  # of names that were looked at: no longer than a metric's
def _is_plain(name: str) -> bool:
    """Whether any number of this name is a reading as it stands."""
    return name != "" and _fold(name) not in _SIGNALS and not is_identity(name)


def add_value(
    part: Part, code: str, name: str, value: Any, time: float, index: int, unit: str | None = None
) -> None:
    """Put one value of a terminal into `part`, whose `indexes` are a list.

    A reading, an event, a refusal, or nothing where the field is unused.
    """
    read: float | dict[str, Any] | None = plain_number(name, value)
    if read is None:
        try:
            read = any_value(code, name, value)
        except Unreadable as fault:
            part.refusals.append(fault.refusal(index, [name, time, value]))
            return
    if isinstance(read, float):
        assert isinstance(part.indexes, list)
        part.indexes.append(index)
        part.names.append((code, name))
        part.units.append(unit)
        part.values.append(read)
        part.times.append(time)
    elif read is not None:
        part.events.append(Event((code, name), time, read, index))


def add_values(part: Part, code: str, values: Mapping[str, Any], time: float, first: int) -> None:
    """Put a terminal's values of one time into `part`, an empty one; `first`: the place of the first of them."""
    numbers = [n for n in map(plain_number, values, values.values()) if n is not None]
    if len(numbers) < len(values):
        for index, (name, value) in enumerate(values.items(), first):
            add_value(part, code, name, value, time, index)
        return
    part.names = [(code, name) for name in values]
    part.units, part.values, part.times = [None] * len(numbers), numbers, [time] * len(numbers)
    part.indexes = range(first, first + len(numbers))


def part_of_numbers(
    platform: str, device: str, code: str, stream: str, values: Mapping[str, Any], time: float, first: int
) -> Part | None:
    """What `add_values` and `identify` make of plain numbers of one time, as nearly all values are; else None."""
    numbers = [n for n in map(plain_number, values, values.values()) if n is not None]
    if len(numbers) < len(values):
        return None
    rows = [(name, time, number) for name, number in zip(values, numbers, strict=True)]
    return Part(
        [(code, name) for name in values], [None] * len(rows), numbers, [time] * len(rows),
        range(first, first + len(rows)), identity=identity_of_readings(platform, device, stream, rows),
        absolute=time >= RELATIVE_BELOW,
    )  # fmt: skip


def add_event(
    part: Part, code: str, name: str, body: Mapping[str, Any], time: float, index: int, *, heard: bool = True
) -> None:
    """Put an event of a terminal with this body into `part`; not `heard`: the platform's word, not the terminal's."""
    try:
        part.events.append(Event((code, name), time, _body(dict(body), name), index, heard))
    except Unreadable as fault:
        part.refusals.append(fault.refusal(index, [name, time, body]).at(index, event=True))


def identify(part: Part, platform: str, device: str, stream: str, time: float = 0.0) -> Part:
    """`part` with its identity: platform, device, stream, times and what was said, units included, in whatever order.

    What was refused counts by its content; where that is nested too deeply, topic and payload are the identity.
    `time`: of the push, which counts where nothing in the part has one: what is refused has none of its own.
    """
    times = part.times
    rows = list(zip([name[1] for name in part.names], times, part.values, strict=True))
    newest = max(times) if times else 0.0
    if not part.events and not part.refusals:  # nearly always
        part.identity = identity_of_readings(platform, device, stream, rows, part.units)
        part.absolute = newest >= RELATIVE_BELOW
        return part
    said_else: list[Any] = [
        sorted((event.name[1], event.time, _canonical(event.body)) for event in part.events),
        _content_of(part.refusals),
    ]
    newest = max((newest, *(event.time for event in part.events)))
    if newest < RELATIVE_BELOW <= time:
        said_else.append([time])
        newest = time
    if None not in said_else[:2]:
        part.identity = identity_of_readings(platform, device, stream, rows, part.units, said_else)
    part.absolute = newest >= RELATIVE_BELOW
    return part


def identity_of_readings(
    platform: str,
    device: str,
    stream: str,
    rows: list[tuple[str, float, float]],
    units: Sequence[str | None] = (),
    said_else: Sequence[Any] = (),
) -> bytes:
    """What tells these readings (name, time, value) of a device, and what else it said, from others."""
    more = [*said_else]
    if any(units):
        more.append(sorted((*row, unit or "") for row, unit in zip(rows, units, strict=True)))
    rows.sort()
    return _known_by((platform, device, stream, rows, more))


def identity_alone(
    platform: str, device: str, stream: str, name: str, time: float, value: float, unit: str | None = None
) -> bytes:
    """`identity_of_readings` for one, in half the time."""
    whole = (
        platform,
        device,
        stream,
        ((name, time, value),),
        (((name, time, value, unit),),) if unit else (),
    )
    try:
        return _packed(whole)
    except UnicodeEncodeError:
        return identity_of_readings(platform, device, stream, [(name, time, value)], [unit])


def _known_by(whole: tuple[Any, ...]) -> bytes:
    try:
        return _packed(whole)
    except UnicodeEncodeError:  # half of a surrogate pair, in a name
        return repr(whole).encode()


def _content_of(refusals: Sequence[Refusal]) -> list[str] | None:
    """What was refused, as texts in whatever order; None: nested too deeply."""
    try:
        return sorted(_canonical([refusal.reason, refusal.content]) for refusal in refusals)
    except RecursionError:
        return None


class Draft:
    """The part of one terminal while it is filled, and the place of its next value in the message."""

    def __init__(self, code: str, aliases: dict[str, str], time: float, first: int = 0) -> None:
        """`time`: of the push, for values without their own; 0.0 where it has none."""
        self.part = Part(indexes=[], aliases=aliases)
        self.index = first
        self._code, self._time = code, time

    def put(self, name: str, value: Any, time: float = 0.0, unit: str | None = None) -> None:
        """Take one value."""
        add_value(self.part, self._code, name, value, time or self._time, self.index, unit)
        self.index += 1

    def put_all(self, values: Mapping[str, Any]) -> None:
        """Take values without times of their own, where it has taken nothing yet."""
        add_values(self.part, self._code, values, self._time, self.index)
        self.index += len(values)

    def event(self, name: str, body: Mapping[str, Any], time: float = 0.0, *, heard: bool = True) -> None:
        """Take one event; `heard` as in `Event`."""
        add_event(self.part, self._code, name, body, time or self._time, self.index, heard=heard)
        self.index += 1

    def refuse(self, fault: Unreadable, content: Any) -> None:
        """Refuse one value; `content` is what was sent."""
        self.part.refusals.append(fault.refusal(self.index, content))
        self.index += 1

    def transparent(self, name: str, data: bytes, hook: Hook | None) -> None:
        """Take bytes that only the product's hook can read; without one they are an event."""
        if hook is None:
            self.event(name, {"hex": data.hex()})
            return
        try:
            for metric, unit, value in hook(data):
                self.put(metric, value, unit=unit)
        except Exception as error:  # noqa: BLE001 - a hook's fault costs its bytes, which the refusal keeps
            detail = f"{name}: the product's hook can't read {len(data)} bytes: {type(error).__name__}"
            hint = "compare the device's protocol with the hook, and replay the rejection"
            self.refuse(Unreadable(Reason.MALFORMED_PAYLOAD, detail, hint), [name, data.hex()])


def any_value(code: str, name: str, value: Any) -> float | dict[str, Any] | None:
    """The number of a reading or the body of an event; None where the field is unused. Raises `Unreadable`."""
    if not name:
        raise Unreadable(Reason.INVALID_NAME, "a value without a name", "name the metric")
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, float) or (isinstance(value, int) and not is_identity(name)):
        return _number(name, value)
    if not said(value):
        return None
    if isinstance(value, dict | list):
        return {"value": _body(value, name)}
    return _text(code, name, str(value))


def _number(name: str, value: float) -> float:
    if (result := number(value)) is None:
        detail = f"{shown(name)} is {shown(value)}, not a finite number"
        raise Unreadable(Reason.NOT_A_NUMBER, detail, "send a number, true, false or text")
    magnitude = _STRONGEST_RSRP_DBM <= result <= _WEAKEST_RSRP_DBM and _fold(name) in _SIGNALS
    return -result if magnitude else result


def _text(code: str, name: str, text: str) -> float | dict[str, Any] | None:
    """A number as text, an event, or nothing where it is the IMEI that the terminal goes by."""
    names_a_thing, stripped = is_identity(name), text.strip()
    if names_a_thing and code == f"imei:{stripped}":
        return None
    if not names_a_thing and _DECIMAL.fullmatch(stripped):
        return _number(name, float(stripped))
    return {"vs": _body(text, name)}


@remembering
def _fold(name: str) -> str:
    return name.replace("_", "").casefold()


def _body(value: Any, name: str, depth: int = 0) -> Any:
    """`value`, when PostgreSQL can keep it as jsonb; raises `Unreadable`."""
    what = None
    if isinstance(value, str) and not storable(value):
        what = "U+0000 or a lone surrogate"
    elif isinstance(value, float) and not math.isfinite(value):
        what = "a number that is not finite"
    elif depth > _DEPTH:
        what = f"more than {_DEPTH} levels"
    if what:
        raise Unreadable(Reason.MALFORMED_PAYLOAD, f"{shown(name)} holds {what}", "send plain JSON values")
    children = value if isinstance(value, list) else ()
    if isinstance(value, dict):
        children = (*value, *value.values())
    for child in children:
        _body(child, name, depth + 1)
    return value
