"""What one message, one sender and a flood may cost: depth, digits, counts, rows, bytes, log lines, series, memory."""

import itertools
import json
import os
import tracemalloc
from collections import Counter

import cbor2
import pytest

from devices.registry import Registry
from ingest.decode import DECODERS, Decode
from schemas.mapping import compile_mapping
from schemas.mapping_rule import Rule
from schemas.message import Message
from schemas.payload import READINGS_MAX
from schemas.routes import Routes
from tests.bench.publish import publish

SIZE = 1 << 18
"""Bytes. What takes the square of its length takes minutes here."""
TOPICS = {
    "telemetry": "ganzhi/v1/370102/gw1/telemetry",
    "presence": "ganzhi/v1/370102/gw1/presence",
    "ctwing": "nbiot/ctwing/gw1",
    "onenet": "nbiot/onenet/gw1",
    "iotda": "nbiot/iotda/gw1",
    "sparkplug": "spBv1.0/group/DDATA/edge/device",
}
MAPPING = compile_mapping([Rule(code="{id}", each="m.{metric}[*]")], "mapped", {})
CTWING = b'{"messageType":"dataReport","deviceId":"d","timestamp":1795000000000,"payload":%s}'
IOTDA = (
    b'{"resource":"device.property","event":"report","event_time":"20261101T000000Z","notify_data":{"header":'
    b'{"device_id":"d"},"body":{"services":[{"service_id":"s","properties":%s}]}}}'
)
ONENET = b'{"msg":{"imei":"860000000000009","type":1,"ds_id":"3303_0_5700","at":1795000000000,"value":%s}}'


