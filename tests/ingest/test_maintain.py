"""Maintenance on both storages: what it removes, what it leaves, and that rollups agree with readings after it."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from ingest import copy, ledger, maintain, store, tidy
from ingest.connection import connect
from ingest.settings import SettingsError, load
from tests.postgres import timescale_programs
from tests.worker import environment

DAY = 86_400
NOW = int(time.time())
TOPIC = "ganzhi/v1/370102/maintain/telemetry"
MAPS_BYTES = 4 * 8192
"""Pages that autovacuum may add to the maps of a partition at any time."""
AGREE = """
WITH raw AS ({raw}) SELECT count(*), count(*) FILTER (WHERE raw.n IS DISTINCT FROM rollup.n
    OR raw.min <> rollup.min OR raw.max <> rollup.max OR abs(raw.sum - rollup.sum) > 1e-9 * greatest(1, abs(raw.sum)))
FROM raw FULL JOIN {rollup} AS rollup USING (bucket, {key}, metric_id)
"""
RAW = """SELECT date_bin('{width}', observed_at, 'epoch') AS bucket, {key}, metric_id, count(*) AS n, sum(value) AS sum,
    min(value) AS min, max(value) AS max FROM reading GROUP BY 1, 2, 3"""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    timescale_programs()  # before the variable that may name them is gone too
    for name in [name for name in os.environ if name.startswith("GANZHI_")]:
        monkeypatch.delenv(name)


def readings(days_ago, terminals=range(1, 101), value=20.0, quality=0, seconds=600):
    """A reading of each terminal, every so many seconds of a day (UTC); the same each time."""
    times = (NOW // DAY - days_ago) * DAY + np.arange(0, DAY, seconds)
    rows = copy.reading_rows(len(times) * len(terminals))
    rows["observed_at"] = np.tile((times - copy.POSTGRES_EPOCH) * 1_000_000, len(terminals))
    rows["terminal_id"] = np.repeat(terminals, len(times))
    rows["metric_id"] = 1
    rows["cell_id"] = rows["terminal_id"] % 7 + 1
    rows["value"] = value + rows["terminal_id"] / 10
    rows["quality"] = quality
    return rows


@pytest.fixture
def put(database):
    """Stores readings as a worker does, without the ledger: what it can't know, maintenance has to find."""
    with connect(database.url) as conn:

        def write(rows):
            if database.storage == "postgres":
                days = {datetime.fromtimestamp(s, UTC).date() for s in seconds(rows)}
                conn.execute(store.SQL["ensure_days"], ["reading", sorted(days)])
            else:
                conn.execute("SET timescaledb.enable_direct_compress_copy = on")
            with conn.cursor().copy(store.SQL["copy_reading"]) as stream:
                stream.write(copy.copy_bytes(rows))

        yield write


