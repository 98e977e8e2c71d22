"""The observer's arrays beside its database: whatever is committed, whenever it is killed, every state is exact."""

import multiprocessing
import random
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb
from pyroaring import BitMap

from devices import observer
from devices.observer import AnotherObserverError, Observer
from devices.states import STATES
from ingest.connection import connect
from schemas.profiles import PROFILES

NOW = int(time.time())
HOUR, DAY = 3_600, 86_400
KILLS = 8
WAITING = 10_000
REGISTER = """INSERT INTO terminal (id, code, scheme, division, domain, profile, gateway, state, report_every,
                                 installed_on)
    SELECT id, 'imei:' || id, 'imei', %s, %s, %s, %s, %s, %s, %s FROM generate_series(%s::int, %s::int) AS id"""
FACTS = """SELECT t.id, c.id, t.state, t.installed_on, extract(epoch FROM t.report_every)::int, t.profile
    FROM terminal AS t JOIN division AS d ON d.code = t.division
    JOIN cell AS c ON c.division = CASE d.level WHEN 'zone' THEN d.parent ELSE d.code END
                  AND c.domain = CASE t.state WHEN 'discovered' THEN 'other' ELSE t.domain END"""
ZONE, LIXIA = 370176, 370102


@pytest.fixture
def storage():
    """Nothing here depends on the storage but what a test parametrises."""
    return "postgres"


class Province:
    """A database, what workers commit into it, and an oracle that remembers all of it."""

    def __init__(self, database):
        self.database = database
        self.conn = connect(database.url)
        self.heard, self.said = {}, {}

    def register(self, first, last, *, division=LIXIA, domain="municipal", profile="water_meter", gateway=None,
                 state="installed", every=None, installed=date(2026, 1, 1)):  # fmt: skip
        every = every and timedelta(seconds=every)
        self.conn.execute(
            REGISTER, [division, domain, profile, gateway, state, every, installed, first, last]
        )

    def commit(self, ago, heard=(), offline=(), refused=(), gateways=None, conn=None):
        """A worker's batch, heard so many seconds ago."""
        at = NOW - ago
        maps = [BitMap(ids).serialize() if ids else None for ids in (heard, offline, refused)]
        (conn or self.conn).execute(
            "INSERT INTO heard (heard_at, terminals, offline, refused, gateways) "
            "VALUES (to_timestamp(%s), %s, %s, %s, %s)",
            [at, *maps, gateways and Jsonb(gateways)],
        )
        self.heard |= {i: max(at, self.heard.get(i, 0)) for i in heard}
        self.said |= {i: max(at, self.said.get(i, 0)) for i in offline}

    def states(self):
        """(cell, state) -> terminals, by the contract's words."""
        return Counter((cell, self._state(id_, *facts)) for id_, cell, *facts in self.conn.execute(FACTS))

    def _state(self, id_, life, installed_on, every, profile):
        if life in {"retired", "discovered"}:
            return life
        if (
            installed_on is None
            or installed_on > (datetime.fromtimestamp(NOW, UTC) + timedelta(hours=8)).date()
        ):
            return "planned"
        if id_ not in self.heard:
            return "never_heard"
        r = every or (PROFILES[profile].report_every_seconds if profile else DAY)
        said = self.said.get(id_, 0) if self.said.get(id_, 0) >= self.heard[id_] else 0
        silent = NOW - self.heard[id_]
        if silent <= 1.5 * r + 600 and not said:
            return "live"
        return "overdue" if min(silent, NOW - said) <= 3 * r + 1800 else "lost"

    def observer(self):
        """An observer that has loaded; its connection is the test's to close."""
        conn = connect(self.database.url)
        try:
            found = Observer(conn)
            found.load()
        except BaseException:
            conn.close()
            raise
        return found

    def successor(self):
        """As `observer`, once the server has seen that the one before is gone."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.observer()
            except AnotherObserverError:
                assert time.monotonic() < deadline, "the lock stayed when its connection was gone"
                time.sleep(0.01)

    def one(self, query, *arguments):
        return self.database.one(query, *arguments)


@pytest.fixture
def province(database):
    province = Province(database)
    yield province
    province.conn.close()


def counted(watcher):
    """(cell, state) -> terminals, as the observer's arrays have them."""
    counts = watcher.fleet.count(NOW, None, *watcher.axes())
    cells, states = counts.states.nonzero()
    return Counter(
        {(int(c), STATES[s]): int(counts.states[c, s]) for c, s in zip(cells, states, strict=True)}
    )


