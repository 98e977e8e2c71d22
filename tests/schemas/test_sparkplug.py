"""Sparkplug B: golden folders, the examples of the specification, protobuf's own opinion, and garbage.

To add a case is to add a folder under tests/golden/sparkplug: `topic`, `payload`, `expected.json`, and where
births come before it `before.json`, a list of [topic, payload in hex].
"""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import sparkplug
from schemas.message import Message, sequence_of
from schemas.payload import Unreadable
from schemas.sparkplug_births import SKEW_MS, Birth, Declared, Node
from schemas.sparkplug_message import decode, read
from tests.sparkplug import field, metric, payload, payload_class

GOLDEN = Path(__file__).parent.parent / "golden" / "sparkplug"
CASES = sorted(GOLDEN.iterdir())
VECTORS = json.loads((Path(__file__).parent.parent / "data" / "sparkplug_vectors.json").read_text())
AT_MS = 1763712000123
ARRIVED = 1763712001.0


def said(topic, data, before=()):
    """What a message says after others."""
    node = Node()
    for earlier, earlier_data in before:
        for birth in read(Message(earlier, earlier_data, ARRIVED), node).part.births:
            node.put(birth)
    return read(Message(topic, data, ARRIVED), node)


def as_json(spoken):
    """What a message says, as golden cases have it."""
    part = spoken.part
    columns = zip(part.indexes, part.names, part.units, part.values, part.times, strict=True)
    result = {
        "absolute": part.absolute,
        "seq": spoken.seq,
        "lost": spoken.lost,
        "readings": [[i, *name, unit, value, time] for i, name, unit, value, time in columns],
        "events": [{k: v for k, v in asdict(event).items() if k != "heard"} for event in part.events],
        "refusals": [
            {k: v for k, v in msgspec.structs.asdict(refusal).items() if k not in {"count", "content"}}
            for refusal in part.refusals
        ],
        "births": [
            [birth.edge, birth.device, birth.bd_seq, birth.alive, len(birth.metrics)] for birth in part.births
        ],
    }
    return json.loads(json.dumps(result, allow_nan=False))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_sparkplug(case):
    """Each golden message says what is written beside it."""
    before = json.loads((case / "before.json").read_text()) if (case / "before.json").exists() else []
    spoken = said(
        (case / "topic").read_text().rstrip("\n"),
        (case / "payload").read_bytes(),
        [(topic, bytes.fromhex(data)) for topic, data in before],
    )
    assert as_json(spoken) == json.loads((case / "expected.json").read_text())


def test_the_examples_of_the_specification():
    """The three examples give the values that the specification names, at its time."""
    birth, data, device = (decode(Message(v["topic"], bytes.fromhex(v["hex"]), 0.0))[0] for v in VECTORS)
    assert birth.names == [("spb:Sparkplug B Devices/Raspberry Pi", "Supply Voltage"),
                           ("spb:Sparkplug B Devices/Raspberry Pi", "online")]  # fmt: skip
    assert birth.values == [pytest.approx(12.1, rel=1e-7), 1.0]
    assert data.values == [pytest.approx(12.3, rel=1e-7)]
    assert dict(zip(device.names, device.values, strict=True)) == {
        ("spb:Sparkplug B Devices/Raspberry Pi/Pibrella", metric): 1.0 for metric in ("Inputs/A", "Inputs/C")
    }
    assert set(birth.times + data.times + device.times) == {1486144502.122}


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@given(data=st.data())
def test_signed_integers_in_every_encoding(bits, data):
    """A signed integer reads the same in its own width, extended to 32 bits, and to 64."""
    value = data.draw(st.integers(-(1 << bits - 1), (1 << bits - 1) - 1))
    datatype = {8: 1, 16: 2, 32: 3, 64: 4}[bits]
    for width in (width for width in (bits, 32, 64) if width >= bits):
        assert sparkplug.integer(value % (1 << width), datatype) == value


@pytest.mark.parametrize("datatype", [1, 2, 3, 5, 6, 7])
def test_an_integer_that_does_not_fit_is_refused(datatype):
    """What is wider than its datatype is out of range, not cut."""
    bits = sparkplug.BITS[datatype]
    with pytest.raises(Unreadable, match="does not fit"):
        sparkplug.integer(1 << bits, datatype)


