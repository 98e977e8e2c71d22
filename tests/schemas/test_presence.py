"""Presence messages: golden folders, the published model beside the decoder, and which topics are taken."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from devices.registry import Registry
from ingest.decode import Decode
from schemas import presence
from schemas.message import Message
from schemas.models import Presence
from schemas.payload import Unreadable
from schemas.routes import Routes

CASES = sorted((Path(__file__).parent.parent / "golden" / "presence").iterdir())
CODES = st.text(max_size=3) | st.integers(-5, 10**20) | st.sampled_from(["imei:860000000000009", "a\0"])
ODD = st.sampled_from([None, True, "x", 5, 1.5, [], {}, [None], [""], ["a", 1.5], [True], {"a": 1}])
LISTS = st.lists(CODES, max_size=4) | ODD
TIMES = ODD | st.sampled_from(
    ["2026-11-21T08:00:00Z", "2026-11-21T16:00:00+08:00", "2026-11-21", 1763712000123, 0]
)


def decoded(case):
    """What the decoder makes of a case, as JSON."""
    [part] = presence.decode(Message("t", (case / "message.json").read_bytes(), 1763712000.0))
    assert {name[1] for name in part.names} <= {"online"}
    assert set(part.units) <= {None}
    columns = zip(part.indexes, (code for code, _ in part.names), part.values, part.times, strict=True)
    return {
        "absolute": part.absolute,
        "readings": [list(row) for row in columns],
        "refusals": [
            {k: v for k, v in msgspec.structs.asdict(r).items() if k not in {"event", "count", "content"}}
            for r in part.refusals
        ],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_presence(case):
    """Each golden message gives the readings (index, code, value, time) and refusals beside it."""
    assert decoded(case) == json.loads((case / "expected.json").read_text())


@settings(max_examples=200, deadline=None)
@given(value=st.fixed_dictionaries({}, optional={"at": TIMES, "online": LISTS, "offline": LISTS, "x": ODD}))
def test_decoder_and_model_accept_the_same(value):
    """A message is valid by its model exactly when the decoder refuses nothing of it, and says the same."""
    try:
        part = presence.read(value)
    except Unreadable:
        part = None
    try:
        model = Presence.model_validate(value)
    except ValidationError:
        assert part is None or part.refusals
        return
    assert part is not None
    assert not part.refusals
    assert [name[0] for name in part.names] == model.online + model.offline
    assert part.values == [1.0] * len(model.online) + [0.0] * len(model.offline)


def test_a_list_of_100_000_codes():
    """A whole platform fits in one message."""
    codes = [f"{n:020}" for n in range(100_000)]
    [part] = presence.decode(Message("t", json.dumps({"online": codes}).encode(), 0.0))
    assert len(part.names) == len(part.values) == len(part.times) == 100_000
    assert part.indexes == list(range(100_000))


@pytest.mark.parametrize("payload", [b"", b"\xa1", b'{"online": ["a"]', b"5"])
def test_what_is_no_presence_is_refused_whole(payload):
    """Bytes that can't be read are malformed, with a hint."""
    [part] = presence.decode(Message("t", payload, 0.0))
    [refusal] = part.refusals
    assert (refusal.index, refusal.reason) == (None, "malformed_payload")
    assert refusal.hint


def test_workers_take_presence_and_leave_status():
    """The default filters hold presence, not status; a status message that comes all the same has no route."""
    routes = Routes.default()
    assert "ganzhi/v1/+/+/presence" in routes.filters
    decode = Decode(routes, 1000, Registry())
    way, [part] = decode(Message("ganzhi/v1/370102/gw1/presence", b'{"offline": ["a"]}', 0.0))
    assert (way.route, way.place, part.values) == ("presence", (370102, "gw1"), [0.0])
    way, [part] = decode(Message("ganzhi/v1/370102/gw1/status", b'{"online": true}', 0.0))
    assert (way.route, part.refusals[0].reason) == ("none", "no_route")
