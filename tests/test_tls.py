"""TLS with real servers that ask for our certificate: broker, database, HTTP; renewed while it runs."""

import asyncio
import contextlib
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import replace
from http.client import HTTPSConnection

import psycopg
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from ingest import check, check_database, migrate
from ingest.cli import app
from ingest.connection import connect
from ingest.finding import Level
from ingest.mqtt.backoff import Patience
from ingest.mqtt.codec import CodecTransport
from ingest.mqtt.paho import PahoTransport
from ingest.publish import Outgoing, Publisher
from ingest.settings import Settings
from tests.brokers import Mosquitto, free_port, mosquitto_config, needs_mosquitto
from tests.certificates import Authority, end_of, key_of
from tests.postgres import Postgres, program_folders
from tests.worker import Worker, environment

TRANSPORTS = pytest.mark.parametrize("make", [CodecTransport, PahoTransport])
TOPIC = "ganzhi/v1/370102/gw-1/telemetry"
FILTER = "ganzhi/v1/+/+/telemetry"
QUICK = Patience(answer_seconds=5, first_retry_seconds=0.05, longest_retry_seconds=0.2, look_seconds=0.05)
PATIENCE_SECONDS = 30


@pytest.fixture
def authority(tmp_path):
    """Signs for server and client."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture(params=[pytest.param(None, marks=needs_mosquitto, id="mosquitto")])
def strict(authority, tmp_path):
    """A Mosquitto that lets in whoever shows the authority's certificate, under its common name."""
    folder, port = tmp_path / "broker", free_port()
    folder.mkdir()
    server = authority.sign("localhost", file="broker", hosts=("localhost",))
    config = mosquitto_config(port, folder) + (
        f"cafile {authority.file}\ncertfile {server}\nkeyfile {key_of(server)}\n"
        "require_certificate true\nuse_identity_as_username true\nlog_type all\n"
    )
    with Mosquitto(config, port, folder) as broker:
        yield broker


@pytest.fixture
def ours(authority, strict):
    """Settings of a client of the broker, by name."""
    cert = authority.sign("ganzhi")
    return {"mqtt_url": f"mqtts://localhost:{strict.port}", "mqtt_ca": authority.file, "mqtt_cert": cert,
            "mqtt_key": key_of(cert)}  # fmt: skip


async def until(condition, what="that"):
    """Wait for it; fails after a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not {what} in time"
        await asyncio.sleep(0.01)


def publish(settings, *payloads):
    """Publish over the same doors."""
    with Publisher(settings, name="gateway") as publisher:
        for payload in payloads:
            publisher.publish(Outgoing(TOPIC, payload))
        publisher.wait()


@TRANSPORTS
async def test_the_broker_sees_our_certificate(make, ours, authority):
    """With it we are let in and told when the broker's ends; without it we are told what to check."""
    async with make(Settings(**ours), [FILTER], "test-0", patience=QUICK) as transport:
        await until(lambda: transport.connected, "connected")
        assert transport.certificate_end == end_of(authority.file.parent / "broker.crt")
        await asyncio.to_thread(publish, Settings(**ours), b"1")
        assert [message.payload for message in await transport.receive(10)] == [b"1"]
    nobody = Settings(mqtt_url=ours["mqtt_url"], mqtt_ca=ours["mqtt_ca"])
    with capture_logs() as logs:
        async with make(nobody, [FILTER], "test-0", patience=replace(QUICK, answer_seconds=0.5)) as transport:
            await until(lambda: logs, "refused")
    assert logs[0]["event"] != "broker_connected"
    assert logs[0]["advice"]
    assert not transport.connected


@TRANSPORTS
async def test_a_renewed_certificate_is_taken_up_while_connected(make, ours, strict, authority):
    """The connection is made anew with it, in the same session; what was not acknowledged comes again.

    A key that does not belong to the certificate changes nothing but the log.
    """
    settings = Settings(**ours)
    with capture_logs() as logs:
        async with make(settings, [FILTER], "test-0", patience=QUICK) as transport:
            await until(lambda: transport.connected, "connected")
            await asyncio.to_thread(publish, settings, b"1")
            (before,) = await transport.receive(10)
            ours["mqtt_key"].write_bytes(authority.file.read_bytes())
            await until(lambda: "certificates_unusable" in [log["event"] for log in logs], "refused")
            assert transport.connected
            authority.sign("renewed", file="ganzhi")
            await until(lambda: "u'renewed'" in strict.log, "renewed")
            (again,) = await transport.receive(10)
            assert (again.payload, again.duplicate, again.connection) == (b"1", True, before.connection + 1)
            transport.acknowledge([before, again])
            await until(lambda: transport.connected, "connected again")
            assert await transport.round_trip(PATIENCE_SECONDS)
    events = [log["event"] for log in logs]
    assert events.count("broker_connected") == 2
    assert events.count("certificates_renewed") == 1
    assert "broker_lost" not in events
    assert transport.sessions_lost == 0


