"""Bad input, end to end: it costs what it is, is kept with its reason, and everything around it is stored.

All of it goes through one worker on each storage, every bad message between two good ones.
"""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice, product
from string import ascii_letters, digits
from typing import NamedTuple, Self

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import Batch
from ingest.decode import Decode
from ingest.settings import Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes

LARGEST_BYTES = 9_500_000
"""Between a million keys, which are to be read, and a text of 10 MB, which is to be refused."""
GOOD_TOPIC = "ganzhi/v1/370102/good/telemetry"


@dataclass(frozen=True)
class Case:
    """A message, and what is to become of it: `reason` of its rejection, how many readings land all the same.

    In texts @@ is the time of sending and @+9@ 9 s later; `case` becomes a name of its own, of equal length.
    """

    payload: bytes | str
    reason: str | None = None
    lands: int = 0
    topic: str = "ganzhi/v1/370102/bad-{number}/telemetry"
    hint: str = ""
    division: int = 370102
    code: str = "case"
    properties: dict[str, object] = field(default_factory=dict)


class Sent(NamedTuple):
    """A case as it was published."""

    case: Case
    topic: str
    payload: bytes
    code: str

    @classmethod
    def of(cls, case: Case, number: int) -> Self:
        payload, name = case.payload, f"c{number:03}"
        if isinstance(payload, str):
            payload = re.sub(
                r"@(\+\d+)?@", lambda shift: f"{time.time() + int(shift[1] or 0):.0f}", payload
            ).encode()
        topic = case.topic.replace("{number}", str(number))
        return cls(case, topic, payload.replace(b"case", name.encode()), case.code.replace("case", name))


def one(record, reason=None, lands=0, **rest):
    """A pack of a bad record between two good ones, which land."""
    good = '{"n": "case:good", "v": 7, "t": @@}'
    return Case(f"[{good}, {record}, {good}]", reason, lands + 2, **rest)


def at(time_text, reason, **rest):
    """A record of this time between two good ones."""
    return one(f'{{"n": "case:x", "v": 1, "t": {time_text}}}', reason, **rest)


def later(seconds):
    """A time so much after the sending."""
    return f"@+{seconds}@"


