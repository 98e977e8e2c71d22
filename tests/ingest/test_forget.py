"""Forgetting a terminal wherever its name stands: in topics, as its own gateway, in Sparkplug's births, in chunks."""

import re
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from ingest import forget
from ingest.connection import connect

NUMBER = "860000000000009"
METER = f"imei:{NUMBER}"
PUMP, NODE = "spb:plant/edge7/pump1", "spb:plant/edge7"
OTHER = "imei:860000000000017"
DAYS, READINGS = 12, 1000
REFUSED = """INSERT INTO rejection (received_at, topic, gateway, reason, rejected, total, detail, payload)
             VALUES (now(), %s, %s, 'out_of_range', 1, 1, '[]', 'x')"""


@pytest.fixture
def conn(database):
    with connect(database.url) as conn:
        for number, code in enumerate((METER, PUMP, NODE, OTHER, "spb:plant/edge7/pump2"), 1):
            conn.execute("INSERT INTO terminal (id, code, scheme, division, state, gateway) "
                         "VALUES (%s, %s, split_part(%s, ':', 1), 370102, 'installed', %s)",
                         [number, code, code, NUMBER if code == METER else "edge7"])  # fmt: skip
        yield conn


def forgotten(conn, code):
    return forget.forget(conn, code, lambda _: None, seen_seconds=0)


