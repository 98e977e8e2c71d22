"""Messages full of garbage: each element is in the books, the words about them stay few."""

import json
from itertools import chain

import pytest

from ingest.batch import Batch, reading_count
from ingest.rejections import details
from schemas.mapping import compile_mapping
from schemas.mapping_rule import Rule
from schemas.message import Message
from schemas.nbiot import iotda, onenet
from schemas.nbiot.broken import BROKEN_MAX
from schemas.routes import Place

AT_MS = 1763712000407
POINT = {
    "at": AT_MS,
    "imei": "860000000000009",
    "type": 1,
    "ds_id": "3303_0_5700",
    "value": 21.5,
    "dev_id": 5,
}
CHILD = {
    "device_id": "d",
    "services": [{"service_id": "s", "properties": {"a": 1}, "event_time": "20251121T075900Z"}],
}
BAD, GOOD = 1000, 3
DIALECTS = {
    "onenet": (onenet.decoder(), lambda elements: {"msg": elements}, POINT),
    "iotda": (iotda.decoder(), lambda elements: {"devices": elements}, CHILD),
    "mapping": (
        compile_mapping([Rule(code="{id}", each="r[*]", values=("v",), metric="m", time=("t",))], "r", {}),
        lambda elements: {"r": elements},
        {"id": "a", "v": 1, "t": 1763712000},
    ),
}


@pytest.mark.parametrize("garbage", [1, {}, {"x": 1}], ids=["number", "empty", "object"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_element_is_counted(dialect, garbage):
    """A thousand elements that can't be read are a thousand refused readings, told in a hundred lines or so."""
    decode, envelope, good = DIALECTS[dialect]
    elements = [garbage] * (BAD // 2) + [good] * GOOD + [garbage] * (BAD // 2)
    parts = decode(Message("t", json.dumps(envelope(elements)).encode(), 0.0))
    assert sum(map(reading_count, parts)) == BAD + GOOD
    assert sum(len(part.values) for part in parts) == GOOD
    refusals = [refusal for part in parts for refusal in part.refusals]
    assert len(refusals) <= BROKEN_MAX + 2
    places = list(
        chain(*(range(r.index, r.index + r.count) for r in refusals), *(part.indexes for part in parts))
    )
    assert sorted(places) == list(range(BAD + GOOD))
    assert sum(entry.count for entry in details(refusals).obj) == BAD
    batch = Batch()
    assert batch.add(Message("t", b"", 0.0), Place(None, None), parts) == BAD + GOOD


def test_counted_elements_keep_their_reasons():
    """What is only counted is counted by its reason."""
    odd = POINT | {"type": 99}
    [part] = onenet.decoder()(Message("t", json.dumps({"msg": [odd] * 300 + [1] * 50}).encode(), 0.0))
    assert [(r.index, r.reason, r.count) for r in part.refusals[BROKEN_MAX:]] == [
        (100, "unsupported", 200), (300, "malformed_payload", 50)]  # fmt: skip
