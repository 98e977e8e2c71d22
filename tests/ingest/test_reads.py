"""The reads of reads.sql: right answers on 40 days of a few terminals, and plans that leave the other days alone."""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from ingest import copy, store
from ingest.connection import connect
from schemas.sql import queries

READS = queries("reads.sql")
DAYS, TERMINALS, A_DAY = 40, 5, 4
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
FIRST = NOW.replace(hour=0) - timedelta(days=DAYS - 1)
METRICS = ("temperature", "humidity")
STOPPED = 10
"""Days before the last on which humidity was measured last."""
PARTITION = re.compile(r"_hyper_\d+_\d+_chunk|reading_\d{8}")
SETTINGS = {"statement_timeout": "10s", "default_transaction_read_only": "on", "timezone": "UTC"}
ARGUMENTS = {
    "terminal": "reads:3", "count": 10, "division": 370102, "domain": "other", "metric": "temperature",
    "day": FIRST + timedelta(days=5), "from": FIRST + timedelta(days=5), "to": FIRST + timedelta(days=12),
}  # fmt: skip
"""Of no period that holds more than 8 of the 40 days."""


def sent():
    """Every reading: time, number of the terminal, metric, value."""
    return [
        (
            FIRST + timedelta(days=day, hours=part * 6),
            terminal,
            metric,
            float(day * 100 + part * 10 + terminal),
        )
        for day in range(DAYS)
        for part in range(A_DAY)
        for terminal in range(1, TERMINALS + 1)
        for metric in METRICS
        if metric == "temperature" or day < DAYS - STOPPED
    ]


@pytest.fixture
def read(database):
    """Runs a statement of reads.sql, or any, as a reader, on a database that holds what was sent."""
    database.execute(
        "INSERT INTO terminal (id, code, scheme, division, state)"
        f" SELECT n, 'reads:' || n, 'reads', 370102, 'installed' FROM generate_series(1, {TERMINALS}) n"
    )
    fill(database)
    if database.storage == "timescale":
        for rollup in ("reading_hourly", "reading_daily"):
            database.execute(f"CALL refresh_continuous_aggregate('{rollup}', NULL, NULL)")
    with psycopg.connect(database.url, autocommit=True) as conn:
        for name, value in SETTINGS.items():
            conn.execute("SELECT set_config(%s, %s, false)", [name, value])

        def run(statement, **arguments):
            return conn.execute(READS.get(statement, statement), ARGUMENTS | arguments).fetchall()

        run.conn = conn
        yield run


def fill(database):
    """Write what was sent, by a COPY as the worker does."""
    ids = dict(database.rows("SELECT name, id FROM metric"))
    (cell,) = database.one("SELECT id FROM cell WHERE division = 370102 AND domain = 'other'")
    readings = sent()
    rows = copy.reading_rows(len(readings))
    times = np.array([at.timestamp() for at, *_ in readings])
    rows["observed_at"] = (times - copy.POSTGRES_EPOCH) * 1e6
    rows["terminal_id"] = [terminal for _, terminal, _, _ in readings]
    rows["metric_id"] = [ids[metric] for _, _, metric, _ in readings]
    rows["value"] = [value for *_, value in readings]
    rows["cell_id"] = cell
    with connect(database.url) as conn:
        if database.storage == "timescale":
            conn.execute("SET timescaledb.enable_direct_compress_copy = on")
        else:
            days = [(FIRST + timedelta(days=day)).date() for day in range(DAYS)]
            conn.execute(store.SQL["ensure_days"], ["reading", days])
        with conn.transaction(), conn.cursor().copy(store.SQL["copy_reading"]) as stream:
            stream.write(copy.copy_bytes(rows))


def of_terminal(number):
    """What was sent of one terminal, oldest first: time, metric, value."""
    return sorted((at, metric, value) for at, terminal, metric, value in sent() if terminal == number)


@pytest.mark.parametrize("count", [1, 10, 100])
def test_last_readings_of_a_terminal(count, read):
    """They are the newest of all, newest first, over as many days as it takes."""
    found = [(at, metric, value) for at, metric, _, value, _ in read("terminal_last", count=count)]
    newest = of_terminal(3)[::-1][:count]
    assert [at for at, *_ in found] == [at for at, *_ in newest]
    assert set(found) <= set(of_terminal(3))


def test_a_terminal_with_fewer_readings_than_are_asked_for(read):
    """All of them come, and none of a terminal that nobody knows."""
    assert len(read("terminal_last", count=10_000)) == len(of_terminal(3))
    for statement in ("terminal_last", "terminal_day", "terminal_span"):
        assert read(statement, terminal="reads:unknown") == []


