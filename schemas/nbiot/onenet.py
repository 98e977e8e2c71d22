"""Pushes of China Mobile's OneNET, in the form of the old NB-IoT suite and in that of the current platform.

Around both is an envelope: `msg`, a nonce and a signature. The old suite's `msg` is an object or an
array of objects told apart by `type`: 1 a data point, 2 a connection, 7 the result of a cached
command. The current platform's is a text of JSON, by `messageType`: notify (properties or events of
the thing model, each with its own time), lifeCycle (a connection), reply. Contents without an
envelope, as message queues deliver them, are taken where no token is set.

`ds_id` such as 3300_0_5700 is an LwM2M path. Resource 5750 (application type) is used as a tunnel
for hex by many devices.

Sources: the platform's manuals on HTTP push (nb-iot httppush, iot_platform rule engine) and, for
signature and encryption, its own receiver (github.com/cm-heclouds/data-push).
"""

import re
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from schemas.message import Message
from schemas.nbiot import onenet_envelope as envelope
from schemas.nbiot.broken import Broken, refused
from schemas.nbiot.draft import Draft
from schemas.nbiot.fields import (
    MILLISECONDS_MAX,
    an_object,
    imei_of,
    load_object,
    online,
    push_seconds,
    said,
    terminal,
    time_of,
)
from schemas.nbiot.identity import identify, identity_alone
from schemas.nbiot.value import plain_number
from schemas.payload import Unreadable, load_json, shown
from schemas.reading import RELATIVE_BELOW, Decoder, Name, Part
from schemas.rejection import Reason
from schemas.remember import remembering

_PATH = re.compile(r"([0-9]{1,5})_([0-9]{1,5})_([0-9]{1,5})")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_TUNNEL = "/5750"
_OF_THE_ENVELOPE = frozenset({"imei", "dev_id", "pid", "dev_name", "type", "at"})
_of_a_point = itemgetter("type", "ds_id", "value", "at", "imei", "dev_id")
_DEVICES = 10**18
"""The platform's ids have 9 or 10 digits."""
_Point = tuple[Name, float, float, int, str, bytes]
"""A reading as a name, value, time and place in the message; the alias of its terminal; what it is known by."""
_OF_THE_REPORT = frozenset({"id", "version", "sys"})


def decoder(token: str = "", aes_key: str = "") -> Decoder:
    """A decoder of OneNET pushes. With a `token` signatures are checked; `aes_key` opens encrypted ones."""

    def decode(message: Message) -> list[Part]:
        """A part for each element of `msg`, one for those that can't be read; else one refusal without an index."""
        time, sent = 0.0, None
        try:
            push = load_object(message.payload)
            sent = envelope.sent(push)
            said_at = push.get("time") if "msg" in push or "enc_msg" in push else None
            time = time_of(said_at)
            content = envelope.content(push, message.payload, token, aes_key)
            return _parts(content, push_seconds(said_at, "time"))
        except Unreadable as fault:
            return [refused(fault, time or _own_time(sent), sent)]

    return decode


def _parts(content: Any, time: float) -> list[Part]:
    if content == []:
        fault = Unreadable(Reason.MALFORMED_PAYLOAD, "msg is an empty array", "leave empty pushes out")
        return [refused(fault, time, content)]
    if not isinstance(content, list):
        try:
            return [_part(content, time, 0)[0]]
        except Unreadable as fault:
            return [refused(fault, time or _own_time(content), content)]
    parts, index, broken = [], 0, Broken()
    points: list[_Point] = []
    broken.timed = time > 0
    for item in content:
        if point := _usual(item, index):
            points.append(point)
            index += 1
            continue
        if points:  # in the order of the array: of a point and a goodbye the last says whether it is there
            parts.append(_together(points))
            points = []
        if broken.full and not (isinstance(item, dict) and item):
            broken.count(index)
            index += 1
            continue
        try:
            part, index = _part(item, time, index)
            parts.append(part)
        except Unreadable as fault:
            broken.add(fault, index)
            broken.timed = broken.timed or _own_time(item) > 0
            index += 1
    if points:
        parts.append(_together(points))
    return [*parts, *broken.parts(parts, content)]


def _usual(item: Any, index: int) -> _Point | None:
    """A data point as documented: a number, its time, the IMEI and the device's id. None: ask `_part`.

    Arrays of the old suite consist of such: both read the same, this in a third of the time.
    """
    try:
        kind, stream, sent, at, imei, device = _of_a_point(item)
    except (KeyError, TypeError):
        return None
    if not (
        type(kind) is type(at) is type(device) is int
        and kind == 1
        and type(stream) is str
        and stream
        and "messageType" not in item
        and RELATIVE_BELOW * 1000 <= at < MILLISECONDS_MAX
        and 0 <= device < _DEVICES
        and (digits := imei_of(imei))
        and (value := plain_number(name := _name(stream), sent)) is not None
    ):
        return None
    code, time, own = f"imei:{digits}", at / 1000, str(device)
    known = identity_alone("onenet", own, stream, name, time, value)
    return (code, name), value, time, index, "onenet:" + own, known


def _together(points: list[_Point]) -> Part:
    """The part of data points, of which each counts by itself."""
    names, values, times, indexes, aliases, identities = map(list, zip(*points, strict=True))
    codes = {alias: code for alias, (code, _) in zip(aliases, names, strict=True)}
    units: list[str | None] = [None] * len(points)
    return Part(names, units, values, times, indexes, identities=identities, aliases=codes)


