"""Pushes of China Telecom's CTWing (AEP), one JSON object each, by its `messageType`.

dataReport is a set of values: of the product's model, of a service (`serviceData`), or transparent
bytes (`APPdata`, base64), which a hook of the product reads. dataReportTupUnion brings the same
values a second time: it has the identity of the first and counts once. eventReport and
commandResponse are events, deviceOnlineOfflineReport is a reading of `online`.

Field tables: the platform's help pages on message push as quoted by clients; not first-hand. The
platform's own numbers (upPacketSN, upDataSN) are -1 or "" when unused and tell nothing apart.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from schemas.message import Message
from schemas.nbiot.broken import refused
from schemas.nbiot.draft import Draft, Hook
from schemas.nbiot.fields import an_object, imei_of, load_object, online, push_seconds, said, terminal
from schemas.nbiot.identity import identify
from schemas.payload import Unreadable, shown
from schemas.reading import Decoder, Part
from schemas.rejection import Reason

_IMEI_AT_END = re.compile(r"[0-9]{8,10}((?:35|86)[0-9]{13})")
"""Product id and IMEI as device id. 35 and 86 are the bodies that give numbers to modules sold in China;
any other serial number of 15 digits stays one."""
_EVENT_FIELDS = ("serviceId", "eventType", "eventContent", "deviceSn")
_RESPONSE_FIELDS = ("taskId", "result")
_ANSWERED = ("DELIVERED", "SUCCESSFUL")
"""Results that the terminal had a part in; SENT, EXPIRED, TIMEOUT and FAILED come without a word from it."""


def decoder(hooks: Mapping[str, Hook]) -> Decoder:
    """A decoder of CTWing pushes; `hooks` read transparent payloads, by product id."""

    def decode(message: Message) -> list[Part]:
        """One part; of a push that can't be read, one refusal without an index."""
        time = 0.0
        try:
            push = load_object(message.payload)
            time = push_seconds(push.get("timestamp"), "timestamp")
            return [_read(push, time, hooks)]
        except Unreadable as fault:
            return [refused(fault, time)]

    return decode


def _read(push: dict[str, Any], time: float, hooks: Mapping[str, Hook]) -> Part:
    kind, device = push.get("messageType"), push.get("deviceId")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise Unreadable(
            Reason.UNSUPPORTED, f"messageType is {shown(kind)}", f"known are {', '.join(_READERS)}"
        )
    code, aliases = terminal("ctwing", device, imei_of(push.get("IMEI")) or _imei_in(device))
    draft = Draft(code, aliases, time)
    stream = reader(push, draft, hooks)
    named = str(device) if said(device) and isinstance(device, str | int) else code
    part = identify(draft.part, "ctwing", named, stream, time)
    if stream == "command" and said(push.get("taskId")):
        part.absolute = (
            True  # a task has a number of its own, which stands in the event and so in the identity
        )
    return part


def _imei_in(device: Any) -> str | None:
    found = _IMEI_AT_END.fullmatch(device) if isinstance(device, str) else None
    return found[1] if found else None


def _data(push: dict[str, Any], draft: Draft, hooks: Mapping[str, Hook]) -> str:
    payload = an_object(push.get("payload"), "payload")
    if "APPdata" in payload:
        product = push.get("productId")
        hook = hooks.get(str(product)) if isinstance(product, str | int) else None
        draft.transparent("APPdata", _bytes(payload["APPdata"]), hook)
        return "data"
    if "serviceData" in payload:
        payload = an_object(payload["serviceData"], "serviceData")
    draft.put_all(payload)
    return "data"


def _bytes(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        detail = f"APPdata is {shown(text)}, not base64"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "send the platform's push unchanged") from None


def _event(push: dict[str, Any], draft: Draft, _hooks: Mapping[str, Hook]) -> str:
    draft.event("eventReport", {field: push[field] for field in _EVENT_FIELDS if field in push})
    return "event"


def _connection(push: dict[str, Any], draft: Draft, _hooks: Mapping[str, Hook]) -> str:
    draft.put("online", online(push.get("eventType"), "eventType"))
    return "online"


def _response(push: dict[str, Any], draft: Draft, _hooks: Mapping[str, Hook]) -> str:
    result = push.get("result")
    answered = isinstance(result, dict) and result.get("resultCode") in _ANSWERED
    body = {field: push[field] for field in _RESPONSE_FIELDS if field in push}
    draft.event("commandResponse", body, heard=answered)
    return "command"


_READERS: Mapping[str, Callable[[dict[str, Any], Draft, Mapping[str, Hook]], str]] = {
    "dataReport": _data,
    "dataReportTupUnion": _data,
    "eventReport": _event,
    "deviceOnlineOfflineReport": _connection,
    "commandResponse": _response,
}
"""By messageType; each fills the draft and answers the stream's name for the identity."""
