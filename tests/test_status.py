"""`ganzhi status` beside real workers: OK when it is, and else what is stuck and since when."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from psycopg.conninfo import make_conninfo
from rich.console import Console

from ingest import roles, scrape
from ingest.connection import connect
from ingest.settings import Settings
from ingest.status import Database, State, Worker, ask_database, screen, troubles
from tests.brokers import free_port
from tests.worker import environment

POSTGRES_ONLY = pytest.mark.parametrize("storage", ["postgres"])
TOPIC = "ganzhi/v1/370102/status/telemetry"
NOW = 1_763_712_000.0
WELL = {
    "ganzhi_messages_received_total": 10, "ganzhi_messages_committed_total": 7, "ganzhi_messages_in_flight": 1,
    "ganzhi_messages_duplicate_total": 1, "ganzhi_messages_rejected_total": 1, "ganzhi_broker_connected": 1,
    "ganzhi_database_up": 1, "ganzhi_last_commit_timestamp_seconds": NOW - 1,
}  # fmt: skip


def status(port, url):
    """Exit code and output of `ganzhi status`."""
    done = subprocess.run(
        [sys.executable, "-m", "ingest.cli", "status"], capture_output=True, text=True, check=False, timeout=60,
        env=environment(http_port=port, database_url=url) | {"COLUMNS": "200"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_ok(database, gateway, new_worker, settled):
    """A worker that commits is OK: one line that says so, its books, and the refusals of the last hour."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    gateway.publish(TOPIC, b'{"id": "a", "values": {"temperature": 21}}', b"no payload of ours")
    settled(worker)
    database.execute("DELETE FROM heard")  # as the observer does
    code, said = status(worker.port, database.url)
    assert code == 0, said
    assert "last heard never" not in said
    assert said.startswith("OK")
    assert "balanced" in said
    assert "1 malformed_payload" in said
    assert f"storage {database.storage}" in said


@POSTGRES_ONLY
def test_a_broker_that_is_down_is_named(database, mosquitto, new_worker):
    """Without its broker a worker is NOT OK, and the broker is what is wrong."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    mosquitto.stop()
    worker.wait(lambda m: m("broker_connected") == 0, "aware that its broker is away")
    code, said = status(worker.port, database.url)
    assert code == 1
    assert said.startswith("NOT OK")
    assert "broker not connected" in said


@POSTGRES_ONLY
def test_a_worker_that_hangs_is_named(database, new_worker):
    """A worker that listens and does not answer is NOT OK."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    os.kill(worker._process.pid, signal.SIGSTOP)
    try:
        code, said = status(worker.port, database.url)
    finally:
        os.kill(worker._process.pid, signal.SIGCONT)
    assert code == 1
    assert "worker 0: does not answer within 2 s" in said


@POSTGRES_ONLY
def test_no_worker_is_not_ok(database):
    """With the database alone it is NOT OK, and says where no worker answers."""
    port = min(free_port(), 65_000)
    code, said = status(port, database.url)
    assert code == 1
    looked = f"no worker answers at 127.0.0.1:{port}, nor up to port {port + 15}, last commit never"
    assert f"{looked}: start ganzhi ingest; one that runs has another port" in said


@POSTGRES_ONLY
def test_a_worker_that_writes_elsewhere_is_named(database, new_worker):
    """Beside another database than the worker's it is NOT OK and says what to set, also where that is not ours."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    code, said = status(worker.port, make_conninfo(database.url, dbname="postgres"))
    assert code == 1
    assert "worker 0: 写入另一个数据库 writes to another database than postgres at 127.0.0.1:" in said
    assert "set GANZHI_DATABASE_URL" in said
    assert "run ganzhi migrate" in said
    with connect(database.url) as conn:
        roles.make(conn, None, [])
    told = json.loads(worker.get("readyz")[1])["database"]
    for role, host in (("ganzhi_reader", "127.0.0.1"), ("ganzhi_observer", "localhost")):
        same = make_conninfo(database.url, user=role, host=host)
        assert ask_database(Settings(database_url=same)).identity == told
    assert len(told) == 16, "or nothing was compared"


@POSTGRES_ONLY
def test_pending_migrations_are_not_ok(empty_database):
    """A database that is not at this release is named with the command, and is not out of reach."""
    code, said = status(free_port(), empty_database.url)
    assert code == 1
    assert "run ganzhi migrate" in said


def test_a_database_that_nobody_named(tmp_path):
    """Without GANZHI_DATABASE_URL a command says so, with an example and where a demo has its database."""
    config = tmp_path / "config.toml"
    config.write_text('database_url = "postgresql://127.0.0.1:1/ganzhi"\n')
    done = subprocess.run(
        [sys.executable, "-m", "ingest.cli", "gaps", "list", "--config", config], capture_output=True, text=True,
        check=False, timeout=60, env=environment(data_dir="/srv/demo") | {"COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 3
    assert "GANZHI_DATABASE_URL is not set in the environment" in done.stderr
    assert "export GANZHI_DATABASE_URL='postgresql://user:password@host:5432/ganzhi'" in done.stderr
    assert "export GANZHI_DATABASE_URL='postgresql://ganzhi@/ganzhi?host=/srv/demo/socket'" in done.stderr


def test_nobody_answers():
    """Neither worker nor database: exit code 3, and no secret."""
    code, said = status(free_port(), "postgresql://me:hush@127.0.0.1:1/nothing")
    assert code == 3
    assert "Check GANZHI_DATABASE_URL" in said
    assert "hush" not in said


@pytest.mark.parametrize(("reached", "fault", "code"), [(False, "gone", 3), (True, "old", 1), (True, "", 0)])
def test_the_exit_code_says_whether_the_database_is_there(reached, fault, code):
    """3 while it is out of reach, whatever the workers say; 1 for all else that is wrong."""
    workers, database = [Worker(0, WELL, WELL, 2.0)], Database(fault, reached=reached)
    assert State(workers, database, NOW, troubles(workers, database, NOW, Settings())).exit_code == code


SILENT = """
INSERT INTO gateway (name, division, owner, contact) VALUES ('gw-1', 370202, '青岛水务', '0532-12345');
INSERT INTO coverage_gap (opened_at, kind, division, domain, gateway, expected, live, evidence, acknowledged_by,
                          acknowledged_at)
