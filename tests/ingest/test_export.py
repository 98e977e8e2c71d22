"""Export: what is in the database, of a division, domain and period, whole and streamed."""

import csv
import io
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from importlib.util import find_spec

import psycopg
import pytest

from ingest import export, roles
from ingest.connection import connect
from ingest.export import Format, What
from ingest.settings import SettingsError
from ingest.terminal import CommandError
from tests.worker import environment

CITY, COUNTY, ELSEWHERE = 370100, 370102, 370202
DAYS = [date(2026, 11, day) for day in (1, 2, 3)]
SINCE, UNTIL = datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
# Values are sums of powers of two: a rollup's sum is the same in whatever order they are added.
SEED = f"""
INSERT INTO terminal (id, code, scheme, division, domain, state)
SELECT 10 * place + kind, 'imei "' || place || '",' || kind, 'other', division, domain, 'installed'
FROM unnest('{{370000,{CITY},{COUNTY},{ELSEWHERE}}}'::int[]) WITH ORDINALITY AS divisions (division, place),
     unnest('{{other,municipal}}'::text[]) WITH ORDINALITY AS domains (domain, kind);
INSERT INTO reading
SELECT '2026-11-01Z'::timestamptz + hour * interval '1 hour', terminal.id, metric, cell.id,
       hour + terminal.id / 8.0 + 2.0 ^ -30, hour % 3
FROM terminal JOIN cell USING (division, domain), generate_series(0, 71) AS hour, generate_series(1, 2) AS metric;
INSERT INTO event
SELECT '2026-11-01Z'::timestamptz + hour * interval '7 hours', id, 'door', jsonb_build_object('vs', '"' || hour || '"')
FROM terminal, generate_series(0, 9) AS hour;
INSERT INTO indicator
SELECT day, name, division, part, whole, part / whole, 3
FROM unnest('{{370000,{CITY},{COUNTY},{ELSEWHERE}}}'::int[]) AS division,
     unnest('{{{",".join(map(str, DAYS))}}}'::date[]) AS day,
     (VALUES ('networking_ratio', 3::float8, 7::float8), ('quality_ratio', 0, NULL)) AS names (name, part, whole)
"""
ROWS = {
    What.READINGS: "SELECT observed_at, terminal, metric, unit, value, quality, division, domain FROM reading_detail "
    "WHERE observed_at >= %s AND observed_at < %s",
    What.EVENTS: "SELECT observed_at, code, event.name, body::text, division, domain FROM event "
    "JOIN terminal ON terminal.id = terminal_id WHERE observed_at >= %s AND observed_at < %s",
    What.HOURLY: "SELECT bucket, division, domain, metric.name, unit, n, sum, min, max FROM reading_hourly "
    "JOIN cell ON cell.id = cell_id JOIN metric ON metric.id = metric_id WHERE bucket >= %s AND bucket < %s",
    What.DAILY: "SELECT bucket, code, metric.name, unit, n, sum, min, max, division, domain FROM reading_daily "
    "JOIN terminal ON terminal.id = terminal_id JOIN metric ON metric.id = metric_id "
    "WHERE bucket >= %s AND bucket < %s",
    What.INDICATORS: "SELECT day, name, division, numerator, denominator, value, plan_version FROM indicator "
    "WHERE day >= %s AT TIME ZONE 'UTC' AND day < %s AT TIME ZONE 'UTC'",
}


def quiet(_):
    pass


def seed(database):
    if database.storage == "postgres":
        for table in ("reading", "event"):
            database.rows("SELECT ensure_days(%s::regclass, %s)", table, DAYS)
    database.execute(SEED)
    with connect(database.url) as conn:
        roles.make(conn, None, [CITY])


@pytest.fixture
def filled(database):
    """Readings of three days, by the hour, of two domains in four divisions."""
    seed(database)
    return database


def reader(database, role="ganzhi_reader"):
    return database.url.replace("postgres@", f"{role}@")


def csv_rows(text):
    """Rows as the database's types, first the header."""
    header, *rows = csv.reader(io.StringIO(text))
    kinds = dict.fromkeys(("value", "sum", "min", "max", "numerator", "denominator"), float)
    kinds |= dict.fromkeys(("n", "quality", "division", "plan_version"), int) | {"day": date.fromisoformat}
    kinds |= dict.fromkeys(("observed_at", "bucket"), lambda time: datetime.fromisoformat(time + ":00"))
    return {
        tuple(kinds.get(name, str)(cell) if cell else None for name, cell in zip(header, row, strict=True))
        for row in rows
    }


