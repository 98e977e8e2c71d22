"""What a simulated gateway writes in a dialect of others: the pushes of NB-IoT platforms, and Sparkplug B. Pure.

Shapes as in tests/golden. None of them says units, so values come in the catalogue's. The terminals of a platform
go by their IMEI, those of Sparkplug by `spb:group/edge/device`. Sparkplug payloads are written without their
sequence number, which `Numbers` adds when the order of sending is known.
"""

import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import msgspec

from ingest.kinds import Sample
from ingest.publish import Outgoing
from schemas import sparkplug as wire
from schemas.sparkplug_message import PREFIX

ALONE = frozenset({"ctwing", "iotda", "sparkplug"})
"""Dialects of which a message speaks of one terminal."""
GROUP = "ganzhi"
"""The Sparkplug group of all simulated edge nodes."""
DATATYPE_UINT64, DATATYPE_DOUBLE = 8, 10
TIMESTAMP, METRIC, SEQ = 1 << 3, 2 << 3 | 2, 3 << 3
"""Fields of a Sparkplug payload."""


def push(platform: str, gateway: str, samples: Sequence[Sample]) -> Outgoing:
    """A platform's push, as a bridge of this name republishes it."""
    kind = "onenet_current" if platform == "onenet" and _is_current(gateway) else platform
    payload = msgspec.json.encode(_BODIES[kind](samples))
    return Outgoing(f"nbiot/{platform}/{gateway}", payload, readings=len(samples))


def _is_current(gateway: str) -> bool:
    """Whether a bridge is on OneNET's current platform: every other one, the same after a restart."""
    return crc32(gateway.encode()) % 2 == 0


def _ctwing(samples: Sequence[Sample]) -> dict[str, Any]:
    first = samples[0]
    imei = _imei(first)
    return {
        "upPacketSN": -1, "upDataSN": -1, "topic": "v1/up/ad19prof", "timestamp": _ms(first), "tenantId": "10000000",
        "serviceId": "", "protocol": "lwm2m", "productId": "15000000",
        "payload": {"serviceId": "notification", "serviceData": {s.metric: s.value for s in samples}},
        "messageType": "dataReport", "deviceType": "", "deviceId": f"{int(imei):032x}", "assocAssetId": "",
        "IMSI": "undefined", "IMEI": imei,
    }  # fmt: skip


def _onenet(samples: Sequence[Sample]) -> dict[str, Any]:
    """The old suite's array of data points."""
    points = [{"at": _ms(s), "imei": _imei(s), "type": 1, "ds_id": s.metric, "value": s.value,
               "dev_id": int(_imei(s)[6:])} for s in samples]  # fmt: skip
    return {"msg": points, "msg_signature": "A" * 22 + "==", "nonce": "C1z3?giR"}


def _onenet_current(samples: Sequence[Sample]) -> dict[str, Any]:
    """The current platform's text in a text: a report of each terminal, an array of them where there are several."""
    by_code = itertools.groupby(sorted(samples, key=lambda sample: sample.code), lambda sample: sample.code)
    reports = [_notify(list(own)) for _, own in by_code]
    text = msgspec.json.encode(reports if len(reports) > 1 else reports[0]).decode()
    return {"msg": text, "time": _ms(samples[0]), "id": str(_ms(samples[0])), "signature": "A" * 22 + "==",
            "nonce": "C1z3?giR"}  # fmt: skip


def _notify(samples: Sequence[Sample]) -> dict[str, Any]:
    """What a terminal reports to OneNET's current platform."""
    imei = _imei(samples[0])
    params = {sample.metric: {"value": sample.value, "time": _ms(sample)} for sample in samples}
    return {"productId": "C6z4Zk012B", "deviceId": int(imei[6:]), "deviceName": imei, "imei": imei,
            "messageType": "notify", "notifyType": "property",
            "data": {"id": str(_ms(samples[0])), "version": "1.0", "params": params}}  # fmt: skip


def _iotda(samples: Sequence[Sample]) -> dict[str, Any]:
    imei, time = _imei(samples[0]), samples[0].iso
    device = f"6a44f104_{imei}"
    service = {"service_id": "Meter", "event_time": time, "properties": {s.metric: s.value for s in samples}}
    header = {"app_id": "b95d0000000000000000000000000001", "device_id": device, "node_id": imei,
              "product_id": "6a44f104", "gateway_id": device}  # fmt: skip
    return {"resource": "device.property", "event": "report", "event_time_ms": time,
            "notify_data": {"header": header, "body": {"services": [service]}}}  # fmt: skip


