"""`python -m tests.bench.dialects [NAME ...]`: CPU per reading and per message of every dialect, as a worker spends it.

Decode, resolve against terminals that are known already, and seal: all but the database and the broker, on one
core. Packs hold 60 readings, a batch 20,000; messages of one reading come 2,000 in a batch. Sparkplug is decoded
where the births are known, as in the writer's thread. The goal: 3 us a reading in packs, 25 us a message of one.
"""

import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import cbor2

from devices.registry import Registry
from ingest.batch import Batch
from ingest.decode import DECODERS, Decode
from ingest.explain import Imagined
from ingest.resolve import Resolver
from ingest.seal import seal
from ingest.service import keep_memory
from ingest.settings import OnUnknown
from schemas.message import Message
from schemas.reading import Decoder
from schemas.routes import Routes
from schemas.sparkplug_births import Node
from schemas.sparkplug_message import read
from tests.sparkplug import metric, payload

RUNS = 7
PACK, BATCH_READINGS, BATCH_SINGLES = 60, 20_000, 2_000
NOW = 1_763_712_000.0
GOAL_READING_US, GOAL_MESSAGE_US = 3.0, 25.0
VENDORS = Path(str(files("schemas"))) / "data" / "vendors.toml"
METRICS = ("temperature", "humidity", "battery", "rsrp", "pressure", "flow")
Made = tuple[str, bytes] | tuple[str, bytes, str]
"""Topic, payload and, for SenML, content type."""


def imei(n: int) -> str:
    """The nth terminal's."""
    return f"8600000{n:08d}"


def ms(n: int) -> int:
    """A time of the nth message, in milliseconds."""
    return int(NOW - 60) * 1000 + n


def values(count: int, n: int) -> dict[str, float]:
    """So many named values, other ones in every message."""
    names = METRICS if count <= len(METRICS) else [f"m{i}" for i in range(count)]
    return {name: 20 + (n + i) % 700 / 100 for i, name in zip(range(count), names, strict=False)}


