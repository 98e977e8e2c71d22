"""Presence: `{"at": time, "online": [codes], "offline": [codes]}`, from a platform that knows who is connected.

Each code becomes a reading of metric `online`, 1 or 0, at `at`; codes and times are written as in the plain
form. A bad code costs itself, a message whose `at` or lists can't be read is refused as a whole. One list may
be missing, an empty one says nothing. A reading's index counts the codes, `online` first, so that of a code in
both lists the last word is `offline`.
"""

from typing import Any

from schemas.message import Message
from schemas.payload import Unreadable, check_count, load_json, shown
from schemas.plain import seconds, terminal_code
from schemas.reading import RELATIVE_BELOW, Part
from schemas.rejection import Reason

LISTS = {"online": 1.0, "offline": 0.0}
_HINT = 'send {"at": "2026-11-21T08:00:00Z", "online": [codes], "offline": [codes]}'


def decode(message: Message) -> list[Part]:
    """One part; of a message that can't be read, one refusal without an index."""
    try:
        return [read(load_json(message.payload))]
    except Unreadable as fault:
        return [Part(refusals=[fault.refusal(None)], absolute=False)]


def read(value: Any) -> Part:
    """The part of a presence message, given as decoded JSON; raises `Unreadable`."""
    if not isinstance(value, dict) or not LISTS.keys() & value.keys():
        what = "neither online nor offline is there" if isinstance(value, dict) else f"it is {shown(value)}"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, what, _HINT)
    time = seconds(value.get("at"), "at")
    indexes: list[int] = []
    part, first = Part(indexes=indexes, absolute=time >= RELATIVE_BELOW), 0
    for name, online in LISTS.items():
        codes = value.get(name, [])
        if not isinstance(codes, list):
            raise Unreadable(Reason.MALFORMED_PAYLOAD, f"{name} is {shown(codes)}, not an array", _HINT)
        check_count(first + len(codes))
        for index, said in enumerate(codes, first):
            try:
                part.names.append((terminal_code(said, f"a code in {name}"), "online"))
            except Unreadable as fault:
                part.refusals.append(fault.refusal(index))
                continue
            indexes.append(index)
            part.values.append(online)
        first += len(codes)
    part.units = [None] * len(indexes)
    part.times = [time] * len(indexes)
    return part
