"""What a worker remembers of what senders bring: as many as are useful, and nothing long."""

import json
import tracemalloc

import pytest

from devices import registry as registries
from devices.registry import Registry
from ingest.batch import Batch
from ingest.decode import Decode
from ingest.explain import Imagined
from ingest.resolve import Resolver
from ingest.settings import OnUnknown
from schemas.message import Message
from schemas.reading import Event, Part
from schemas.routes import Place, Routes

NOW = 1_795_000_000.0
LONG = 50_000
MESSAGES = 100
MADE_UP = {
    "a metric": lambda name: (
        "ganzhi/v1/370102/gw1/telemetry",
        {"id": "imei:860000000000009", "values": {name: "12"}},
    ),
    "a stream": lambda name: (
        "nbiot/onenet/gw1",
        {"msg": {"imei": "860000000000009", "type": 1, "ds_id": name, "at": 1_795_000_000_000, "value": 12}},
    ),
    "a device": lambda name: (f"spBv1.0/group/DDATA/edge/{name}", {}),
}


@pytest.mark.parametrize("made_up", MADE_UP.values(), ids=MADE_UP)
def test_long_names_are_not_remembered(made_up):
    """Of messages that each bring another name of 50 kB nothing stays, whether they are read or refused."""
    decode = Decode(Routes.default(), 1 << 20, Registry())
    tracemalloc.start()
    for n in range(MESSAGES):
        topic, body = made_up(f"{n}".ljust(LONG, "x"))
        decode(Message(topic, json.dumps(body).encode(), NOW))
    left_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left_bytes < MESSAGES * LONG / 10


@pytest.mark.parametrize(
    ("limit", "part"),
    [
        ("EVENTS_MAX", lambda n: Part(events=[Event(f"t/e{n}", NOW, {"value": "on"}, 0)])),
        ("SERIES_MAX", lambda n: Part([f"t{n}/temperature"], ["Cel"], [21.5], [NOW], range(1))),
    ],
)
def test_so_many_names_and_no_more(monkeypatch, limit, part):
    """Beyond its limit a worker begins anew, and goes on knowing all that a batch brings."""
    monkeypatch.setattr(registries, limit, 20)
    registry, directory = Registry(), Imagined()
    resolver = Resolver(registry, OnUnknown.REGISTER, OnUnknown.REGISTER)
    resolver.load(directory)
    anew = 0
    for first in range(0, 200, 10):
        batch, before = Batch(), remembered(registry)
        for n in range(first, first + 10):
            batch.add(Message("t", b"", NOW), Place(370102, "gw1"), [part(n)])
        targets = resolver(directory, batch)
        assert (targets.rows >= 0).all()
        assert not targets.refused
        assert len(targets.events) == (10 if limit == "EVENTS_MAX" else 0)
        anew += remembered(registry) < before
        assert remembered(registry) <= 30
    assert anew


def remembered(registry):
    return len(registry) + len(registry._events)