MILLION_KEYS = ",".join(
    f'"{"".join(key)}":1' for key in islice(product(ascii_letters + digits, repeat=4), 1_000_000)
)
NAMED = '{"n": "case:x", "v": 1}'
CASES = {
    "empty": Case(b"", "malformed_payload"),
    "truncated": Case('[{"n": "case:x", "v": 1}, {"n": "case:y", "v":', "malformed_payload"),
    "concatenated": Case(f"[{NAMED}][{NAMED}]", "malformed_payload"),
    "byte order mark": Case(b"\xef\xbb\xbf" + f"[{NAMED}]".encode(), "malformed_payload", hint="UTF-8"),
    "utf-16": Case(f"[{NAMED}]".encode("utf-16"), "malformed_payload", hint="UTF-8"),
    "invalid utf-8": Case(b'[{"n": "case:\xff", "v": 1}]', "malformed_payload", hint="UTF-8"),
    "gbk": Case('[{"n": "温度", "v": 1}]'.encode("gbk"), "malformed_payload"),
    "zero bytes": Case(bytes(1000), "malformed_payload"),
    "nested 100,000 deep": Case(b"[" * 100_000 + b"]" * 100_000, "malformed_payload"),
    "a text of 10 MB": Case('[{"n": "case:x", "v": 1, "label": "' + "x" * 10_000_000 + '"}]', "too_large"),
    "a million keys": Case('[{"n": "case:x", "v": 1, ' + MILLION_KEYS + "}]", lands=1),
    "duplicate keys": one('{"n": "case:x", "v": "one", "v": 2}', lands=1),
    "NaN": one('{"n": "case:x", "v": NaN}', "not_a_number"),
    "Infinity": one('{"n": "case:x", "v": Infinity}', "not_a_number"),
    "1e400": one('{"n": "case:x", "v": 1e400}', "not_a_number"),
    "10^4300": one('{"n": "case:x", "v": 1' + "0" * 4300 + "}", "not_a_number"),
    "2^63": one('{"n": "case:x", "v": 9223372036854775808}', lands=1),
    "1e308 in a unit that converts": one('{"n": "case:pressure", "u": "bar", "v": 1e308}', "not_a_number"),
    "true": one('{"n": "case:x", "v": true}', "not_a_number"),
    "numeric text": one('{"n": "case:x", "v": "21.5"}', "not_a_number"),
    "numeric text in the plain form": Case('{"id": "case", "values": {"x": "21.5", "y": 1}}', "not_a_number", 1),
    "out of range": one('{"n": "case:temperature", "u": "Cel", "v": 2000}', "out_of_range"),
    "another quantity": one('{"n": "case:temperature", "u": "kg", "v": 20}', "unit_mismatch"),
    "U+0000 in a name": one('{"n": "case\\u0000:x", "v": 1}', "invalid_name"),
    "U+0000 in an id": Case('{"id": "case\\u0000", "values": {"x": 1}}', "invalid_name"),
    "U+0000 in a metric": Case('{"id": "case", "values": {"x\\u0000": 1, "y": 1}}', "invalid_name", 1),
    "U+0000 in a unit": one('{"n": "case:zero_unit", "v": 1, "u": "\\u0000"}', "unit_mismatch"),
    "U+0000 in a text": one('{"n": "case:x", "vs": "\\u0000"}', "malformed_payload"),
    "U+0000 in a refused label": one('{"n": "case:x", "v": 1, "\\u0000_": 1}', "unsupported"),
    "lone surrogate in a name": one('{"n": "case\\ud800:x", "v": 1}', "invalid_name"),
    "lone surrogate in an id": Case('{"id": "case\\udfff", "values": {"x": 1}}', "invalid_name"),
    "lone surrogate in a unit": one('{"n": "case:half_unit", "v": 1, "u": "\\ud800"}', "unit_mismatch"),
    "lone surrogate in a text": one('{"n": "case:x", "vs": "\\udfff"}', "malformed_payload"),
    "lone surrogate in a refused label": one('{"n": "case:x", "v": 1, "\\ud800_": 1}', "unsupported"),
    "a name in Chinese": one('{"n": "温度", "v": 1}', "invalid_name"),
    "a name with a blank": one('{"n": "case x:y", "v": 1}', "invalid_name"),
    "a name that starts with a sign": one('{"n": "-case:y", "v": 1}', "invalid_name"),
    "a name of 64 KB": one('{"n": "case:' + "n" * 65_536 + '", "v": 1}', "invalid_name"),
    "an id of 64 KB": Case('{"id": "' + "n" * 65_536 + '", "values": {"x": 1}}', "invalid_name"),
    "DROP TABLE as a name": one('{"n": "\'; DROP TABLE reading; --", "v": 1}', "invalid_name"),
    "DROP TABLE as an id": Case('{"id": "\'; DROP TABLE reading; --", "values": {"x": 1}}', lands=1,
                                code="'; DROP TABLE reading; --"),
    "DROP TABLE as a gateway": Case(f"[{NAMED}]", "bad_topic",
                                    topic="ganzhi/v1/370102/'; DROP TABLE reading --/telemetry"),
    "DROP TABLE as a content type": Case(f"[{NAMED}]", lands=1,
                                         properties={"content_type": "'; DROP TABLE reading; --"}),
    "vd in base64": one('{"n": "case:x", "vd": "+/+/"}', "malformed_payload"),
    "must-understand label": one('{"n": "case:x", "v": 1, "colour_": "red"}', "unsupported"),
    "bver 11": Case(f'[{{"bver": 11, "n": "case:x", "v": 1}}, {NAMED}]', "unsupported"),
    "JSON said to be CBOR": Case(f"[{NAMED}]", "malformed_payload",
                                 properties={"content_type": "application/senml+cbor"}),
    "CBOR of indefinite lengths": Case(b"\x9f\xbf\x00\x7f\x65case:\x61x\xff\x02\x01\xff\xff", lands=1),
    "CBOR of 2^64-1 elements": Case(b"\x9b" + b"\xff" * 8, "malformed_payload"),
    "CBOR text of 2^64-1 bytes": Case(b"\x81\xa1\x00\x7b" + b"\xff" * 8, "malformed_payload"),
    "CBOR tag bomb": Case(b"\x81" + b"\xc6" * 1_000_000 + b"\x01", "malformed_payload"),
    "CBOR nested": Case(b"\x81" * 100_000 + b"\x01", "malformed_payload"),
    "CBOR bytes after its end": Case(cbor2.dumps([{0: "case:x", 2: 1}]) + b"\x00", "malformed_payload"),
    "1970": Case('{"id": "case", "t": "1970-01-01T00:00:10Z", "values": {"x": 1}}', "time_too_old"),
    "1979": at(300_000_000, "time_too_old"),
    "ms for s": at("@@000", "time_in_future", hint="milliseconds"),
    "just over 5 min ahead": at(later(330), "time_in_future"),
    "8 h ahead": at(later(8 * 3600), "time_in_future", hint="local time written as UTC"),
    "year 9999": at(253_402_300_799, "time_in_future"),
    "year 10^300": at("1e300", "time_in_future"),
    "no such division": Case(f"[{NAMED}]", "bad_topic", topic="ganzhi/v1/999999/bad/telemetry"),
    "full-width division": Case(f"[{NAMED}]", "bad_topic", topic="ganzhi/v1/３７０１０２/bad/telemetry"),
    "a gateway in Chinese": Case(f"[{NAMED}]", "bad_topic", topic="ganzhi/v1/370102/网关/telemetry"),
    "a gateway of 65 characters": Case(f"[{NAMED}]", "bad_topic", topic=f"ganzhi/v1/370102/{'g' * 65}/telemetry"),
    "no route": Case(f"[{NAMED}]", "no_route", topic="field/bad"),
    "abolished division": Case(f"[{NAMED}]", lands=1, topic="ganzhi/v1/371202/bad/telemetry", division=370116),
    "without a successor": Case(f"[{NAMED}]", lands=1, topic="ganzhi/v1/370802/bad/telemetry", division=370800),
    "retained": Case(f"[{NAMED}]", lands=1, properties={"retain": True}),
    "DUP set by its publisher": Case(f"[{NAMED}]", lands=1, properties={"duplicate": True}),
    "200 user properties": Case(f"[{NAMED}]", lands=1, properties={"user_properties": [("k", "v")] * 200}),
}  # fmt: skip


