"""`ganzhi check` against real servers: it sees what would lose or throttle, says what to do, leaves nothing."""

import os
import shutil
import subprocess
import sys

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest import check
from ingest.finding import Level, fail, ok, redact, warn
from ingest.settings import Settings
from tests.brokers import Mosquitto, free_port, mosquitto_config, needs_mosquitto
from tests.worker import environment

pytestmark = needs_mosquitto
POSTGRES_ONLY = pytest.mark.parametrize("storage", ["postgres"])
UNIQUE_INDEX = "CREATE UNIQUE INDEX once ON reading (terminal_id, metric_id, observed_at)"
TRIGGER = """
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER look BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION look()
"""
RATES = [
    (20_000, 24, (Level.OK, "")),
    (4_000_000, 24, (Level.WARN, "set GANZHI_CHUNK_HOURS=3")),
    (4_000_000, 3, (Level.OK, "")),
    (400_000_000, 24, (Level.WARN, "set GANZHI_CHUNK_HOURS=1")),
    (400_000_000, 1, (Level.OK, "")),
]
"""Readings an hour, hours of a chunk, what is said."""
NOWHERE = "postgresql://somebody:hush@127.0.0.1:1/nothing"


def findings(**settings):
    """Findings by name, for these settings."""
    return {finding.name: finding for finding in check.run(Settings(**settings))}


