"""The observer's looks on a real database: who is missed, and when it is the service that hears nobody."""

import gc
import time
from datetime import date, timedelta

import pytest
from prometheus_client import generate_latest
from psycopg.types.json import Jsonb
from pyroaring import BitMap

from ingest.connection import connect
from ingest.observer_metrics import ObserverMetrics
from ingest.page import summary_of
from ingest.round import SQL, Rounds
from ingest.settings import Settings

pytestmark = pytest.mark.parametrize("storage", ["postgres"])
NOW = time.time()
LIXIA = 370102
MINUTE, HOUR, DAY = 60, 3_600, 86_400


class Field:
    """A database with gateways and terminals, batches that workers committed, and the observers of it."""

    def __init__(self, url, conn):
        self.conn, self.url, self.count = conn, url, 0

    def gateways(self, count, r, prefix="gw", terminals=1, division=LIXIA, domain="municipal"):
        """As many registered gateways, each with terminals that report every r seconds; answers names and ids."""
        names, ids = [f"{prefix}{number}" for number in range(count)], []
        for name in names:
            self.conn.execute(
                "INSERT INTO gateway (name, division, state) VALUES (%s, 370100, 'planned')", [name]
            )
            self.conn.execute(
                """INSERT INTO terminal (id, code, scheme, division, domain, profile, gateway, state, report_every,
                                         installed_on)
                   SELECT id, 'x:' || id, 'other', %s, %s, 'water_meter', %s, 'installed', %s, %s
                   FROM generate_series(%s::int, %s::int) AS id""",
                [division, domain, name, timedelta(seconds=r), date(2026, 1, 1), self.count + 1,
                 self.count + terminals])  # fmt: skip
            ids += range(self.count + 1, self.count + terminals + 1)
            self.count += terminals
        return names, ids

    def commit(self, at, names, ids):
        """A batch with these gateways and terminals."""
        self.conn.execute(
            "INSERT INTO heard (heard_at, terminals, gateways) VALUES (to_timestamp(%s), %s, %s)",
            [at, BitMap(ids).serialize(), Jsonb(dict.fromkeys(names))])  # fmt: skip

    def look(self, at, **settings):
        """A new observer's first look; answers kind and gateway or cell of every open gap."""
        with connect(self.url) as conn:
            rounds = Rounds(conn, Settings(database_url=self.url, **settings))
            rounds.load()
            return opened(rounds.look(at))

    def observer(self, conn):
        rounds = Rounds(conn, Settings(database_url=self.url))
        rounds.load()
        return rounds

    def audit(self):
        return [row[0] for row in self.conn.execute("SELECT action FROM audit ORDER BY at")]


def opened(seen):
    return sorted((gap.kind, gap.gateway or (gap.division, gap.domain)) for gap in seen.gaps)


@pytest.fixture
def field(database):
    with connect(database.url) as conn:
        yield Field(database.url, conn)


def test_a_deaf_service_opens_nothing_until_all_had_their_time(field):
    """120 gateways silent for 20 min are the service's silence; a new observer remembers it, and finds one that stays.

    What one says of itself is believed.
    """
    names, ids = field.gateways(120, MINUTE)
    field.commit(NOW, names, ids)
    assert field.look(NOW) == []
    assert field.look(NOW + 20 * MINUTE) == []
    assert field.audit() == ["observer deaf"]
    field.conn.execute(
        "UPDATE gateway SET said_offline_at = to_timestamp(%s) WHERE name = 'gw5'", [NOW + 300]
    )
    assert field.look(NOW + 21 * MINUTE) == [("gateway_offline", "gw5")]
    back = NOW + 22 * MINUTE
    field.commit(back, names[:1], ids[:1])
    assert field.look(back) == [("gateway_offline", "gw5")]
    assert field.audit() == ["observer deaf", "observer hears"]
    for minute in range(1, 16):
        field.commit(back + minute * MINUTE, names[:118], ids[:118])
    assert field.look(back + 14 * MINUTE) == []
    assert field.look(back + 16 * MINUTE) == [("gateway_offline", "gw118"), ("gateway_offline", "gw119")]


def test_quality_is_kept_with_coverage(field):
    """The look that keeps a quarter of an hour's coverage knows the quality of the readings that it counted."""
    names, ids = field.gateways(1, MINUTE)
    field.commit(NOW, names, ids)
    field.conn.execute("UPDATE heard SET quality = '{\"370100\": [9, 10]}'")
    field.look(NOW)
    kept = field.conn.execute(
        "SELECT division, value FROM indicator WHERE name = 'quality_ratio' ORDER BY division"
    )
    assert kept.fetchall() == [(370000, 0.9), (370100, 0.9)]


def test_deafness_that_no_observer_met_is_found_in_the_arrivals(field):
    """Worker and observer were away together: a batch after it makes no gateway silent that was not heard yet."""
    names, ids = field.gateways(120, MINUTE)
    field.commit(NOW, names, ids)
    assert field.look(NOW) == []
    field.commit(NOW + HOUR, names[:1], ids[:1])
    assert field.look(NOW + HOUR + 5) == []