@pytest.fixture
def populated(province):
    """Some of everything, heard, silent, offline, in table `heard` and not yet anywhere else."""
    province.register(1, 100, every=600)
    province.register(101, 160, division=ZONE, domain="energy", profile=None, gateway="gw-a")
    province.register(161, 180, installed=None, state="planned")
    province.register(181, 190, installed=date.today() + timedelta(days=2))  # noqa: DTZ011
    province.register(191, 195, state="retired")
    province.register(196, 200, domain="other", profile=None, installed=None, state="discovered")
    province.commit(3 * HOUR, range(1, 20), gateways={"gw-a": 370100})
    province.commit(0, range(20, 60), refused=[20, 21], gateways={"gw-b": 370200, "gw-c": None})
    province.commit(40 * HOUR, range(101, 130))
    province.commit(200, [], offline=range(25, 30))
    province.commit(100, [*range(30, 40), *range(190, 199)], offline=[31, 32])
    return province


@pytest.mark.parametrize("storage", [pytest.param("timescale", marks=pytest.mark.timescale), "postgres"])
def test_states_follow_from_the_database(populated):
    """Every state of every cell is exact after a load, after a round, after a snapshot and after a load from it."""
    province = populated
    watcher = province.observer()
    with closing(watcher.conn):
        assert counted(watcher) == province.states()
        province.commit(1, range(60, 90), offline=[1, 2])
        province.register(201, 230, division=370200)
        province.commit(0, [201, 202])
        watcher.follow()
        assert counted(watcher) == province.states()
        watcher.snapshot()
        assert province.one("SELECT count(*) FROM heard") == (0,)
        assert watcher.recount(NOW).differing == 0
    with closing(province.successor().conn) as conn:
        again = Observer(conn)
        again.load()
        assert counted(again) == province.states()
        assert len(again.fleet.invalid) == 2


def test_first_times_notices_and_gateways_are_written(populated):
    """The database knows when a terminal was first heard and last said to be offline, and when a gateway was heard."""
    province = populated
    with closing(province.observer().conn) as conn:
        first = "SELECT id, extract(epoch FROM first_heard_at)::bigint FROM terminal WHERE first_heard_at IS NOT NULL"
        times = dict(province.database.rows(first))
        assert times.keys() == province.heard.keys()
        assert (times[1], times[20], times[30]) == (NOW - 3 * HOUR, NOW, NOW - 100)
        seen = "extract(epoch FROM last_seen)::bigint"
        gateways = f"SELECT name, id, division, registered_at, {seen} FROM gateway ORDER BY id"
        assert province.database.rows(gateways) == [
            ("gw-a", 1, 370100, None, NOW - 3 * HOUR), ("gw-b", 2, 370200, None, NOW), ("gw-c", 3, None, None, NOW),
        ]  # fmt: skip
        province.commit(5 * HOUR, gateways={"gw-a": None})
        province.commit(-5, [1], offline=[1], gateways={"gw-a": None})
        watcher = Observer(conn)
        watcher.load()
        assert province.database.rows(gateways)[0][-1] == NOW + 5
        watcher.snapshot()
        said = "SELECT id, extract(epoch FROM said_offline_at)::bigint FROM terminal WHERE said_offline_at IS NOT NULL"
        assert dict(province.database.rows(said)) == province.said


def test_a_gateway_already_numbered_keeps_its_number_and_counts_its_terminals(province):
    """Terminals count behind their gateway from the round in which it is first named."""
    with closing(province.observer().conn) as conn:
        watcher = Observer(conn)
        watcher.load()
        province.register(1, 3, gateway="gw-z")
        watcher.follow()
        province.register(4, 8, gateway="gw-a")
        watcher.follow()
        cells, gateways = watcher.axes()
        assert watcher.fleet.count(NOW, None, cells, gateways).gateway[:, 0].tolist() == [0, 3, 5]
        version = province.one("SELECT version FROM registry_version")
        province.commit(0, [1], gateways={"gw-z": None})
        watcher.follow()
        assert province.one("SELECT version FROM registry_version") == version


