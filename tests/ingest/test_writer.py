"""The writer and the database: what its cache may believe, and what large or odd messages do."""

import json
import threading
import time

import pytest
import structlog

from ingest import chunks, copy
from ingest.batch import Batch
from ingest.decode import Decode
from ingest.settings import Settings
from ingest.thread import WriterThread
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes

TOPIC = "ganzhi/v1/370102/gw1/telemetry"
DAY = 86_400


class Desk:
    """A writer on a database, given packs as messages of one batch."""

    def __init__(self, database, **settings):
        chosen = Settings(database_url=database.url, **settings)
        self.now = time.time()
        self.writer = Writer(chosen, "desk-0", lambda _: False, lambda: self.now)
        self.decode = Decode(Routes.default(), 10_000_000, self.writer.registry)
        self.outcomes = []
        self.thread = WriterThread(
            self.writer, lambda _: None, lambda: None, lambda *done: self.outcomes.append(done), lambda: None
        )

    def batch(self, *packs):
        batch = Batch()
        for number, pack in enumerate(packs):
            message = Message(TOPIC, json.dumps(pack).encode(), time.time(), packet_id=number + 1)
            way, parts = self.decode(message)
            batch.add(message, way.place, parts)
        return batch

    def write(self, *packs):
        return self.writer.write(self.batch(*packs))

    def land(self, *packs):
        """As the thread does it, with halving; answers the number of messages that each piece was."""
        self.outcomes.clear()
        self.thread.put(self.batch(*packs))
        self.thread.end()
        self.thread.run()
        return [len(batch.messages) for batch, *_ in self.outcomes]


@pytest.fixture
def desk(database):
    desk = Desk(database, max_age_days=0)
    yield desk
    desk.writer.close()


def series(name, *values, unit=None, begin=None, step=1):
    at = begin or int(time.time()) - 1000
    extra = {"u": unit} if unit else {}
    return [{"n": name, "t": at + n * step, "v": v, **extra} for n, v in enumerate(values)]


def test_one_spelling_may_stand_for_the_units_of_two_metrics(desk, database):
    """`%` is relative humidity here and a share there; each stays what it is, in any order."""
    pack = (
        series("a/soil_moisture", 21.5, unit="%")
        + series("a/humidity", 50, unit="%")
        + series("a/battery", 80, unit="%")
    )
    for _ in range(3):
        desk.write(pack)
        pack = [record | {"t": record["t"] + 1} for record in reversed(pack)]
    rows = database.rows("SELECT metric, unit, count(*) FROM reading_detail GROUP BY 1, 2 ORDER BY 1")
    assert rows == [("battery", "%EL", 3), ("humidity", "%RH", 3), ("soil_moisture", "%", 3)]
    assert database.rows("SELECT 1 FROM rejection") == []


def test_a_long_unit_costs_its_readings_and_little_room(desk, database):
    """30 kB of unit in 10,000 records are refused in a few words each."""
    desk.write([{"bn": "a/temperature", "bu": "x" * 30_000}] + [{"v": n} for n in range(10_000)])
    size, rejected = database.one("SELECT pg_column_size(detail), rejected FROM rejection")
    assert rejected == 10_000
    assert size < 2_000_000


def test_units_with_blanks_fill_nothing_up(desk, database):
    """However many ways a unit is written in, new metrics still get theirs."""
    spellings = {" " * left + "Cel" + " " * right for left in range(15) for right in range(15)}
    desk.write([{"n": "a/temperature", "t": 3e8 + n, "v": 20, "u": unit} for n, unit in enumerate(spellings)])
    desk.write(series("a/odd", 1, unit="furlong"))
    assert database.one("SELECT unit FROM metric WHERE name = 'odd'") == ("furlong",)


def test_the_cache_does_not_outlive_its_connection(desk, database):
    """After a failover to a database that has other ids, readings land on the right terminal."""
    desk.write(series("o1/temperature", 1))
    database.execute("DELETE FROM reading; DELETE FROM terminal")
    desk.writer.close()
    database.execute(
        "INSERT INTO terminal (id, code, scheme, division, state) VALUES (1, 'o2', 'other', 370102, 'discovered')"
    )
    desk.write(series("o1/temperature", 2))
    assert database.rows("SELECT terminal, value FROM reading_detail") == [("o1", 2.0)]


def test_what_is_sealed_ahead_does_not_outlive_its_registry(desk, database):
    """One sealed before a failover to a database with other ids is sealed again, and lands on the right terminal."""
    desk.write(series("o1/temperature", 1))
    batch = desk.batch(series("o1/temperature", 2))
    ready = desk.writer.ready(batch)
    assert ready.rows["terminal_id"].tolist() == [1]
    database.execute("DELETE FROM reading; DELETE FROM terminal")
    desk.writer.close()
    database.execute(
        "INSERT INTO terminal (id, code, scheme, division, state) VALUES (1, 'o2', 'other', 370102, 'discovered')"
    )
    desk.writer.write(batch, ready=ready)
    assert database.rows("SELECT terminal, value FROM reading_detail") == [("o1", 2.0)]


