"""Pushes of Huawei's platforms: IoTDA (v5), OceanConnect (v1), and the batch report of a gateway.

Fields after support.huaweicloud.com, api-iothub: iot_06_v5_01202 (property), _01205 (message), iot_06_v5_0061 (older,
`data` for `properties`), iot_06_0035 (v1), iot_06_v5_3006 (batch). A service of a device is a part, so that
deviceDataChanged and deviceDatasChanged, which carry the same twice, count once. A metric is named as its property,
with the service behind it (`level.Fire`) where an earlier service of the device in the message has the same one; of
services that the routes file sets apart always, because no message alone says what others call their properties.
A missing or malformed event time becomes the push's, as on the platform itself.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from schemas.message import Message
from schemas.name import MAX_CODE_CHARACTERS
from schemas.nbiot.broken import Broken, refused
from schemas.nbiot.draft import add_value, part_of_values
from schemas.nbiot.fields import imei_of, push_seconds, time_of
from schemas.nbiot.identity import identify
from schemas.payload import Unreadable, load_json, shown
from schemas.plain import terminal_code
from schemas.reading import Decoder, Name, Part
from schemas.rejection import Reason

PLATFORM = "iotda"
STATES = {"ONLINE": 1.0, "OFFLINE": 0.0}
"""States of device.status that are a reading of `online`; others (ABNORMAL, INACTIVE, FROZEN) are events."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""A device id as documented (iot_06_v5_3006); another one is no alias."""
_HINT = "subscribe device.property, device.status, device.message or deviceDataChanged"


class _Device(NamedTuple):
    """Whom a report is from: the platform's id, the terminal's code, and what maps the first to the second."""

    id: str
    code: str
    aliases: dict[str, str]


def decoder(apart: Collection[str] = ()) -> Decoder:
    """A decoder of Huawei's pushes; metrics of the services `apart` are always named with their service."""
    services_apart = frozenset(apart)

    def decode(message: Message) -> list[Part]:
        """A part for each service of each device, one for what can't be read; else one refusal without an index."""
        time = 0.0
        try:
            body = load_json(message.payload)
            time = (
                time_of(body.get("event_time_ms"), body.get("event_time")) if isinstance(body, dict) else 0.0
            )
            return _reader(body)(body, services_apart)
        except Unreadable as fault:
            return [refused(fault, time)]

    return decode


def _reader(body: Any) -> Callable[[dict[str, Any], Collection[str]], list[Part]]:
    """Who reads this kind of push. Raises `Unreadable`."""
    body = _object(body, "the push")
    kind = next((body[key] for key in ("resource", "notifyType") if key in body), None)
    if kind is None and "devices" in body:
        return _batch
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        known = "neither resource nor notifyType is there" if kind is None else f"a push of {shown(kind)}"
        raise Unreadable(Reason.UNSUPPORTED, known, _HINT)
    return reader


def _property(body: dict[str, Any], apart: Collection[str]) -> list[Part]:
    device, report = _v5(body)
    return _parts(lambda draft: _services(device, report.get("services"), _push_time(body), draft), apart)


def _status(body: dict[str, Any], _apart: Collection[str]) -> list[Part]:
    device, report = _v5(body)
    status = report.get("status")
    state = STATES.get(status.upper()) if isinstance(status, str) else None
    if state is not None:
        return _single(device, "online", state, _push_time(body))
    [part] = _single(device, "status", status, _push_time(body))
    part.events = [replace(event, heard=False) for event in part.events]  # the platform's word
    return [part]


def _message(body: dict[str, Any], _apart: Collection[str]) -> list[Part]:
    device, report = _v5(body)
    return _single(device, "message", report, _push_time(body))


def _single(device: _Device, name: str, value: Any, time: float) -> list[Part]:
    part = Part(indexes=[], aliases=device.aliases)
    add_value(part, device.code, name, value, time, 0)
    return [identify(part, PLATFORM, device.id, name, time)]


def _changed(body: dict[str, Any], apart: Collection[str]) -> list[Part]:
    device = _Device(*_own(body.get("deviceId"), "deviceId"))
    services = body.get("services") if body["notifyType"] == "deviceDatasChanged" else [body.get("service")]
    return _parts(lambda draft: _services(device, services, 0.0, draft), apart)


def _batch(body: dict[str, Any], apart: Collection[str]) -> list[Part]:
    children = body["devices"]
    if not isinstance(children, list):
        raise Unreadable(Reason.MALFORMED_PAYLOAD, f"devices is {shown(children)}, not an array", _HINT)
    return _parts(lambda draft: _children(children, draft), apart)


def _children(children: list[Any], draft: "_Draft") -> Iterator[Part]:
    for child in children:
        if draft.counted(child):
            continue
        try:
            fields = _object(child, "a device")
            device = _Device(*_own(fields.get("device_id"), "device_id"))
            yield from _services(device, fields.get("services"), 0.0, draft)
        except Unreadable as fault:
            draft.refuse(fault)


