"""The short cut, the record-by-record reader and the published models agree."""

import json
import math

import cbor2
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import plain, senml, senml_cbor
from schemas.models import PlainReading, PlainReadings, SenmlPack, SenmlRecord
from schemas.payload import Unreadable, load_json, number
from schemas.reading import RELATIVE_BELOW

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e308, -1e308, 1.7e308, 2**28, 2**28 - 1, 1763712000, 10**309]),
)
TEXTS = st.text(max_size=5) | st.sampled_from(["", "a:", "a:x", "}", '"bn"', "aGk", "21.5", "bt", "\\"])
ODD = st.sampled_from([None, True, False, "x", "1", 5, math.nan, math.inf, 10**400, [], {}, "a\0", "aG+"])


def optional(**labels):
    """Dicts with any of the labels, each mostly of its right kind."""
    return st.fixed_dictionaries({}, optional={k: st.one_of(v, v, v, ODD) for k, v in labels.items()})


USUAL = st.fixed_dictionaries({"v": NUMBERS}, optional={"n": TEXTS, "u": TEXTS, "t": NUMBERS})
LEADING = st.fixed_dictionaries(
    {"v": NUMBERS}, optional={"n": TEXTS, "u": TEXTS, "t": NUMBERS, "bn": TEXTS, "bt": NUMBERS, "bu": TEXTS}
)
ANY_RECORD = optional(
    bn=TEXTS, bt=NUMBERS, bu=TEXTS, bv=NUMBERS, bs=NUMBERS, n=TEXTS, u=TEXTS, v=NUMBERS, t=NUMBERS, ut=NUMBERS,
    vs=TEXTS, vb=st.booleans(), vd=st.sampled_from(["", "aGk", "aGkgCg", "a"]), s=NUMBERS,
    bver=st.integers(-3, 11), colour=ODD, x_=ODD, bx_=ODD,
)  # fmt: skip
USUAL_PACKS = st.builds(lambda first, rest: [first, *rest], LEADING, st.lists(USUAL, max_size=4))
ANY_PACKS = st.lists(ANY_RECORD, min_size=1, max_size=4)


def accepts(model, value):
    """Whether the published model takes the value."""
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(pack=USUAL_PACKS | ANY_PACKS, indent=st.sampled_from([None, 1]))
@example(pack=[{"v": 1, "n": "a"}, {"v": 1, "bn": "b"}], indent=None)
@example(pack=[{"v": 1, "n": "a:x", "bt": 1.7e308, "t": 1.7e308}], indent=None)
@example(pack=[{"v": 1, "n": "a:x", "bt": 1.7e308}, {"v": 1, "n": "a:x", "t": 1.7e308}], indent=None)
@example(pack=[{"v": 1, "n": "a:x", "bt": -1.7e308}, {"v": 1, "n": "a:x", "t": -1.7e308}], indent=None)
def test_the_short_cut_agrees_with_the_reader(pack, indent):
    """Where the short cut answers, the reader refuses nothing and gives the same part."""
    payload = json.dumps(pack, indent=indent).encode()
    if part := senml.fast(payload):
        reference = senml.read(load_json(payload))
        reference.indexes = range(len(reference.names))
        assert part == reference


@settings(max_examples=200, deadline=None)
@given(data=st.data(), pack=USUAL_PACKS)
def test_the_short_cut_accepts_no_bytes_that_the_reader_refuses(data, pack):
    """Of a damaged payload the short cut takes only what the reader takes, and reads the same in it."""
    payload = bytearray(json.dumps(pack, ensure_ascii=data.draw(st.booleans())).encode())
    at = data.draw(st.integers(0, len(payload)))
    payload[at : at + data.draw(st.integers(0, 2))] = data.draw(
        st.sampled_from([b"", b"}", b"{", b",", b"]", b'"', b"0", b"\\", b"\xff", b"\n", b"\0", b"e", b"]]"])
    )
    if part := senml.fast(bytes(payload)):
        reference = senml.read(load_json(bytes(payload)))
        assert (part.names, part.units) == (reference.names, reference.units)
        assert (part.values, part.times) == (reference.values, reference.times)
        assert not reference.refusals


@settings(max_examples=200, deadline=None)
@given(first=LEADING, rest=st.lists(USUAL, max_size=3))
def test_the_usual_pack_takes_the_short_cut(first, rest):
    """A pack of finite numbers with names and leading base fields never needs the reader."""
    pack = [{"n": "x"} | first, *({"n": "x"} | record for record in rest)]
    first["bn"] = "a:"
    usual = [{**pack[0], "bn": "a:"}, *pack[1:]]
    finite = all(number(r.get(label, 0)) is not None for r in usual for label in ("v", "t", "bt"))
    small = abs(usual[0].get("bt", 0)) < 1e290
    if finite and small and "}" not in json.dumps(usual[0])[:-1]:
        assert senml.fast(json.dumps(usual).encode()) is not None
        in_cbor = [{CBOR_LABELS[label]: value for label, value in record.items()} for record in usual]
        tagged = any(isinstance(v, int) and not -(2**64) <= v < 2**64 for r in usual for v in r.values())
        assert tagged or senml_cbor.fast(cbor2.dumps(in_cbor)) is not None