def test_only_what_is_known_is_sealed_ahead(desk, database):
    """Not what the database has to be asked for, and not while the writer has the registry; nobody waits for it."""
    pack = series("o1/temperature", 1)
    assert desk.writer.ready(desk.batch(pack)) is None
    desk.write(pack)
    assert len(desk.writer.ready(desk.batch(pack)).rows) == 1
    with desk.writer._registry_free:
        assert desk.writer.ready(desk.batch(pack)) is None
    assert len(desk.writer.ready(desk.batch(pack)).rows) == 1


def test_a_change_of_the_registry_is_seen(desk, database):
    """Readings after it have the new cell, those before it keep theirs."""
    desk.write(series("a/temperature", 1))
    database.execute("UPDATE terminal SET state = 'installed', division = 370203, domain = 'municipal'")
    desk.now += 6
    desk.write(series("a/temperature", 2, begin=int(time.time())))
    rows = database.rows("SELECT value, division, domain FROM reading_detail ORDER BY value")
    assert rows == [(1.0, 370102, "other"), (2.0, 370203, "municipal")]


def test_events_fill_a_batch_too(desk):
    """What a batch weighs counts them: a flood of events is no single batch."""
    assert desk.batch([{"n": "a/door", "vs": "open"}] * 500).size == 500


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_batch_over_many_days_is_taken_in_pieces(desk, database):
    """More partitions than one transaction can lock: by halves; only a message too wide by itself is refused."""
    far = [
        series(f"m{n}/temperature", *range(300), begin=1_000_000_000 + n * 300 * DAY, step=DAY)
        for n in range(3)
    ]
    assert sum(desk.land(*far)) == 3
    assert database.one("SELECT count(*) FROM reading") == (900,)
    desk = Desk(database, max_age_days=0)
    desk.land(
        series("wide/temperature", *range(600), begin=400_000_000, step=DAY), series("good/temperature", 1)
    )
    assert database.one("SELECT count(*) FROM reading") == (901,)
    assert database.one("SELECT reason, rejected FROM rejection") == ("unsupported", 600)


TIMESCALE_ONLY = pytest.mark.parametrize("storage", [pytest.param("timescale", marks=pytest.mark.timescale)])