def holding(database, *texts):
    """Tables in which a row holds one of these texts, as text or as bytes."""
    tables = database.rows("SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                           "AND relkind IN ('r', 'p')")  # fmt: skip
    asked = [f"%{form}%" for text in texts for form in (text, text.encode().hex())]
    return [
        name
        for (name,) in tables
        if database.rows(f"SELECT FROM {name} AS t WHERE t::text LIKE ANY (%s)", asked)
    ]


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_a_terminal_that_is_its_own_gateway_is_named_nowhere(database, conn):
    """Its gateway's row is emptied, and topics, gaps, planned maintenance, audit and what was heard lose the name."""
    who = {"name": NUMBER, "owner": "Zhang San", "contact": "13800000000"}
    conn.execute(
        "INSERT INTO gateway (name, id, owner, contact) VALUES (%(name)s, 7, %(owner)s, %(contact)s)", who
    )
    conn.execute("INSERT INTO audit (action, subject, detail) VALUES ('gateways add', %s, %s), ('gaps ack', '1', %s)",
                 [NUMBER, Jsonb(who), Jsonb({"gateway": NUMBER, "by": "lan"})])  # fmt: skip
    conn.execute("INSERT INTO coverage_gap (opened_at, kind, division, gateway, expected, live, evidence) "
                 "VALUES (now(), 'gateway_offline', 370102, %s, 1, 0, '{}')", [NUMBER])  # fmt: skip
    conn.execute("INSERT INTO planned_maintenance (gateway, since, until, reason) "
                 "VALUES (%s, now(), now() + interval '1 hour', 'valve')", [NUMBER])  # fmt: skip
    conn.execute(
        "INSERT INTO heard (heard_at, gateways) VALUES (now(), %s)", [Jsonb({NUMBER: None, "gw1": 370102})]
    )
    conn.execute("INSERT INTO terminal_gateway VALUES (1, %s)", [NUMBER])
    conn.execute("INSERT INTO gateway_sequence VALUES (%s, 1, 1, '{1}', now())", [NUMBER])
    conn.execute(REFUSED, [f"ganzhi/v1/370102/{NUMBER}/telemetry", NUMBER])
    assert len(holding(database, NUMBER)) == 9
    assert forgotten(conn, NUMBER).rejections == 1
    assert holding(database, NUMBER, "Zhang San", "13800000000") == []
    assert database.one("SELECT id, name, state FROM gateway") == (7, "forgotten:1", None)
    kept = "SELECT subject, detail ->> 'by' FROM audit WHERE action <> 'terminals forget' ORDER BY 1"
    assert database.rows(kept) == [
        ("1", "lan"), ("forgotten:1", None)]  # fmt: skip
    assert database.one("SELECT topic, gateway FROM rejection") == (
        "ganzhi/v1/370102/forgotten/telemetry", "forgotten")  # fmt: skip
    assert database.one("SELECT gateways FROM heard") == ({"gw1": 370102},)


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
@pytest.mark.parametrize("named", ["UPDATE terminal SET gateway = %s WHERE id = 4",
                                   "INSERT INTO terminal_gateway VALUES (4, %s)"])  # fmt: skip
def test_a_gateway_of_others_keeps_its_name(database, conn, named):
    """Another terminal that comes through it shows that it is a gateway after all."""
    conn.execute("INSERT INTO gateway (name, owner) VALUES (%s, 'waterworks')", [NUMBER])
    conn.execute(named, [NUMBER])
    forgotten(conn, METER)
    assert database.one("SELECT name, owner FROM gateway") == (NUMBER, "waterworks")


TOPICS = {
    "spBv1.0/plant/DDATA/edge7/pump1": (PUMP, "spBv1.0/plant/DDATA/edge7/forgotten"),
    "spBv1.0/plant/NDATA/edge7": (NODE, "spBv1.0/plant/NDATA/edge7"),
    "spBv1.0/plant/DDATA/edge7/pump2": (None, None),
    "spBv1.0/other/DDATA/edge7/pump1": (None, None),
    f"acme/gw1/{NUMBER}/up": (METER, "acme/gw1/forgotten/up"),
    f"acme/gw1/{NUMBER}1/up": (None, None),
    f"acme/gw1/{METER}": (METER, "acme/gw1/forgotten"),
}


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
@pytest.mark.parametrize("code", [METER, PUMP, NODE])
def test_a_topic_names_a_terminal(database, conn, code):
    """A refused message whose topic alone says whose it is loses its payload, and its topic the terminal's name."""
    for topic in TOPICS:
        conn.execute(REFUSED, [topic, "gw1"])
    forgotten(conn, code)
    left = dict(database.rows("SELECT topic, payload FROM rejection"))
    assert left == {
        now if of == code else topic: b"" if of == code else b"x" for topic, (of, now) in TOPICS.items()
    }


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_a_births_metrics_go_with_its_device(database, conn):
    """Those of its node and of the node's other devices stay."""
    for device in ("", "pump1", "pump2"):
        conn.execute("INSERT INTO sparkplug_birth (edge, device, born_ms, received_ms, alive, metrics) "
                     "VALUES ('plant/edge7', %s, 1, 1, true, '[]')", [device])  # fmt: skip
    forgotten(conn, PUMP)
    assert database.rows("SELECT device FROM sparkplug_birth ORDER BY 1") == [("",), ("pump2",)]
    conn.execute("INSERT INTO sparkplug_request VALUES ('plant/edge7', now())")
    forgotten(conn, NODE)
    assert database.rows("SELECT device FROM sparkplug_birth") == [("pump2",)]
    assert database.rows("SELECT FROM sparkplug_request") == []


@pytest.mark.parametrize("storage", ["timescale"], indirect=True)
def test_only_what_may_hold_the_terminal_is_unpacked(database, conn):
    """Of compressed chunks, batches of other terminals stay compressed, in more chunks than plans are made anew for."""
    database.execute(
        f"INSERT INTO reading SELECT '2026-11-01'::timestamptz + interval '1 day' * day + interval '1 second' * n, "
        f"terminal, 1, 1, n, 0 FROM generate_series(0, {DAYS - 1}) AS day, generate_series(1, 5) AS terminal, "
        f"generate_series(1, {READINGS}) AS n; SELECT compress_chunk(c) FROM show_chunks('reading') AS c"
    )
    assert forgotten(conn, PUMP).readings == DAYS * READINGS
    chunks = database.rows("SELECT c::text FROM show_chunks('reading') AS c")
    assert len(chunks) == DAYS
    unpacked = [database.one(f"SELECT count(*) FROM ONLY {chunk}")[0] for (chunk,) in chunks]
    assert max(unpacked) < 2 * READINGS
    assert database.rows("SELECT terminal_id, count(*) FROM reading GROUP BY 1 ORDER BY 1") == [
        (id_, DAYS * READINGS) for id_ in (1, 3, 4, 5)]  # fmt: skip


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_of_every_table_somebody_said_what_it_holds_of_people(database):
    """docs/security.md has each table once, with how long it is kept and what becomes of it."""
    page = (Path(__file__).parents[2] / "docs/security.md").read_text()
    inventory = page.split("## What is stored of people")[1].split("## ")[0]
    firsts = [line.split("|")[1] for line in inventory.splitlines() if line.startswith("| `")]
    tables = database.rows("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                           "AND relkind IN ('r', 'p', 'v') AND NOT relispartition")  # fmt: skip
    assert sorted(re.findall(r"`(\w+)`", "".join(firsts))) == sorted(name for (name,) in tables)