def exported(url, what, selection):
    out = io.BytesIO()
    with export.session(url) as conn:
        count = export.csv(conn, what, selection, out, quiet)
    rows = csv_rows(out.getvalue().decode())
    assert len(rows) == count
    return rows


@pytest.mark.parametrize("what", list(What))
def test_csv_is_what_the_database_holds(filled, what):
    """Every row of the period, its start included and its end not, with every digit."""
    whole = export.select(what, 370000, None, SINCE, UNTIL)
    expected = set(filled.rows(ROWS[what], SINCE, UNTIL))
    assert exported(reader(filled), what, whole) == expected
    assert len(expected) > 0


@pytest.mark.parametrize(
    ("division", "domain", "divisions"),
    [
        (CITY, None, {CITY, COUNTY}),
        (COUNTY, "municipal", {COUNTY}),
        (370000, "other", {370000, CITY, COUNTY, ELSEWHERE}),
    ],
)
def test_a_city_includes_its_counties(filled, division, domain, divisions):
    """A domain narrows it further."""
    for what in set(What) - {What.INDICATORS if domain else None}:
        chosen = export.select(what, division, domain, SINCE, UNTIL)
        all_rows = filled.rows(ROWS[what], SINCE, UNTIL)
        expected = {row for row in all_rows if divisions & set(row) and domain in {None, *row}}
        assert exported(reader(filled), what, chosen) == expected
        assert 0 < len(expected) < len(all_rows)


def test_a_city_exports_its_own(filled):
    """Whatever division its reader names."""
    for what in What:
        whole, own = (export.select(what, code, None, SINCE, UNTIL) for code in (370000, CITY))
        found = exported(reader(filled, f"ganzhi_reader_{CITY}"), what, whole)
        assert found == exported(reader(filled), what, own)
        assert found < exported(reader(filled), what, whole)


@pytest.mark.parametrize("what", list(What))
def test_parquet_is_what_the_database_holds(filled, what, tmp_path, monkeypatch):
    """The same rows with their types, over several row groups."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: Parquet is not tested")
    monkeypatch.setattr(export, "BLOCK_ROWS", 7)
    monkeypatch.setattr(export, "ROW_GROUP_ROWS", 21)
    file = tmp_path / "rows.parquet"
    with export.session(reader(filled)) as conn, export.whole_file(file) as out:
        count = export.parquet(conn, what, export.select(what, 370000, None, SINCE, UNTIL), out, quiet)
    table = parquet.read_table(file)
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    expected = filled.rows(ROWS[what], SINCE, UNTIL)
    assert count == len(expected)
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_parquet_of_nothing_has_its_columns(filled, tmp_path):
    """An empty period is a file without rows."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: Parquet is not tested")
    period = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)
    empty = export.select(What.DAILY, 370000, None, *period)
    with export.session(reader(filled)) as conn, export.whole_file(tmp_path / "x") as out:
        assert export.parquet(conn, What.DAILY, empty, out, quiet) == 0
    assert parquet.read_schema(tmp_path / "x").names[:3] == ["bucket", "terminal", "metric"]