@TIMESCALE_ONLY
def test_what_reaches_over_too_many_chunks_is_taken_in_pieces(desk, database, monkeypatch):
    """By halves while it takes too many locks; chunks that are there take few; one message alone is refused."""
    (locks,) = database.one("SELECT current_setting('max_locks_per_transaction')::int "
                            "* current_setting('max_connections')::int")  # fmt: skip
    monkeypatch.setattr(chunks, "SHARE", locks // 200)  # twelve new chunks
    packs = [series(f"m{n}/temperature", *range(10), begin=10**9 + n * 10 * DAY, step=DAY) for n in range(3)]
    assert desk.land(*packs) == [1, 1, 1]
    assert desk.land(series("again/temperature", *range(30), begin=10**9, step=DAY)) == [1]
    assert database.rows("SELECT 1 FROM rejection") == []
    wide = series("wide/temperature", *range(20), begin=4 * 10**8, step=DAY)
    events = [{"n": "wide/door", "t": 10**9 + n * 7 * DAY, "vs": "open"} for n in range(20)]
    assert desk.land(wide, events, series("good/temperature", 1)) == [1, 1, 1]
    assert database.one("SELECT count(*) FROM reading") == (61,)
    assert database.one("SELECT count(*) FROM event") == (0,)
    assert database.rows("SELECT reason, rejected FROM rejection ORDER BY 2") == [
        ("unsupported", 0),
        ("unsupported", 20),
    ]


@TIMESCALE_ONLY
@pytest.mark.parametrize(
    ("off", "on", "because"),
    [
        ("CREATE UNIQUE INDEX once ON reading (terminal_id, observed_at)", "DROP INDEX once",
         "unique index once"),
        ("ALTER TABLE reading SET (timescaledb.enable_columnstore = false)",
         "ALTER TABLE reading SET (timescaledb.enable_columnstore)", "no columnstore"),
    ],
)  # fmt: skip
def test_direct_compress_that_is_off_is_said_once(database, off, on, because):
    """On connect and when it changes: a line in the log, and 0 in the metric, which events leave as it is."""
    desk = Desk(database)
    event = [{"n": "a/door", "vs": "open"}]
    with structlog.testing.capture_logs() as said:
        assert not desk.write(event).direct_compress
        database.execute(off)
        for number in range(3):
            desk.now += 6
            assert not desk.write(series(f"a{number}/temperature", 1)).direct_compress
        desk.writer.close()
        assert not desk.write(series("b/temperature", 2)).direct_compress
        database.execute(on)
        desk.now += 6
        assert desk.write(series("c/temperature", 3)).direct_compress
        assert desk.write(event).direct_compress
    lines = [line for line in said if line["event"].startswith("direct_compress")]
    assert [line["event"] for line in lines] == ["direct_compress_off", "direct_compress_on"]
    assert because in lines[0]["reason"]
    desk.writer.close()


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_partition_that_somebody_dropped_is_made_again(desk, database):
    """A good reading of a day whose partition is gone lands, as a worker with a longer retention would bring it."""
    at = int(time.time()) // DAY * DAY - 30 * DAY
    desk.write([*series("a/temperature", 1, begin=at), {"n": "a/door", "t": at, "vs": "open"}])
    for table in ("reading", "event"):
        database.execute(f"DROP TABLE {table}_{time.strftime('%Y%m%d', time.gmtime(at))}")
    outcome = desk.write([*series("a/temperature", 2, begin=at + 1), {"n": "a/door", "t": at, "vs": "shut"}])
    assert (outcome.messages_committed, outcome.events_committed) == (1, 1)
    assert database.rows("SELECT value FROM reading") == [(2.0,)]
    assert database.one("SELECT count(*) FROM event") == (1,)
    assert database.rows("SELECT reason FROM rejection") == []


def test_what_only_the_database_refuses_can_be_replayed_whole(database):
    """Its readings, its events and what was refused before keep their own places in the message."""
    database.execute("ALTER TABLE reading ADD CONSTRAINT odd CHECK (value <> 12345)")
    at = int(time.time()) - 10
    pack = [
        {"bn": "a/", "bt": at},
        {"n": "temperature", "v": 20},
        {"n": "rpm", "v": 12345},
        {"n": "door", "vs": "open"},
        {"n": "temperature", "v": "warm"},
    ]
    desk = Desk(database)
    desk.land(pack)
    assert database.one("SELECT count(*) FROM reading") == (0,)
    detail = database.one("SELECT detail FROM rejection")[0]
    assert sorted((entry["index"], entry["reason"]) for entry in detail) == [
        (1, "unsupported"), (2, "unsupported"), (3, "unsupported"), (4, "not_a_number")]  # fmt: skip
    database.execute("ALTER TABLE reading DROP CONSTRAINT odd")
    from ingest.connection import connect
    from ingest.quarantine import Quarantine

    with connect(database.url) as conn:
        list(
            Quarantine(conn, Settings(database_url=database.url)).replay(
                reason=None, division=None, dry_run=False
            )
        )
    assert database.rows("SELECT value FROM reading ORDER BY 1") == [(20.0,), (12345.0,)]
    assert database.rows("SELECT name FROM event") == [("door",)]
    assert database.rows("SELECT reason, rejected, resolved_at FROM rejection") == [("not_a_number", 1, None)]


def test_a_dry_run_over_several_transactions_ends(database):
    """What one of them would have made, the next one can't count on."""
    desk = Desk(database, unknown_terminals="reject")
    desk.land(*[series(f"m{n}/temperature", 20, begin=int(time.time()) - 50 * DAY) for n in range(250)])
    assert database.one("SELECT count(*) FROM rejection") == (250,)
    from ingest.connection import connect
    from ingest.quarantine import Quarantine

    with connect(database.url) as conn:
        *_, done = Quarantine(conn, Settings(database_url=database.url)).replay(
            reason=None, division=None, dry_run=True
        )
    assert (done.rejections, done.readings) == (250, 250)
    assert database.one("SELECT count(*) FROM reading") == (0,)


def test_a_connection_that_falls_silent_while_it_is_made_is_broken_off(desk, monkeypatch):
    """A server that takes us in and answers nothing then is left for a new connection, too."""
    monkeypatch.setattr("ingest.thread.BACKOFF_SECONDS", (0.01, 0.01))
    register, hanging = copy.register, iter([True])

    def hang_once(conn):
        if next(hanging, False):
            conn.execute("SELECT pg_sleep(50)")
        register(conn)

    monkeypatch.setattr(copy, "register", hang_once)
    opening = threading.Thread(target=desk.thread.open)
    opening.start()
    begun = time.monotonic()
    while opening.is_alive() and time.monotonic() - begun < 10:
        time.sleep(0.05)
        desk.thread.break_off(after_seconds=0.3)
    took = time.monotonic() - begun
    opening.join(60)
    assert took < 10
    assert desk.thread.database_up


def test_what_waits_for_a_silent_server_is_broken_off(desk, database, monkeypatch):
    """A batch that hangs in the database longer than it may is written over a new connection, once."""
    monkeypatch.setattr("ingest.thread.BACKOFF_SECONDS", (0.01, 0.01))
    desk.write(series("imei:868800000000001/temperature", 1.0))
    with database.locked():
        desk.outcomes.clear()
        desk.thread.put(desk.batch(series("imei:868800000000001/temperature", 2.0)))
        desk.thread.end()
        writing = threading.Thread(target=desk.thread.run)
        writing.start()
        with structlog.testing.capture_logs() as logs:
            while not any(line["event"] == "database_unavailable" for line in logs):
                time.sleep(0.01)
                desk.thread.break_off(after_seconds=0.3)
    writing.join(30)
    assert database.rows("SELECT value FROM reading ORDER BY value") == [(1.0,), (2.0,)]
    assert len(desk.outcomes) == 1
    assert {"database_silent", "database_unavailable"} <= {line["event"] for line in logs}