def test_a_day_of_a_terminal(read):
    """The day's readings, oldest first, and none of the days beside it."""
    found = [(at, metric, value) for at, metric, _, value, _ in read("terminal_day")]
    begin = ARGUMENTS["day"]
    assert sorted(found) == [r for r in of_terminal(3) if begin <= r[0] < begin + timedelta(days=1)]
    assert found == sorted(found, key=lambda r: r[0])


def test_hourly_mean_of_a_cell(read):
    """Mean, min, max and count are those of the readings of each hour in the period."""
    expected = {}
    for at, _, metric, value in sent():
        if metric == "temperature" and ARGUMENTS["from"] <= at < ARGUMENTS["to"]:
            expected.setdefault(at, []).append(value)
    found = {bucket: row for bucket, *row in read("cell_month")}
    assert {
        at: [pytest.approx(sum(v) / len(v)), min(v), max(v), len(v)] for at, v in expected.items()
    } == found


def test_last_hour_of_all_cells(read):
    """The whole hour before the given time, a row for each cell and metric that has readings."""
    rows = read("cells_hour", to=FIRST + timedelta(days=5, hours=7, minutes=20))
    values = [value for at, _, _, value in sent() if at == FIRST + timedelta(days=5, hours=6)]
    assert [(division, domain, n) for division, domain, _, _, n, *_ in rows] == [
        (370102, "other", TERMINALS)
    ] * 2
    assert {metric for _, _, metric, *_ in rows} == set(METRICS)
    assert {row[-2:] for row in rows} == {(min(values), max(values))}


def test_gateways_that_are_silent(database, read):
    """The one that was seen longest ago comes first; retired ones, and those never seen, are left out."""
    database.execute(
        "INSERT INTO gateway (name, state, last_seen) VALUES ('long', NULL, now() - interval '9 hours'),"
        " ('short', 'installed', now() - interval '1 hour'), ('retired', 'retired', now() - interval '99 hours'),"
        " ('never', NULL, NULL)"
    )
    assert [name for name, *_ in read("gateways_silent")] == ["long", "short"]


def test_first_and_last_reading_of_each_metric(read):
    """Each metric of a terminal has its own, also one that is not measured any more."""
    found = {metric: tuple(rest) for metric, _, *rest in read("terminal_span")}
    expected = {}
    for metric in METRICS:
        readings = [(at, value) for at, name, value in of_terminal(3) if name == metric]
        expected[metric] = (*readings[0], *readings[-1])
    assert found == expected


def test_reads_keep_to_what_retention_has_left(database, read):
    """When the oldest days are dropped, a terminal's readings are those of the days that are kept."""
    kept = FIRST + timedelta(days=20)
    if database.storage == "timescale":
        database.rows("SELECT drop_chunks('reading', %s::timestamptz)", kept)
    else:
        for day in range(20):
            database.execute(f"DROP TABLE reading_{FIRST + timedelta(days=day):%Y%m%d}")
    left = [r for r in of_terminal(3) if r[0] >= kept]
    assert len(read("terminal_last", count=10_000)) == len(left)
    spans = {metric: first for metric, _, first, *_ in read("terminal_span")}
    assert spans == dict.fromkeys(METRICS, kept)


@pytest.mark.parametrize("statement", sorted(READS))
def test_plans_leave_other_days_alone(statement, database, read):
    """Every plan, those inside of functions too, opens few chunks or finds its rows in partitions by an index."""
    for plan in plans(read, statement):
        partitions = set(PARTITION.findall(plan))
        if database.storage == "timescale":
            assert len(partitions) <= 8, plan
        else:
            whole = re.findall(r"(?<!Index )(?<!Heap )(?:Seq )Scan on (reading_\d{8})", plan)
            assert len(whole) <= 8, plan


def plans(read, statement):
    """The plans of a statement and of all that its functions run, by auto_explain."""
    said = []
    read.conn.add_notice_handler(lambda notice: said.append(notice.message_primary))
    for setting in ("log_min_duration = 0", "log_nested_statements = on"):
        read.conn.execute("LOAD 'auto_explain'")
        read.conn.execute(f"SET auto_explain.{setting}")
    read.conn.execute(
        "SET enable_seqscan = off"
    )  # a partition of these 36 readings is one page: no index pays
    read.conn.execute("SET client_min_messages = log")
    read(statement)
    found = [text for text in said if "plan:" in text]
    assert found
    return found


def test_direct_compress_stays_on(database, read):
    """Nothing that the reads need turns it off: no unique index, no trigger."""
    if database.storage == "timescale":
        assert database.rows(queries("check.sql")["against_direct_compress"]) == []
        compressed = database.rows(
            "SELECT DISTINCT is_compressed FROM timescaledb_information.chunks WHERE hypertable_name = 'reading'"
        )
        assert compressed == [(True,)]
