"""Hostile and broken payloads: each has its reason, what is good in it is kept, nothing is raised."""

import json
import struct
from itertools import product

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.message import Message
from schemas.rejection import Reason
from schemas.telemetry import decode

GOOD = '{"n": "a:good", "v": 7}'
CONTENT_TYPES = [None, "application/senml+json", "application/senml+cbor", "application/json", "text/plain"]


def read(payload, content_type=None):
    """The one part of a payload; its columns have one length and every place one outcome."""
    [part] = decode(Message("t", payload, 0.0, content_type))
    count = len(part.names)
    assert len(part.units) == len(part.values) == len(part.times) == len(part.indexes) == count
    places = [*part.indexes, *(e.index for e in part.events), *(r.index for r in part.refusals)]
    assert len(set(places)) == len(places)
    assert part.identity is None
    assert all(isinstance(refusal.reason, Reason) and refusal.detail for refusal in part.refusals)
    assert all(len(refusal.detail) < 300 and refusal.detail.isascii() for refusal in part.refusals)
    return part


def of_json(text):
    """UTF-8 of `text`; lone surrogates stay escapes."""
    return text.encode()


UNREADABLE = {
    "empty": b"",
    "blank": b" \n",
    "truncated": b'[{"n": "a:x", "v": 1}, {"n": "a:y", "v":',
    "concatenated": b'[{"n": "a:x", "v": 1}][{"n": "a:x", "v": 2}]',
    "byte order mark": b'\xef\xbb\xbf[{"n": "a:x", "v": 1}]',
    "utf-16 with mark": '[{"n": "a:x", "v": 1}]'.encode("utf-16"),
    "utf-16 big endian": '[{"n": "a:x", "v": 1}]'.encode("utf-16-be"),
    "utf-16 little endian": '[{"n": "a:x", "v": 1}]'.encode("utf-16-le"),
    "invalid utf-8": b'[{"n": "a:\xff", "v": 1}]',
    "surrogates in utf-8": b'[{"n": "a:\xed\xa0\x80", "v": 1}]',
    "gbk": '[{"n": "温度", "v": 1}]'.encode("gbk"),
    "nested arrays": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'[{"n":' * 100_000,
    "empty pack": b"[]",
    "scalar": b"1",
    "text": b'"temperature"',
    "null": b"null",
    "foreign separator": b'[{"n": "a:x", "v": 1};{"n": "a:y", "v": 1}]',
    "trailing comma": b'[{"n": "a:x", "v": 1},]',
    "control character in a name": b'[{"n": "a:\nx", "v": 1}]',
    "cbor empty pack": b"\x80",
    "cbor array of 2^64-1": b"\x9b" + b"\xff" * 8,
    "cbor map of 2^64-1": b"\x81\xbb" + b"\xff" * 8,
    "cbor text of 2^64-1": b"\x81\xa1\x00\x7b" + b"\xff" * 8,
    "cbor bytes of 2^62": b"\x81\xa1\x08\x5b\x3f" + b"\xff" * 7,
    "cbor array of 2^40": b"\x9b\x00\x00\x01\x00\x00\x00\x00\x00\x01",
    "cbor reserved length": b"\x81\xbc",
    "cbor indefinite without end": b"\x9f\xbf\x00",
    "cbor nested": b"\x81" * 100_000 + b"\x01",
    "cbor nested without end": b"\x9f" * 1_000_000,
    "cbor tag bomb": b"\x81" + b"\xc6" * 1_000_000 + b"\x01",
    "cbor self-described bomb": b"\xd9\xd9\xf7" * 300_000 + b"\x01",
    "cbor trailing": cbor2.dumps([{0: "a:x", 2: 1}]) + b"\x00",
    "cbor map, no array": cbor2.dumps({0: "a:x", 2: 1}),
    "cbor break first": b"\x81\xff",
    "cbor invalid utf-8": b"\x81\xa2\x00\x61\xff\x02\x01",
}


@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_payload_that_cannot_be_read_is_one_refusal(payload):
    """A payload that can't be read at all is refused as a whole, with a hint, and has no readings."""
    part = read(payload)
    assert [(refusal.index, refusal.reason) for refusal in part.refusals] == [(None, "malformed_payload")]
    assert part.refusals[0].hint
    assert not part.names and not part.events and not part.absolute


@pytest.mark.parametrize(
    "name", ["byte order mark", "utf-16 with mark", "utf-16 big endian", "invalid utf-8"]
)
def test_foreign_encodings_are_told_what_to_send(name):
    """The hint of a payload in another encoding names UTF-8."""
    assert "UTF-8" in read(UNREADABLE[name]).refusals[0].hint


