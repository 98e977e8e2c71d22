"""The plain form: times, values, and the published JSON Schemas."""

import json
from importlib.resources import files

import pytest

from schemas import models, plain
from schemas.message import Message
from schemas.payload import Unreadable
from schemas.telemetry import decode


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, 0.0),
        (1763712000, 1763712000.0),
        (1763712000.5, 1763712000.5),
        (1763712000500, 1763712000.5),
        (99_999_999_999, 99_999_999_999.0),
        (2**28, 2.0**28),
        ("2025-11-21T08:00:00Z", 1763712000.0),
        ("2025-11-21T16:00:00+08:00", 1763712000.0),
        ("20251121T160000.5+0800", 1763712000.5),
        (2**63, 2.0**63 / 1000),
        ("6000-01-01T00:00:00Z", 127_174_492_800.0),
    ],
)
def test_times(said, seconds):
    """A time may be seconds, milliseconds, ISO 8601 with its zone, or missing."""
    assert plain.seconds(said) == seconds


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (0, "time_too_old"),
        (-1, "time_too_old"),
        (2**28 - 1, "time_too_old"),
        (100_000_000_000, "time_too_old"),  # milliseconds, of 1973
        ("0001-01-01T00:00:00+14:00", "time_too_old"),
        ("2025-11-21T08:00:00", "malformed_payload"),
        ("2025-11-21", "malformed_payload"),
        ("1763712000", "malformed_payload"),
        ("", "malformed_payload"),
        ("\ud800", "malformed_payload"),
        (True, "malformed_payload"),
        ([1763712000], "malformed_payload"),
        (float("nan"), "malformed_payload"),
        (10**400, "malformed_payload"),
    ],
)
def test_times_that_are_refused(said, reason):
    """A time without a zone, before 1978 or of another kind is refused, not guessed."""
    with pytest.raises(Unreadable) as refused:
        plain.seconds(said)
    assert refused.value.reason == reason
    assert refused.value.hint


@pytest.mark.parametrize("text", ["21.5", " 21.5 ", "-1e3", "0", "071", "+27.90"])
def test_a_number_as_text_is_refused(text):
    """A number in quotes is refused with a hint, whatever its spelling."""
    [part] = decode(Message("t", json.dumps({"id": "a", "values": {"x": text, "y": 1}}).encode(), 0.0))
    assert [(refusal.index, refusal.reason) for refusal in part.refusals] == [(0, "not_a_number")]
    assert part.values == [1.0]


@pytest.mark.parametrize("text", ["running", "", "运行", "1e400", "1.2.3"])
def test_other_text_is_an_event(text):
    """Text that is no finite number is an event under its metric's name."""
    [part] = decode(Message("t", json.dumps({"id": "a", "values": {"state": text}}).encode(), 0.0))
    assert [(event.name, event.body) for event in part.events] == [(("a", "state"), {"vs": text})]
    assert part.refusals == []


def test_indexes_count_the_values_of_the_whole_message():
    """Readings, events and refusals share one count, so that each place has one outcome."""
    message = [
        {"id": "a", "values": {"x": 1, "y": "on", "z": None}},
        5,
        {"id": "b", "t": 0, "values": {"x": 1}},
    ]
    [part] = decode(Message("t", json.dumps(message).encode(), 0.0))
    places = [*part.indexes, *(e.index for e in part.events), *(r.index for r in part.refusals)]
    assert sorted(places) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", models.PUBLISHED)
def test_published_schemas_are_up_to_date(name):
    """The JSON Schema in the package is the one its model exports (models.export writes them)."""
    published = files("schemas").joinpath("json", f"{name}.json").read_text()
    assert published == models.schema_text(models.PUBLISHED[name])


def test_export_writes_every_schema(tmp_path):
    """`export` writes one file a published model, and each is a JSON Schema."""
    models.export(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(models.PUBLISHED)
    for path in tmp_path.iterdir():
        assert json.loads(path.read_text())["$schema"].startswith("https://json-schema.org/")


def test_presence_and_status_models_take_what_the_contract_shows():
    """The documented presence and status payloads are valid, and codes may be numbers."""
    presence = models.Presence.model_validate_json(
        '{"at": "2026-11-21T08:00:00Z", "online": ["imei:860000000000009", 860000000000017], "offline": []}'
    )
    assert presence.online == ["imei:860000000000009", "860000000000017"]
    status = '{"online": true, "at": "2026-11-21T08:00:00Z", "firmware": "1.2"}'
    assert models.GatewayStatus.model_validate_json(status).online
    with pytest.raises(ValueError, match="online"):
        models.GatewayStatus.model_validate_json('{"online": "yes"}')
