"""The registry by command, on real databases: what an import makes of a file, and who sees it."""

import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from datetime import date
from importlib.util import find_spec

import cbor2
import pytest
from psycopg.types.json import Jsonb

from devices import spelling
from devices.code import canonical
from devices.datum import Datum
from devices.store import identifier_nodes
from ingest import forget, register, terminals, vendor
from ingest.batch import Batch
from ingest.connection import connect
from ingest.decode import Decode
from ingest.settings import Settings
from ingest.terminal import CommandError
from ingest.write import LOOK_SECONDS, Writer
from schemas.message import Message
from schemas.routes import Routes
from tests.worker import environment

HEADER = "code,division,profile,gateway,installed_on,lon,lat"
METER = "imei:860000000000009,370102,water_meter,gw1,2026-01-01,117.1,36.6"


class Desk:
    """Files imported into one database."""

    def __init__(self, database, folder):
        self.database, self.file = database, folder / "register.csv"
        self.conn = connect(database.url)
        self.refused = folder / "register.refused.csv"

    def load(self, *lines, header=HEADER, datum=Datum.WGS84, encoding="utf-8"):
        """Import these lines; created, updated, unchanged, refused."""
        self.file.write_text("\n".join((header, *lines)) + "\n", encoding=encoding)
        done = terminals.import_terminals(self.conn, self.file, datum, lambda _: None)
        return done.created, done.updated, done.unchanged, done.refused

    def reasons(self):
        """Line and reason of what was refused."""
        with self.refused.open(encoding="utf-8", newline="") as file:
            return [(int(row["line"]), row["reason"]) for row in csv.DictReader(file)]


@pytest.fixture
def desk(database, tmp_path):
    desk = Desk(database, tmp_path)
    yield desk
    desk.conn.close()


def test_an_import_is_idempotent(desk, database):
    """What is new is created, what is different updated, what is the same left alone, and ids have no holes."""
    second = METER.replace("000009", "000017").replace("117.1", "117.2")
    version = "SELECT version FROM registry_version"
    assert desk.load(METER) == (1, 0, 0, 0)
    before = database.one(version)
    assert desk.load(METER) == (0, 0, 1, 0)
    assert database.one(version) == before
    assert desk.load(METER.replace("370102", "370103"), second) == (1, 1, 0, 0)
    assert database.one(version) > before
    assert database.rows("SELECT id, division, domain, state, lon FROM terminal ORDER BY id") == [
        (1, 370103, "municipal", "installed", 117.1), (2, 370102, "municipal", "installed", 117.2)]  # fmt: skip
    assert database.rows("SELECT action, subject, detail -> 'created' FROM audit ORDER BY at") == [
        ("terminals import", "register.csv", n) for n in (1, 0, 1)]  # fmt: skip


def test_bad_lines_cost_only_themselves(desk, database):
    """Good lines around them land; the file of refused lines can be mended and imported."""
    bad = [
        METER.replace("370102", "110101"),
        METER.replace("36.6", "96.6"),
        METER.replace("imei:8", ""),
        "a,b",
    ]
    other = METER.replace("water_meter", "gas_meter")
    same = METER
    last = "z,370102,,,,,"
    bad[2] = ",370102,,,,,"
    assert desk.load(*bad, METER, other, same, last) == (2, 0, 1, 5)
    lines, reasons = zip(*desk.reasons(), strict=True)
    assert lines == (2, 3, 4, 5, 7)
    for reason, word in zip(
        reasons, ("division", "not in Shandong", "code is empty", "2 cells", "line 6"), strict=True
    ):
        assert word in reason
    assert database.rows("SELECT code, state FROM terminal ORDER BY id") == [
        ("imei:860000000000009", "installed"), ("z", "planned")]  # fmt: skip
    assert desk.load(METER, last) == (0, 0, 2, 0)
    assert not desk.refused.exists()


def test_an_open_quote_does_not_take_the_file_along(desk, database):
    """It costs the lines near it; what comes later lands."""
    lines = [f"m{n},370102,,,,," for n in range(1000)]
    created, _, _, refused = desk.load('"bad,370102,,,,,', *lines)
    assert refused >= 1
    assert created > 700
    assert database.one("SELECT count(*), max(id) FROM terminal") == (created, created)