BAD_RECORDS = {
    "NaN": ('{"n": "a:x", "v": NaN}', "not_a_number"),
    "Infinity": ('{"n": "a:x", "v": Infinity}', "not_a_number"),
    "-Infinity": ('{"n": "a:x", "v": -Infinity}', "not_a_number"),
    "1e400": ('{"n": "a:x", "v": 1e400}', "not_a_number"),
    "10^4300": ('{"n": "a:x", "v": 1' + "0" * 4300 + "}", "not_a_number"),
    "10^309": ('{"n": "a:x", "v": 1' + "0" * 309 + "}", "not_a_number"),
    "true": ('{"n": "a:x", "v": true}', "not_a_number"),
    "numeric text": ('{"n": "a:x", "v": "21.5"}', "not_a_number"),
    "object": ('{"n": "a:x", "v": {"v": 1}}', "not_a_number"),
    "null": ('{"n": "a:x", "v": null}', "not_a_number"),
    "no value": ('{"n": "a:x"}', "not_a_number"),
    "empty record": ("{}", "not_a_number"),
    "vb as number": ('{"n": "a:x", "vb": 1}', "not_a_number"),
    "sum as text": ('{"n": "a:x", "s": "1"}', "not_a_number"),
    "two values": ('{"n": "a:x", "v": 1, "vb": true}', "malformed_payload"),
    "vs as number": ('{"n": "a:x", "vs": 1}', "malformed_payload"),
    "vs with U+0000": ('{"n": "a:x", "vs": "a\\u0000"}', "malformed_payload"),
    "vs with a lone surrogate": ('{"n": "a:x", "vs": "\\ud800"}', "malformed_payload"),
    "vd in base64": ('{"n": "a:x", "vd": "+/+/"}', "malformed_payload"),
    "vd with padding": ('{"n": "a:x", "vd": "aGk="}', "malformed_payload"),
    "vd of impossible length": ('{"n": "a:x", "vd": "aGkgC"}', "malformed_payload"),
    "time as text": ('{"n": "a:x", "v": 1, "t": "2026-11-21T08:00:00Z"}', "malformed_payload"),
    "time as boolean": ('{"n": "a:x", "v": 1, "t": true}', "malformed_payload"),
    "time NaN": ('{"n": "a:x", "v": 1, "t": NaN}', "malformed_payload"),
    "time 1e400": ('{"n": "a:x", "v": 1, "t": -1e400}', "malformed_payload"),
    "unit as number": ('{"n": "a:x", "v": 1, "u": 5}', "malformed_payload"),
    "name as number": ('{"n": 860000000000009, "v": 1}', "invalid_name"),
    "no name": ('{"v": 1}', "invalid_name"),
    "must-understand label": ('{"n": "a:x", "v": 1, "colour_": "red"}', "unsupported"),
    "number": ("5", "malformed_payload"),
    "array": ('[{"n": "a:x", "v": 1}]', "malformed_payload"),
}


@pytest.mark.parametrize(("record", "reason"), BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
def test_one_bad_record_costs_one_reading(record, reason):
    """A bad record is refused for its reason, wherever it stands; the records around it are kept."""
    for texts in ([record, GOOD, GOOD], [GOOD, record, GOOD], [GOOD, GOOD, record]):
        part = read(of_json(f"[{', '.join(texts)}]"))
        assert [(r.index, r.reason) for r in part.refusals] == [(texts.index(record), reason)]
        assert part.names == ["a:good", "a:good"]
        assert part.values == [7.0, 7.0]


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ('{"n": "a:x", "v": 9223372036854775808}', 2.0**63),
        ('{"n": "a:x", "v": 1' + "0" * 308 + "}", 1e308),
        ('{"n": "a:x", "v": "one", "v": 2}', 2.0),
        ('{"n": "a:x", "v": 2, "colour": {"deep": [[[[]]]]}}', 2.0),
        ('{"n": "a:x", "v": 1e-400}', 0.0),
    ],
)
def test_odd_but_legal_numbers_are_readings(record, value):
    """2^63, huge and tiny numbers are readings; of duplicate keys the last counts."""
    part = read(of_json(f"[{record}]"))
    assert part.values == [value]
    assert part.refusals == []


@pytest.mark.parametrize(
    "name",
    [
        "a\\u0000b:x",
        "\\ud800:x",
        "'; DROP TABLE reading; --",
        "温度",
        "a b",
        "n" * 385,
        "../../etc/passwd",
    ],
)
def test_names_pass_as_they_came(name):
    """Names are not judged here: odd ones reach the registry's check as they were sent."""
    for payload in (f'[{{"n": "{name}", "v": 1}}]', f'[{{"n": "{name}", "v": 1}}, {GOOD}]'):
        assert read(of_json(payload)).names[0] == json.loads(f'"{name}"')
    [plain_name] = read(of_json(f'{{"id": "{name}", "values": {{"x": 1}}}}')).names
    assert plain_name == (json.loads(f'"{name}"'), "x")