def test_what_commits_late_is_not_missed(province):
    """A row of a transaction that began earlier and commits after later ones were taken and deleted still counts."""
    province.register(1, 20)
    watcher = province.observer()
    with closing(watcher.conn), psycopg.connect(province.database.url) as slow:
        province.commit(50, range(1, 6), conn=slow)
        province.commit(0, range(6, 11))
        watcher.follow()
        watcher.snapshot()
        slow.commit()
        watcher.follow()
        assert counted(watcher) == province.states()
        watcher.snapshot()
        assert province.one("SELECT count(*) FROM heard") == (0,)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE terminal SET division = 370203, domain = 'energy' WHERE id <= 40",
        "UPDATE terminal SET state = 'retired' WHERE id BETWEEN 10 AND 30",
        "UPDATE terminal SET state = 'installed', installed_on = '2026-02-02' WHERE state = 'discovered'",
        "UPDATE terminal SET report_every = '10 days'; UPDATE terminal SET profile = 'video' WHERE id < 9",
    ],
)
def test_changes_of_the_registry_move_terminals(populated, change):
    """A division, a state or an interval that changes moves the terminal in the next round."""
    watcher = populated.observer()
    with closing(watcher.conn):
        populated.conn.execute(change)
        watcher.follow()
        assert counted(watcher) == populated.states()
        assert populated.one("SELECT count(*) FROM registry_change") == (0,)
        assert watcher.recount(NOW).differing == 0


@pytest.mark.parametrize("running", [True, False])
def test_who_gets_the_id_of_a_forgotten_terminal_was_never_heard(populated, running):
    """Forgotten terminals leave the counts; the one that is given the highest id anew inherits nothing."""
    province = populated
    watcher = province.observer()
    with closing(watcher.conn):
        watcher.snapshot()
        if not running:
            watcher.conn.close()
        province.conn.execute("DELETE FROM terminal WHERE id IN (1, 25) OR id > 195")
        if running:
            watcher.follow()
            assert counted(watcher) == province.states()
        for id_ in (1, 25, *range(196, 201)):
            province.heard.pop(id_, None)
            province.said.pop(id_, None)
        province.register(196, 198)
        if running:
            watcher.follow()
            assert counted(watcher) == province.states()
            watcher.conn.close()
    watcher = province.successor()
    with closing(watcher.conn):
        assert counted(watcher) == province.states()
        assert observer.last_heard(province.conn, 196) is None


def test_a_row_that_cannot_be_read_costs_itself_alone(province, capsys):
    """Rubbish in table heard is named, stays there, and the rows around it count; so do ids that nobody has not."""
    province.register(1, 20)
    province.conn.execute("INSERT INTO heard (heard_at, terminals) VALUES (now(), 'rubbish'), (now(), '')")
    province.commit(0, range(1, 6))
    province.commit(0, [7, 4_000_000_000])
    watcher = province.observer()
    with closing(watcher.conn):
        watcher.follow()
        watcher.snapshot()
        assert counted(watcher) == province.states()
        assert watcher.fleet.size < 100_000
        assert province.one("SELECT count(*) FROM heard") == (2,)
    assert capsys.readouterr().out.count("heard_unreadable") == 2


def test_a_load_may_take_longer_than_a_statement_of_the_path(province):
    """The registry's first scan, for gateways that only terminals name, is under no statement timeout."""
    province.register(1, 20, gateway="gw-z")
    with (
        closing(connect(province.database.url)) as conn,
        psycopg.connect(province.database.url) as blocker,
    ):
        conn.execute("SET statement_timeout = '500ms'")
        blocker.execute("LOCK TABLE terminal")
        release = threading.Timer(0.8, blocker.rollback)
        release.start()
        Observer(conn).load()
        release.join()
    assert province.one("SELECT name, id FROM gateway") == ("gw-z", 1)


@pytest.mark.parametrize("action", ["follow", "snapshot"])
def test_rows_that_wait_for_a_snapshot_take_little_for_the_moment(province, action):
    """A look at rows that it knows, or the snapshot that deletes them, takes 50 bytes a row at most, not hundreds."""
    province.conn.execute(
        "INSERT INTO heard (heard_at, gateways) SELECT now(), %s FROM generate_series(1, %s)",
        [Jsonb({"gw-a": 370100}), WAITING],
    )
    watcher = province.observer()
    with closing(watcher.conn):
        watcher.follow()
        tracemalloc.start()
        getattr(watcher, action)()
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert province.one("SELECT count(*) FROM heard") == (WAITING if action == "follow" else 0,)
    assert peak_bytes < 50 * WAITING