def test_every_command_that_connects_shows_it(ours, authority, tmp_path):
    """Simulate and replay get through to the broker; an unusable certificate is one line and exit code 2."""
    recording = tmp_path / "meter.csv"
    recording.write_text("time,value\n2026-11-01T00:00:00Z,1\n")
    one = ["--terminal", "imei:860000000000009", "--metric", "electric_energy", "--unit", "kWh"]
    good = environment(**ours, database_url="postgresql://127.0.0.1:1/nothing")
    for command in (["simulate", "--rate", "50", "--seconds", "0.2"], ["replay", str(recording), *one]):
        done = CliRunner().invoke(app, command, env=good)
        assert done.exit_code == 0, done.output
    bad = environment(**ours | {"mqtt_key": authority.file})
    for command in (["simulate", "--seconds", "0.2"], ["replay", str(recording), *one]):
        done = CliRunner().invoke(app, command, env=bad)
        assert (done.exit_code, "GANZHI_MQTT_CERT" in done.output) == (2, True), done


def test_a_publisher_reads_renewed_files_when_it_connects_again(ours, strict, authority):
    """A broker that was away finds it under the new name."""
    with Publisher(Settings(**ours), name="gateway") as publisher:
        authority.sign("renewed", file="ganzhi")
        strict.stop()
        strict.start()
        publisher.publish(Outgoing(TOPIC, b"1"))
        publisher.wait()
    assert "u'renewed'" in strict.log


@pytest.fixture
def server(authority, tmp_path):
    """A PostgreSQL that asks everybody but its superuser for a certificate of the authority; skips without OpenSSL."""
    for programs in program_folders():
        built = subprocess.run(
            [programs / "pg_config", "--configure"], capture_output=True, text=True, check=False
        )
        if "openssl" in built.stdout:
            break
    else:
        pytest.skip("no PostgreSQL server here was built with OpenSSL: install Debian's")
    cert = authority.sign("localhost", file="database", hosts=("localhost",))
    with Postgres(programs, timescale=False) as running:
        data = running._folder / "data"
        for source, name in (
            (authority.file, "root.crt"),
            (cert, "server.crt"),
            (key_of(cert), "server.key"),
        ):
            (data / name).write_bytes(source.read_bytes())
            (data / name).chmod(0o600)
            if (owner := data.stat()).st_uid:
                with contextlib.suppress(PermissionError):
                    os.chown(data / name, owner.st_uid, owner.st_gid)
        with (data / "postgresql.conf").open("a") as conf:
            conf.write("ssl = on\nssl_ca_file = 'root.crt'\n")
        (data / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 trust clientcert=verify-full\n"
        )
        running.stop()
        running.start()
        yield running


def test_a_worker_over_tls_on_every_side(server, ours, authority, strict, tmp_path):
    """It writes what came over mutual TLS through mutual TLS, is scraped by mutual TLS, and says when each ends."""
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("CREATE ROLE ganzhi LOGIN SUPERUSER")
    cert, web = authority.sign("ganzhi", file="database-client"), authority.sign("w", hosts=("127.0.0.1",))
    database = (f"postgresql://ganzhi@localhost:{server.port}/postgres?sslmode=verify-full&sslrootcert={authority.file}"
                f"&sslcert={cert}&sslkey={key_of(cert)}")  # fmt: skip
    with connect(database) as conn:
        migrate.migrate(conn)
        assert conn.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        connect(database.partition("&sslcert")[0])
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        connect(database.replace("localhost", "127.0.0.1"))
    settings = ours | {"database_url": database, "http_cert": web, "http_key": key_of(web),
                       "http_client_ca": authority.file}  # fmt: skip
    worker = Worker(tmp_path / "worker.log", **settings)
    worker.get = lambda path: get(worker.port, path, authority, web)
    with worker:
        worker.wait_ready()
        publish(Settings(**ours), b'{"id": "imei:860000000000009", "values": {"temperature": 21.5}}')
        metrics = worker.wait(lambda m: m("readings_committed_total") == 1, "done")
        ends = {
            which: metrics("certificate_expiry_timestamp_seconds", which)
            for which in ("ca", "client", "broker", "http")
        }
        folder = authority.file.parent
        assert ends == {"ca": end_of(authority.file), "client": end_of(ours["mqtt_cert"]),
                        "broker": end_of(folder / "broker.crt"), "http": end_of(web)}  # fmt: skip
        with pytest.raises((ssl.SSLError, ConnectionError, urllib.error.URLError)):
            get(worker.port, "healthz", authority, None)
        status = CliRunner().invoke(app, ["status"], env=environment(**settings, http_port=worker.port))
        assert "OK 正常" in status.output, status.output
        assert worker.terminate() == 0


