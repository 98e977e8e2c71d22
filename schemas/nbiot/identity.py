"""What tells a part, or what was refused, from others in any envelope.

The ledger of a running installation holds these bytes: another form of them makes what comes again count twice.
"""

import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import msgspec

from schemas.reading import RELATIVE_BELOW, Part
from schemas.rejection import Refusal

_packed = msgspec.msgpack.Encoder().encode
"""A fifth of the time that `repr` takes for a reading."""
_canonical = json.JSONEncoder(sort_keys=True).encode
_metric_of = itemgetter(1)
"""Of a name that is a pair."""


def identify(part: Part, platform: str, device: str, stream: str, time: float = 0.0) -> Part:
    """`part` with its identity: platform, device, stream, times and what was said, units included, in whatever order.

    What was refused counts by its content; where that is nested too deeply, topic and payload are the identity.
    `time`: of the push, which counts where nothing in the part has one: what is refused has none of its own.
    """
    times = part.times
    rows = list(zip(map(_metric_of, part.names), times, part.values, strict=True))
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
    whole = (platform, device, stream, rows, more)
    try:
        return _packed(whole)
    except UnicodeEncodeError:  # half of a surrogate pair, in a name
        return repr(whole).encode()


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


def _content_of(refusals: Sequence[Refusal]) -> list[str] | None:
    """What was refused, as texts in whatever order; None: nested too deeply."""
    try:
        return sorted(_canonical([refusal.reason, refusal.content]) for refusal in refusals)
    except RecursionError:
        return None


def identity_of_refused(reason: str, content: Any) -> bytes | None:
    """What tells refused `content`, decoded JSON, from other content; None: nothing, or nested too deeply."""
    try:
        return None if content is None else _canonical(["refused", reason, content]).encode()
    except RecursionError:
        return None