def test_a_discovered_terminal_is_taken_over(desk, database):
    """It keeps its id and when it was heard, and becomes installed with its facts."""
    database.execute("INSERT INTO terminal (id, code, scheme, division, state, first_heard_at) VALUES "
                     "(1, 'imei:860000000000009', 'imei', 370000, 'discovered', '2026-01-02Z')")  # fmt: skip
    assert desk.load(METER) == (0, 1, 0, 0)
    assert database.one("SELECT id, division, domain, profile, state, first_heard_at IS NULL FROM terminal") == (
        1, 370102, "municipal", "water_meter", "installed", False)  # fmt: skip


def test_an_empty_cell_says_nothing(desk, database):
    """A file without a column, or with an empty cell, leaves the fact that is known."""
    desk.load(METER)
    assert desk.load("imei:860000000000009,", header="code,division") == (0, 0, 1, 0)
    assert desk.load("imei:860000000000009,阳光小区", header="编码,点位", encoding="gb18030") == (0, 1, 0, 0)
    assert database.one("SELECT division, site FROM terminal") == (370102, "阳光小区")


def test_what_an_id_says_counts_least(desk, database):
    """A camera's division is the declared one, else its gateway's, else the one in its id; key area is marked."""
    terminals.put_gateway(desk.conn, ["gw1", 370103, None, None, None, None])
    codes = [f"3702000000132000000{n}" for n in (1, 2, 3)]
    desk.load(f"{codes[0]},,", f"{codes[1]},gw1,", f"{codes[2]},gw1,370102", header="code,gateway,division")
    facts = "SELECT division, profile, key_area, key_area_inferred FROM terminal ORDER BY id"
    assert database.rows(facts) == [(place, "video", True, True) for place in (370200, 370103, 370102)]
    assert desk.load(f"{codes[0]},否", header="code,key_area") == (0, 1, 0, 0)
    assert desk.load(codes[0], header="code") == (0, 0, 1, 0)
    assert database.rows(facts)[0] == (370200, "video", False, False)


def test_coordinates_are_stored_as_wgs84(desk, database):
    """A point off a Chinese map is taken back where it is."""
    desk.load("a,117.41024449916938,36.91640428150164", header="code,lon,lat", datum=Datum.BD09)
    lon, lat = database.one("SELECT lon, lat FROM terminal")
    assert 0.001 < 117.41024449916938 - lon < 0.02
    assert 0.001 < 36.91640428150164 - lat < 0.02


def test_the_retired_stay_retired_until_installed_again(desk, database):
    """Retiring leaves a line in audit; an old register revives nobody, a new installation does."""
    desk.load(METER)
    assert terminals.retire(desk.conn, ["860000000000009"], date(2026, 2, 1)) == 1
    assert terminals.retire(desk.conn, ["860000000000009"], date(2026, 2, 2)) == 0
    assert database.rows("SELECT subject, detail ->> 'on' FROM audit WHERE action = 'terminals retire'") == [
        ("imei:860000000000009", "2026-02-01")]  # fmt: skip
    assert desk.load(METER) == (0, 0, 1, 0)
    assert desk.load(METER.replace("2026-01-01", "2026-03-01")) == (0, 1, 0, 0)
    assert database.one("SELECT state, retired_on FROM terminal") == ("installed", None)
    with pytest.raises(CommandError):
        terminals.retire(desk.conn, ["860000000000009", "nobody"], date(2026, 4, 1))
    assert database.one("SELECT state FROM terminal") == ("installed",)