def test_without_pyarrow_it_says_what_to_install(monkeypatch):
    """Before anything is asked of the database."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CommandError, match=r"ganzhi\[parquet\]"):
        export.parquet(None, What.DAILY, None, None, quiet)


def test_a_file_is_whole_or_not_there(tmp_path):
    """What breaks off leaves the file that was there before, and no half of a new one."""
    file = tmp_path / "export.csv"
    file.write_text("before")
    with pytest.raises(psycopg.OperationalError), export.whole_file(file) as out:  # noqa: PT012
        out.write(b"half")
        raise psycopg.OperationalError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_one_terminal(filled):
    """By its code or an alias, with what was discovered under that; a city's reader gets none of another city's."""
    mine, under_alias, other = filled.rows(f"SELECT id, code FROM terminal WHERE division = {COUNTY} "
                                           f"OR (division, domain) = ({ELSEWHERE}, 'other') ORDER BY id")  # fmt: skip
    filled.execute(f"UPDATE terminal SET code = 'ctwing:1', state = 'retired' WHERE id = {under_alias[0]}; "
                   f"INSERT INTO alias VALUES ('ctwing', '1', {mine[0]})")  # fmt: skip
    whole = export.select(What.READINGS, 370000, None, SINCE, UNTIL)
    for role in ("ganzhi_reader", f"ganzhi_reader_{CITY}"):
        with export.session(reader(filled, role)) as conn:
            chosen = export.of_terminal(conn, "ctwing:1", whole)
        for what in export.OF_TERMINALS:
            expected = {
                row for row in filled.rows(ROWS[what], SINCE, UNTIL) if row[1] in {mine[1], "ctwing:1"}
            }
            assert exported(reader(filled, role), what, chosen) == expected
            assert {row[1] for row in expected} == {mine[1], "ctwing:1"}
    with (
        export.session(reader(filled, f"ganzhi_reader_{CITY}")) as conn,
        pytest.raises(CommandError, match="no terminal"),
    ):
        export.of_terminal(conn, other[1], whole)


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_the_session_writes_nothing(filled):
    """Whoever it connects as."""
    with export.session(filled.url) as conn, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("DELETE FROM reading")


def command(url, *arguments):
    line = [sys.executable, "-m", "ingest.cli", "export", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment(database_url=url), check=False,
                          timeout=60)  # fmt: skip


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_the_command_writes_a_file_or_to_standard_output(filled, tmp_path):
    """The same bytes; how many rows it says on standard error."""
    period = (
        "--division",
        str(CITY),
        "--from",
        "2026-11-01",
        "--to",
        "2026-11-02T08:00+08:00",
        "--what",
        "daily",
    )
    piped = command(reader(filled), *period)
    assert piped.returncode == 0, piped.stderr
    assert len(csv_rows(piped.stdout)) == 8
    assert "8 rows" in piped.stderr
    file = tmp_path / "daily.csv"
    assert command(reader(filled), *period, "--out", str(file)).returncode == 0
    assert sorted(file.read_text().splitlines()) == sorted(piped.stdout.splitlines())


@pytest.mark.parametrize("zone", ["", "T00:00+08:00"])
@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_indicators_are_of_the_days_that_are_named(filled, zone):
    """In UTC and in China's time alike: the first included, the last not."""
    period = ["--from", f"2026-11-02{zone}", "--to", f"2026-11-03{zone}"]
    done = command(reader(filled), *period, "--what", "indicators", "--division", str(CITY))
    rows = csv_rows(done.stdout)
    assert {(row[0], row[2]) for row in rows} == {(date(2026, 11, 2), CITY), (date(2026, 11, 2), COUNTY)}
    assert (date(2026, 11, 2), "networking_ratio", CITY, 3.0, 7.0, 3 / 7, 3) in rows
    assert (date(2026, 11, 2), "quality_ratio", CITY, 0.0, None, None, 3) in rows


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "yesterday", "--to", "2026-11-02"], "yesterday"),
        (["--from", "2026-11-02", "--to", "2026-11-02"], "not before"),
        (["--from", "2026-11-01", "--to", "2026-11-02", "--format", "parquet"], "--out"),
        (
            ["--from", "2026-11-01", "--to", "2026-11-02", "--what", "hourly", "--terminal", "a"],
            "names no terminal",
        ),
        (
            ["--from", "2026-11-01", "--to", "2026-11-02", "--what", "indicators", "--domain", "other"],
            "of a place",
        ),
    ],
)
def test_the_command_refuses_what_cannot_be(arguments, says):
    """With exit code 2, before it connects."""
    done = command("postgresql://127.0.0.1:1/nowhere", *arguments)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(("division", "domain"), [(999999, None), (370176, None), (370000, "weather")])
def test_there_is_no_such_selection(division, domain):
    """Unknown codes and domains; and zones, whose readings are counted with their city's."""
    with pytest.raises(SettingsError, match=str(domain or division)):
        export.select(What.HOURLY, division, domain, SINCE, UNTIL)


MILLION = """
INSERT INTO reading SELECT '2026-11-03Z'::timestamptz + n * interval '1 ms', 11, 1, cell_id, n, 0
FROM generate_series(1, 1000000) AS n, (SELECT cell_id FROM reading LIMIT 1) AS one
"""
ALLOWANCE_KIB = 150_000
"""Measured: nothing for CSV, 50,000 for Parquet, which holds a row group."""


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_memory_does_not_grow_with_rows(filled, tmp_path):
    """A million rows take the memory of a few hundred."""
    filled.execute(MILLION)
    for format_ in Format if find_spec("pyarrow") else [Format.CSV]:
        few = peak_kib(filled, tmp_path, format_, "2026-11-02")
        many = peak_kib(filled, tmp_path, format_, "2026-11-04")
        assert many - few < ALLOWANCE_KIB, format_


def peak_kib(database, folder, format_, until):
    """Peak resident memory of an export until then."""
    line = [sys.executable, "-m", "ingest.cli", "export", "--from", "2026-11-01", "--to", until,
            "--format", format_, "--out", str(folder / "rows")]  # fmt: skip
    child = subprocess.Popen(line, env=environment(database_url=reader(database)))
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss
