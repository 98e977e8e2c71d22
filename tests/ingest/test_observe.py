"""`ganzhi observe` beside a real worker, broker and database: what it counts, and that it goes on after anything."""

import json
import urllib.request
from datetime import UTC, datetime

import psycopg
import pytest

from tests.faults.stand import Loop, Remote
from tests.proxy import Proxy
from tests.worker import Metrics

pytestmark = pytest.mark.parametrize("storage", ["postgres"])
PLACE = "ganzhi/v1/370202/{}/{}"
OPEN = "FROM coverage_gap WHERE closed_at IS NULL"
GATEWAYS, EACH = ("gw-a", "gw-b"), 30
REGISTER = """
INSERT INTO terminal (id, code, scheme, division, domain, profile, gateway, state, installed_on, report_every)
SELECT n, 'imei:' || n, 'imei', 370202, 'municipal', 'water_meter', CASE WHEN n <= 30 THEN 'gw-a' ELSE 'gw-b' END,
       'installed', current_date - 100, interval '1 day'
FROM generate_series(1, 60) AS n
"""


def pack(ids):
    """One reading of each of these terminals, timeless."""
    return json.dumps([{"id": f"imei:{n}", "values": {"water_volume": n}} for n in ids]).encode()


@pytest.fixture
def field(database, gateway, new_worker):
    """60 meters behind two gateways, all of them heard; a worker, and an observer that has counted them."""
    database.execute(REGISTER)
    worker, observer = new_worker(), new_worker("observe", observe_seconds=0.2)
    worker.start()
    observer.start()
    worker.wait_ready()
    observer.wait(lambda m: m("broker_connected") == 1, "subscribed")
    for number, name in enumerate(GATEWAYS):
        ids = range(number * EACH + 1, (number + 1) * EACH + 1)
        gateway.publish(PLACE.format(name, "telemetry"), pack(ids))
        gateway.publish(PLACE.format(name, "status"), b'{"online": true, "firmware": "1.0"}', retain=True)
    observer.wait(lambda m: live(m) == len(GATEWAYS) * EACH, "aware of all meters")
    return worker, observer


def live(metrics: Metrics) -> float:
    return metrics("terminals", "370200", "municipal", "live")


def test_the_figures_of_a_scrape(field):
    """A scrape has figures of states, coverage, gateways and the goal; the assumed plan is the target."""
    _, observer = field
    metrics = observer.wait(lambda m: m("gateways", "370200", "online") == 2, "aware of both gateways")
    assert metrics("terminals") == 60
    assert (
        metrics("terminals_installed") == metrics("terminals_verified") == metrics("terminals_active") == 60
    )
    assert metrics("networking_ratio", "370200", "municipal") == 1
    assert metrics("networking_daily_ratio", "370200") == 1
    assert metrics("terminals_goal") == 300_000_000
    assert metrics("goal_progress_ratio") == pytest.approx(60 / 300_000_000)
    assert 0 < metrics("coverage_ratio", "370200", "municipal") < 0.001
    assert metrics("coverage_gaps") == 0
    assert metrics("database_bytes") > 0
    assert metrics("division_info") == 168
    assert len(metrics) < 10_000
    with urllib.request.urlopen(f"http://127.0.0.1:{observer.port}/readyz", timeout=10) as answer:
        assert json.load(answer) == {"ready": True, "missing": {}}


def test_a_gateway_that_says_goodbye_is_one_gap_that_names_it(field, gateway, database):
    """Offline by its Will it is a gap at once, which closes when the gateway is back."""
    _, observer = field
    gateway.publish(PLACE.format("gw-a", "status"), b'{"online": false}', retain=True)
    metrics = observer.wait(lambda m: m("coverage_gaps") == 1, "aware of the gap")
    assert metrics("coverage_gaps", "370200", "", "gateway_offline") == 1
    ((number, kind, name, expected),) = database.rows(f"SELECT id, kind, gateway, expected {OPEN}")
    assert (kind, name, expected) == ("gateway_offline", "gw-a", EACH)
    assert (
        metrics("coverage_gap_info", str(number), "370200", "", "gateway_offline", "gw-a") == 0
    )  # all live yet
    gateway.publish(PLACE.format("gw-a", "status"), b'{"online": true}', retain=True)
    observer.wait(lambda m: m("coverage_gaps") == 0, "aware that the gap is over")
    assert database.rows(f"SELECT id {OPEN}") == []