@pytest.mark.parametrize(
    ("version", "reason"),
    [("11", "unsupported"), ("26", "unsupported"), ("9223372036854775808", "unsupported")]
    + [(odd, "malformed_payload") for odd in ('"10"', "true", "9.5", "NaN", "1e400")],
)
def test_an_unknown_version_refuses_the_whole_pack(version, reason):
    """A `bver` above 10, in any record, refuses the message; so does one that is no whole number."""
    for pack in (f'[{{"bver": {version}, "n": "a:x", "v": 1}}]', f'[{GOOD}, {{"bver": {version}}}]'):
        part = read(of_json(pack))
        assert [(r.index, r.reason) for r in part.refusals] == [(None, reason)]
        assert not part.names


@pytest.mark.parametrize("version", ["10", "10.0", "5", "1", "null"])
def test_known_versions_are_read(version):
    """A `bver` up to 10 is understood."""
    assert read(of_json(f'[{{"bver": {version}, "n": "a:x", "v": 1}}]')).values == [1.0]


def test_a_bad_base_field_refuses_what_depends_on_it():
    """Records under a bad base name are refused, not filed under another terminal, until a good one comes."""
    part = read(b'[{"bn": {}, "n": "x", "v": 1}, {"n": "x", "v": 2}, {"bn": "b:", "n": "x", "v": 3}]')
    assert [(r.index, r.reason) for r in part.refusals] == [(0, "invalid_name"), (1, "invalid_name")]
    assert (part.names, part.values) == (["b:x"], [3.0])


def test_a_bad_value_leaves_the_base_fields_of_its_record_in_force():
    """The base name of a record whose value is refused still holds for the records after it."""
    part = read(b'[{"bn": "a:", "n": "x", "v": true}, {"n": "y", "v": 2}]')
    assert (part.names, [r.index for r in part.refusals]) == (["a:y"], [0])


def test_sums_beyond_floats_are_refused():
    """The sums bv + v, bs + s and bt + t are refused where they leave the range of floats."""
    part = read(
        b'[{"bv": 1e308, "bs": 1e308, "bt": 1e308, "n": "a:x", "v": 1e308}, {"n": "a:y", "s": 1.7e308},'
        b' {"n": "a:z", "v": 1, "t": 1.7e308}]'
    )
    reasons = ["not_a_number", "not_a_number", "malformed_payload"]
    assert [r.reason for r in part.refusals] == reasons


CBOR_VALUES = {
    "half float": (b"\xf9\x3e\x00", 1.5),
    "decimal fraction": (cbor2.dumps(cbor2.CBORTag(4, [-1, 215])), 21.5),
    "decimal fraction of a bignum": (b"\xc4\x82\x20\xc2\x49\x01" + b"\x00" * 8, 2.0**64 / 10),
    "bigfloat": (cbor2.dumps(cbor2.CBORTag(5, [-1, 3])), 1.5),
    "bignum": (cbor2.dumps(2**70), 2.0**70),
    "negative bignum": (cbor2.dumps(-(2**70)), -(2.0**70)),
    "half NaN": (b"\xf9\x7e\x00", None),
    "infinity": (b"\xf9\x7c\x00", None),
    "huge bignum": (cbor2.dumps(cbor2.CBORTag(2, b"\xff" * 1_000_000)), None),
    "huge exponent": (cbor2.dumps(cbor2.CBORTag(4, [10**18, 1])), None),
    "tiny exponent": (cbor2.dumps(cbor2.CBORTag(4, [-(10**18), 1])), 0.0),
    "huge binary exponent": (cbor2.dumps(cbor2.CBORTag(5, [2**63, 1])), None),
    "exponent as bignum": (b"\xc4\x82\xc2\x49\x01" + b"\x00" * 8 + b"\x01", None),
    "fraction of nothing": (cbor2.dumps(cbor2.CBORTag(4, [])), None),
    "tagged text": (cbor2.dumps(cbor2.CBORTag(2, "a")), None),
    "date": (cbor2.dumps(cbor2.CBORTag(1, 1763712000)), None),
    "regular expression": (cbor2.dumps(cbor2.CBORTag(35, "(a{1,999}){1,999}")), None),
    "reference to itself": (b"\xd8\x1c\x81\xd8\x1d\x00", None),
    "rational by zero": (cbor2.dumps(cbor2.CBORTag(30, [1, 0])), None),
    "unknown tag": (cbor2.dumps(cbor2.CBORTag(99_999, 1)), None),
    "undefined": (b"\xf7", None),
    "simple value": (b"\xe0", None),
    "true": (b"\xf5", None),
    "text": (cbor2.dumps("21.5"), None),
    "bytes": (cbor2.dumps(b"21.5"), None),
}


