"""Packs that are scanned and packs that are read as objects are stored alike, in one batch too."""

import json
import time

import pytest

from ingest.batch import Batch
from ingest.columns import Columns
from ingest.decode import Decode
from ingest.settings import Settings
from ingest.write import Writer
from schemas import scan
from schemas.message import Message
from schemas.reading import Part
from schemas.routes import Routes

NOW = 1763712000.0
MANY = 60


def records(metric, unit, values, terminal=1):
    """A pack of one metric."""
    return [
        {"n": f"imei:8688000000{terminal:05d}/{metric}", "u": unit, "v": value, "t": NOW - 60 + n}
        for n, value in enumerate(values)
    ]


PACKS = [
    records("temperature", "Cel", range(MANY)),
    records("temperature", "Cel", [20.5]),
    records("temperature", "degF", [68.0 + n for n in range(MANY)], terminal=2),
    records("humidity", "%RH", [50, 5000, *range(MANY)], terminal=3),
    records("humidity", "kg", range(MANY), terminal=4),
    [{"bn": "imei:868800000000005/", "bt": NOW, "bu": "Cel", "n": "temperature", "v": 1.0000000000000002},
     *({"n": "humidity", "u": "%RH", "v": n, "t": -n} for n in range(MANY))],
    records("a b", "Cel", range(MANY), terminal=6),
    records("temperature", None, [1.0], terminal=7),
]  # fmt: skip


@pytest.fixture
def compiled(monkeypatch):
    """Whether packs are scanned: on until it is called with False."""
    monkeypatch.setattr(scan, "_loop", None)
    scan.prepare()
    there = scan._loop
    return lambda on: monkeypatch.setattr(scan, "_loop", there if on else None)


def stored(database, packs):
    """What is in the database once the packs were written as one batch, over again with the names known."""
    writer = Writer(
        Settings(database_url=database.url, max_age_days=0), "columns-0", lambda _: False, lambda: NOW
    )
    decode = Decode(Routes.default(), 10_000_000, writer.registry)
    for at in (NOW, NOW + 1):
        batch = Batch()
        for number, pack in enumerate(packs):
            moved = [record | ({"t": record["t"] + at - NOW} if record.get("t") else {}) for record in pack]
            message = Message(
                "ganzhi/v1/370102/gw1/telemetry", json.dumps(moved).encode(), at, packet_id=number + 1
            )
            way, parts = decode(message)
            batch.add(message, way.place, parts)
        writer.write(batch)
    writer.close()
    rows = (
        "SELECT terminal, observed_at, metric, value, unit, quality FROM reading_detail ORDER BY 1, 2, 3, 4"
    )
    refused = (
        "SELECT topic, reason, rejected, total, detail FROM rejection ORDER BY received_at, detail::text"
    )
    found = database.rows(rows), database.rows(refused)
    database.execute("TRUNCATE reading, rejection, ledger, terminal_gateway, terminal CASCADE")
    return found


def test_scanned_packs_are_stored_as_others(database, compiled):
    """Rows, flags, conversions and refusals, by place and reason, are the same with and without the compiler."""
    compiled(True)
    assert scan.columns(json.dumps(PACKS[0]).encode())
    scanned = stored(database, PACKS)
    compiled(False)
    assert stored(database, PACKS) == scanned
    rows, refused = scanned
    assert len(rows) == 2 * (MANY + 1 + MANY + MANY + 1 + MANY + 1 + 1)
    assert {reason for _, reason, *_ in refused} == {"out_of_range", "unit_mismatch", "invalid_name"}


def test_columns_are_in_order(compiled):
    """Lists and arrays in turn come out one behind the other, names found by number."""
    compiled(True)
    columns, one = Columns(), Part(["a:x"], ["Cel"], [1.0], [2.0], range(1))
    pack = scan.columns(json.dumps(PACKS[0]).encode())
    for part in (one, one, pack, one, pack, pack):
        columns.add(part)
    assert len(columns) == 3 + 3 * MANY == len(columns.values()) == len(columns.times())
    spellings = ["%RH", None, "Cel"]
    units = [spellings[n] for n in columns.units(spellings.index)]
    assert units == ["Cel"] * 2 + list(pack.units) + ["Cel"] + 2 * list(pack.units)
    names = [columns.name(n)[0] for n in range(len(columns))]
    assert names == ["a:x"] * 2 + list(pack.names) + ["a:x"] + 2 * list(pack.names)
    assert columns.hashes().tolist() == [hash(name) for name in names]
    assert columns.values().tolist() == [1.0] * 2 + [*range(MANY)] + [1.0] + 2 * [*range(MANY)]


def test_a_worker_compiles_when_a_large_pack_has_come(database, new_worker, gateway):
    """It goes on as before meanwhile, says so in its log, and stores each pack once."""
    worker = new_worker()
    with worker:
        worker.wait_ready()
        now = time.time()
        for round_ in range(2):
            pack = [
                {"n": f"imei:86880000000{n:04d}/temperature", "v": n, "t": now + round_} for n in range(MANY)
            ]
            gateway.publish("ganzhi/v1/370102/gw1/telemetry", json.dumps(pack).encode())
            worker.wait(lambda m, n=round_: m("readings_committed_total") == (n + 1) * MANY, "done")
            worker.wait(lambda _: "packs_compiled" in {line["event"] for line in worker.log}, "compiled")
    assert database.rows("SELECT count(*), count(DISTINCT (terminal_id, observed_at)) FROM reading") == [
        (2 * MANY,) * 2
    ]