@settings(deadline=None, max_examples=150)
@given(
    metrics=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9),
            st.integers(0, 2**64 - 1) | st.none(),
            st.one_of(
                st.tuples(st.just("boolean_value"), st.booleans()),
                st.tuples(st.just("double_value"), st.floats(allow_nan=False, allow_infinity=False)),
                st.tuples(st.just("float_value"), st.floats(width=32, allow_nan=False, allow_infinity=False)),
                st.tuples(st.just("long_value"), st.integers(0, 2**64 - 1)),
                st.tuples(
                    st.just("string_value"), st.text(st.characters(codec="utf-8", exclude_characters="\0"))
                ),
                st.tuples(st.just("is_null"), st.just(True)),
            ),
        ),
        max_size=6,
    ),
    seq=st.integers(0, 2**64 - 1),
)
def test_protobuf_and_we_read_the_same(metrics, seq):
    """What protobuf writes by the public schema we read: names, times, values, the sequence number."""
    pytest.importorskip("google.protobuf", reason="the second opinion needs the package protobuf")
    written = payload_class()(timestamp=AT_MS, seq=seq)
    for name, at_ms, (kind, value) in metrics:
        written.metrics.add(
            name=name, datatype=8 if kind == "long_value" else 10, timestamp=at_ms, **{kind: value}
        )
    loaded = sparkplug.load(written.SerializeToString())
    assert (loaded.timestamp_ms, loaded.seq, len(loaded.metrics)) == (AT_MS, seq, len(metrics))
    for (name, at_ms, (kind, value)), found in zip(metrics, loaded.metrics, strict=True):
        assert sparkplug.text(found[sparkplug.NAME]) == name
        assert found.get(sparkplug.TIMESTAMP) == at_ms
        key = sparkplug.value_key(found)
        if kind == "is_null":
            assert key is None
            assert found[sparkplug.IS_NULL]
        elif kind == "string_value":
            assert sparkplug.text(found[key]) == value
        else:
            assert sparkplug.number(key, found[key], found[sparkplug.DATATYPE]) == float(value)


def test_protobuf_reads_our_rebirth():
    """The command that we send is what protobuf reads as `Node Control/Rebirth` = true."""
    pytest.importorskip("google.protobuf", reason="the second opinion needs the package protobuf")
    read_back = payload_class().FromString(sparkplug.rebirth(AT_MS))
    [command] = read_back.metrics
    assert (read_back.timestamp, command.timestamp) == (AT_MS, AT_MS)
    assert (command.name, command.datatype, command.boolean_value) == ("Node Control/Rebirth", 11, True)
    assert not read_back.HasField("seq")


METRICS = st.builds(
    lambda number, wire, body: bytes([number << 3 | wire]) + body,
    st.integers(1, 15), st.integers(0, 5), st.binary(max_size=12),
)  # fmt: skip
PAYLOADS = st.binary(max_size=200) | st.lists(METRICS, max_size=5).map(
    lambda ms: payload(*ms, at_ms=AT_MS, seq=1)
)
TOPICS = st.sampled_from(
    ["g/NBIRTH/e", "g/NDATA/e", "g/NDEATH/e", "g/DBIRTH/e/d", "g/DDATA/e/d", "g/DDEATH/e/d", "/NDATA/", "g"]
).map("spBv1.0/".__add__)


@settings(deadline=None, max_examples=600)
@given(topic=TOPICS, data=PAYLOADS, before=PAYLOADS)
@example("spBv1.0/g/NDATA/e", b"\x12\x05\x8a\x01\x02\x92\x01", b"")
def test_garbage_raises_nothing(topic, data, before):
    """Whatever comes, the columns are equally long and every value is finite."""
    part = said(topic, data, [("spBv1.0/g/DBIRTH/e/d", before)]).part
    assert len(part.names) == len(part.units) == len(part.values) == len(part.times) == len(part.indexes)
    assert all(map(math.isfinite, part.values))
    json.dumps([event.body for event in part.events], allow_nan=False)


@pytest.mark.parametrize("broken", [b"", b"\x0b"])
def test_a_payload_of_broken_metrics_only(broken):
    """A hundred metrics that can't be read cost themselves, one more costs the message."""
    hundred, more = (
        payload(*[broken] * count, metric(name="x", datatype=10, double=1.0), at_ms=AT_MS)
        for count in (100, 101)
    )
    [part] = decode(Message("spBv1.0/g/NDATA/e", hundred, ARRIVED))
    assert (len(part.refusals), part.values) == (100, [1.0])
    [part] = decode(Message("spBv1.0/g/NDATA/e", more, ARRIVED))
    assert [(refusal.index, refusal.reason) for refusal in part.refusals] == [(None, "malformed_payload")]


def test_templates_within_templates_end():
    """A Template nested a thousand deep costs its metric, in time that grows with its size only."""
    nested = metric(name="x", int=1, datatype=7)
    for _ in range(1000):
        nested = metric(name="t", template=field(2, nested))
    [part] = decode(Message("spBv1.0/g/NDATA/e", payload(nested, at_ms=AT_MS), ARRIVED))
    [refusal] = part.refusals
    assert (refusal.index, refusal.reason, refusal.event) == (0, "unsupported", True)