def good(number):
    """A good message, different each time."""
    return json.dumps([{"n": f"good-{number}:x", "t": int(time.time()), "v": number}]).encode()


def publish_all(gateway):
    """Publish every case between two good messages; the cases as they were sent."""
    sent = [Sent.of(case, number) for number, case in enumerate(CASES.values())]
    gateway.publish(GOOD_TOPIC, good(0))
    for number, (case, topic, payload, _) in enumerate(sent, 1):
        gateway.publish(topic, payload, **case.properties)
        gateway.publish(GOOD_TOPIC, good(number))
    return sent


def outcome(database, sent):
    """What became of a case: reasons of its rejection, readings that landed, and the division they are in."""
    rejections = database.rows("SELECT reason, detail, payload FROM rejection WHERE topic = %s", sent.topic)
    reasons = {reason for reason, _, _ in rejections} | {
        d["reason"] for _, detail, _ in rejections for d in detail
    }
    landed = database.rows("SELECT division FROM reading_detail WHERE terminal = %s", sent.code)
    return len(rejections), sorted(reasons), len(landed), sorted({division for (division,) in landed})


def test_bad_messages_cost_what_they_are(database, gateway, new_worker, settled):
    """Each is kept whole under its reason, its good readings and all others land, the worker lives, books balance."""
    worker = new_worker(max_payload_bytes=LARGEST_BYTES, topics="ganzhi/v1/+/+/telemetry,field/#")
    worker.start()
    worker.wait_ready()
    sent = publish_all(gateway)
    metrics = settled(worker)
    metrics.assert_balanced()
    found = {name: outcome(database, each) for name, each in zip(CASES, sent, strict=True)}
    assert found == {
        name: (
            bool(case.reason),
            [case.reason] * bool(case.reason),
            case.lands,
            [case.division] * bool(case.lands),
        )
        for name, case in CASES.items()
    }
    for each in sent:
        assert_kept(database, each)
    assert_counted(database, metrics)
    assert worker.terminate() == 0


