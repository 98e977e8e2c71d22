"""The plain form: `{"id": terminal, "t": time, "values": {metric: value}}`, or a list of such.

A number is a reading, true and false are readings of 1 and 0, other text is an event. A text that
is a number is refused: who sends "21.5" once sends "n/a" next; but not under a name that is an
identity in the catalogue (`imsi`), where it is an event like other text. Members other than these are
ignored. A reading's index counts the values of the whole message, in order; an object that has no
values to count takes one. A bad `id` or `t` refuses each value of its object.
"""

import math
from datetime import datetime
from functools import lru_cache
from typing import Any

from schemas.catalogue import is_identity
from schemas.payload import Unreadable, number, shown, storable
from schemas.reading import RELATIVE_BELOW, Event, Part
from schemas.rejection import Reason

MILLISECONDS_FROM = 1e11
"""Times from here on are milliseconds: as seconds it is the year 5138, as milliseconds 1973."""

_ISO_CHARACTERS = 40
"""2025-11-21T08:00:00.123456789+08:00 has 35; what is longer is no time, and is not kept to be found again."""
_TIME_HINT = "send Unix seconds, milliseconds, or ISO 8601 with its zone"


def is_plain(value: Any) -> bool:
    """Whether decoded JSON is the plain form, not SenML: an object, or a list where one has `values`."""
    if isinstance(value, list):
        return any(isinstance(item, dict) and "values" in item for item in value)
    return isinstance(value, dict)


def read(value: Any) -> Part:
    """The part of a plain message, given as decoded JSON; raises `Unreadable` if it is neither form."""
    objects = value if isinstance(value, list) else [value]
    if not objects:
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "no readings in the list", "leave empty messages out")
    indexes: list[int] = []
    part, index = Part(indexes=indexes), 0
    for item in objects:
        try:
            values = _values(item)
        except Unreadable as fault:
            part.refusals.append(fault.refusal(index))
            index += 1
            continue
        indexes += _read_values(item, values, index, part)
        index += len(values)
    part.absolute = any(t >= RELATIVE_BELOW for t in part.times) or any(
        event.time >= RELATIVE_BELOW for event in part.events
    )
    return part


def _values(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Unreadable(Reason.MALFORMED_PAYLOAD, f"an element is {shown(item)}, not an object")
    values = item.get("values")
    if not isinstance(values, dict) or not values:
        detail = "values is empty" if values == {} else f"values is {shown(values)}, not an object"
        raise Unreadable(
            Reason.MALFORMED_PAYLOAD, detail, 'send {"id": ..., "values": {"temperature": 21.5}}'
        )
    return values


def _read_values(item: dict[str, Any], values: dict[str, Any], first: int, part: Part) -> list[int]:
    """Put an object's values into `part`; gives the indexes of its readings, counted from `first`."""
    indexes: list[int] = []
    try:
        code, time = terminal_code(item.get("id")), seconds(item.get("t"))
    except Unreadable as fault:
        part.refusals.extend(fault.refusal(index) for index in range(first, first + len(values)))
        return indexes
    for index, (metric, value) in enumerate(values.items(), first):
        try:
            checked = read_value(metric, value)
        except Unreadable as fault:
            part.refusals.append(fault.refusal(index))
            continue
        if isinstance(checked, str):
            part.events.append(Event((code, metric), time, {"vs": checked}, index))
            continue
        part.names.append((code, metric))
        part.units.append(None)
        part.values.append(checked)
        part.times.append(time)
        indexes.append(index)
    return indexes


def terminal_code(value: Any, label: str = "id") -> str:
    """The code in `label`: text, or a whole number (an IMEI, say) as its digits. Raises `Unreadable`."""
    if type(value) is int:
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise Unreadable(Reason.INVALID_NAME, f"{label} is {shown(value)}, not a code", "send the code as text")


def seconds(value: Any, label: str = "t") -> float:
    """The time in `label` as Unix seconds, 0.0 where it is missing; raises `Unreadable`.

    A time before 1978-07-04 (2**28 s) can't stand in a column, where it would be relative to the
    arrival. It comes from a device whose clock was never set, and is refused as too old.
    """
    if value is None:
        return 0.0
    is_text = isinstance(value, str)
    result = _iso_seconds(value, label) if is_text and len(value) <= _ISO_CHARACTERS else number(value)
    if result is None:
        raise Unreadable(Reason.MALFORMED_PAYLOAD, f"{label} is {shown(value)}, not a time", _TIME_HINT)
    if result >= MILLISECONDS_FROM and not is_text:
        result /= 1000
    if result < RELATIVE_BELOW:
        detail = f"{label} is {shown(value)}, before 1978"
        raise Unreadable(Reason.TIME_TOO_OLD, detail, f"leave {label} out while the clock is not set")
    return result


@lru_cache(maxsize=4096)  # what comes together speaks of the same few minutes, mostly in whole seconds
def _iso_seconds(text: str, label: str) -> float | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        detail = f"{label} is {shown(text)}, without a zone"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "say the zone: Z, or +08:00 for local time")
    return time.timestamp()


def read_value(metric: str, value: Any) -> float | str:
    """A value as number, or as text where it makes an event; raises `Unreadable`."""
    if not metric:
        raise Unreadable(Reason.INVALID_NAME, "a metric without a name", "name the metric")
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return _event_text(metric, value)
    if (result := number(value)) is None:
        detail = f"{shown(metric)} is {shown(value)}, not a finite number"
        raise Unreadable(Reason.NOT_A_NUMBER, detail, "send a number, true, false or text")
    return result


def _event_text(metric: str, text: str) -> str:
    if is_number_text(text) and not is_identity(metric):
        detail = f"{shown(metric)} is {shown(text)}, a number as text"
        raise Unreadable(Reason.NOT_A_NUMBER, detail, "send the number without quotes")
    if not storable(text):
        detail = f"{shown(metric)} holds U+0000 or a lone surrogate"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "send Unicode text")
    return text


def is_number_text(text: str) -> bool:
    """Whether `text` reads as a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
