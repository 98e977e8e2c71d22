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

import pytest

from devices.datum import Datum
from ingest import register, store, terminals, vendor
from ingest.batch import Batch
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
        self.conn = store.connect(database.url)
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
    """What is exported and imported again changes nothing; discovered terminals are left out."""
    desk.load(METER, "37020000001320000001,370202,,,,,", "b,370102,,,,,")
    database.execute(
        "INSERT INTO terminal (id, code, scheme, division, state) VALUES (4, 'd', 'other', 370102, 'discovered')"
    )
    out = io.BytesIO()
    assert terminals.export(desk.conn, out, 370000, None, None) == 3
    header, *lines = out.getvalue().decode().splitlines()
    assert desk.load(*lines, header=header) == (0, 0, 3, 0)
    assert terminals.export(desk.conn, io.BytesIO(), 370100, "municipal", None) == 1
    assert terminals.export(desk.conn, io.BytesIO(), 370000, None, "discovered") == 1


def test_a_running_writer_sees_an_import(desk, database):
    """Readings after its next look have the imported cell, those before keep theirs."""
    settings = Settings(database_url=database.url)
    now = time.time()
    writer = Writer(settings, "desk-0", lambda _: False, lambda: now)
    decode = Decode(Routes.default(), 10_000_000, writer.registry)

    def write(value):
        payload = json.dumps(
            [{"n": "imei:860000000000009/temperature", "t": time.time(), "v": value}]
        ).encode()
        batch, message = Batch(), Message("ganzhi/v1/370202/gw9/telemetry", payload, time.time(), packet_id=1)
        way, parts = decode(message)
        batch.add(message, way.place, parts)
        writer.write(batch)

    write(1)
    assert desk.load(METER) == (0, 1, 0, 0)
    now += LOOK_SECONDS + 1
    write(2)
    writer.close()
    rows = database.rows("SELECT value, division, domain FROM reading_detail ORDER BY value")
    assert rows == [(1.0, 370202, "other"), (2.0, 370102, "municipal")]


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
    assert str(tmp_path / "meters.refused.csv") in out
    assert "历下区" in ganzhi(database, "terminals", "show", "860000000000009")[1]
    assert ganzhi(database, "terminals", "retire", "nobody")[0] == 1
    assert ganzhi(database, "terminals", "export", "--division", "12")[0] == 2
    code, out, _ = ganzhi(database, "gateways", "add", "gw1", "--division", "370102")
    assert code == 0
    for part in ("ganzhi/v1/370102/gw1/telemetry", "CN=gw1", "user gw1", "mosquitto_pub"):
        assert part in out
    assert "1 installed" in ganzhi(database, "gateways", "show", "gw1")[1]


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
    line = vendor.publish_line(settings, "gw1", "ganzhi/v1/370102/gw1/telemetry")
    assert subprocess.run(shlex.split(line), env=os.environ, check=False).returncode == 0