_BODIES: Mapping[str, Callable[[Sequence[Sample]], dict[str, Any]]] = {
    "ctwing": _ctwing,
    "onenet": _onenet,
    "onenet_current": _onenet_current,
    "iotda": _iotda,
}
PUSHES = ("ctwing", "onenet", "iotda")
"""Platforms."""
DIALECTS = ("senml", "plain", *PUSHES, "sparkplug")
"""What a fleet of a scenario can speak."""


def edge_birth(edge: str, now: float) -> Outgoing:
    """The NBIRTH of an edge node."""
    return Outgoing(f"{PREFIX}{GROUP}/NBIRTH/{edge}", _payload(now, _bd_seq()), readings=1)


def edge_death(edge: str, devices: int) -> Outgoing:
    """Its NDEATH, which says `online` 0 of the node and of this many devices."""
    return Outgoing(f"{PREFIX}{GROUP}/NDEATH/{edge}", _field(METRIC, _bd_seq()), readings=1 + devices)


def device_birth(samples: Sequence[Sample], now: float) -> Outgoing:
    """The DBIRTH of a device: name, alias, type and value of all that it measures."""
    metrics = (
        _field(wire.NAME, s.metric.encode()) + _field(wire.ALIAS, _alias(s)) + _field(wire.TIMESTAMP, _ms(s))
        + _field(wire.DATATYPE, DATATYPE_DOUBLE) + _field(wire.DOUBLE, s.value)
        for s in samples
    )  # fmt: skip
    return Outgoing(_topic("DBIRTH", samples), _payload(now, *metrics), readings=len(samples) + 1)


def device_data(samples: Sequence[Sample]) -> Outgoing:
    """A DDATA, which names aliases only."""
    metrics = (
        _field(wire.ALIAS, _alias(s)) + _field(wire.TIMESTAMP, _ms(s)) + _field(wire.DOUBLE, s.value)
        for s in samples
    )
    return Outgoing(_topic("DDATA", samples), _payload(samples[0].at, *metrics), readings=len(samples))


def code(edge: str, device: str) -> str:
    """The code of a device behind an edge node."""
    return f"spb:{GROUP}/{edge}/{device}"


class Numbers:
    """Sequence numbers of edge nodes, 0 to 255, each from its NBIRTH on."""

    def __init__(self) -> None:
        self._next: dict[str, itertools.cycle[int]] = {}

    def put(self, message: Outgoing) -> Outgoing:
        """The message with its number, if it is Sparkplug and has one; call it in the order of sending."""
        if not message.topic.startswith(PREFIX):
            return message
        _, _, kind, edge, *_ = message.topic.split("/")
        if kind == "NDEATH":
            return message
        if kind == "NBIRTH" or edge not in self._next:
            self._next[edge] = itertools.cycle(range(256))
        return message._replace(payload=message.payload + _field(SEQ, next(self._next[edge])))


def _imei(sample: Sample) -> str:
    return sample.code.removeprefix("imei:")


def _ms(sample: Sample) -> int:
    return int(1000 * sample.at)


def _alias(sample: Sample) -> int:
    """A number for the metric that is the same after a restart."""
    return crc32(f"{sample.code}/{sample.metric}".encode())


def _topic(kind: str, samples: Sequence[Sample]) -> str:
    group, edge, device = samples[0].code.removeprefix("spb:").split("/")
    return f"{PREFIX}{group}/{kind}/{edge}/{device}"


def _bd_seq() -> bytes:
    said = _field(wire.NAME, b"bdSeq") + _field(wire.DATATYPE, DATATYPE_UINT64)
    return said + _field(wire.LONG, 0)


def _payload(now: float, *metrics: bytes) -> bytes:
    return _field(TIMESTAMP, int(1000 * now)) + b"".join(_field(METRIC, metric) for metric in metrics)


def _field(key: int, value: float | bytes) -> bytes:
    if isinstance(value, bytes):
        return wire.varint_bytes(key) + wire.varint_bytes(len(value)) + value
    if isinstance(value, float):
        return wire.varint_bytes(key) + struct.pack("<d", value)
    return wire.varint_bytes(key) + wire.varint_bytes(value)
