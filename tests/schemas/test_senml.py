"""SenML packs: the RFC's vectors, content types, and what the columns promise."""

import json
from pathlib import Path

import cbor2
import pytest

from schemas import senml
from schemas.message import Message
from schemas.payload import load_json
from schemas.reading import RELATIVE_BELOW
from schemas.senml_cbor import LABELS
from schemas.telemetry import decode

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "senml_vectors.json").read_text())
NUMBER_OF = {label: number for number, label in LABELS.items()}


def to_cbor(pack):
    """The pack with integer labels, as a sender of SenML CBOR writes it."""
    return cbor2.dumps([{NUMBER_OF.get(label, label): value for label, value in r.items()} for r in pack])


def resolved(part, now):
    """The part in the form of the RFC's resolved records, in order of time; bver is left out."""
    records = [
        {"n": name, "u": unit, "t": time, "v": value}
        for name, unit, time, value in zip(part.names, part.units, part.times, part.values, strict=True)
    ]
    records += [{"n": event.name, "t": event.time} | event.body for event in part.events]
    for record in records:
        if record["t"] < RELATIVE_BELOW:
            record["t"] += now
    return sorted(records, key=lambda r: (r["t"], r["n"], str(r.get("u"))))


def wanted(vector):
    """The vector's resolved records with vb as a number, in the same order."""
    records = []
    for record in vector["resolved"]:
        plain = {k: v for k, v in record.items() if k != "bver"}
        if "vb" in plain:
            plain["v"] = float(plain.pop("vb"))
        if "v" in plain:
            plain.setdefault("u", None)
        records.append(plain)
    return sorted(records, key=lambda r: (r["t"], r["n"], str(r.get("u"))))


@pytest.mark.parametrize("encode", [lambda pack: json.dumps(pack).encode(), cbor2.dumps])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["id"])
def test_vectors_resolve_as_the_rfc_says(vector, encode):
    """A pack of RFC 8428 resolves to the records that the RFC gives for it."""
    [part] = decode(Message("t", encode(vector["pack"]), 0.0))
    assert part.refusals == []
    assert resolved(part, vector["now"]) == wanted(vector)


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["id"] != "ex7"], ids=lambda v: v["id"])
def test_integer_labels_mean_the_same_as_text_labels(vector):
    """A pack in CBOR with integer labels gives the part that the pack in JSON gives."""
    from_json = decode(Message("t", json.dumps(vector["pack"]).encode(), 0.0))
    [from_cbor] = decode(Message("t", to_cbor(vector["pack"]), 0.0))
    from_cbor.indexes = list(from_cbor.indexes)
    assert from_cbor == senml.read(load_json(json.dumps(vector["pack"]).encode()))
    assert resolved(from_json[0], 0) == resolved(from_cbor, 0)


RECORD = {"n": "a:temperature", "v": 1}


@pytest.mark.parametrize(
    ("content_type", "payload", "readable"),
    [
        (None, json.dumps([RECORD]).encode(), True),
        (None, b" \r\n" + json.dumps([RECORD], indent=2).encode() + b"\n", True),
        (None, to_cbor([RECORD]), True),
        (None, b"\xd9\xd9\xf7" + to_cbor([RECORD]), True),
        ("application/senml+json", json.dumps([RECORD]).encode(), True),
        ("Application/SenML+JSON; charset=utf-8", json.dumps([RECORD]).encode(), True),
        ("application/senml+cbor", to_cbor([RECORD]), True),
        ("application/json", json.dumps([RECORD]).encode(), True),
        ("application/octet-stream", to_cbor([RECORD]), True),
        ("", json.dumps([RECORD]).encode(), True),
        ("application/senml+json", to_cbor([RECORD]), False),
        ("application/senml+cbor", json.dumps([RECORD]).encode(), False),
        ("application/senml+json", b'{"id": "a", "values": {"temperature": 1}}', False),
        ("application/json", to_cbor([RECORD]), False),
    ],
)
def test_the_content_type_chooses_and_without_one_the_bytes(content_type, payload, readable):
    """A known content type is taken at its word; without one the bytes say what they are."""
    [part] = decode(Message("t", payload, 0.0, content_type))
    assert bool(part.names) is readable
    assert bool(part.refusals) is not readable


@pytest.mark.parametrize(
    ("pack", "is_fast"),
    [
        ([{"bn": "a:", "bt": 1763712000, "bu": "Cel", "n": "x", "v": 1}, {"n": "y", "v": 2, "t": -5}], True),
        ([{"n": "a:x", "u": "Cel", "v": 1.5, "t": 0}], True),
        ([{"bn": "a:", "n": "x", "v": 1}, {"bn": "b:", "n": "x", "v": 1}], False),
        ([{"n": "a:x", "v": 1, "bver": 10}], False),
        ([{"n": "a:x", "v": True}], False),
        ([{"v": 1}], False),
        ([{"n": "a:x", "v": 1}, {"v": 1}], False),
        ([{"n": "a}x", "v": 1}], False),
        ([], False),
    ],
)
def test_only_the_usual_pack_takes_the_short_cut(pack, is_fast):
    """Packs of numbers with leading base fields take the short cut, all others are read one by one."""
    assert (senml.fast(json.dumps(pack).encode()) is not None) is is_fast


def test_a_late_absolute_time_makes_the_part_absolute():
    """One absolute time in a pack of relative ones, an event's too, makes the same bytes the same data."""
    for last in ({"n": "y", "v": 1, "t": 1763712000}, {"n": "y", "vs": "on", "t": 1763712000}):
        [part] = decode(Message("t", json.dumps([{"n": "a:x", "v": 1, "t": -3}, last]).encode(), 0.0))
        assert part.absolute
    [part] = decode(Message("t", b'[{"n": "a:x", "v": 1, "t": -3}]', 0.0))
    assert not part.absolute