VALUES (now(), 'gateway_offline', 370202, NULL, 'gw-1', 900, 100, '{}', NULL, NULL),
       (now(), 'dark', 370203, 'municipal', NULL, 50, 0, '{}', '王工', now()),
       (now(), 'outage', 370100, 'energy', NULL, 90, 10, '{"maintenance": 1}', NULL, NULL),
       (now(), 'never_heard', 370100, 'other', NULL, 5000, 0, '{}', NULL, NULL);
"""


@POSTGRES_ONLY
def test_it_says_where_terminals_fell_silent_and_whom_to_call(database):
    """Gaps that wake somebody come first, the largest first, with whom to call; a worker's role sees none."""
    database.execute(SILENT)
    with connect(database.url) as conn:
        roles.make(conn, None, [])
    _, said = status(free_port(), database.url)
    first, second = said.index("网关离线 gateway_offline: 370202"), said.index("全部失联 dark: 370203")
    assert said.index("2 dark, outage or gateway_offline") < first
    assert said.index("1 已接手 acknowledged, 850 terminals silent") < first < second
    assert "ganzhi gaps list shows all, of other kinds too" in said
    assert "联系 call 青岛水务 0532-12345" in said
    assert "联系 call 王工" in said
    assert "outage:" not in said
    assert "never_heard" not in said
    _, said = status(free_port(), database.url.replace("postgres@", "ganzhi_writer@"))
    assert "log in as ganzhi_observer" in said


def test_the_screen_has_80_columns():
    """What it says of three busy workers fits into 80 columns, nothing cut and nothing wrapped."""
    busy = {name: value * 1e8 if name.endswith("_total") else value for name, value in WELL.items()}
    busy["ganzhi_messages_in_flight"] = 1e8
    workers = [Worker(number, busy, busy, 2.0) for number in range(3)]
    database = Database(
        "", True, "timescale", NOW, NOW, 10**10, 10**13, [("malformed_payload", 10**6, NOW - 3540)], []
    )
    console = Console(width=80, file=io.StringIO())
    console.print(screen(State(workers, database, NOW, [])))
    wide = Console(width=200, file=io.StringIO())
    wide.print(screen(State(workers, database, NOW, [])))
    shown = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert shown == [line.rstrip() for line in wide.file.getvalue().splitlines()]


def test_another_service_is_passed_over():
    """What answers at a port and is no worker of ours is no worker."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"up 1\n")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert scrape.workers(Settings(http_port=server.server_port)) == []
        finally:
            server.shutdown()
            thread.join()


def judged(now, before=None, **database):
    """Troubles of one worker."""
    worker = Worker(0, WELL | (before or {}), WELL | now, 2.0)
    return "\n".join(troubles([worker], Database(**database), NOW, Settings()))


@pytest.mark.parametrize(("now", "before", "said"), [
    ({}, {}, ""),
    ({"ganzhi_database_up": 0}, {}, "database down, last commit"),
    ({"ganzhi_oldest_unacknowledged_seconds": 61}, {}, "not acknowledged since"),
    ({"ganzhi_oldest_unacknowledged_seconds": 60}, {}, ""),
    ({"ganzhi_messages_committed_total": 6}, {}, "books of messages are off by 1"),
    ({"ganzhi_readings_committed_total": 5}, {}, "books of readings are off by -5"),
    ({"ganzhi_last_commit_timestamp_seconds": NOW - 300}, {"ganzhi_last_commit_timestamp_seconds": NOW - 300},
     "nothing is committed since"),
    ({"ganzhi_last_commit_timestamp_seconds": NOW - 300}, {"ganzhi_last_commit_timestamp_seconds": NOW - 300,
                                                          "ganzhi_messages_in_flight": 0}, ""),
])  # fmt: skip
def test_troubles(now, before, said):
    """Each way to be stuck is said, and what is well is not."""
    found = judged(now, before)
    assert said in found
    assert bool(said) == bool(found)


def test_since_when():
    """A trouble says when it began and how long ago that was."""
    assert "since 2025-11-21 15:57:00+08 (3 min ago)" in judged({"ganzhi_oldest_unacknowledged_seconds": 180})


def test_a_gap_among_the_workers():
    """A worker that is missing below one that answers is a trouble; the last one missing can't be known."""
    said = [
        *({"ganzhi_messages_in_flight": 0.0},),
        ConnectionRefusedError(),
        {"ganzhi_messages_in_flight": 0.0},
    ]
    assert [bool(scrape._answer(n, each).fault) for n, each in enumerate(said)] == [False, True, False]
