"""From bytes to JSON values: two readers that must agree, numbers beyond all measure, and megabytes of garbage."""

import json
import math
import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devices.registry import Registry
from ingest import batch
from ingest.decode import Decode
from schemas.message import Message
from schemas.nbiot.broken import BROKEN_MAX
from schemas.payload import Unreadable, load_json
from schemas.routes import Place, Routes

GOLDEN = Path(__file__).parent.parent / "golden"
VENDORS = Path(str(files("schemas"))) / "data" / "vendors.toml"
DIALECTS = sorted(path.parent for path in GOLDEN.glob("*/*/topic") if path.parts[-3] != "sparkplug")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, st.booleans())
@example(math.nan, True)
@example("\ud800", True)
@example(10**25, True)
@example(-0.0, True)
def test_both_readers_read_the_same(value, escaped):
    """Whatever Python's json writes is read as Python's json reads it."""
    text = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(text.decode())
    except UnicodeDecodeError:
        with pytest.raises(Unreadable):
            load_json(text)
        return
    assert repr(load_json(text)) == repr(expected)


@pytest.mark.parametrize("digits", [25, 299, 400, 5000])
@pytest.mark.parametrize("folder", sorted({case.parent.name for case in DIALECTS}))
def test_endless_integers_in_any_field(folder, digits):
    """An integer of many digits in place of any number costs what it stands in, and never the service."""
    decode = Decode(Routes.load(VENDORS), 10**6, Registry())
    for case in (case for case in DIALECTS if case.parent.name == folder):
        payload, topic = (case / "payload").read_bytes(), (case / "topic").read_text().strip()
        for number in re.finditer(rb"(?<=[:\[ ])-?[0-9][0-9.]*(?=[,\s}\]])", payload):
            odd = payload[: number.start()] + b"9" * digits + payload[number.end() :]
            parts = decode(Message(topic, odd, 1763712000.0))[1]
            assert not any("the decoder failed" in r.detail for part in parts for r in part.refusals)


GARBAGE = {
    "nbiot/onenet/g": [('{"msg":[', "1", "]}"), ('{"msg":[', "{}", "]}"), ('{"msg":[', '{"type":1}', "]}")],
    "nbiot/iotda/g": [
        ('{"devices":[', "1", "]}"),
        ('{"devices":[', "{}", "]}"),
        ('{"devices":[{"device_id":"a","services":[', "1", "]}]}"),
        ('{"devices":[{"device_id":"' + "a" * 500_000 + '","services":[', '{"data":{"a":1}}', "]}]}"),
    ],
    "nbiot/ctwing/g": [("[", "1", "]"), ('{"messageType":"dataReport","payload":[', "1", "]}")],
    "thingsboard/g/v1/gateway/telemetry": [
        ('{"d":[', "{}", "]}"),
        ('{"' + "d" * 500_000 + '":[', '{"values":{"a":1}}', "]}"),
    ],
}


@pytest.mark.parametrize(
    ("topic", "shape"),
    [(topic, shape) for topic, shapes in GARBAGE.items() for shape in shapes],
    ids=lambda value: value if isinstance(value, str) else f"{value[0][:20]}{value[1]}",
)
def test_a_megabyte_of_garbage_is_one_refused_part(monkeypatch, topic, shape):
    """Elements that can't be read are one part with about a hundred refusals, and the payload is hashed once."""
    before, element, after = shape
    count = (1_000_000 - len(before)) // (len(element) + 1)
    payload = (before + ",".join([element] * count) + after).encode()
    hashed = []
    monkeypatch.setattr(
        batch, "_hash", lambda whole, wrapped=batch._hash: hashed.append(len(whole)) or wrapped(whole)
    )
    message = Message(topic, payload, 1763712000.0)
    parts = Decode(Routes.load(VENDORS), 10**7, Registry())(message)[1]
    whole = batch.Batch()
    whole.add(message, Place(None, "g"), parts)
    assert len(parts) == 1
    assert 1 <= len(parts[0].refusals) <= BROKEN_MAX + 1
    assert sum(hashed) < 2 * len(payload)
    if len(parts[0].refusals) > BROKEN_MAX:
        assert parts[0].refusals[-1].count == count - BROKEN_MAX


def test_good_elements_among_much_garbage_land():
    """However many elements of an array are refused, the others are parts of their own, at their places."""
    good = {"type": 2, "status": 1, "dev_id": 5, "at": 1763712000407}
    push = json.dumps({"msg": [1] * 1000 + [good] + [{}] * 1000 + [good]}).encode()
    parts = Decode(Routes.load(VENDORS), 10**7, Registry())(Message("nbiot/onenet/g", push, 0.0))[1]
    assert [list(part.indexes) for part in parts] == [[1000], [2001], []]