class _Draft:
    """What the services of a message share: the place of the next value, what is refused, whose a metric is."""

    def __init__(self, apart: Collection[str]) -> None:
        self.broken = Broken()
        self._apart = apart
        self._next = 0
        self._service_of: dict[Name, str] = {}

    def take(self, n: int) -> int:
        """The place of the first of the next `n` values."""
        first, self._next = self._next, self._next + n
        return first

    def refuse(self, fault: Unreadable) -> None:
        """Refuse a device or a service."""
        self.broken.add(fault, self.take(1))

    def counted(self, element: Any) -> bool:
        """Whether an element is garbage after much of it, and done with."""
        if (isinstance(element, dict) and element) or not self.broken.full:
            return False
        self.broken.count(self.take(1))
        return True

    def metrics(self, names: list[Name], service: str) -> list[Name]:
        """Properties as metrics: their names, the service's where another one of this device has such a property."""
        owner, apart = self._service_of.setdefault, service in self._apart
        if not apart and {owner(name, service) for name in names} == {service}:  # nearly always
            return names
        return [
            (name[0], f"{name[1]}.{service}") if apart or owner(name, service) != service else name
            for name in names
        ]


def _services(device: _Device, services: Any, push_time: float, draft: _Draft) -> Iterator[Part]:
    """A part a service. Raises `Unreadable` when there are none."""
    if not isinstance(services, list) or not services:
        detail = "services is empty" if services == [] else f"services is {shown(services)}, not an array"
        raise Unreadable(Reason.MALFORMED_PAYLOAD, detail, "leave reports without values out")
    draft.broken.timed |= push_time > 0
    for service in services:
        if draft.counted(service):
            continue
        try:
            yield _service(device, service, push_time, draft)
        except Unreadable as fault:
            draft.refuse(fault)
            if isinstance(service, dict):
                draft.broken.timed |= time_of(service.get("event_time"), service.get("eventTime")) > 0


def _service(device: _Device, service: Any, push_time: float, draft: _Draft) -> Part:
    fields = _object(service, "a service")
    values = fields.get("properties", fields.get("data"))
    if not isinstance(values, dict) or not values:
        raise Unreadable(
            Reason.MALFORMED_PAYLOAD, f"properties is {shown(values)}", "send values in properties (v1: data)"
        )
    time = _time(fields, "event_time", "eventTime") or push_time
    first = draft.take(len(values))
    stream = fields.get("service_id", fields.get("serviceId"))
    service = stream if isinstance(stream, str) else shown(stream)
    part = part_of_values(device.code, values, time, first, device.aliases)
    identify(part, PLATFORM, device.id, service, time)  # before names that depend on the other services
    part.names = draft.metrics(part.names, service)
    return part


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(Reason.MALFORMED_PAYLOAD, f"{what} is {shown(value)}, not an object", _HINT)
    return value


def _v5(body: dict[str, Any]) -> tuple[_Device, dict[str, Any]]:
    """Device and body of a v5 push. Raises `Unreadable`."""
    data = body.get("notify_data")
    header, report = (data.get("header"), data.get("body")) if isinstance(data, dict) else (None, None)
    if not isinstance(header, dict) or not isinstance(report, dict):
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "notify_data lacks its header or body", _HINT)
    id_, code, aliases = _own(header.get("device_id"), "device_id")
    if imei := imei_of(header.get("node_id")):
        code, aliases = f"imei:{imei}", {code: f"imei:{imei}"} if _ID.fullmatch(id_) else {}
    return _Device(id_, code, aliases), report


def _own(value: Any, label: str) -> tuple[str, str, dict[str, str]]:
    """A device by the platform's id alone. Raises `Unreadable`."""
    id_ = terminal_code(value, label)
    if (
        len(id_) > MAX_CODE_CHARACTERS
    ):  # it stands in the identity of each service: the work would be quadratic
        detail = f"{label} has {len(id_)} characters, {MAX_CODE_CHARACTERS} are allowed"
        raise Unreadable(Reason.INVALID_NAME, detail, "send the platform's push unchanged")
    return id_, f"{PLATFORM}:{id_}", {}


def _push_time(body: dict[str, Any]) -> float:
    return _time(body, "event_time_ms", "event_time")


def _time(fields: dict[str, Any], *labels: str) -> float:
    """The first of these times that is there and well formed; 0.0 if none. Raises `Unreadable` for one before 1978."""
    for label in labels:
        try:
            if time := push_seconds(fields.get(label), label):
                return time
        except Unreadable as fault:
            if fault.reason is not Reason.MALFORMED_PAYLOAD:
                raise
    return 0.0


def _parts(read: Callable[[_Draft], Iterator[Part]], apart: Collection[str]) -> list[Part]:
    draft = _Draft(apart)
    good = list(read(draft))
    if found := [*good, *draft.broken.parts(good)]:
        return found
    raise Unreadable(Reason.MALFORMED_PAYLOAD, "no device in the batch", "leave empty messages out")


_READERS: dict[str, Callable[[dict[str, Any], Collection[str]], list[Part]]] = {
    "device.property": _property,
    "device.data": _property,
    "device.status": _status,
    "device.message": _message,
    "deviceDataChanged": _changed,
    "deviceDatasChanged": _changed,
}