def get(port, path, authority, cert):
    """Status and body, showing this certificate; 0 and nothing while nobody listens."""
    context = ssl.create_default_context(cafile=authority.file)
    if cert:
        context.load_cert_chain(cert, key_of(cert))
    connection = HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    try:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except ConnectionRefusedError:
        return 0, ""
    finally:
        connection.close()


LEVELS = [("sslmode=disable", Level.WARN), ("sslmode=require", Level.WARN), ("sslmode=verify-full", Level.OK)]


def test_check_looks_at_the_tls_of_a_database_elsewhere(server, authority, monkeypatch):
    """Without TLS, or with any certificate, it warns; in production it fails; on this machine nothing is said."""
    url = f"postgresql://postgres@localhost:{server.port}/postgres?sslrootcert={authority.file}&"
    name = "database's TLS"
    assert name not in {f.name for f in check_database.run(Settings(database_url=url + "sslmode=disable"))}
    monkeypatch.setattr(check_database, "is_loopback", lambda _: False)
    for mode, level in LEVELS:
        for production in (False, True):
            settings = Settings(database_url=url + mode, production=production)
            found = {f.name: f.level for f in check_database.run(settings)}
            assert found[name] is (Level.FAIL if production and level is Level.WARN else level)


@pytest.mark.parametrize(("days", "level"), [(10, Level.WARN), (40, Level.OK), (-0.5, Level.FAIL)])
def test_certificates_that_end_are_named_by_check(authority, days, level):
    """Every file that a setting or the database's URL names is looked at."""
    cert = authority.sign("x", days=days)
    files = {"mqtt_ca": cert, "mqtt_cert": cert, "mqtt_key": key_of(cert), "http_cert": cert, "http_key": key_of(cert),
             "http_client_ca": cert}  # fmt: skip
    url = f"postgresql://127.0.0.1:1/x?sslrootcert={cert}&sslcert={cert}"
    settings = Settings(mqtt_url="mqtts://127.0.0.1:1", database_url=url, **files)
    found = {f.name: f.level for f in check.check_doors.run(settings)}
    names = ["broker's CA", "our certificate", "HTTP certificate", "HTTP clients' CA", "database's CA",
             "database certificate"]  # fmt: skip
    assert found == dict.fromkeys(names, level)


CLEAR = [
    ({"mqtt_url": "mqtt://u:p@10.0.0.1"}, "broker's TLS", "password and readings"),
    ({"mqtt_url": "mqtt://10.0.0.1"}, "broker's TLS", "readings"),
    ({"http_host": "0.0.0.0", "http_token": "t" * 16}, "HTTP", "/metrics and its token"),
    ({"http_host": "0.0.0.0", "http_token": "t" * 16, "push_port": 1, "push_token": "iotda=tttttttt"}, "HTTP",
     "pushes and theirs"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "name", "says"), CLEAR)
def test_what_crosses_a_network_in_clear_is_named_by_check(settings, name, says):
    """A warning, and in production a failure."""
    for production, level in ((False, Level.WARN), (True, Level.FAIL)):
        found = {f.name: f for f in check.check_doors.run(Settings(**settings, production=production))}
        assert found[name].level is level
        assert says in found[name].found


def test_nothing_in_clear_is_nothing_to_say():
    """On this machine, over TLS, or where a private network is said to be."""
    quiet = {"mqtt_url": "mqtts://10.0.0.1", "http_host": "10.0.0.2", "http_private_network": True}
    assert [*check.check_doors.run(Settings(**quiet))] == [*check.check_doors.run(Settings())] == []