def test_an_export_is_an_import(desk, database):
    """What is exported and imported again changes nothing; discovered terminals are left out, as are other names."""
    desk.load(METER, "37020000001320000001,370202,,,,,", "b,370102,,,,,")
    database.execute(
        "INSERT INTO terminal (id, code, scheme, division, state) VALUES (4, 'd', 'other', 370102, 'discovered')"
    )
    database.execute("INSERT INTO terminal (id, code, scheme, division, state, retired_on) "
                     "VALUES (5, 'onenet:7', 'onenet', 370102, 'retired', '2026-11-01')")  # fmt: skip
    assert terminals.export(desk.conn, io.BytesIO(), 370000, None, "retired") == 1
    database.execute("INSERT INTO alias (scheme, value, terminal_id) VALUES ('onenet', '7', 1)")
    assert terminals.export(desk.conn, io.BytesIO(), 370000, None, "retired") == 0
    out = io.BytesIO()
    assert terminals.export(desk.conn, out, 370000, None, None) == 3
    header, *lines = out.getvalue().decode().splitlines()
    assert desk.load(*lines, header=header) == (0, 0, 3, 0)
    assert terminals.export(desk.conn, io.BytesIO(), 370100, "municipal", None) == 1
    assert terminals.export(desk.conn, io.BytesIO(), 370000, None, "discovered") == 1


class Feed:
    """A running writer, and the messages that it is given."""

    def __init__(self, database, **settings):
        self._now = time.time()
        settings = Settings(database_url=database.url, **settings)
        self._writer = Writer(settings, "desk-0", lambda _: False, lambda: self._now)
        self._decode = Decode(Routes.default(), 10_000_000, self._writer.registry)

    def write(self, value, code="imei:860000000000009", metric="temperature", at=None):
        kind = "vs" if isinstance(value, str) else "v"
        payload = json.dumps([{"n": f"{code}/{metric}", "t": at or time.time(), kind: value}]).encode()
        batch, message = Batch(), Message("ganzhi/v1/370202/gw9/telemetry", payload, time.time(), packet_id=1)
        way, parts = self._decode(message)
        batch.add(message, way.place, parts)
        self._writer.write(batch)

    def look(self):
        """Let so much time pass that it looks for changes of the registry."""
        self._now += LOOK_SECONDS + 1


@pytest.fixture
def feed(database):
    feed = Feed(database)
    yield feed
    feed._writer.close()


def test_a_running_writer_sees_an_import(desk, database, feed):
    """Readings after its next look have the imported cell, those before keep theirs."""
    feed.write(1)
    assert desk.load(METER) == (0, 1, 0, 0)
    feed.look()
    feed.write(2)
    rows = database.rows("SELECT value, division, domain FROM reading_detail ORDER BY value")
    assert rows == [(1.0, 370202, "other"), (2.0, 370102, "municipal")]


ALIAS = spelling.alias("ctwing:0123abcd")
OTHER = METER.replace("imei:860000000000009", "imei:860000000000017")
CODES = [canonical("imei:860000000000009"), canonical("imei:860000000000017")]


def on(day):
    """The start of a day here."""
    return spelling.moment(day)


@pytest.mark.parametrize("storage", ["postgres"])
def test_heard_through_two_platforms_it_is_one_terminal(desk, database, feed):
    """What was discovered under the alias is retired, keeps its readings, and takes no more."""
    desk.load(METER)
    feed.write(1, "ctwing:0123abcd")
    assert terminals.put_alias(desk.conn, CODES[0], ALIAS, None, None) == ("created", "ctwing:0123abcd")
    feed.look()
    feed.write(2, "ctwing:0123abcd")
    feed.write(3)
    assert database.rows("SELECT value, terminal_id FROM reading ORDER BY value") == [(1, 2), (2, 1), (3, 1)]
    assert database.rows("SELECT state FROM terminal ORDER BY id") == [("installed",), ("retired",)]
    assert terminals.show(desk.conn, "ctwing:0123abcd")[0]["id"] == 1
    assert terminals.put_alias(desk.conn, CODES[0], ALIAS, None, None) == ("unchanged", None)
    assert database.rows("SELECT subject, detail ->> 'retired' FROM audit WHERE action = 'terminals alias'") == [
        ("imei:860000000000009", "ctwing:0123abcd")]  # fmt: skip
    assert desk.load("ctwing:0123abcd,370102,,,,,") == (0, 0, 0, 1)
    assert "is an alias of imei:860000000000009" in desk.reasons()[0][1]


@pytest.mark.parametrize("storage", ["postgres"])
def test_the_clock_ends_an_alias(desk, database, feed):
    """A writer sees at its next look that it begins or ends, though nobody changes the registry then."""
    desk.load(METER, OTHER)
    (soon,) = database.one("SELECT now() + interval '1 second'")
    terminals.put_alias(desk.conn, CODES[0], ALIAS, None, soon)
    terminals.put_alias(desk.conn, CODES[1], ALIAS, soon, None)
    feed.write(1, "ctwing:0123abcd")
    database.execute("SELECT pg_sleep(1.1)")
    feed.look()
    feed.write(2, "ctwing:0123abcd")
    assert database.rows("SELECT value, terminal_id FROM reading ORDER BY value") == [(1, 1), (2, 2)]


@pytest.mark.parametrize("storage", ["postgres"])
def test_an_alias_is_one_terminals_at_a_time(desk, database):
    """Given to another in a period that overlaps it is refused; ended, it can be given away."""
    desk.load(METER, OTHER)

    def put(code, since, until=None):
        times = [text and on(text) for text in (since, until)]
        return terminals.put_alias(desk.conn, code, ALIAS, *times)[0]

    assert put(CODES[0], "2026-01-01") == "created"
    with pytest.raises(CommandError, match="it is imei:860000000000009's from 2025-12-31 16:00"):
        put(CODES[1], "2025-06-01")
    assert put(CODES[1], "2025-06-01", "2026-01-01") == "created"
    assert put(CODES[0], None, "2026-03-01") == "updated"
    assert put(CODES[0], None, "2026-03-01") == "unchanged"
    assert put(CODES[1], "2026-03-01") == "created"
    assert database.rows("SELECT terminal_id FROM alias ORDER BY valid_from") == [(2,), (1,), (2,)]
    for code, alias, words in (
        (CODES[0], CODES[1], "a registered terminal itself"),
        (CODES[0], CODES[0], "its own code"),
        (canonical("nobody"), ALIAS, "no terminal nobody"),
    ):
        with pytest.raises(CommandError, match=words):
            terminals.put_alias(desk.conn, code, alias, None, None)
    with pytest.raises(CommandError, match="before it begins"):
        put(CODES[0], "2020-02-01", "2020-01-01")


@pytest.mark.parametrize("storage", ["postgres"])
def test_aliases_from_a_file(desk, database):
    """Created, updated, unchanged and refused; bad lines cost themselves; one line in audit."""
    desk.load(METER, OTHER)
    lines = [
        "860000000000009,ctwing:a,2026-01-01,2026-02-01",
        "860000000000017,ctwing:a,2026-01-15,",
        "860000000000017,ctwing:a,2026-02-01T00:00:00+08:00,",
        "860000000000017,,,",
        "860000000000017,no scheme,,",
        "860000000000017,onenet:7,soon,",
    ]
    desk.file.write_text("\n".join(("编码,别名,生效时间,失效时间", *lines)) + "\n", encoding="utf-8")
    for created in (2, 0):
        done = terminals.import_aliases(desk.conn, desk.file, lambda _: None)
        assert (done.created, done.updated, done.unchanged, done.refused) == (created, 0, 2 - created, 4)
        assert sorted(line for line, _ in desk.reasons()) == [3, 5, 6, 7]
    assert database.one("SELECT count(*) FROM audit WHERE action = 'terminals import aliases'") == (2,)
    row = database.one("SELECT valid_to FROM alias WHERE terminal_id = 1")
    assert row == (on("2026-02-01"),)


def test_a_forgotten_terminal_leaves_an_empty_row(desk, database, feed):
    """Readings of every day, events, aliases, rejections and lines in audit; others' stay, and its id is kept."""
    desk.load(METER, OTHER)
    feed.write(0, "ctwing:0123abcd")
    terminals.put_alias(desk.conn, CODES[0], ALIAS, None, None)
    feed.look()
    for code in (code.code for code in CODES):
        for days in range(3):
            feed.write(days, code, at=time.time() - days * 86_400)
        feed.write(5000.0, code)
        feed.write("open", code, "door")
    if database.storage == "timescale":
        database.execute("SELECT compress_chunk(chunk) FROM show_chunks('reading') AS chunk")
        database.execute("CALL refresh_continuous_aggregate('reading_daily', NULL, NULL)")
    terminals.retire(desk.conn, [CODES[0].code], date(2026, 2, 1))

    said = []
    done = forget.forget(desk.conn, "ctwing:0123abcd", said.append, seen_seconds=0)
    assert (done.code, done.readings, done.events, done.rejections) == ("forgotten:1", 4, 2, 1)
    assert "forget forgotten:1" in said[0]
    for table in ("reading", "reading_daily", "event", "terminal_gateway"):
        assert database.rows(f"SELECT DISTINCT terminal_id FROM {table}") == [(2,)]
    assert database.rows("SELECT 1 FROM alias") == []
    own = "SELECT payload = '', detail -> 0 ->> 'detail', resolved_at IS NULL FROM rejection ORDER BY id"
    mine, others = database.rows(own)
    assert mine == (True, "forgotten", False)
    assert others[0] is False
    assert others[2]
    rows = database.rows("SELECT t::text FROM terminal AS t UNION ALL SELECT a::text FROM audit AS a")
    assert [row for (row,) in rows if "860000000000009" in row or "0123abcd" in row] == []
    assert database.rows("SELECT id, code, state FROM terminal ORDER BY id") == [
        (1, "forgotten:1", "retired"), (2, CODES[1].code, "installed"), (3, "forgotten:3", "retired")]  # fmt: skip
    assert database.one("SELECT subject, detail FROM audit WHERE action = 'terminals forget'") == (
        "forgotten:1", {"terminals": 2})  # fmt: skip
    assert {1, 3} <= {id_ for (ids,) in database.rows("SELECT terminals FROM registry_change") for id_ in ids}
    assert terminals.export(desk.conn, io.BytesIO(), 370000, None, None) == 1
    assert desk.load("forgotten:1,370102,,,,,") == (0, 0, 0, 1)

    feed.look()
    feed.write(7)
    feed.write(8, "forgotten:1")
    assert database.rows("SELECT DISTINCT terminal_id FROM reading ORDER BY 1") == [(2,), (4,)]
    assert forget.forget(desk.conn, "forgotten:1", said.append, seen_seconds=0).readings == 0


PUMP, CAMERA = "pump-0001", "gb28181:37010200001320000001"
NAMED = {
    "imei:860000000000009": [
        '{"id": 860000000000009}', '[{"bn": "urn:imei:860000000000009/", "n": "temperature"}]',
        '{"deviceId": "15012345860000000000009"}', '{"n": "imei:860000000000009/3303/0/5700"}',
        '{"msg": "{\\"imei\\":\\"860000000000009\\"}"}', '{"device_id": "5e25d39a_860000000000009"}',
    ],
    PUMP: ['{"id": "pump-0001"}', '[{"n": "pump-0001:flow"}', "\xff pump-0001\n", '{"id":"pump-0001","t":1}'],
    CAMERA: ['{"online": ["37010200001320000001"]}', '{"n": "gb28181:37010200001320000001/ratio"}'],
    "ctwing:0123abcd": ['{"deviceId":"0123abcd"}'],
}  # fmt: skip
NOT_NAMED = {
    "imei:860000000000009": ['{"id": 8600000000000091}', '{"id": "860000000000009-2"}'],
    PUMP: ['{"id": "pump-00012"}', '{"id": "west-pump-0001"}', '{"id": "a/pump-0001"}', '{"id": "pump-0001-b"}',
           '{"n": "pump-0001/2/flow"}', '{"n": "pump-0001.5:flow"}'],
    CAMERA: ['{"online": ["370102000013200000012"]}'],
    "ctwing:0123abcd": ['{"deviceId":"90123abcd"}', '{"deviceId":"0123abcd9"}'],
}  # fmt: skip
REFUSED = """INSERT INTO rejection (received_at, topic, division, gateway, reason, rejected, total, detail, payload)
             VALUES (now(), 'ganzhi/v1/370102/gw1/telemetry', 370102, 'gw1', 'out_of_range', 1, 2, %s, %s)"""