def senml(n: int, count: int) -> list[dict[str, object]]:
    """Records of 3 readings a terminal, all of the same minute."""
    size = min(count, 3)
    records: list[dict[str, object]] = []
    for child in range(count // size):
        own = [{"n": name, "u": "Cel" if name == "temperature" else "%RH" if name == "humidity" else "%EL", "v": v}
               for name, v in values(size, n + child).items()]  # fmt: skip
        own[0]["bn"] = f"urn:imei:{imei(20 * (n % 300) + child)}:"
        records += own
    records[0]["bt"] = ms(n) / 1000
    return records


def senml_json(n: int, count: int) -> Made:
    """SenML in JSON."""
    return "ganzhi/v1/370102/gw-1/telemetry", as_bytes(senml(n, count)), "application/senml+json"


def senml_cbor(n: int, count: int) -> Made:
    """SenML in CBOR."""
    labels = {"bn": -2, "bt": -3, "n": 0, "u": 1, "v": 2}
    pack = [{labels[k]: v for k, v in record.items()} for record in senml(n, count)]
    return "ganzhi/v1/370102/gw-1/telemetry", cbor2.dumps(pack), "application/senml+cbor"


def plain(n: int, count: int) -> Made:
    """The plain form."""
    size = min(count, 3)
    pack = [
        {"id": imei(20 * (n % 300) + c), "t": ms(n), "values": values(size, n + c)}
        for c in range(count // size)
    ]
    return "ganzhi/v1/370102/gw-1/telemetry", as_bytes(pack), "application/json"


def ctwing(n: int, count: int) -> Made:
    """A dataReport of a terminal, as tests/golden/ctwing/smoke_service_data."""
    return "nbiot/ctwing/b-1", as_bytes({
        "upPacketSN": -1, "upDataSN": -1, "topic": "v1/up/ad19prof", "timestamp": ms(n), "tenantId": "10000000",
        "serviceId": "", "protocol": "lwm2m", "productId": "15000000", "messageType": "dataReport", "deviceType": "",
        "payload": {"serviceId": "notification", "serviceData": values(count, n)},
        "deviceId": f"{n % 300:032x}", "assocAssetId": "", "IMSI": "undefined", "IMEI": imei(n % 300),
    })  # fmt: skip


def onenet_old(n: int, count: int) -> Made:
    """Data points of the old suite: an array, or one."""
    points = [
        {"at": ms(n), "imei": imei(20 * (n % 300) + i // 3), "type": 1, "ds_id": f"33{i % 3:02d}_0_5700",
         "value": 20 + (n + i) % 700 / 100, "dev_id": 523_000_000 + 20 * (n % 300) + i // 3}
        for i in range(count)
    ]  # fmt: skip
    return "nbiot/onenet/b-1", as_bytes(onenet_push(points if count > 1 else points[0], n))


def onenet_new(n: int, count: int) -> Made:
    """Properties of the current platform: a text of JSON in JSON."""
    params = {name: {"value": value, "time": ms(n)} for name, value in values(count, n).items()}
    notify = {"productId": "C6z4Zk012B", "deviceId": 1_343_759 + n % 300, "deviceName": "meter",
              "messageType": "notify", "notifyType": "property", "imei": imei(n % 300),
              "data": {"id": str(n), "version": "1.0", "params": params}}  # fmt: skip
    return "nbiot/onenet/b-1", as_bytes(onenet_push(json.dumps(notify), n))


def onenet_push(msg: object, n: int) -> dict[str, object]:
    """The envelope."""
    return {
        "msg": msg,
        "nonce": "C1z3?giR",
        "signature": "A" * 22 + "==",
        "time": ms(n),
        "id": "e" + "0" * 31,
    }


def iotda_property(n: int, count: int) -> Made:
    """device.property of a device."""
    node = imei(n % 300)
    service = {"service_id": "Meter", "event_time": "20251121T075900Z", "properties": values(count, n)}
    header = {"app_id": "b95d" + "0" * 28, "device_id": f"6a44f104_{node}", "node_id": node, "product_id": "6a44f104",
              "gateway_id": f"6a44f104_{node}"}  # fmt: skip
    return "nbiot/iotda/b-1", as_bytes({
        "resource": "device.property", "event": "report", "event_time": "20251121T080000Z",
        "event_time_ms": "2025-11-21T08:00:00.480Z", "request_id": "65fb87b2-0000-0000-0000-c5e668fd9b2e",
        "notify_data": {"header": header, "body": {"services": [service]}},
    })  # fmt: skip


def iotda_batch(n: int, count: int) -> Made:
    """A gateway's batch report, 3 readings a child."""
    size = min(count, 3)
    return "nbiot/iotda/b-1", as_bytes({"devices": [
        {"device_id": f"bf40f0c4-0000-0000-0000-{20 * (n % 300) + child:012d}",
         "services": [{"service_id": "analog", "properties": values(size, n + child),
                       "event_time": "20251121T075900Z"}]}
        for child in range(count // size)
    ]})  # fmt: skip


def sparkplug_birth(count: int) -> bytes:
    """The DBIRTH that declares the aliases of `sparkplug`."""
    metrics = (metric(name=f"m{i}", alias=i, datatype=10, double=0.0) for i in range(count))
    return payload(*metrics, at_ms=ms(0), seq=1)


def sparkplug(n: int, count: int) -> Made:
    """A DDATA that names aliases."""
    metrics = (metric(alias=i, timestamp=ms(n), double=20 + (n + i) % 700 / 100) for i in range(count))
    return f"spBv1.0/plant/DDATA/edge-1/meter-{n % 300}", payload(*metrics, at_ms=ms(n), seq=n % 256)


def alibaba(n: int, count: int) -> Made:
    """Properties of a device, each with its time."""
    params = {name: {"value": value, "time": ms(n)} for name, value in values(count, n).items()}
    topic = f"/sys/a1B2c3D4e5F/{imei(n % 300)}/thing/event/property/post"
    return topic, as_bytes({"id": "123", "version": "1.0", "sys": {"ack": 0}, "params": params,
                            "method": "thing.event.property.post"})  # fmt: skip


def thingsboard(n: int, count: int) -> Made:
    """A gateway's telemetry, 3 values a record."""
    return "thingsboard/gw-1/v1/gateway/telemetry", as_bytes({
        f"Meter {20 * (n % 300) + child}": [{"ts": ms(n), "values": values(min(count, 3), n + child)}]
        for child in range(count // min(count, 3))
    })  # fmt: skip


def thingsboard_ones(n: int, count: int) -> Made:
    """The same with a value a record, which is the dearest form."""
    return "thingsboard/gw-1/v1/gateway/telemetry", as_bytes({
        f"Meter {60 * (n % 100) + child}": [{"ts": ms(n), "values": values(1, n + child)}] for child in range(count)
    })  # fmt: skip


def jetlinks(n: int, count: int) -> Made:
    """Properties of a device."""
    device = f"dev-{n % 300:04d}"
    return f"/meter/{device}/properties/report", as_bytes({
        "messageId": f"m-{n}", "deviceId": device, "timestamp": ms(n), "properties": values(count, n)})  # fmt: skip


def emqx_lwm2m(n: int, count: int) -> Made:
    """A notify with this many resources."""
    content = [{"path": f"/3303/{i}/5700", "value": 20 + (n + i) % 700 / 100} for i in range(count)]
    data = {"code": "2.05", "codeMsg": "content", "reqPath": "/3303", "content": content}
    body = {"reqID": 0, "msgType": "notify", "seqNum": n, "data": data}
    return f"lwm2m/urn:imei:{imei(n % 300)}/up/notify", as_bytes(body)


def as_bytes(value: object) -> bytes:
    """JSON as platforms write it."""
    return json.dumps(value, separators=(",", ":")).encode()


DIALECTS: Sequence[Callable[[int, int], Made]] = (
    senml_json, senml_cbor, plain, ctwing, onenet_old, onenet_new, iotda_property, iotda_batch, sparkplug, alibaba,
    thingsboard, thingsboard_ones, jetlinks, emqx_lwm2m,
)  # fmt: skip


def sparkplug_decoder(count: int) -> Decoder:
    """The writer's decoder, where every device is born."""
    node = Node()
    birth = sparkplug_birth(count)
    for device in range(300):
        message = Message(f"spBv1.0/plant/DBIRTH/edge-1/meter-{device}", birth, NOW)
        for born in read(message, node).part.births:
            node.put(born)
    return lambda message: [read(message, node).part]


def spent_us(make: Callable[[int, int], Made], readings: int) -> float:
    """Median CPU for one message of so many readings, in microseconds."""
    messages = BATCH_READINGS // readings if readings > 1 else BATCH_SINGLES
    made = [make(n, readings) for n in range(messages)]
    directory, registry = Imagined(), Registry()
    resolver = Resolver(registry, OnUnknown.REGISTER, OnUnknown.REGISTER)
    resolver.load(directory)
    by_name = {**DECODERS, "sparkplug": sparkplug_decoder(readings)}
    decode = Decode(Routes.load(VENDORS), 1_048_576, registry, by_name=by_name)

    def run() -> None:
        batch = Batch()
        for topic, body, *content_type in made:
            message = Message(topic, body, NOW, *content_type)
            way, parts = decode(message)
            batch.add(message, way.place, parts)
        sealed = seal(batch, resolver(directory, batch), registry, 1e9)
        assert len(sealed.rows) == messages * readings, sealed.refusals

    run()
    return statistics.median(timed(run) for _ in range(RUNS)) / messages * 1e6


def timed(run: Callable[[], None]) -> float:
    """CPU seconds of this process, without garbage collections, which a worker makes on a clock."""
    gc.collect()
    gc.disable()
    begin = time.process_time()
    run()
    spent = time.process_time() - begin
    gc.enable()
    return spent


def processor() -> str:
    """The processor's name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def main(names: Iterable[str]) -> None:
    """Print a line a dialect."""
    keep_memory()
    wanted = set(names)
    print(f"{processor()}, Python {platform.python_version()}; medians of {RUNS} runs, CPU of one core")
    print(f"{'dialect':<18}{f'us/reading of {PACK}':>18}{'us/message of 1':>18}")
    for make in DIALECTS:
        if not wanted or make.__name__ in wanted:
            pack, single = spent_us(make, PACK) / PACK, spent_us(make, 1)
            over = "  above the goal" if pack > GOAL_READING_US or single > GOAL_MESSAGE_US else ""
            print(f"{make.__name__:<18}{pack:>18.2f}{single:>18.1f}{over}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