def command(**settings):
    """Exit code and output of `ganzhi check`."""
    done = subprocess.run(
        [sys.executable, "-m", "ingest.cli", "check"], env=environment(**settings) | {"COLUMNS": "250"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def broker(tmp_path):
    """Starts a Mosquitto whose configuration lacks lines that begin with `without`, and has `more`; its URL."""
    running = []

    def start(without="#", more=()):
        port, folder = free_port(), tmp_path / f"broker-{len(running)}"
        folder.mkdir()
        lines = [n for n in mosquitto_config(port, folder).splitlines() if not n.startswith(without)]
        running.append(Mosquitto("\n".join([*lines, *more, ""]), port, folder))
        running[-1].start()
        return f"mqtt://127.0.0.1:{port}"

    yield start
    for each in running:
        each.stop()


def test_a_good_installation_passes(database, broker):
    """With nothing to mend the exit code is 0; the test server's `fsync = off` is all it warns of."""
    code, said = command(mqtt_url=broker(), database_url=database.url)
    assert code == 0, said
    assert "fsync off" in said
    assert said.count("→") == 1, said


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_drops_is_found(broker, version):
    """Mosquitto's defaults keep 1,000 messages for an absent worker: a failure, with the line to set."""
    seen = findings(mqtt_url=broker(without="max_"), mqtt_version=version, database_url=NOWHERE)
    queue = seen["broker's queue"]
    assert queue.level is Level.FAIL
    assert "max_queued_messages 0" in queue.advice
    assert seen["broker's window"].level is (Level.WARN if version == "3.1.1" else Level.OK)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_keeps_everything_passes(broker, version):
    """Without limits all that is published for an absent subscriber arrives, and at once."""
    seen = findings(mqtt_url=broker(), mqtt_version=version, database_url=NOWHERE)
    assert seen["broker's queue"].level is Level.OK
    assert seen["broker's window"].level is Level.OK
    assert "mosquitto version" in seen["broker"].found


def test_nothing_stays_on_the_broker(broker):
    """After a check the broker has no session of the subscriber that was absent."""
    url = broker()
    findings(mqtt_url=url, database_url=NOWHERE)
    present = []
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, f"ganzhi-check-absent-{os.getpid()}", protocol=paho.MQTTv5
    )
    client.on_connect = lambda _c, _d, flags, _r, _p: present.append(flags.session_present)
    expiry = Properties(PacketTypes.CONNECT)
    expiry.SessionExpiryInterval = 60
    client.connect("127.0.0.1", int(url.rpartition(":")[2]), clean_start=False, properties=expiry)
    while not present:
        client.loop(0.1)
    client.disconnect()
    assert present == [False]


@pytest.mark.parametrize("rule", ["topic read ganzhi/#", "topic write ganzhi/#"])
def test_an_access_list_in_the_way_is_a_warning(broker, tmp_path, rule):
    """Where the access list keeps the check from its topic, it says which line would let it."""
    (tmp_path / "acl").write_text(rule + "\n")
    seen = findings(mqtt_url=broker(more=[f"acl_file {tmp_path / 'acl'}"]), database_url=NOWHERE)
    assert seen["broker"].level is Level.OK
    for name in ("round trip", "broker's queue"):
        assert seen[name].level is Level.WARN
        assert "topic readwrite ganzhi/v1/370000/ganzhi-check/+" in seen[name].advice


@pytest.mark.parametrize("told", [True, False])
def test_gateways_that_may_not_be_told_of_refusals_are_a_warning(broker, tmp_path, told):
    """Where the access list keeps refusals from gateways, it says which line would let them out."""
    rules = ["topic readwrite ganzhi/v1/370000/ganzhi-check/+", "topic read $SYS/#"]
    rules += ["topic write ganzhi/v1/+/+/rejected"] * told
    (tmp_path / "acl").write_text("\n".join([*rules, ""]))
    seen = findings(mqtt_url=broker(more=[f"acl_file {tmp_path / 'acl'}"]), database_url=NOWHERE)
    assert seen["round trip"].level is Level.OK
    assert ("refusals" in seen) is not told
    assert told or "topic write ganzhi/v1/+/+/rejected" in seen["refusals"].advice


def test_a_worker_that_would_take_the_probe_is_spared(broker):
    """A filter of the service's own that takes the check's topic keeps 1,100 messages from becoming rejections."""
    seen = findings(mqtt_url=broker(), topics="ganzhi/v1/#", database_url=NOWHERE)
    assert seen["broker's queue"].level is Level.WARN
    assert "GANZHI_TOPICS" in seen["broker's queue"].advice


def test_a_packet_size_below_the_payload_limit_is_a_warning(broker):
    """A broker that cuts off what the service would keep as a rejection is named with the number to set."""
    size = findings(mqtt_url=broker(more=["max_packet_size 1048576"]), database_url=NOWHERE)["packet size"]
    assert size.level is Level.WARN
    assert "1,049,600" in size.advice


def test_a_refused_password_is_out_of_reach_and_not_shown(broker, tmp_path):
    """Wrong credentials end with 3 and the advice to check them, without the password in any form."""
    (tmp_path / "passwords").write_text("")
    url = broker(
        without="allow_anonymous", more=["allow_anonymous false", f"password_file {tmp_path / 'passwords'}"]
    )
    code, said = command(mqtt_url=url.replace("//", "//me:pa%2Fss-hush@"), database_url=NOWHERE)
    assert code == 3
    assert "check user and password in GANZHI_MQTT_URL" in said
    assert "hush" not in said


def test_servers_that_are_away_are_said_each(broker):
    """Broker and database out of reach are two findings, and exit code 3."""
    code, said = command(mqtt_url="mqtt://127.0.0.1:1", database_url=NOWHERE)
    assert code == 3
    assert said.count("refused") >= 2
    assert "hush" not in said


@pytest.mark.parametrize("url", ["postgresql//me:hush@here/db", "postgresql://me:hush/er@here/db"])
def test_a_url_that_cannot_be_read_is_a_setting(url):
    """A malformed database URL ends with 2, and is not shown."""
    code, said = command(database_url=url)
    assert code == 2
    assert "GANZHI_DATABASE_URL" in said
    assert "hush" not in said


def test_pending_migrations_fail(empty_database):
    """A database that is not at this release fails with the command that brings it there; exit code 1 alone."""
    seen = list(check.check_database.run(Settings(database_url=empty_database.url)))
    schema = next(f for f in seen if f.name == "schema")
    assert schema.level is Level.FAIL
    assert schema.advice == "run ganzhi migrate"
    assert check.exit_code(seen) == 1


@POSTGRES_ONLY
def test_a_role_that_may_not_write_fails(database):
    """A role without INSERT on the tables of the path is told so."""
    database.execute("CREATE ROLE reads LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reads")
    try:
        url = database.url.replace("postgres@", "reads@")
        seen = {f.name: f for f in check.check_database.run(Settings(database_url=url))}
    finally:
        database.execute("DROP OWNED BY reads; DROP ROLE reads")
    assert seen["rights"].level is Level.FAIL


@pytest.mark.parametrize("storage", [pytest.param("timescale", marks=pytest.mark.timescale)])
@pytest.mark.parametrize(("change", "found"), [
    (UNIQUE_INDEX, "unique index once"),
    (TRIGGER, "trigger look"),
])  # fmt: skip
def test_what_turns_direct_compress_off_is_found(database, change, found):
    """A unique index or a trigger on reading is named; without one direct compress is on."""
    settings = Settings(database_url=database.url)
    assert {f.name: f for f in check.check_database.run(settings)}["direct compress"].level is Level.OK
    database.execute(change)
    assert found in {f.name: f for f in check.check_database.run(settings)}["direct compress"].found


@pytest.mark.parametrize("storage", [pytest.param("timescale", marks=pytest.mark.timescale)])
def test_chunks_fit_the_rate(database):
    """The busiest hour of the last day says how long a chunk may be; who can't shorten it is not bothered."""
    assert "no rollups" in chunks(database).found
    database.execute("INSERT INTO reading SELECT now() - interval '3 hours', 1, 1, 1, 1, 0")
    database.execute("CALL refresh_continuous_aggregate('reading_hourly', now() - interval '9 hours', now())")
    (rolled,) = database.one("SELECT format('%%I.%%I', materialization_hypertable_schema, "
                             "materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates "
                             "WHERE view_name = 'reading_hourly'")  # fmt: skip
    for readings, hours, advice in RATES:
        database.execute(f"UPDATE {rolled} SET n = {readings}")
        found = chunks(database, hours)
        assert (found.level, found.advice.partition(" and")[0]) == advice, found
        assert f"{readings * hours:,} readings" in found.found


def chunks(database, hours=24):
    """The finding about chunks, with this span."""
    settings = Settings(database_url=database.url, chunk_hours=hours)
    return next(f for f in check.check_database.run(settings) if f.name == "chunks")


@POSTGRES_ONLY
def test_an_open_transaction_is_only_named_when_it_is_old(database):
    """Somebody who began a transaction just now is no finding."""
    with psycopg.connect(database.url) as conn:
        conn.execute("SELECT 1 FROM ledger")
        assert "open transactions" not in {
            f.name for f in check.check_database.run(Settings(database_url=database.url))
        }


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make certificates")
@pytest.mark.parametrize(("days", "level"), [(10, Level.WARN), (300, Level.OK)])
def test_certificates_that_end_soon_are_a_warning(broker, tmp_path, days, level):
    """Over TLS the broker's certificate and ours are shown with their last day."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", str(days), "-subj", "/CN=ganzhi",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)  # fmt: skip
    url = broker(more=[f"certfile {cert}", f"keyfile {key}"]).replace("mqtt:", "mqtts:")
    seen = findings(mqtt_url=url, mqtt_ca=cert, mqtt_cert=cert, mqtt_key=key, database_url=NOWHERE)
    assert seen["broker"].level is Level.OK
    assert seen["broker's certificate"].level is seen["our certificate"].level is level


def test_a_port_without_tls_says_so(broker):
    """A port that speaks no TLS fails with what to look at, not with a traceback."""
    seen = findings(mqtt_url=broker().replace("mqtt:", "mqtts:"), database_url=NOWHERE)
    assert seen["broker"].out_of_reach
    assert "GANZHI_MQTT_CA" in seen["broker"].advice


@pytest.mark.parametrize(("seen", "code"), [
    ([ok("a", ""), warn("b", "", "")], 0),
    ([ok("a", ""), fail("b", "", "")], 1),
    ([fail("a", "", ""), fail("b", "", "", out_of_reach=True)], 3),
])  # fmt: skip
def test_exit_codes(seen, code):
    """Warnings pass, failures do not, and out of reach is told apart from both."""
    assert check.exit_code(seen) == code


def test_redact():
    """Every form of a secret is taken out of a text."""
    assert redact("a s/1 b s%2F1 c", ["s/1", "s%2F1"]) == "a *** b *** c"
