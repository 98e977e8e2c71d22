"""What a platform's value is: a number, the body of an event, or nothing.

Senders break their platforms' documents: numbers come as text ("+27.90", "071"), RSRP as its magnitude. All that is
read as it is meant. What could be meant in two ways is kept as text, in an event.
"""

import math
import re
from functools import lru_cache
from typing import Any

from schemas.catalogue import is_identity
from schemas.name import MAX_METRIC_CHARACTERS
from schemas.nbiot.fields import said
from schemas.payload import Unreadable, number, shown, storable
from schemas.rejection import Reason
from schemas.remember import remembering

_DECIMAL = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,15})?")
"""Numbers as text. No exponent (12e4 may be hex) and at most 12 digits: longer ones are identities."""
_STRONGEST_RSRP_DBM, _WEAKEST_RSRP_DBM = 44, 156
"""NRSRP as TS 36.133 reports it; a value between is a magnitude, the minus sign left out."""
_SIGNALS = frozenset({"rsrp", "nrsrp"})
_EXACT = 2**53
"""Integers up to here are floats as they are."""
_DEPTH = 16
"""Levels of an event's body; documented ones have two."""


def plain_number(name: str, value: Any) -> float | None:
    """The reading that nearly every value is; None: ask `any_value`."""
    if (
        ((type(value) is float and math.isfinite(value)) or (type(value) is int and -_EXACT < value < _EXACT))
        and len(name) <= MAX_METRIC_CHARACTERS
        and _is_plain(name)
    ):
        return float(value)
    return None


@lru_cache(maxsize=4096)  # of names that were looked at: no longer than a metric's
def _is_plain(name: str) -> bool:
    """Whether any number of this name is a reading as it stands."""
    return name != "" and _fold(name) not in _SIGNALS and not is_identity(name)


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
        return {"value": event_body(value, name)}
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
    return {"vs": event_body(text, name)}


@remembering
def _fold(name: str) -> str:
    return name.replace("_", "").casefold()


def event_body(value: Any, name: str, depth: int = 0) -> Any:
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
        event_body(child, name, depth + 1)
    return value