CBOR_LABELS = {label: number for number, label in senml_cbor.LABELS.items()}
CBOR_VALUES = st.one_of(NUMBERS, TEXTS, ODD, st.binary(max_size=2))
CBOR_KEYS = st.sampled_from([*senml_cbor.LABELS, 9, "v", "n", True, 1.0, 2.0, -0.0])
"""Among them such as a dict takes for a label: true and 1.0 for the unit's."""


@settings(max_examples=500, deadline=None)
@given(
    data=st.data(),
    pack=USUAL_PACKS | st.lists(LEADING, min_size=1, max_size=4) | ANY_PACKS,
    tagged=st.booleans(),
)
def test_the_short_cut_for_cbor_agrees_with_the_reader(data, pack, tagged):
    """Where the short cut answers, whatever the labels and their values are, the reader gives the same part."""
    records = [{CBOR_LABELS.get(label, label): value for label, value in record.items()} for record in pack]
    data.draw(st.sampled_from(records)).update(data.draw(st.dictionaries(CBOR_KEYS, CBOR_VALUES, max_size=1)))
    payload = bytearray(cbor2.dumps(cbor2.CBORTag(55799, records) if tagged else records))
    at, damage = data.draw(st.integers(0, len(payload))), data.draw(st.just(b"") | st.binary(max_size=2))
    payload[at : at + len(damage)] = damage
    if part := senml_cbor.fast(bytes(payload)):
        reference = senml.read(senml_cbor.load_cbor(bytes(payload)))
        reference.indexes = range(len(reference.names))
        assert part == reference


def oracle(pack):
    """Readings of a pack that the model accepts, resolved as RFC 8428, section 4 says it."""
    base, readings = {"bn": "", "bt": 0, "bu": None, "bv": 0}, []
    for record in SenmlPack.model_validate(pack).root:
        said = record.model_dump(exclude_none=True)
        base |= {label: value for label, value in said.items() if label in base}
        name, time = base["bn"] + said.get("n", ""), base["bt"] + said.get("t", 0)
        if "v" in said:
            readings.append((name, said.get("u", base["bu"]), base["bv"] + said["v"], time))
        elif "vb" in said:
            readings.append((name, said.get("u", base["bu"]), float(said["vb"]), time))
    return readings


@settings(max_examples=400, deadline=None)
@given(pack=ANY_PACKS | USUAL_PACKS)
def test_reader_and_model_accept_the_same_packs(pack):
    """A pack is valid by its model exactly when the reader refuses nothing but what only resolving shows."""
    try:
        part = senml.read(pack)
    except Unreadable:
        assert not accepts(SenmlPack, pack)
        return
    needs_resolving = [r for r in part.refusals if r.detail.startswith("no name") or "beyond" in r.detail]
    assert accepts(SenmlPack, pack) == (needs_resolving == part.refusals)
    if not part.refusals:
        columns = zip(part.names, part.units, part.values, part.times, strict=True)
        assert list(columns) == oracle(pack)
        absolute = [t for t in (*part.times, *(e.time for e in part.events)) if t >= RELATIVE_BELOW]
        assert part.absolute == bool(absolute)


@settings(max_examples=300, deadline=None)
@given(record=ANY_RECORD)
def test_reader_and_model_refuse_the_same_records(record):
    """A record is refused where its model refuses it, and the good record beside it is kept."""
    record.pop("bver", None)
    part = senml.read([record, {"bn": "good:", "bt": 0, "bv": 0, "bu": "Cel", "bs": 0, "n": "x", "v": 7}])
    refused = [r for r in part.refusals if r.index == 0]
    resolving = [r for r in refused if r.detail.startswith("no name") or "beyond" in r.detail]
    assert accepts(SenmlRecord, record) == (resolving == refused)
    if record.get("bx_") is None:
        assert part.names[-1:] == ["good:x"]


TIMES = NUMBERS | st.sampled_from(
    ["2025-11-21T08:00:00Z", "2025-11-21T16:00:00+08:00", "2025-11-21", "now", 1763712000123, 1763712000]
)
PLAIN = optional(
    id=TEXTS | st.integers(0, 10**20),
    t=TIMES,
    values=st.dictionaries(TEXTS, st.one_of(NUMBERS, TEXTS, st.booleans(), ODD), max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(value=PLAIN)
def test_plain_reader_and_model_accept_the_same_objects(value):
    """A plain object is valid by its model exactly when the reader refuses nothing in it."""
    part = plain.read(value)
    assert accepts(PlainReading, value) == (not part.refusals)
    assert accepts(PlainReadings, [value]) == (not part.refusals)
    if not part.refusals:
        model = PlainReading.model_validate(value)
        readings = {m: float(v) for m, v in model.values.items() if not isinstance(v, str)}
        assert dict(zip(part.names, part.values, strict=True)) == {
            (model.id, m): v for m, v in readings.items()
        }
        assert {e.name[1]: e.body["vs"] for e in part.events} == {
            m: v for m, v in model.values.items() if isinstance(v, str)
        }