def test_presence_and_offline_notices(field, gateway):
    """A terminal that is said to be offline is no longer live, until it is said to be online."""
    _, observer = field
    gateway.publish(PLACE.format("gw-a", "presence"), b'{"offline": ["imei:1", "imei:2"]}')
    metrics = observer.wait(lambda m: live(m) == 58, "aware of the notice")
    assert metrics("terminals", "370200", "municipal", "overdue") == 2
    gateway.publish(PLACE.format("gw-a", "presence"), b'{"online": ["imei:2"]}')
    observer.wait(lambda m: live(m) == 59, "aware that one is back")


def test_killed_and_started_again_it_counts_the_same(field, gateway, database):
    """SIGKILL loses nothing, also of what was committed while it was away; the recount agrees."""
    worker, observer = field
    observer.kill()
    gateway.publish(PLACE.format("gw-new", "telemetry"), pack([901]))
    worker.wait(
        lambda _: database.rows("SELECT 1 FROM terminal WHERE code = 'imei:901'"), "aware of the new one"
    )
    observer.start()
    metrics = observer.wait(
        lambda m: m("terminals", "370200", "other", "discovered") == 1, "aware of the new one"
    )
    assert live(metrics) == 60
    assert observer.terminate() == 0
    assert database.one("SELECT count(*) FROM heard") == (0,)
    observer.start()
    observer.wait(lambda m: live(m) == 60, "counting from its snapshot")


def test_a_change_of_the_registry_moves_a_terminal(field, database):
    """What is retired or moved counts there from the next look on."""
    _, observer = field
    database.execute("UPDATE terminal SET division = 371302, domain = 'security' WHERE id = 1")
    database.execute("UPDATE terminal SET state = 'retired', retired_on = current_date WHERE id = 2")
    metrics = observer.wait(lambda m: live(m) == 58, "aware of the changes")
    assert metrics("terminals", "371300", "security", "live") == 1
    assert metrics("terminals", "370200", "municipal", "retired") == 1


def test_a_second_observer_ends(field, new_worker):
    """One observer a database: the second says so and exits with 1."""
    second = new_worker("observe")
    second.start()
    with pytest.raises(AssertionError, match="another observer is at work"):
        second.wait(lambda m: m("terminals"), "counting")


def test_what_is_kept(field, database):
    """Coverage has a row a cell and quarter, indicators one a day and place, each once."""
    _, observer = field
    observer.wait(lambda m: m("observer_last_run_timestamp_seconds"), "counting")
    at, domain, installed = database.rows("SELECT at, domain, installed FROM coverage ORDER BY at DESC")[0]
    assert (at.minute % 15, at.second, domain, installed) == (0, 0, "municipal", 60)
    today = datetime.now(UTC).astimezone().date()
    names = {name for (name,) in database.rows("SELECT DISTINCT name FROM indicator WHERE division = 370000")}
    assert {"terminals_verified", "goal_progress_ratio", "networking_ratio", "coverage_ratio"} <= names
    assert database.one("SELECT count(*) FROM (SELECT DISTINCT day FROM indicator) AS d") == (1,), today


def test_a_database_that_is_away_is_waited_for(field, gateway, database):
    """The observer says that it counts no more, and goes on when the database is back."""
    worker, observer = field
    database.server.stop()
    observer.wait(
        lambda _: any(line["event"] == "database_unavailable" for line in observer.log), "complaining"
    )
    database.server.start()
    gateway.publish(PLACE.format("gw-a", "telemetry"), pack([902]))
    worker.wait(lambda m: m("database_up") == 1, "back")
    observer.wait(lambda m: m("terminals", "370200", "other", "discovered") == 1, "counting again")


