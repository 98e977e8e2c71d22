"""What a field of a platform's push says: whether it is in use, a time, an IMEI, whose it is, a connection.

Senders break their platforms' documents: times come as text, what is unused as "", null or "undefined". All that is
read as it is meant.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from schemas.payload import Unreadable, load_json, shown
from schemas.plain import MILLISECONDS_FROM, seconds, terminal_code
from schemas.rejection import Reason

MILLISECONDS_MAX = 10**15
"""Beyond it is no time, and may be beyond a float."""
_DIGITS = re.compile(r"[0-9]{10,13}")
_TIME_CHARACTERS = 40
"""What is longer is no time, and is not kept to be found again."""
_ALIAS = re.compile(r"[\x21-\x7E]{1,128}")
_NEVER_GIVEN = frozenset(digit * 15 for digit in "0123456789")
"""000000000000000 is the IMEI of a module that was never given one."""
_STATES: Mapping[Any, float] = {0: 0.0, 1: 1.0, "0": 0.0, "1": 1.0, "offline": 0.0, "online": 1.0}


def load_object(payload: bytes) -> dict[str, Any]:
    """The JSON object in `payload`; raises `Unreadable` (malformed_payload)."""
    return an_object(load_json(payload), "the push")


def an_object(value: Any, label: str) -> dict[str, Any]:
    """`value`, when it is an object that isn't empty; raises `Unreadable`."""
    if isinstance(value, dict) and value:
        return value
    what = "empty" if value == {} else f"{shown(value)}, not an object"
    raise Unreadable(Reason.MALFORMED_PAYLOAD, f"{label} is {what}", "send the platform's push unchanged")


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