def filled(unit, head=b"[", tail=b"]", separator=b","):
    """So much of one thing."""
    return head + separator.join([unit] * ((SIZE - 100) // (len(unit) + len(separator)))) + tail


def nested(opening, closing=b"", depth=SIZE // 10):
    return opening * depth + b"1" + closing * depth


def field(key, data):
    """A length-delimited field of protobuf."""
    size, length = b"", len(data)
    while length > 0x7F:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return key + size + bytes([length]) + data


def templates(depth):
    data = b""
    for _ in range(depth):
        data = field(b"\x12", field(b"\x0a", b"m") + b"\x20\x13" + field(b"\x92\x01", data))
    return data


KEYS = b"{" + b",".join(b'"k%d":1' % n for n in range(SIZE // 12)) + b"}"
VALUES = {
    "nested": nested(b"[", b"]"),
    "nested as far as is read": nested(b"[", b"]", 900),
    "objects as far as is read": nested(b'{"a":', b"}", 900),
    "digits": b"9" * SIZE,
    "many long numbers": filled(b"9" * 4299),
    "many numbers of one length less": filled(b"9" * 299),
    "huge exponents": filled(b"1e999999999"),
    "one huge exponent": b"1e" + b"9" * SIZE,
    "long fraction": b"0." + b"9" * SIZE,
    "many keys": KEYS,
    "one key": filled(b'"k":1', b"{", b"}"),
    "empty objects": filled(b"{}"),
    "escapes": b'"' + b"\\u0041" * (SIZE // 6) + b'"',
}
"""JSON values, put where each format has its value."""
BODIES = {
    "telemetry": (b'[{"n":"a:x","v":%s}]', b'[{"n":"a:x","v":NaN,"z":%s}]', b'{"id":"a","values":%s}', b"%s"),
    "presence": (b'{"online":%s}',),
    "ctwing": (CTWING, b'{"messageType":"dataReport","deviceId":"d","payload":{"x":%s}}'),
    "onenet": (ONENET, b'{"msg":%s,"nonce":"n","signature":"s"}'),
    "iotda": (IOTDA,),
    "mapped": (b'{"id":"a","m":{"x":%s}}', b'{"id":"a","m":%s}'),
}
OTHERS = {
    "cbor nested": ("telemetry", b"\x81" * SIZE),
    "cbor nested maps": ("telemetry", b"\x81" + b"\xa1\x00" * (SIZE // 2)),
    "cbor long number": ("telemetry", cbor2.dumps([{0: "a:x", 2: 1 << 8 * SIZE}])),
    "cbor exponent": ("telemetry", cbor2.dumps([{0: "a:x", 2: cbor2.CBORTag(4, [10**18, 1])}])),
    "cbor exponent down": ("telemetry", cbor2.dumps([{0: "a:x", 2: cbor2.CBORTag(5, [-(10**18), 1])}])),
    "cbor records": ("telemetry", b"\x9f" + b"\xa1\x02\x01" * (SIZE // 3) + b"\xff"),
    "templates": ("sparkplug", b"\x08\x01" + templates(3000)),
    "metrics": ("sparkplug", field(b"\x12", b"\x10\x01\x50\x01") * (SIZE // 6)),
    "dataset": (
        "sparkplug",
        field(b"\x12", b"\x20\x10" + field(b"\x8a\x01", b"\x22\x02\x0a\x00" * (SIZE // 4))),
    ),
    "endless number": ("sparkplug", b"\x08" + b"\xff" * SIZE),
}


def parts_of(decoder, payload):
    """What the way of the service makes of it."""
    routes = Routes.default()
    by_name = DECODERS | ({"telemetry": MAPPING} if decoder == "mapped" else {})
    topic = TOPICS[decoder if decoder != "mapped" else "telemetry"]
    return Decode(routes, 8 * SIZE, Registry(), by_name=by_name)(Message(topic, payload, 1.795e9))[1]


def assert_harmless(parts):
    refusals = [refusal for part in parts for refusal in part.refusals]
    assert not any(refusal.detail.startswith("the decoder failed") for refusal in refusals)
    assert sum(len(part.values) + len(part.events) + len(part.refusals) for part in parts) <= READINGS_MAX
    assert all(len(refusal.detail) < 300 for refusal in refusals[:1000])
    json.dumps([event.body for part in parts for event in part.events])


@pytest.mark.parametrize("decoder", BODIES)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_value_is_too_deep_long_or_many(decoder, value):
    """A quarter of a mebibyte of any one thing, where a format has a value, is read or refused, without a fault."""
    for body in BODIES[decoder]:
        assert_harmless(parts_of(decoder, body.replace(b"%s", value)))


@pytest.mark.parametrize(("decoder", "payload"), OTHERS.values(), ids=OTHERS)
def test_no_binary_is_too_deep_long_or_many(decoder, payload):
    """The same of CBOR and protobuf."""
    assert_harmless(parts_of(decoder, payload))


@pytest.mark.parametrize(
    ("decoder", "payload"),
    [
        ("telemetry", b'[{"bn":"a:x"}' + b',{"v":1}' * READINGS_MAX + b"]"),
        ("telemetry", b"\x9f\xa1\x21\x63a:x" + b"\xa1\x02\x01" * READINGS_MAX + b"\xff"),
        ("telemetry", b'[{"bn":"a:x","v":1}' + b',{"v":1}' * READINGS_MAX + b"]"),
        ("presence", b'{"online":["a"' + b',"a"' * READINGS_MAX + b"]}"),
        (
            "ctwing",
            CTWING.replace(b"%s", b'{"a":1' + b"".join(b',"k%d":1' % n for n in range(READINGS_MAX)) + b"}"),
        ),
    ],
)
def test_a_message_has_so_many_readings_and_no_more(decoder, payload):
    """One more is refused as a whole, in words."""
    [part] = parts_of(decoder, payload)
    assert [(refusal.index, refusal.reason) for refusal in part.refusals] == [(None, "too_large")]
    assert str(READINGS_MAX) in part.refusals[0].detail


BASE = b"b" * 100_000


@pytest.mark.parametrize(
    "payload",
    [
        b'[{"bn":"%s","v":1}' % BASE + b',{"n":"x","v":1}' * 3000 + b"]",
        b'[{"bn":"%s","v":1,"bver":10}' % BASE + b',{"n":"x","v":1}' * 3000 + b"]",
        b'[{"bn":"%s"}' % BASE + b',{"n":"x","vs":"on"}' * 3000 + b"]",
        b"\x9f\xa2\x21\x7a\x00\x01\x86\xa0%s\x02\x01" % BASE + b"\xa2\x00\x61x\x02\x01" * 3000 + b"\xff",
    ],
    ids=["json", "json one by one", "events", "cbor"],
)
def test_a_base_name_does_not_multiply(payload):
    """A long one before thousands of names is refused with each, and takes no more memory than they do."""
    tracemalloc.start()
    parts = parts_of("telemetry", payload)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {refusal.reason for part in parts for refusal in part.refusals} == {"invalid_name"}
    assert sum(refusal.count for part in parts for refusal in part.refusals) >= 3000
    assert peak_bytes < 100 * len(payload)


FLOOD = int(os.environ.get("GANZHI_TEST_FLOOD", "12000"))
"""Messages of garbage; docs/numbering.md names what a hundred thousand did."""
GOOD_EVERY = 100
KEPT_ROWS = 100
HOSTILE = ('a"b', "a\\nb", "{x=1}", "温度", "x" * 65, "370102", "malformed_payload", " ", "%s", "$x")
GOOD = "ganzhi/v1/370102/gw1/telemetry"


def garbage(numbers):
    """Topic and payload: what can't be read, from names that were never seen before."""
    for n, name in zip(numbers, itertools.cycle(HOSTILE), strict=False):
        yield from (
            (f"ganzhi/v1/370102/gw{n}/telemetry", b"[" + b"\0" * 200),
            (f"ganzhi/v1/{n % 1_000_000:06}/gw1/telemetry", b"[]"),
            (f"ganzhi/v1/370102/{name}{n}/telemetry", b"{}"),
            (f"field/{name}/{n}", b"\xff"),
        )


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_flood_of_garbage_fills_nothing(database, gateway, mosquitto, new_worker, settled):
    """Rows, log lines, series and memory stay bounded, the books balance, and good readings in between all land."""
    worker = new_worker(rejections_per_minute=KEPT_ROWS, topics="ganzhi/v1/+/+/telemetry,field/#")
    worker.start()
    worker.wait_ready()
    gateway.publish(GOOD, b'[{"n":"t:temperature","u":"Cel","v":1}]')
    before, lines, memory = settled(worker), len(worker.log), []
    bad = garbage(itertools.count(1))
    for half in range(2):
        flood = list(itertools.islice(bad, FLOOD // 2))
        for n in range(0, len(flood), GOOD_EVERY):
            at = 1_795_000_000 + half * FLOOD + n
            flood[n] = (GOOD, b'[{"n":"t:temperature","u":"Cel","v":2,"t":%d}]' % at)
        publish("127.0.0.1", mosquitto.port, flood)
        metrics = settled(worker)
        memory.append(worker.memory_bytes())
    metrics.assert_balanced()
    good, refused = 1 + FLOOD // GOOD_EVERY, FLOOD - FLOOD // GOOD_EVERY
    assert metrics("readings_committed_total") == good
    assert database.one("SELECT count(*) FROM reading") == (good,)
    assert metrics("messages_rejected_total") == refused
    ((rows, size),) = database.rows("SELECT count(*), sum(length(payload)) FROM rejection")
    assert KEPT_ROWS <= rows <= 2 * KEPT_ROWS, "the flood took less than two minutes"
    assert rows + metrics("rejections_unstored_total") == refused
    assert size < 2 * KEPT_ROWS * 1024
    assert metrics.keys() == before.keys()
    assert len(worker.log) - lines < 10, Counter(line["event"] for line in worker.log)
    assert memory[1] - memory[0] < 16e6