def test_a_device_is_dead_while_its_node_is_older_than_its_birth():
    """A node's new birth ends its devices' births, whichever comes first, and a death ends all."""
    births = [
        ("spBv1.0/g/DBIRTH/e/old", payload(metric(name="a", alias=1, datatype=10, double=1.0), at_ms=AT_MS)),
        (
            "spBv1.0/g/DBIRTH/e/new",
            payload(metric(name="a", alias=2, datatype=10, double=1.0), at_ms=AT_MS + 2),
        ),
        ("spBv1.0/g/NBIRTH/e", payload(metric(name="bdSeq", datatype=4, long=7), at_ms=AT_MS + 1)),
    ]
    data = {device: payload(metric(alias=alias, double=2.0), at_ms=AT_MS + 3)
            for device, alias in (("old", 1), ("new", 2))}  # fmt: skip
    assert said("spBv1.0/g/DDATA/e/old", data["old"], births).lost
    assert said("spBv1.0/g/DDATA/e/new", data["new"], births).part.values == [2.0]
    death = ("spBv1.0/g/NDEATH/e", payload(metric(name="bdSeq", datatype=4, long=7)))
    assert said(*death, births).part.names == [("spb:g/e", "online"), ("spb:g/e/new", "online")]
    assert said("spBv1.0/g/DDATA/e/new", data["new"], [*births, death]).lost


def born(born_ms, received_ms, name="a", *, alive=True):
    """A birth of g/e that declares alias 1."""
    return Birth("g/e", "", born_ms, received_ms, 1, alive, (Declared(name, 10, 1, None),))


@pytest.mark.parametrize(
    ("second", "which"),
    [
        (born(999, 5_100, "b"), "a"),  # two workers got them in the other order
        (born(1_000, 5_100, "b"), "b"),
        (born(1, 5_001 + SKEW_MS, "b"), "b"),  # the clock was set back
        (born(9_999, 4_999 - SKEW_MS, "b"), "a"),
        (born(999, 5_000, "b", alive=False), "a"),  # the death of another one
        (born(1_000, 5_000, "b", alive=False), None),
    ],
)
def test_the_later_birth_counts(second, which):
    """Of births that come together the later by the node's clock counts, else that which came last."""
    node = Node([born(1_000, 5_000), second])
    found = node.aliases("").get(1)
    assert (found and found.name) == which


@pytest.mark.parametrize(("at_ms", "timeless"), [(AT_MS, True), (AT_MS - 5, True), (AT_MS + 1, False)])
def test_the_death_of_a_device_whose_clock_stands(at_ms, timeless):
    """A device's death that is no later than the birth it ends may repeat, redelivered too."""
    birth = (
        "spBv1.0/g/DBIRTH/e/d",
        payload(metric(name="a", alias=1, datatype=10, double=1.0), at_ms=AT_MS, seq=1),
    )
    death = ("spBv1.0/g/DDEATH/e/d", payload(at_ms=at_ms, seq=2))
    assert said(*death).part.absolute
    assert said(*death, [birth]).part.absolute == (not timeless)
    assert said(*death, [birth, death]).part.absolute
    node = Node([*said(*birth).part.births, *said(*death, [birth]).part.births])
    assert read(Message(*death, ARRIVED, duplicate=True), node).part.absolute == (not timeless)


@pytest.mark.parametrize(
    ("bd_seq", "lost"), [(7, False), (6, False), (8, True), (7 - 128, False), (5 + 256, False)]
)
def test_the_death_of_a_connection_that_was_not_born(bd_seq, lost):
    """A node's death with a later bdSeq than its birth's is none of that birth's, and says that a birth was missed."""
    birth = ("spBv1.0/g/NBIRTH/e", payload(metric(name="bdSeq", datatype=4, long=7), at_ms=AT_MS))
    spoken = said("spBv1.0/g/NDEATH/e", payload(metric(name="bdSeq", datatype=4, long=bd_seq % 256)), [birth])
    assert spoken.lost == lost
    assert bool(spoken.part.values) == (bd_seq == 7)


def test_a_birth_of_a_clock_that_stands_is_new_after_a_death():
    """The same bytes are another birth once the node has died; redelivered, or without a death, they are not."""
    birth = ("spBv1.0/g/NBIRTH/e", payload(metric(name="bdSeq", datatype=4, long=7), at_ms=AT_MS))
    death = ("spBv1.0/g/NDEATH/e", payload(metric(name="bdSeq", datatype=4, long=7), at_ms=AT_MS))
    device = ("spBv1.0/g/DBIRTH/e/d", payload(at_ms=AT_MS, seq=1))
    assert said(*birth, [birth]).part.absolute
    assert not said(*birth, [birth, death]).part.absolute
    assert not said(*device, [birth, device, death]).part.absolute
    assert not said(*death, [birth]).part.absolute, "a Will says no time of its death"
    node = Node([*said(*birth).part.births, *said(*device).part.births])
    later = replace(said(*birth).part.births[0], received_ms=int(ARRIVED * 1000) + SKEW_MS + 1)
    node.put(later)
    assert not read(Message(*device, ARRIVED + 20), node).part.absolute
    assert read(Message(*device, ARRIVED + 20, duplicate=True), node).part.absolute


@pytest.mark.parametrize(
    ("properties", "number"),
    [([], None), ([("seq", "12")], 12), ([("x", "1"), ("seq", "0")], 0), ([("seq", "-1")], None),
     ([("seq", "1.5")], None),
     ([("seq", "²")], None), ([("seq", "9" * 19)], None), ([("seq", "")], None)],
)  # fmt: skip
def test_a_gateways_number(properties, number):
    """User property `seq` is a whole number or nothing."""
    assert sequence_of(properties) == number
