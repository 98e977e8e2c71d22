"""Golden messages: to add a case is to add a folder under tests/golden/senml or tests/golden/plain.

A folder holds `message.json` or `message.cbor` (the payload, byte for byte), optionally
`meta.json` with `content_type`, and `expected.json`: readings, events, refusals. Cases named
rfc8428_* are the examples of RFC 8428 and of its working group (github.com/core-wg/senml-spec).

A dialect of others has a folder of its own under tests/golden, with cases of `topic`, `payload` and
`expected.json`, a list of parts; `meta.json` may hold `settings`. Its messages go by the routes.
"""

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from devices.registry import Registry
from ingest.decode import Decode, decoders
from ingest.settings import Settings
from schemas.message import Message
from schemas.routes import Routes
from schemas.telemetry import decode
from tests.schemas.parts import taken_apart

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path for kind in ("senml", "plain") for path in (GOLDEN / kind).iterdir())
VENDORS = Path(str(files("schemas"))) / "data" / "vendors.toml"
DIALECTS = sorted(path.parent for path in GOLDEN.glob("*/*/topic") if path.parts[-3] != "sparkplug")
"""Sparkplug's cases carry state: they have a test of their own."""


def decoded(case):
    """What the decoder makes of a case, as JSON; names of the plain form become lists."""
    meta = json.loads((case / "meta.json").read_text()) if (case / "meta.json").exists() else {}
    [payload] = case.glob("message.*")
    [part] = decode(Message("t", payload.read_bytes(), 1763712000.0, meta.get("content_type")))
    return as_json(part)


def decoded_by_route(case):
    """What the service's decoders make of a case of a dialect's, as JSON: a list of parts."""
    meta = json.loads((case / "meta.json").read_text()) if (case / "meta.json").exists() else {}
    by_name = decoders(Settings(**meta.get("settings", {})))
    decode_any = Decode(Routes.load(VENDORS), 1_048_576, Registry(), by_name=by_name)
    message = Message((case / "topic").read_text().strip(), (case / "payload").read_bytes(), 1763712000.0)
    parts = taken_apart(decode_any(message)[1])
    return [as_json(part) | {"aliases": part.aliases} for part in parts]


def as_json(part):
    """A part as JSON; names that are pairs become lists."""
    columns = zip(part.indexes, part.names, part.units, part.values, part.times, strict=True)
    result = {
        "absolute": part.absolute,
        "readings": [
            dict(zip(("index", "name", "unit", "value", "time"), row, strict=True)) for row in columns
        ],
        "events": [event_json(event) for event in part.events],
        "refusals": [
            {
                k: v
                for k, v in msgspec.structs.asdict(r).items()
                if k not in {"event", "content"} and (k, v) != ("count", 1)
            }
            for r in part.refusals
        ],
    }
    return json.loads(json.dumps(result))


def event_json(event):
    """An event as JSON; `heard` where it is not."""
    return {k: v for k, v in asdict(event).items() if k != "heard" or not v}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_golden_message(case):
    """Each golden message gives the readings, events and refusals beside it."""
    assert decoded(case) == json.loads((case / "expected.json").read_text())


@pytest.mark.parametrize("case", DIALECTS, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_golden_dialect(case):
    """Each golden message of a dialect gives the parts beside it, by its topic's route."""
    assert decoded_by_route(case) == json.loads((case / "expected.json").read_text())


def test_every_case_is_complete():
    """A golden folder holds one message and what is expected of it."""
    for case in CASES:
        assert len(list(case.glob("message.*"))) == 1, case
        assert (case / "expected.json").exists(), case