def test_one_observer_a_database(province):
    """A second one is refused, until the first is gone."""
    with closing(province.observer().conn), pytest.raises(AnotherObserverError, match="stop it first"):
        province.observer()
    province.successor().conn.close()


def test_a_recount_finds_what_is_wrong(populated, capsys):
    """Terminals that the arrays have wrong are counted, said, and found by what SQL counts alone."""
    watcher = populated.observer()
    with closing(watcher.conn):
        watcher.snapshot()
        populated.commit(0, range(1, 10))
        watcher.fleet.heard[40:43] = 0
        watcher._reader.dirty.add(0)
        watcher.snapshot()  # what is wrong is now in the database's own blocks
        found = watcher.recount(NOW)
        assert found.differing == 6
        assert [(what, database - running) for _, what, running, database in found.places] == [
            ("never_heard", -3), ("verified", 3),
        ]  # fmt: skip
        assert "recount_differs" in capsys.readouterr().out
        populated.conn.execute("ALTER TABLE terminal DISABLE TRIGGER terminal_changed")
        populated.conn.execute("UPDATE terminal SET state = 'retired' WHERE id = 50")
        assert watcher.recount(NOW).places[-1][1:] == ("retired", 5, 6)


def test_a_recount_finds_arrivals_that_the_arrays_lost(populated):
    """Whoever a row of table heard names was heard then, or later; a row that comes meanwhile is no difference."""
    watcher = populated.observer()
    with closing(watcher.conn):
        watcher.fleet.heard[20:25] -= 60
        populated.commit(0, range(60, 90))
        assert [place[1:] for place in watcher.recount(NOW).places] == [("heard later", 0, 5)]


@pytest.mark.parametrize("stored", [False, True])
def test_one_terminal_from_the_database_alone(populated, stored):
    """Its state and when it was last heard are the same whether a snapshot has them or not."""
    province = populated
    if stored:
        watcher = province.observer()
        watcher.snapshot()
        watcher.conn.close()
    every = {id_: province._state(id_, *facts) for id_, _, *facts in province.conn.execute(FACTS)}
    some = [1, 20, 27, 31, 35, 70, 102, 150, 170, 185, 192, 197, 200]
    assert {id_: observer.state_of(province.conn, id_, NOW) for id_ in some} == {i: every[i] for i in some}
    times = {id_: observer.last_heard(province.conn, id_) for id_ in some}
    assert times == {
        i: province.heard.get(i) and datetime.fromtimestamp(province.heard[i], UTC) for i in some
    }
    with pytest.raises(KeyError):
        observer.state_of(province.conn, 999, NOW)


def watch(url, loaded):
    """An observer's process, as it is killed: one round after the other, without a pause."""
    while True:
        with connect(url) as conn:
            watcher = Observer(conn)
            try:
                watcher.load()
            except AnotherObserverError:
                continue  # the server has not yet seen that the one before is dead
            loaded.set()
            while True:
                watcher.follow()
                watcher.snapshot()


def test_a_kill_at_any_moment_loses_nothing(province):
    """Killed at random moments while batches are committed, it comes to the states of all that was committed."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    blocks = range(1, 200_000, 65_536)
    for first in blocks:
        province.register(first, first + 2_999, every=600)
    unheard = [first + i for first in blocks for i in range(3_000)]
    chance.shuffle(unheard)  # nobody is heard twice: what is lost, nothing later hides
    here = multiprocessing.get_context("fork")
    for number in range(KILLS):
        loaded = here.Event()
        process = here.Process(target=watch, args=[province.database.url, loaded])
        process.start()
        end = time.monotonic() + 30
        waits = number % 4 > 0  # else it may die while it loads
        while time.monotonic() < end and unheard:
            if end > time.monotonic() + 1 and (loaded.is_set() or not waits):
                end = time.monotonic() + chance.uniform(0, 0.2)
            ids = [unheard.pop() for _ in range(8)]
            province.commit(chance.randrange(3 * HOUR), ids, ids[6:])
            time.sleep(0.002)  # leaves the processor to the observer
        process.kill()
        process.join()
        province.conn.execute("UPDATE terminal SET division = 370203 WHERE id = ANY(%s)", [ids])
    watcher = province.successor()
    with closing(watcher.conn):
        assert counted(watcher) == province.states(), f"seed {seed}"
        watcher.snapshot()
        assert watcher.recount(NOW).differing == 0
