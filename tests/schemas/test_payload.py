"""From bytes to JSON values: two readers that must agree, and numbers beyond all measure in every field."""

import json
import math
import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devices.registry import Registry
from ingest.decode import Decode
from schemas.message import Message
from schemas.payload import Unreadable, load_json
from schemas.routes import Routes

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