def assert_kept(database, sent):
    """The payload of a rejection is what was sent; only one that is too large is cut. Its hint is the case's."""
    for payload, detail in database.rows(
        "SELECT payload, detail FROM rejection WHERE topic = %s", sent.topic
    ):
        assert sent.payload.startswith(payload)
        assert (
            (0 < len(payload) < len(sent.payload))
            if sent.case.reason == "too_large"
            else payload == sent.payload
        )
        assert any(sent.case.hint in each.get("hint", "") for each in detail)


def assert_counted(database, metrics):
    """Metrics and tables say the same."""
    goods = len(CASES) + 1
    lands = sum(case.lands for case in CASES.values())
    assert metrics("messages_received_total") == len(CASES) + goods + 1
    assert metrics("readings_committed_total") == lands + goods
    assert database.one("SELECT count(*) FROM reading") == (lands + goods,)
    for reason, count in Counter(
        case.reason for case in CASES.values() if case.reason and not case.lands
    ).items():
        assert metrics("messages_rejected_total", reason) == count


@pytest.mark.parametrize(("version", "come_again"), [("5", 0), ("3.1.1", 1)])
def test_a_retained_message_is_stored_once(version, come_again, database, gateway, new_worker, settled):
    """It counts when it is published; what a 3.1.1 broker brings again with every connect is a duplicate."""
    worker = new_worker(mqtt_version=version)
    worker.start()
    worker.wait_ready()
    gateway.publish(GOOD_TOPIC, b'[{"n": "valve-1:valve", "v": 1}]', retain=True)
    settled(worker).assert_balanced()
    worker.restart()
    worker.wait_ready()
    metrics = settled(worker)
    assert metrics("messages_duplicate_total") == come_again
    metrics.assert_balanced()
    assert database.one("SELECT count(*) FROM reading") == (1,)


LABELS = [*"nuvstx", "bn", "bu", "vs", "vb", "vd", "bv", "bs", "bt", "ut", "bver", "x_", "id", "values"]
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["a:temperature", "urn:imei:860000000000009", "Cel", "bar", "\0", "\ud800"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from([1e9, 1.8e9, 1.8e12])
)
VALUES = SCALARS | st.dictionaries(TEXTS, SCALARS, max_size=3) | st.lists(SCALARS, max_size=2)
USUAL = st.sampled_from(
    [{}, {"n": "a:x", "v": 1}, {"bn": "a:", "n": "y", "vs": "on"}, {"id": "a", "values": {"x": 1}}]
)
RECORDS = st.builds(
    lambda usual, odd: usual | odd, USUAL, st.dictionaries(st.sampled_from(LABELS), VALUES, max_size=4)
)
PACKS = (st.lists(RECORDS, max_size=4) | RECORDS).map(lambda pack: json.dumps(pack).encode())
MQTT_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
"""No surrogates and no U+0000: MQTT 5, section 1.5.4."""
TOPICS = st.just(GOOD_TOPIC) | MQTT_TEXTS
COUNTS = (
    "SELECT (SELECT count(*) FROM reading), (SELECT count(*) FROM event), (SELECT count(*) FROM rejection)"
)


@pytest.mark.parametrize("storage", ["postgres"])
def test_any_bytes_on_any_topic_end_in_a_table(database):
    """They become readings, events or one rejection, in one transaction that PostgreSQL takes, and are all counted."""
    writer = Writer(Settings(database_url=database.url), "any-0", lambda _: False, time.time)
    decode = Decode(Routes.default(), 1_000_000, writer.registry)

    @settings(max_examples=150, deadline=None, database=None)
    @given(TOPICS, st.binary(max_size=60) | PACKS, st.none() | st.just("application/json") | MQTT_TEXTS)
    def check(topic, payload, content_type):
        message, batch = Message(topic, payload, time.time(), content_type, packet_id=1), Batch()
        way, parts = decode(message)
        readings = batch.add(message, way.place, parts)
        before = database.one(COUNTS)
        done = writer.write(batch)
        new = [after - count for after, count in zip(database.one(COUNTS), before, strict=True)]
        assert done.messages_committed + done.messages_duplicate + done.messages_rejected.total() == 1
        assert new[0] + done.readings_duplicate + done.readings_rejected.total() == readings
        assert new[:2] == [done.readings_committed.total(), done.events_committed]
        assert new[2] == (
            not done.messages_duplicate
            and done.readings_rejected.total() + done.messages_rejected.total() > 0
        )

    check()
    writer.close()
