"""Platforms' pushes and the database: what comes in a second envelope, or through a second platform."""

import json
import time
from pathlib import Path

import pytest

from ingest.batch import Batch
from ingest.decode import Decode
from ingest.settings import Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes

GOLDEN = Path(__file__).parent.parent / "golden"
IMEI = "860000000000009"


@pytest.fixture
def write(database):
    """Writes payloads, each a batch of its own, by their platforms; answers nothing."""
    writer = Writer(Settings(database_url=database.url, max_age_days=0), "desk-0", lambda _: False, time.time)
    decode = Decode(Routes.default(), 1_000_000, writer.registry)

    def write(*pushes):
        for number, (platform, payload) in enumerate(pushes):
            batch = Batch()
            message = Message(f"nbiot/{platform}/bridge-1", payload, time.time(), packet_id=number + 1)
            way, parts = decode(message)
            batch.add(message, way.place, parts)
            writer.write(batch)

    yield write
    writer.close()


def counts(database):
    return [database.one(f"SELECT count(*) FROM {table}")[0] for table in ("reading", "event", "terminal")]


def test_pushes_count_once(write, database):
    """A report, its union copy, and a point pushed again in an array are stored once, for one terminal."""
    report, copy = (
        ("ctwing", (GOLDEN / "ctwing" / case / "payload").read_bytes())
        for case in ("smoke_service_data", "smoke_union_copy")
    )
    point = {"at": 1763712000407, "imei": IMEI, "type": 1, "ds_id": "3303_0_5700", "value": 21.5, "dev_id": 5}
    pushes = [
        json.dumps({"msg": msg, "nonce": str(n)}).encode() for n, msg in enumerate((point, [point, point]))
    ]
    write(report, copy, copy, *(("onenet", push) for push in pushes))
    assert counts(database) == [8, 1, 1]
