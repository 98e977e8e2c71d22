"""Rejections of messages full of garbage: each element counts, and each comes in with a replay after a fix."""

import json
import time

import pytest

from ingest.batch import Batch
from ingest.connection import connect
from ingest.decode import Decode
from ingest.quarantine import Quarantine
from ingest.settings import Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes

pytestmark = pytest.mark.parametrize("storage", ["postgres"])
ROUTES = """
[[route]]
filter = "own/{gateway}"
name = "own"
decoder = "own"

[[mapping.own]]
each = "r[*]"
code = "own:{CODE}"
values = ["v"]
metric = "temperature"
time = ["t"]
"""
KEPT = "SELECT rejected, total, jsonb_array_length(detail), detail -> -1 ->> 'count' FROM rejection"


def write(settings, topic, *bodies):
    """Writes messages, each a batch of its own."""
    writer = Writer(settings, "desk-0", lambda _: False, time.time)
    decode = Decode(Routes.load(settings.routes), 1_000_000, writer.registry)
    for number, body in enumerate(bodies, 1):
        batch = Batch()
        message = Message(topic, json.dumps(body).encode(), time.time(), packet_id=number)
        way, parts = decode(message)
        batch.add(message, way.place, parts)
        writer.write(batch)
    writer.close()


def test_a_row_counts_every_element(database):
    """The row of a push full of garbage counts each element in a few lines, and is one when it is signed anew."""
    point = {"at": int(time.time() * 1000), "type": 1, "ds_id": "3303_0_5700", "value": 21.5, "dev_id": 5}
    pushes = ({"msg": [1] * 5_000 + [point], "nonce": nonce} for nonce in "ab")
    write(Settings(database_url=database.url), "nbiot/onenet/b", *pushes)
    assert database.rows(KEPT) == [(5_000, 5_001, 101, "4900")]
    assert database.one("SELECT count(*) FROM reading") == (1,)


def test_what_was_only_counted_comes_in_with_a_replay(database, tmp_path):
    """After the mapping is mended all 300 records are stored, those among them that were good before only once."""
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES.replace("CODE", "id"))
    settings = Settings(database_url=database.url, routes=file)
    now = int(time.time())
    records = [{"id" if n == 250 else "sn": f"{n}", "v": n / 100, "t": now} for n in range(300)]
    write(settings, "own/g", {"r": records})
    assert database.rows(KEPT) == [(299, 300, 102, "49")]
    file.write_text(ROUTES.replace("CODE", "sn"))
    with connect(database.url) as conn:
        *_, done = Quarantine(conn, settings).replay(reason=None, division=None, dry_run=False)
    assert (done.readings, done.resolved) == (299, 1)
    assert database.one("SELECT count(*), count(DISTINCT terminal_id) FROM reading") == (300, 300)
