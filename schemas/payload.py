"""From a payload's bytes to Python objects, and the words for what can't be read.

Shared by the decoders. Whatever the bytes are, the outcome is an object or `Unreadable`: deep
nesting, integers of thousands of digits and foreign encodings included. JSON here is RFC 8259;
NaN, Infinity and 1e400 come through as floats that are not finite, so that they cost their own
reading and not the message. Of duplicate keys the last counts.
"""

import json
import math
from typing import Any

import msgspec

from schemas.rejection import Reason, Refusal

FLOAT_DIGITS = 300
"""Integers from this many digits on may be read as floats: near the largest double (309), far below
the 4300 digits from which Python refuses."""
READINGS_MAX = 100_000
"""Readings of a message, events and refusals included: five batches. A megabyte can hold 350,000, which take a second
to decode and longer to write, and all that comes behind them waits."""
SHOWN_CHARACTERS = 40
"""How much of a value a refusal quotes."""


class Unreadable(ValueError):  # noqa: N818 - it says what the input is
    """A message or a record that is refused, and why; carries what a `Refusal` needs."""

    def __init__(self, reason: Reason, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail, self.hint = reason, detail, hint

    def refusal(self, index: int | None, content: Any = None) -> Refusal:
        """The refusal of the reading at `index`, or of the whole message (None); `content` as in `Refusal`."""
        return Refusal(index, self.reason, self.detail, self.hint, content=content)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < FLOAT_DIGITS else float(digits)


_json = json.JSONDecoder(parse_int=_integer)


def load_json(payload: bytes) -> Any:
    """The JSON value in `payload`; raises `Unreadable` (malformed_payload).

    By msgspec in a third of the time of `json`, which reads what is left.
    """
    if not payload:
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "the payload is empty", "send a JSON array or object")
    try:
        return msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _load_any(payload)


def _load_any(payload: bytes) -> Any:
    """What msgspec refuses: NaN, numbers beyond a double, halves of surrogate pairs; else why it can't be read."""
    try:
        return _json.decode(payload.decode())
    except UnicodeDecodeError as error:
        detail, hint = f"byte {error.start} is not UTF-8", "send JSON as UTF-8 (RFC 8259, section 8.1)"
    except json.JSONDecodeError as error:
        detail, hint = f"not JSON: {error.msg}, at character {error.pos}", "send one complete JSON document"
        if payload.startswith(b"\xef\xbb\xbf") or b"\0" in payload[:2]:
            hint = "send JSON as UTF-8 without a byte order mark (RFC 8259, section 8.1)"
    except RecursionError:
        detail, hint = "JSON nested too deeply", "a pack is an array of flat objects"
    raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, hint)


def number(value: object) -> float | None:
    """`value` as a float where it is a finite number; None for all else, booleans included."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    try:
        return float(value) if type(value) is int else None
    except OverflowError:
        return None


def check_count(readings: int) -> None:
    """Raises `Unreadable` (too_large) for more readings than one message may have."""
    if readings > READINGS_MAX:
        detail = f"more than {READINGS_MAX} readings in one message"
        raise Unreadable(Reason.TOO_LARGE, detail, "send some hundreds in a message")


def storable(text: str) -> bool:
    """Whether PostgreSQL can keep `text`: no U+0000 and no lone surrogate (datatype-json, 8.14)."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """`value` for a refusal's detail: short, ASCII, and cheap however large it is."""
    if isinstance(value, str):
        return ascii(value[:SHOWN_CHARACTERS]) + ("..." if len(value) > SHOWN_CHARACTERS else "")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**SHOWN_CHARACTERS else "an integer of many digits"
    names = {list: "an array", dict: "an object", bytes: "bytes", type(None): "null"}
    return names.get(type(value), "a type that JSON lacks")