def test_daily_meters_by_day_are_not_deafness(field):
    """120 gateways last heard 4 h ago, as they should: one that says goodbye and a plan that is missed are gaps."""
    names, ids = field.gateways(120, DAY)
    field.commit(NOW - 4 * HOUR, names, ids)
    field.conn.execute("UPDATE gateway SET said_offline_at = to_timestamp(%s) WHERE name = 'gw5'", [NOW - 60])
    field.conn.execute("INSERT INTO plan (version, division, domain, target, due_on, source) "
                       "VALUES (100, 370102, 'municipal', 1000, '2026-01-01', 'declared')")  # fmt: skip
    assert field.look(NOW) == [("gateway_offline", "gw5"), ("under_target", (LIXIA, "municipal"))]
    assert field.audit() == []


def test_imported_and_planned_terminals_make_no_gateway_silent(field):
    """4,000 quick terminals never heard behind a gateway of daily meters leave it online."""
    names, ids = field.gateways(1, DAY, terminals=40)
    field.commit(NOW - HOUR, names, ids)
    field.conn.execute(
        """INSERT INTO terminal (id, code, scheme, division, domain, profile, gateway, state, report_every,
                                 installed_on)
           SELECT id, 'y:' || id, 'other', %s, 'environment', 'air_quality', 'gw0', 'installed', '1 minute',
                  CASE WHEN id %% 2 = 0 THEN current_date END
           FROM generate_series(101, 4100) AS id""", [LIXIA])  # fmt: skip
    assert field.look(NOW) == []
    assert field.conn.execute("SELECT state FROM gateway").fetchall() == [("online",)]


@pytest.mark.parametrize("minimum", [20, 60])
def test_an_outage_while_the_observer_was_away_is_found(field, minimum):
    """30 of 50 terminals fell silent behind a living gateway in two hours without an observer; 60 need more of them."""
    _, ids = field.gateways(1, MINUTE, terminals=50)
    others = field.gateways(1, MINUTE, prefix="other", terminals=100, division=370103)
    field.conn.execute("UPDATE terminal SET gateway = 'other0' WHERE gateway = 'gw0'")
    field.commit(NOW, others[0], [*ids, *others[1]])
    assert field.look(NOW, gap_terminals=minimum) == []
    for minute in range(1, 121):
        field.commit(NOW + minute * MINUTE, others[0], [*ids[:20], *others[1]])
    expected = [("outage", (LIXIA, "municipal"))] if minimum == 20 else []
    assert field.look(NOW + 2 * HOUR, gap_terminals=minimum) == expected


def test_one_observer_meets_and_survives_deafness(field):
    """The looks of one life say the same: deaf once, hearing once, and nothing opens."""
    names, ids = field.gateways(30, MINUTE)
    field.commit(NOW, names, ids)
    with connect(field.url) as conn:
        rounds = field.observer(conn)
        for minute in range(0, 60, 4):
            assert opened(rounds.look(NOW + minute * MINUTE)) == []
        for minute in range(60, 100, 4):
            field.commit(NOW + minute * MINUTE, names, ids)
            assert opened(rounds.look(NOW + minute * MINUTE)) == []
    assert field.audit() == ["observer deaf", "observer hears"]


def test_old_coverage_is_thinned_to_a_row_a_day(field):
    """Of a day that is older than 90 days the last rows stay, by Shandong's midnight; younger ones stay as they are."""
    field.conn.execute(
        """INSERT INTO coverage SELECT at, 370102, domain, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0
           FROM unnest(ARRAY['energy', 'municipal']) AS domain,
                generate_series(date_trunc('day', now()) - interval '95 days',
                                date_trunc('day', now()) - interval '88 days', interval '15 minutes') AS at
           WHERE domain = 'municipal' OR extract(hour FROM at) < 12""")  # fmt: skip
    young = "SELECT count(*) FROM coverage WHERE at >= now() - interval '90 days'"
    before = field.conn.execute(young).fetchone()
    field.conn.execute(SQL["thin_coverage"])
    days = field.conn.execute(
        """SELECT domain, count(*), max((at + interval '8 hours')::time)::text
           FROM coverage WHERE at < now() - interval '92 days'
           GROUP BY domain, (at + interval '8 hours')::date ORDER BY (at + interval '8 hours')::date, domain"""
    ).fetchall()
    assert days[:2] == [("energy", 1, "19:45:00"), ("municipal", 1, "23:45:00")]
    assert {count for _, count, _ in days} == {1}
    assert field.conn.execute(young).fetchone() == before


def test_looks_leave_nothing_behind(field):
    """After 30 looks there are as many objects as after 20, whatever gaps opened and closed and was kept or drawn."""
    names, ids = field.gateways(20, MINUTE, terminals=5)
    settings = Settings(database_url=field.url)
    objects, at = [], NOW
    with connect(field.url) as conn:
        rounds = Rounds(conn, settings)
        rounds.load()
        metrics = ObserverMetrics(settings, lambda: True)
        for _ in range(3):
            for silent in range(0, 20, 2):
                at += HOUR
                field.commit(at, names[silent + 1 :], ids[5 * (silent + 1) :])
                metrics.seen = rounds.look(at)
                rounds.chores(at)
                generate_latest(metrics.registry)
                summary_of(metrics.seen, settings.goal_due)
            gc.collect()
            objects.append(len(gc.get_objects()))
    (closed,) = field.conn.execute("SELECT count(closed_at) FROM coverage_gap").fetchone()
    assert closed > 20
    assert objects[2] - objects[1] < 5
