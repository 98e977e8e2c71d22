"""Why something was refused: a closed set of reasons, and a refusal with its place and its hint."""

from enum import StrEnum
from typing import Any

import msgspec


class Reason(StrEnum):
    """The closed set of reasons; each is a label value of `ganzhi_*_rejected_total`."""

    MALFORMED_PAYLOAD = "malformed_payload"
    TOO_LARGE = "too_large"
    BAD_TOPIC = "bad_topic"
    NO_ROUTE = "no_route"
    INVALID_NAME = "invalid_name"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    UNIT_MISMATCH = "unit_mismatch"
    TIME_IN_FUTURE = "time_in_future"
    TIME_TOO_OLD = "time_too_old"
    UNKNOWN_TERMINAL = "unknown_terminal"
    UNKNOWN_METRIC = "unknown_metric"
    UNKNOWN_ALIAS = "unknown_alias"
    NOT_AUTHORIZED = "not_authorized"
    UNSUPPORTED = "unsupported"

    __hash__ = str.__hash__
    """Enum's own is Python, and another than that of the text that each member equals."""


GARBAGE = frozenset({Reason.MALFORMED_PAYLOAD, Reason.BAD_TOPIC, Reason.NO_ROUTE, Reason.TOO_LARGE})
"""Reasons that a flood may bring; beyond a rate they are counted without a row."""


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One refused reading or event (`index` is its place in the message), or a whole message (None).

    A struct, because a gateway gone wrong brings many of them: it is made in a tenth of a dataclass's time. Its JSON
    is what is kept of it, but for `event` and `content`.
    """

    index: int | None
    reason: Reason
    detail: str = ""
    """Of the first, where it stands for several; empty for most of many stretches in one message."""
    hint: str = ""
    event: bool = False
    """Of an event, which is no reading in the books."""
    count: int = 1
    """Elements from `index` on that it stands for: of a message full of garbage not each is told apart."""
    content: Any = None
    """Decoded JSON that tells what was refused from other data, where `detail` cuts it or lacks it; not kept."""

    def at(self, index: int | None, *, event: bool = False) -> "Refusal":
        """The same of the reading, or event, at this place."""
        return msgspec.structs.replace(self, index=index, event=event)


def of_first(detail: str, count: int) -> str:
    """What was said of the first of so many, for people."""
    return f"{detail} (the first of {count})" if detail and count > 1 else detail


def where(index: int | None, count: int) -> str:
    """The place of a refusal for people: "message", "7", "20 to 99"."""
    if index is None:
        return "message"
    return str(index) if count == 1 else f"{index} to {index + count - 1}"