@pytest.mark.parametrize("storage", ["postgres"])
def test_forgetting_empties_what_names_the_terminal_and_nothing_else(desk, database):
    """A rejection of a terminal whose name only begins or ends alike keeps its payload; none loses its row."""
    desk.load(*NAMED, header="code")
    pack = cbor2.dumps([{-2: "urn:dev:ow:1"}, {0: "pump-0001:flow", 2: 1}])
    longer = cbor2.dumps([{0: "pump-00012:flow", 2: 1}])
    mine = [p.encode("latin-1") for payloads in NAMED.values() for p in payloads] + [pack]
    others = [p.encode("latin-1") for payloads in NOT_NAMED.values() for p in payloads] + [longer]
    for payload in mine + others:
        desk.conn.execute(
            REFUSED, [Jsonb([{"index": 0, "reason": "out_of_range", "detail": "9000"}]), payload]
        )
    for said in ("pump-0001: 9000 l/s.", "pump-00012: 9000 l/s."):
        desk.conn.execute(REFUSED, [Jsonb([{"index": 0, "reason": "out_of_range", "detail": said}]), b"{}"])
    emptied = sum(forget.forget(desk.conn, code, lambda _: None, seen_seconds=0).rejections for code in NAMED)
    kept = "SELECT payload FROM rejection WHERE resolved_at IS NULL ORDER BY id"
    assert [payload for (payload,) in database.rows(kept)] == [*others, b"{}"]
    gone = "SELECT DISTINCT payload, detail, rejected, total FROM rejection WHERE resolved_at IS NOT NULL"
    note = [{"index": None, "reason": "out_of_range", "detail": "forgotten"}]
    assert database.rows(gone) == [(b"", note, 1, 2)]
    assert emptied == len(mine) + 1


@pytest.mark.parametrize("storage", ["postgres"])
def test_nodes_of_registered_handles(desk):
    """Secondary nodes and enterprises are counted once each; discovered and retired terminals don't count."""
    assert identifier_nodes(desk.conn) == (0, 0)
    codes = [
        "88.1.2/a",
        "88.1.2/b",
        "88.1.3/a",
        "88.10.2/a",
        "88.1/a",
        "89.5.5/x",
        "88.6.6.6/x",
        "88.7.7/gone",
        "imei:1",
    ]
    desk.load(*codes, header="code")
    terminals.retire(desk.conn, ["88.7.7/gone"], date(2026, 2, 1))
    assert identifier_nodes(desk.conn) == (2, 3)


def test_gateways_from_a_file(desk, database):
    """Created, updated, unchanged and refused; all of it in one transaction with its line in audit."""
    desk.file.write_text(
        "网关名称,行政区划,时差\ngw1,370102,+08:00\ngw1,370102,+08:00\ngw1,370103,\na b,,\n", encoding="utf-8"
    )
    done = terminals.import_gateways(desk.conn, desk.file)
    assert (done.created, done.updated, done.unchanged, done.refused) == (1, 0, 1, 2)
    assert [line for line, _ in desk.reasons()] == [4, 5]
    done = terminals.import_gateways(desk.conn, desk.file)
    assert (done.created, done.updated, done.unchanged, done.refused) == (0, 0, 2, 2)
    assert database.one("SELECT division, extract(hour FROM utc_offset)::int FROM gateway") == (370102, 8)
    assert database.one("SELECT count(*) FROM audit WHERE action = 'gateways import'") == (2,)


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_gateway_that_was_heard_becomes_registered(desk, database):
    """One that nobody registered is listed last and marked; adding it registers it. Each change is in audit."""
    desk.load(METER)
    database.execute("INSERT INTO gateway (name, state, registered_at) VALUES ('gw1', 'online', NULL)")
    terminals.add_gateway(desk.conn, ["gw2", 370102, None, None, None, None])

    def listed():
        return [(row[0], row[9], row[10] is not None) for row in terminals.list_gateways(desk.conn)]

    assert listed() == [("gw2", 0, True), ("gw1", 1, False)]
    assert terminals.add_gateway(desk.conn, ["gw1", None, None, None, None, None]) is False
    assert listed() == [("gw1", 1, True), ("gw2", 0, True)]
    assert database.rows("SELECT subject FROM audit WHERE action = 'gateways add' ORDER BY at") == [
        ("gw2",),
        ("gw1",),
    ]