@pytest.mark.parametrize(("item", "value"), CBOR_VALUES.values(), ids=CBOR_VALUES.keys())
def test_cbor_numbers_and_what_is_none(item, value):
    """Every CBOR number that a float can hold is a reading, all else costs its own reading only."""
    good = cbor2.dumps({0: "a:good", 2: 7})
    part = read(b"\x83" + good + b"\xa2\x00" + cbor2.dumps("a:x") + b"\x02" + item + good)
    assert part.values == ([7.0, 7.0] if value is None else [7.0, value, 7.0])
    assert [(r.index, r.reason) for r in part.refusals] == ([(1, "not_a_number")] if value is None else [])


def test_cbor_of_indefinite_lengths_is_read():
    """Arrays, maps and texts of indefinite length are read as those of definite length."""
    name = b"\x7f\x62a:\x61x\xff"
    part = read(b"\x9f\xbf\x00" + name + b"\x02\x01\xff\xbf\x00" + name + b"\x02\x02\xff\xff")
    assert (part.names, part.values) == (["a:x", "a:x"], [1.0, 2.0])


def test_cbor_keys_that_are_no_labels_are_ignored():
    """Booleans, floats, bytes, arrays and unknown integers as keys are not taken for labels."""
    record = b"\xa7\x00\x63a:x\x02\x01\xf5\x05\xf9\x3c\x00\x05\x41v\x05\x81\x01\x05\x18\x63\x05"
    part = read(b"\x81" + record)
    assert (part.names, part.values, part.units) == (["a:x"], [1.0], [None])


def colliding_keys(keys):
    """CBOR array keys of -1 and -2, which all have one hash in Python."""
    arrays = product(b"\x20\x21", repeat=16)
    return [b"\x90" + bytes(next(arrays)) + b"\x00" for _ in range(keys)]


LARGE = {
    "a text of 10 MB": of_json('[{"n": "a:x", "v": 1, "label": "' + "x" * 10_000_000 + '"}]'),
    "a million keys": of_json('[{"n": "a:x", "v": 1' + "".join(f',"k{i}":1' for i in range(1_000_000)) + "}]"),
    "colliding keys": b"\x81\xba" + struct.pack(">I", 50_002) + b"\x00\x63a:x\x02\x01"
    + b"".join(colliding_keys(50_000)),
}  # fmt: skip


@pytest.mark.parametrize("payload", LARGE.values(), ids=LARGE.keys())
def test_large_payloads_are_read(payload):
    """A long text, a million keys and keys of one hash cost their own label, and not minutes."""
    assert read(payload).values == [1.0]


def test_colliding_keys_in_a_nested_map_are_refused():
    """The same attack one level down ends at its first key."""
    keys = colliding_keys(50_000)
    nested = b"\xba" + struct.pack(">I", len(keys)) + b"".join(keys)
    part = read(b"\x81\xa3\x00\x63a:x\x02\x01\x61y" + nested)
    assert [(r.index, r.reason) for r in part.refusals] == [(None, "malformed_payload")]


VALID = [
    b'[{"bn": "a:", "bt": 1763712000, "n": "x", "u": "Cel", "v": 1.5}, {"n": "y", "v": 2, "t": -5}]',
    b'[{"bn": "a:", "n": "x", "vs": "on"}, {"n": "y", "vb": true}, {"n": "z", "vd": "aGk", "bver": 10}]',
    b'{"id": "imei:860000000000009", "t": "2025-11-21T08:00:00Z", "values": {"temperature": 21.5, "a": "b"}}',
    b'[{"id": 860000000000009, "t": 1763712000123, "values": {"alarm": true, "x": 1}}, {"id": "b", "values": {}}]',
    cbor2.dumps([{-2: "a:", -3: 1763712000, 0: "x", 1: "Cel", 2: 1.5}, {0: "y", 8: b"hi", 6: -5}]),
    cbor2.dumps([{0: "a:x", 2: cbor2.CBORTag(4, [-1, 215])}, {0: "a:y", 2: 2**70}]),
]


@st.composite
def mutated(draw):
    """A valid payload with a few bytes replaced, removed, inserted or repeated."""
    payload = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(payload)))
        end = at + draw(st.integers(0, 3))
        payload[at:end] = draw(st.binary(max_size=3) | st.just(bytes(payload[at : at + 20])))
    return bytes(payload)


@settings(max_examples=300, deadline=None)
@given(payload=st.binary(max_size=200) | mutated(), content_type=st.sampled_from(CONTENT_TYPES))
def test_nothing_is_raised_whatever_the_bytes(payload, content_type):
    """Any bytes under any content type give one part whose columns fit together."""
    read(payload, content_type)