def _own_time(content: Any) -> float:
    """A time that the content of an envelope says, also as text, or of several reports the first; 0.0 where none is."""
    if isinstance(content, str):
        try:
            return _own_time(load_json(content.encode("utf-8", "surrogatepass")))
        except Unreadable:
            return 0.0
    if isinstance(content, list):
        return next(filter(None, map(_own_time, content)), 0.0)
    if not isinstance(content, dict):
        return 0.0
    data = content.get("data")
    inner: dict[str, Any] = data if isinstance(data, dict) else {}
    params = inner.get("params", inner)
    reports = params.values() if isinstance(params, dict) else ()
    own = (report.get("time") for report in reports if isinstance(report, dict))
    return time_of(content.get("at"), inner.get("time"), *own)


def _part(item: Any, time: float, first: int) -> tuple[Part, int]:
    """The part of an element and the index after its values; raises `Unreadable`."""
    item = an_object(item, "msg")
    reader = _reader(item)
    device = _device(item)
    code, aliases = terminal("onenet", device, imei_of(item.get("imei")))
    time = push_seconds(item.get("at"), "at") or time
    draft = Draft(code, aliases, time, first)
    stream = reader(item, draft)
    return identify(draft.part, "onenet", device or code, stream, time), draft.index


def _device(item: dict[str, Any]) -> str | None:
    """The platform's device id, else product and name, which are one device too; None where neither is there."""
    for field in ("dev_id", "deviceId"):
        if said(value := item.get(field)) and isinstance(value, str | int):
            return str(value)
    product, name = item.get("pid", item.get("productId")), item.get("dev_name", item.get("deviceName"))
    both = all(said(part) and isinstance(part, str | int) for part in (product, name))
    return f"{product}/{name}" if both else None


def _reader(item: dict[str, Any]) -> Callable[[dict[str, Any], Draft], str]:
    for field, readers in _FORMS:
        if field in item:
            kind = item[field]
            if isinstance(kind, str | int) and (reader := readers.get(str(kind))):
                return reader
            raise Unreadable(
                Reason.UNSUPPORTED, f"{field} is {shown(kind)}", f"known are {', '.join(readers)}"
            )
    raise Unreadable(Reason.MALFORMED_PAYLOAD, "neither type nor messageType is there",
                     "send the platform's push unchanged")  # fmt: skip


def _point(item: dict[str, Any], draft: Draft) -> str:
    stream = item.get("ds_id")
    if not isinstance(stream, str) or not stream:
        raise Unreadable(Reason.INVALID_NAME, f"ds_id is {shown(stream)}, not a name", "such as 3303_0_5700")
    name, value = _name(stream), item.get("value")
    if (
        name.endswith(_TUNNEL)
        and isinstance(value, str)
        and _PATH.fullmatch(stream)
        and _HEX.fullmatch(value)
    ):
        draft.event(name, {"hex": value.lower()})
    else:
        draft.put(name, value)
    return stream


@remembering
def _name(stream: str) -> str:
    """A stream's name as a metric: an LwM2M path in the form that the catalogue and SenML have."""
    path = _PATH.fullmatch(stream)
    return "/".join(path.groups()) if path else stream


def _connection(item: dict[str, Any], draft: Draft) -> str:
    draft.put("online", online(item.get("status"), "status"))
    return "online"


def _command(item: dict[str, Any], draft: Draft) -> str:
    body = {k: v for k, v in item.items() if k not in _OF_THE_ENVELOPE}
    draft.event(
        "commandResult", body, heard=False
    )  # an expired one has the same form, and its codes are not public
    return "command"


def _notify(item: dict[str, Any], draft: Draft) -> str:
    kind = item.get("notifyType", "property")
    if kind not in ("property", "event"):
        raise Unreadable(Reason.UNSUPPORTED, f"notifyType is {shown(kind)}", "known are property, event")
    data = an_object(item.get("data"), "data")
    plain = {name: value for name, value in data.items() if name not in _OF_THE_REPORT}
    for name, param in an_object(data.get("params", plain), "params").items():
        value, said_at = _value(param)
        try:
            time = push_seconds(said_at, "time")
        except Unreadable as fault:
            draft.refuse(
                Unreadable(fault.reason, f"{shown(name)}: {fault.detail}", fault.hint), [name, param]
            )
            continue
        if kind == "event":
            draft.event(name, value if isinstance(value, dict) else {"value": value}, time)
        else:
            draft.put(_name(name), value, time)
    return str(kind)


def _value(param: Any) -> tuple[Any, Any]:
    """Value and time of a parameter; of LwM2M's opaque resources the value is in `bin_data`."""
    if not isinstance(param, dict) or not ("value" in param or "bin_data" in param):
        return param, None
    value = param.get("value")
    return param.get("bin_data") if value is None else value, param.get("time")


def _life_cycle(item: dict[str, Any], draft: Draft) -> str:
    data = an_object(item.get("data"), "data")
    draft.put("online", online(data.get("status"), "status"), push_seconds(data.get("time"), "time"))
    return "online"


def _reply(item: dict[str, Any], draft: Draft) -> str:
    draft.event("reply", an_object(item.get("data"), "data"))
    return "reply"


_OLD: Mapping[str, Callable[[dict[str, Any], Draft], str]] = {"1": _point, "2": _connection, "7": _command}
_CURRENT: Mapping[str, Callable[[dict[str, Any], Draft], str]] = {
    "notify": _notify,
    "lifeCycle": _life_cycle,
    "reply": _reply,
}
"""By type and by messageType; each fills the draft and answers the stream's name for the identity."""
_FORMS = (("messageType", _CURRENT), ("type", _OLD))