def test_a_status_that_cannot_be_stored_costs_itself(field, gateway):
    """Garbage on the status topic is logged and acknowledged; what comes behind it counts."""
    _, observer = field
    for said in (
        b'{"online": true, "firmware": "1\\u0000"}',
        b"\xff",
        b'{"online": false, "firmware": "%s"}' % (b"x" * 999),
    ):
        gateway.publish(PLACE.format("gw-b", "status"), said, retain=True)
    gateway.publish(PLACE.format("gw-a", "status"), b'{"online": false}')
    observer.wait(lambda m: m("gateways", "370200", "offline") == 1, "aware of the goodbye behind garbage")
    assert sum(line["event"] == "bad_status" for line in observer.log) == 3
    assert observer.terminate() == 0


def test_a_retained_goodbye_is_old(field, gateway, database):
    """Who was heard since its Will was published is not offline when the observer comes back and reads it again."""
    _, observer = field
    gateway.publish(PLACE.format("gw-a", "status"), b'{"online": false}', retain=True)
    observer.wait(lambda m: m("gateways", "370200", "offline") == 1, "aware of the goodbye")
    observer.kill()
    database.execute("UPDATE gateway SET said_offline_at = NULL, last_seen = now() - interval '1 hour'")
    observer.start()
    observer.wait(lambda m: m("broker_connected") == 1, "subscribed")
    observer.wait(lambda m: m("gateways", "370200", "online") == 2, "still sure that both are there")


def test_unregistered_gateways_may_be_kept_out(database, gateway, new_worker):
    """With GANZHI_UNKNOWN_GATEWAYS=reject the status of a gateway that nobody registered leaves nothing."""
    database.execute("INSERT INTO gateway (name, division) VALUES ('ours', 370202)")
    observer = new_worker("observe", observe_seconds=0.2, unknown_gateways="reject")
    observer.start()
    observer.wait(lambda m: m("broker_connected") == 1, "subscribed")
    for name in ("intruder", "ours"):
        gateway.publish(PLACE.format(name, "status"), b'{"online": true}')
    observer.wait(lambda m: m("gateways", "370200", "online") == 1, "aware of ours")
    assert database.rows("SELECT name FROM gateway") == [("ours",)]


def test_a_connection_that_is_lost_is_made_again(field, database):
    """An observer whose session the server ends takes its place again, also while its lock is still held."""
    _, observer = field
    before = observer.metrics()("observer_last_run_timestamp_seconds")
    with psycopg.connect(database.url, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ganzhi observe'"
        )
        conn.execute("SELECT pg_advisory_lock(hashtext('ganzhi.observer'))")
        observer.wait(
            lambda _: any(line["event"] == "lock_held" for line in observer.log), "waiting for its place"
        )
    observer.wait(lambda m: m("observer_last_run_timestamp_seconds") > before + 1, "counting again")


def test_a_silent_database_holds_no_observer(database, new_worker):
    """SIGTERM ends it in time, though its database accepts and answers nothing any more."""
    with Loop() as loop:
        proxy = Remote(loop, Proxy(database.server.port))
        proxy.start()
        url = database.url.replace(str(database.server.port), str(proxy.port))
        observer = new_worker("observe", observe_seconds=0.2, database_url=url)
        observer.start()
        observer.wait(lambda m: m("observer_last_run_timestamp_seconds") > 0, "counting")
        proxy.hold()
        assert observer.terminate() == 0
        assert "database_silent" in {line["event"] for line in observer.log}
        proxy.stop()


def test_the_last_recount_outlives_a_restart(database, new_worker):
    """What the last night's recount found stays in the metrics."""
    known = "(current_date + 1, 'recount_difference', 370000, 7)"
    database.execute(f"INSERT INTO indicator (day, name, division, value) VALUES {known}")
    observer = new_worker("observe", observe_seconds=0.2)
    observer.start()
    observer.wait(lambda m: m("recount_difference") == 7, "aware of the last recount")