def seconds(rows):
    """Unix times of readings."""
    return (rows["observed_at"] // 1_000_000 + copy.POSTGRES_EPOCH).tolist()


def run(database, rest=timedelta(), **settings):
    """One maintenance; what it said."""
    said = []
    with connect(database.url) as conn:
        assert maintain.run(conn, load(**settings), said.append, rest)
    assert [line for line in said if "put off" in line] == []
    return said


def assert_rollups_agree(database):
    """Both rollups say what the readings say: n, min and max exactly, the sum within 1e-9."""
    for rollup, width, key in (("hourly", "1 hour", "cell_id"), ("daily", "1 day", "terminal_id")):
        raw = RAW.format(width=width, key=key)
        groups, differing = database.one(AGREE.format(raw=raw, rollup=f"reading_{rollup}", key=key))
        assert groups
        assert differing == 0, f"reading_{rollup}: {differing} of {groups} differ"


def count(database):
    """Readings."""
    return database.one("SELECT count(*) FROM reading")[0]


def removed(database):
    """Duplicates that were removed, in all."""
    return database.one("SELECT coalesce(sum(rows), 0) FROM maintenance WHERE job = 'duplicates'")[0]


def test_of_equal_readings_one_is_left(database, put):
    """A repacked day is gone again, the first copy stays; other values and times of arrival are left alone."""
    first, late = readings(3), readings(3, quality=16)
    put(first)
    run(database)
    put(late)
    put(readings(3, range(1, 11), value=30.0))
    for _ in range(2):
        put(readings(3, range(200, 203), quality=2))
    run(database)
    kept = len(first) + len(first) // 10 + 2 * 3 * 144
    assert (count(database), removed(database)) == (kept, len(late))
    assert database.one("SELECT count(*) FROM reading WHERE quality = 16") == (0,)
    assert database.one("SELECT rows FROM maintenance WHERE job = 'differing'") == (len(first) // 10,)
    assert_rollups_agree(database)


def test_a_second_run_changes_nothing(database, put):
    """What is tidy is left as it is, and nothing is noted."""
    for _ in range(2):
        put(readings(2))
    run(database)
    before = database.rows("SELECT * FROM maintenance"), count(database)
    assert [line for line in run(database) if "differing" not in line] == []
    assert (database.rows("SELECT * FROM maintenance"), count(database)) == before


def test_readings_that_differ_are_left_as_they_lie(database, put):
    """Three at one time are not written anew by any run; of those that are equal among them one is left."""
    first, others = range(1, 11), range(11, 21)
    for rows in (
        readings(2, range(1, 21)),
        readings(2, range(1, 21), value=30.0),
        readings(2, first, value=40.0),
    ):
        put(rows)
    run(database)
    written = transactions(database)
    assert removed(database) == 0
    assert unchanging(database) == pytest.approx(unchanging(database), abs=MAPS_BYTES)
    assert transactions(database) == written
    put(readings(2, others, quality=16))
    run(database)
    assert (count(database), removed(database)) == (50 * 144, 10 * 144)
    assert database.one("SELECT count(*) FROM reading WHERE quality = 16") == (0,)
    assert unchanging(database) == pytest.approx(unchanging(database), abs=MAPS_BYTES)
    assert_rollups_agree(database)


def unchanging(database):
    """What a run does, but for counting readings that differ, and the room that readings take after it."""
    said = [line for line in run(database) if "differing" not in line]
    with connect(database.url) as conn:
        sizes = [span[5] for span in conn.execute(maintain.SQL[f"spans_{database.storage}"])]
    assert said == []
    return sizes


def transactions(database):
    """Which wrote the readings, where they are not compressed."""
    if database.storage == "timescale":
        return None
    return sorted(database.rows("SELECT DISTINCT xmin::text FROM reading"))


@pytest.mark.parametrize("rest", [timedelta(), maintain.REST])
def test_a_look_that_broke_off_is_taken_up_again(database, put, monkeypatch, rest):
    """Ended by a time limit or with its connection after chunks were put in order: by hand or on schedule, the next."""

    def ends(statement):
        def look(self, span):
            del span
            self._conn.execute("SET statement_timeout = 1")
            self._conn.execute(statement)

        return look

    for _ in range(2):
        put(readings(2))
    with connect(database.url) as conn, monkeypatch.context() as patch:
        said = []
        patch.setattr(tidy.Tidy, "_remove_duplicates", ends("SELECT pg_sleep(60)"))
        maintain.run(conn, load(), said.append)
        assert any("put off to the next run (canceling statement" in line for line in said)
        patch.setattr(tidy.Tidy, "_remove_duplicates", ends("SELECT pg_terminate_backend(pg_backend_pid())"))
        with pytest.raises(psycopg.OperationalError):
            maintain.run(conn, load(), said.append, rest)
    run(database, rest)
    assert count(database) == 100 * 144
    assert_rollups_agree(database)


def test_a_step_that_fails_costs_itself_alone(database, put):
    """The others are done, what failed is said, and the command ends with 1; on a schedule it goes on."""
    database.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON rejection EXECUTE FUNCTION refuse();
        CREATE TRIGGER refuse BEFORE DELETE ON ledger_timeless EXECUTE FUNCTION refuse();
    """)
    for _ in range(2):
        put(readings(2))
    done = subprocess.run([sys.executable, "-m", "ingest.cli", "migrate", "--maintain"], capture_output=True, text=True,
                          env=environment(database_url=database.url), check=False, timeout=60)  # fmt: skip
    assert done.returncode == 1
    assert "rejection: failed (P0001: not this one)" in done.stdout
    assert "maintenance failed at ledger, rejection" in done.stderr
    assert count(database) == 100 * 144
    assert_rollups_agree(database)
    assert any("failed" in line for line in run(database, maintain.REST))


def test_late_readings_land_once_and_in_the_rollups(database, put):
    """Sixty days late, into chunks that were recompressed and rolled up, and once more in another envelope."""
    old = [readings(days, seconds=3600) for days in (60, 30, 1)]
    late = [readings(days, range(500, 505), quality=16, seconds=3600) for days in (60, 30, 1)]
    for rows in old:
        put(rows)
    run(database)
    assert_rollups_agree(database)
    for rows in (*late, *late):
        put(rows)
    run(database)
    assert count(database) == sum(map(len, (*old, *late)))
    assert_rollups_agree(database)


def test_what_is_too_old_is_dropped_and_rollups_outlive_it(database, put):
    """Readings and events end with their retention; later runs, and later settings, leave the rollups of them."""
    old, new = readings(30, seconds=3600), readings(2, seconds=3600)
    put(old)
    put(new)
    run(database)
    short = {"retention_raw_days": 20, "max_age_days": 10}
    run(database, **short)
    assert count(database) == len(new)
    run(database, **short)
    run(database)
    rolled = database.one("SELECT sum(n) FROM reading_daily")[0]
    assert rolled == len(new) + (len(old) if database.storage == "timescale" else 0)
    run(database, retention_raw_days=5, max_age_days=1, retention_hourly_days=10)
    assert database.one("SELECT sum(n) FROM reading_hourly") == (len(new),)


@pytest.mark.parametrize("forever", [{"max_age_days": 0}, {"retention_raw_days": 0}])
def test_without_a_limit_nothing_raw_is_dropped(database, put, forever):
    """Readings of any age are welcome, or kept for ever: then none is dropped by age."""
    rows = readings(1000, seconds=3600)
    put(rows)
    run(database, **forever)
    assert count(database) == len(rows)
    assert_rollups_agree(database)


@pytest.mark.parametrize("storage", ["postgres"])
def test_the_ledger_forgets_only_what_cannot_come_again(database):
    """Beyond the horizon a key goes, unless its client has not come back and committed since it was stored."""
    here, away = 1, 2
    hour = int(time.time() // 3600)
    database.execute(
        "INSERT INTO ledger_client (id, name, settled_at) "
        f"VALUES ({here}, 'here', now() - interval '1 min'), ({away}, 'away', now() - interval '9.1 h')"
    )
    keys = [(hours, age, client) for hours in (hour - 9, hour - 2000, 2**24 - 1, 0, hour)
            for age in (1, 9) for client in (here, away)]  # fmt: skip
    with psycopg.connect(database.url) as conn:
        for number, (hours, age, client) in enumerate(keys):
            key = (hours.to_bytes(3, "big") + number.to_bytes(13, "big")).hex()
            seen_at = datetime.now(UTC) - timedelta(hours=age)
            conn.execute("INSERT INTO ledger VALUES (%s, %s, %s)", [key, seen_at, client])
            conn.execute(
                "INSERT INTO ledger_timeless VALUES (%s, %s, 0, %s, %s, %s)",
                [client, number, key, key, seen_at],
            )
    run(database)
    left = database.rows(
        "SELECT extract(hour FROM now() - seen_at)::int, client, count(*) FROM ledger GROUP BY 1, 2"
    )
    # Of this hour none is looked at yet: a payload that speaks of it was not seen nine hours ago.
    assert sorted(left) == [(1, here, 5), (1, away, 5), (9, here, 1), (9, away, 5)]
    left = database.rows(
        "SELECT extract(hour FROM now() - seen_at)::int, client FROM ledger_timeless GROUP BY 1, 2"
    )
    assert sorted(left) == [(1, here), (1, away), (9, away)]


@pytest.mark.parametrize("storage", ["postgres"])
def test_bitmaps_and_rejections_end_too(database):
    """Who was heard is kept for a week, a rejection as long as its setting says; longer, if the clock was set back."""
    database.execute("INSERT INTO heard (heard_at, terminals) SELECT now() - n * interval '1 h', '' "
                     "FROM generate_series(400, -9, -1) AS n")  # fmt: skip
    database.execute("""
        INSERT INTO rejection (received_at, topic, reason, rejected, total, detail, payload)
        SELECT now() - n * interval '1 day', 't', 'no_route', 0, 0, '[]', '' FROM generate_series(100, -1, -1) AS n
    """)
    run(database)
    assert database.one("SELECT count(*) FROM heard") == (168 + 9,)
    assert database.one("SELECT count(*) FROM rejection") == (90 + 1,)


@pytest.mark.parametrize("storage", ["postgres"])
def test_bitmaps_wait_a_month_for_an_observer(database):
    """Once an observer has stored a snapshot, who was heard while it is away is not lost for thirty days."""
    database.execute("INSERT INTO presence (first_id, heard) VALUES (0, '')")
    database.execute("INSERT INTO heard (heard_at, terminals) SELECT now() - n * interval '1 day', '' "
                     "FROM generate_series(40, 1, -1) AS n")  # fmt: skip
    run(database)
    assert database.one("SELECT count(*) FROM heard") == (29,)


HEARD = dict.fromkeys(("heard", "offline", "refused", "gateways", "quality"))


class Client:
    """The ledger's part of what a worker does, on a database whose clock goes as the test wants."""

    def __init__(self, database, conn):
        self._database, self._conn, self._keys = database, conn, 0
        self.connect()

    def connect(self):
        """To the database, for the first time or after an outage."""
        self._id, _ = ledger.client_id(self._conn, "worker-0")

    def commit(self, keys=0):
        """A batch: of payloads of ten hours ago so many, and one without a time if there are any."""
        hour, nothing = (int(time.time() // 3600) - 10).to_bytes(3, "big"), copy.UuidArray.of([bytes(16)])
        new = [hour + (self._keys + n).to_bytes(13, "big") for n in range(keys)]
        timeless = [self._id, [self._keys], [0], nothing, nothing, []]
        self._keys += keys
        with self._conn.transaction():
            if keys:
                self._conn.execute(store.SQL["ledger"], [copy.UuidArray.of(new), self._id], binary=True)
                self._conn.execute(store.SQL["ledger_timeless"], timeless)
            self._conn.execute(store.SQL["heard"], HEARD | {"at": NOW, "client": self._id})

    def work(self, minutes):
        """Commit every five minutes."""
        for _ in range(minutes // 5):
            pass_by(self._database, minutes=5)
            self.commit()

    def left(self):
        """How many keys are left by maintenance, and how many payloads without a time."""
        run(self._database)
        return self._database.one(
            "SELECT (SELECT count(*) FROM ledger), (SELECT count(*) FROM ledger_timeless)"
        )


def pass_by(database, **duration):
    """The database's clock goes on by so much: what it has stamped is older then. Or back: it is of the future."""
    with psycopg.connect(database.url) as conn:
        for table, columns in (("ledger", ["seen_at"]), ("ledger_timeless", ["seen_at"]),
                               ("ledger_client", ["committed_at", "resumed_at", "settled_at"])):  # fmt: skip
            for column in columns:
                conn.execute(f"UPDATE {table} SET {column} = {column} - %s", [timedelta(**duration)])


@pytest.fixture
def client(database):
    """A worker that has been at work for a while; its ledger is empty."""
    with connect(database.url) as conn:
        client = Client(database, conn)
        client.commit()
        client.work(minutes=30)
        yield client


@pytest.mark.parametrize("storage", ["postgres"])
@pytest.mark.parametrize("connects", [True, False])
def test_the_ledger_waits_until_a_client_has_taken_all_that_comes_again(database, client, connects):
    """After eight hours without the worker, or its broker, or on a clock that steps forward: not its first batch."""
    client.commit(keys=1)
    client.work(minutes=20)
    client.commit(keys=4)
    pass_by(database, hours=8)
    if connects:
        client.connect()
        assert client.left() == (4, 1)
    client.commit()
    assert client.left() == (4, 1)
    client.work(minutes=5)
    assert client.left() == (4, 1)
    client.work(minutes=10)
    assert client.left() == (0, 0)


@pytest.mark.parametrize("storage", ["postgres"])
def test_the_ledger_waits_for_a_client_that_comes_back_and_goes_again(database, client):
    """A worker that ends a moment after each return has not taken all that comes again."""
    client.commit(keys=4)
    for _ in range(3):
        pass_by(database, hours=8)
        client.connect()
        client.commit()
        assert client.left() == (4, 1)


@pytest.mark.parametrize("storage", ["postgres"])
def test_the_ledger_of_a_client_with_little_to_do_ends_too(database, client):
    """A batch an hour is forgotten after the horizon as any other."""
    for _ in range(10):
        pass_by(database, hours=1)
        client.commit(keys=1)
    assert client.left() == (6, 6)


@pytest.mark.parametrize("storage", ["postgres"])
def test_on_a_clock_that_is_set_back_the_ledger_keeps_what_it_must(database, client):
    """Keys of before stay longer by the step; those since are not forgotten for what was settled in the future."""
    client.commit(keys=1)
    client.work(minutes=20)
    pass_by(database, hours=-9)
    client.commit(keys=2)
    client.work(minutes=30)
    client.commit(keys=4)
    pass_by(database, hours=7)
    assert client.left() == (5, 2)
    client.commit()
    client.work(minutes=15)
    assert client.left() == (1, 1)
    pass_by(database, hours=8)
    client.commit()
    client.work(minutes=15)
    assert client.left() == (0, 0)


@pytest.mark.parametrize("storage", ["postgres"])
def test_what_a_worker_left_unacknowledged_counts_once_when_it_is_back(
    database, gateway, new_worker, settled
):
    """Four messages, eight hours without the worker, and maintenance between the first of them and the rest."""
    packs = [b'[{"n": "again-%d:level", "t": %d, "v": 1}]' % (n, NOW - 10 * 3600) for n in range(4)]
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    gateway.publish(TOPIC, *packs)
    settled(worker)
    worker.kill()
    pass_by(database, hours=8)
    worker.start()
    worker.wait_ready()
    gateway.publish(TOPIC, packs[0])
    settled(worker)
    run(database)
    gateway.publish(TOPIC, *packs[1:])
    assert settled(worker)("messages_duplicate_total") == 4
    assert count(database) == 4


def test_only_one_runs(database):
    """A second one leaves it to the first, and says so."""
    with connect(database.url) as conn, connect(database.url) as other:
        conn.execute(maintain.SQL["try_lock"])
        assert maintain.run(other, load(), print) is False


def test_beside_a_worker_nothing_is_lost_or_doubled(database, gateway, new_worker, settled):
    """A day published again beyond the horizon is stored, and gone after maintenance, which runs all the while."""
    begin = (NOW // DAY - 3) * DAY
    records = [{"n": "level", "t": t, "v": t / 10} for t in range(1, 40)]
    packs = [
        json.dumps([{"bn": f"again-{n}:", "bt": begin, "n": "level", "v": 0}, *records]).encode()
        for n in range(300)
    ]
    worker = new_worker(batch_readings=500)
    worker.start()
    worker.wait_ready()
    gateway.publish(TOPIC, *packs)
    settled(worker)
    database.execute("UPDATE ledger SET seen_at = seen_at - interval '7 hours'")
    database.execute("UPDATE ledger_client SET settled_at = now()")
    run(database)
    publishing = threading.Thread(target=gateway.publish, args=(TOPIC, *packs), daemon=True)
    publishing.start()
    while publishing.is_alive():
        run(database)
    publishing.join()
    settled(worker).assert_balanced()
    stored = worker.metrics()("readings_committed_total")
    assert stored == 2 * 300 * 40
    run(database)
    assert count(database) == 300 * 40
    assert removed(database) == 300 * 40
    assert_rollups_agree(database)


def test_what_comes_while_a_chunk_is_looked_at_is_seen_by_the_next_run(database, put, monkeypatch):
    """Duplicates that arrive right after the last look are gone after the next run."""
    rows, look = readings(2, seconds=3600), tidy.Tidy._remove_duplicates

    def look_and_receive(self, span):
        removed = look(self, span)
        put(rows)
        return removed

    for _ in range(2):
        put(rows)
    with monkeypatch.context() as patch:
        patch.setattr(tidy.Tidy, "_remove_duplicates", look_and_receive)
        run(database)
    run(database)
    assert count(database) == len(rows)
    assert_rollups_agree(database)


def test_chunks_are_compressed_in_order_and_span_what_is_set(database, put):
    """After maintenance a chunk is ordered again; the setting is applied by a migration."""
    if database.storage == "postgres":
        assert database.one(
            "SELECT to_regclass(to_char(now() + interval '1 day', '\"reading_\"YYYYMMDD')) IS NULL"
        ) == (True,)
        run(database)
        assert database.one(
            "SELECT to_regclass(to_char(now() + interval '1 day', '\"reading_\"YYYYMMDD')) IS NULL"
        ) == (False,)
        return
    with connect(database.url) as conn:
        maintain.set_chunk_hours(conn, load(chunk_hours=6))
    put(readings(2))
    put(readings(2, range(300, 400)))
    run(database)
    with connect(database.url) as conn:
        spans = [tidy.Span(*row) for row in conn.execute(maintain.SQL["spans_timescale"])]
    assert [span.until - span.since for span in spans] == [timedelta(hours=6)] * 4
    assert all(span.ordered for span in spans)


@pytest.mark.parametrize("storage", [pytest.param("timescale", marks=pytest.mark.timescale)])
def test_a_chunk_is_put_in_order_where_it_lies_until_it_is_quiet(database, put):
    """While readings come to it nobody waits, where the server can do that; once they don't it is written anew."""
    for terminals in (range(1, 200, 2), range(2, 200, 2)):
        put(readings(2, terminals))
    run(database)
    (compacts,) = database.one(maintain.SQL["may_compact"])
    run(database)  # sees what the first one itself wrote
    assert jobs(database) == ["compact" if compacts else "recompress"]
    database.execute("UPDATE maintenance_span SET changed_at = changed_at - interval '2 hours'")
    for _ in range(2):
        run(database)
    assert jobs(database) == (["compact", "recompress"] if compacts else ["recompress"])
    assert count(database) == 199 * 144


@pytest.mark.parametrize("storage", [pytest.param("timescale", marks=pytest.mark.timescale)])
def test_a_chunk_that_is_written_to_all_the_while_is_left_to_the_next_run(database, put):
    """Whoever writes does not wait, and the next run puts it in order."""
    if not database.one(maintain.SQL["may_compact"])[0]:
        pytest.skip(
            "this TimescaleDB can't compact: it waits for whoever writes, and is put off by its time limit"
        )
    for terminals in (range(1, 200, 2), range(2, 200, 2)):
        put(readings(2, terminals))
    said = []
    with psycopg.connect(database.url) as writing, connect(database.url) as conn:
        writing.execute("INSERT INTO reading SELECT * FROM reading LIMIT 1")
        assert maintain.run(conn, load(), said.append)
        assert any("put off" in line for line in said)
        writing.rollback()
    run(database)
    with connect(database.url) as conn:
        assert [tidy.Span(*row).ordered for row in conn.execute(maintain.SQL["spans_timescale"])] == [True]


def jobs(database):
    """What was done to the chunk's order, the first first."""
    return [job for (job,) in database.rows("SELECT job FROM maintenance WHERE job IN ('compact', 'recompress') "
                                            "ORDER BY at")]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_age_days": 399}, "keep readings for 403 days"),
        ({"retention_raw_days": 93}, "93"),
        ({"retention_raw_days": 100, "chunk_hours": 24 * 8}, "192"),
        ({"retention_hourly_days": 399}, "GANZHI_RETENTION_HOURLY_DAYS"),
    ],
)
def test_a_refresh_never_meets_dropped_readings(values, says):
    """Settings are refused unless the latest readings are in the rollups before they can be dropped."""
    with pytest.raises(SettingsError, match=says):
        load(**values)


@pytest.mark.parametrize(
    "values", [{"max_age_days": 0}, {"retention_raw_days": 0}, {"retention_raw_days": 94}]
)
def test_what_fits_is_taken(values):
    """No limit of age alone is legal, and implies that nothing raw is dropped."""
    assert load(**values).raw_kept_days == values.get("retention_raw_days", 0)
