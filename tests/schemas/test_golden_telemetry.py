"""Golden messages: to add a case is to add a folder under tests/golden/senml or tests/golden/plain.

A folder holds `message.json` or `message.cbor` (the payload, byte for byte), optionally
`meta.json` with `content_type`, and `expected.json`: readings, events, refusals. Cases named
rfc8428_* are the examples of RFC 8428 and of its working group (github.com/core-wg/senml-spec).
"""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from schemas.message import Message
from schemas.telemetry import decode

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path for kind in ("senml", "plain") for path in (GOLDEN / kind).iterdir())


def decoded(case):
    """What the decoder makes of a case, as JSON; names of the plain form become lists."""
    meta = json.loads((case / "meta.json").read_text()) if (case / "meta.json").exists() else {}
    [payload] = case.glob("message.*")
    [part] = decode(Message("t", payload.read_bytes(), 1763712000.0, meta.get("content_type")))
    columns = zip(part.indexes, part.names, part.units, part.values, part.times, strict=True)
    result = {
        "absolute": part.absolute,
        "readings": [
            dict(zip(("index", "name", "unit", "value", "time"), row, strict=True)) for row in columns
        ],
        "events": [asdict(event) for event in part.events],
        "refusals": [{k: v for k, v in asdict(r).items() if k != "event"} for r in part.refusals],
    }
    return json.loads(json.dumps(result))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_golden_message(case):
    """Each golden message gives the readings, events and refusals beside it."""
    assert decoded(case) == json.loads((case / "expected.json").read_text())


def test_every_case_is_complete():
    """A golden folder holds one message and what is expected of it."""
    for case in CASES:
        assert len(list(case.glob("message.*"))) == 1, case
        assert (case / "expected.json").exists(), case