def ganzhi(database, *words):
    done = subprocess.run([sys.executable, "-m", "ingest.cli", *words], capture_output=True, text=True, check=False,
                          env=environment() | {"GANZHI_DATABASE_URL": database.url})  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("storage", ["postgres"])
def test_the_commands(database, tmp_path):
    """Import, show, export, retire; a gateway's sheet for its vendor; exit codes."""
    file = tmp_path / "meters.csv"
    file.write_text(f"{HEADER}\n{METER}\nbad,1,,,,,\n", encoding="utf-8")
    code, out, _ = ganzhi(database, "terminals", "import", str(file))
    assert code == 0
    assert "1 created, 0 updated, 0 unchanged, 1 refused" in out
    assert "planned" not in out
    assert str(tmp_path / "meters.refused.csv") in out
    assert "历下区" in ganzhi(database, "terminals", "show", "860000000000009")[1]
    bare = tmp_path / "bare.csv"
    bare.write_text("code\n860000000000017\n860000000000009\n")
    code, out, _ = ganzhi(database, "terminals", "import", str(bare))
    assert "1 created, 0 updated, 1 unchanged, 0 refused" in out
    assert "1 of them without installed_on, or with a day to come: planned, in no count" in out
    assert ganzhi(database, "terminals", "retire", "nobody")[0] == 1
    assert ganzhi(database, "terminals", "export", "--division", "12")[0] == 2
    code, out, _ = ganzhi(database, "gateways", "add", "gw1", "--division", "370102")
    assert code == 0
    for part in (
        "ganzhi/v1/370102/gw1/telemetry",
        "CN=gw1",
        "user gw1",
        "mosquitto_pub -h HOST -p 8883 --cafile",
    ):
        assert part in out
    code, _, err = ganzhi(database, "gateways", "add", "observer")
    assert (code, "the service itself" in err) == (2, True)
    assert "1 installed" in ganzhi(database, "gateways", "show", "gw1")[1]
    assert "never_heard, never heard" in ganzhi(database, "terminals", "show", "860000000000009")[1]
    period = ("--from", "2026-01-01", "--to", "2036-01-01")
    assert ganzhi(database, "terminals", "alias", "860000000000009", "onenet:7", *period)[1] == "created\n"
    code, out, _ = ganzhi(database, "terminals", "show", "onenet:7")
    assert "onenet:7 from 2026-01-01 00:00:00+08 to 2036-01-01 00:00:00+08" in out
    assert ganzhi(database, "terminals", "forget", "onenet:7")[0] == 1
    assert database.one("SELECT count(*) FROM alias") == (1,)


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is installed here")
def test_parquet_needs_its_extra(tmp_path):
    """Without pyarrow the error says what to install."""
    with pytest.raises(CommandError, match=r"ganzhi\[parquet\]"):
        list(register.lines(tmp_path / "a.parquet", lambda _: None))


@pytest.mark.parametrize("storage", ["postgres"])
def test_parquet_says_the_same_as_csv(desk, tmp_path, database):
    """Types of columns are those that data frames write."""
    arrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    files = pytest.importorskip("pyarrow.parquet")
    columns = {"code": ["860000000000009", "b"], "division": [370102.0, None], "installed_on": [date(2026, 1, 1), None],
               "lon": [117.1, None], "lat": [36.6, None], "smart": [True, None]}  # fmt: skip
    path = tmp_path / "register.parquet"
    files.write_table(arrow.table(columns), path)
    done = terminals.import_terminals(desk.conn, path, Datum.WGS84, lambda _: None)
    assert (done.created, done.refused) == (2, 0)
    assert database.rows("SELECT division, installed_on, lon, smart FROM terminal ORDER BY id") == [
        (370000, None, None, None), (370102, date(2026, 1, 1), 117.1, True)]  # fmt: skip


@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="mosquitto_pub is not installed")
def test_the_line_to_try_works(mosquitto):
    """The vendor's line publishes, as it is printed."""
    settings = Settings(mqtt_url=f"mqtt://127.0.0.1:{mosquitto.port}")
    line = dict(vendor.sheet(settings, "gw1", 370102))["or, no users"]
    assert subprocess.run(shlex.split(line), env=os.environ, check=False).returncode == 0
