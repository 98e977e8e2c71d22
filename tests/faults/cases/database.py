"""The database: cut at COMMIT, restarted, away, silent, full, out of connections, and quarrelling."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from ingest import migrate
from ingest.connection import connect
from ingest.probe import Probe
from ingest.settings import Settings
from tests.faults.case import case
from tests.faults.cases.worker import COMMIT_DONE, COMMIT_SENT, wait_known
from tests.faults.obligations import Message
from tests.faults.stand import Stand
from tests.worker import Worker

DISK_BYTES = 600_000_000
"""Of a small disk: an empty cluster takes 100 MB, and its log of writes grows by 16 MB at a time."""
TURNS = """
CREATE FUNCTION quarrel() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE 'could not serialize access' USING ERRCODE = '40001'; END $$;
CREATE TRIGGER quarrel BEFORE UPDATE ON ledger_client FOR EACH ROW EXECUTE FUNCTION quarrel();
"""


def _loaded(stand: Stand, messages_per_second: float = 500, **settings: object) -> Worker:
    """A worker at work."""
    worker = stand.worker(**settings)
    stand.publish(messages_per_second)
    stand.warm_up()
    return worker


def _away(worker: Worker) -> None:
    worker.wait(lambda m: m("database_up") == 0, "aware that its database is away")


@case(30, size=10)
def commit_cut_before(stand: Stand, size: int) -> None:
    """The connection breaks when COMMIT is sent and has not reached the database: it has to be written again."""
    _cut_at(stand, size, COMMIT_SENT, "client")


@case(30, size=10, short=1)
def commit_reply_lost(stand: Stand, size: int) -> None:
    """The database commits and the connection breaks before its answer: it must not be written again."""
    wait_known(_cut_at(stand, size, COMMIT_DONE, "server"))


def _cut_at(stand: Stand, size: int, moment: bytes, sender: str) -> Worker:
    worker = _loaded(stand)
    for _ in range(size):
        trap = stand.to_database.trap(moment, sender)
        assert trap.caught.wait(30), "the worker does not commit"
        stand.to_database.cut()
        stand.healed()
    return worker


@case(60, size=5, short=1)
def database_restarted(stand: Stand, size: int) -> None:
    """PostgreSQL stops immediately, as in a crash, and starts again, under load."""
    worker = _loaded(stand)
    for _ in range(size):
        stand.server.stop("immediate")
        _away(worker)
        stand.server.start()
        stand.healed()


@case(660, size=600)
def database_away(stand: Stand, size: int) -> None:
    """PostgreSQL is down for so many seconds, while gateways publish 100 messages a second."""
    worker = _loaded(stand, 100)
    stand.server.stop()
    _away(worker)
    time.sleep(size)
    stand.server.start()
    stand.healed()


def _hang(stand: Stand, seconds: float) -> Worker:
    """The server is stopped for so long when COMMIT is on its way to it."""
    worker = _loaded(stand, 100)
    trap = stand.to_database.trap(COMMIT_SENT, "client")
    assert trap.caught.wait(30), "the worker does not commit"
    with _stopped(stand):
        trap.release()
        _away(worker)
        time.sleep(seconds)
    stand.healed()
    return worker


@case(130, size=90)
def database_hangs(stand: Stand, size: int) -> None:
    """PostgreSQL's processes stop (SIGSTOP) for so many seconds when COMMIT is on its way to them, then go on."""
    _hang(stand, size)


@case(260, size=180)
def database_frozen(stand: Stand, size: int) -> None:
    """As database-hangs, for longer than a transaction may last: the worker breaks off, and finds it again."""
    worker = _hang(stand, size)
    assert any(line["event"] == "database_silent" for line in worker.log), "the worker did not break off"


@case(100)
def database_silent(stand: Stand, size: int) -> None:
    """The network swallows COMMIT and all else until the server gives up the transaction, after 60 s."""
    del size
    worker = _loaded(stand, 100)
    trap = stand.to_database.trap(COMMIT_SENT, "client")
    assert trap.caught.wait(30), "the worker does not commit"
    stand.to_database.hold()
    _away(worker)
    backend = "SELECT FROM pg_stat_activity WHERE application_name = 'ganzhi'"
    stand.wait(lambda: not stand.rows(backend), "rid of the transaction", 90)
    trap.release()
    stand.to_database.resume()
    stand.healed()
    assert _says(worker, "idle-in-transaction"), "the worker was not told that its transaction was given up"


@case(60, size=30)
def table_locked(stand: Stand, size: int) -> None:
    """Somebody locks the readings for so many seconds, longer than a worker waits for a lock (20 s)."""
    worker = _loaded(stand, 100)
    with psycopg.connect(stand.url) as conn:
        conn.execute("LOCK TABLE reading IN ACCESS EXCLUSIVE MODE")
        time.sleep(size)
    _told(worker, "55P03")
    stand.healed()


@contextmanager
def _stopped(stand: Stand) -> Iterator[None]:
    pids = stand.server.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@case(30, size=5)
def no_connection_left(stand: Stand, size: int) -> None:
    """Others take every connection (`max_connections`) just when the worker needs a new one, for so many seconds."""
    worker = _loaded(stand)
    with ExitStack() as taken:
        stand.to_database.stop()
        while True:
            try:
                taken.enter_context(psycopg.connect(stand.server.url()))
            except psycopg.OperationalError:
                break
        stand.to_database.start()
        _told(worker, "too many clients")
        time.sleep(size)
    stand.healed()


def _told(worker: Worker, words: str) -> None:
    """Wait until the worker says so of the database in its log."""
    worker.wait(lambda _: _says(worker, words), f"aware of {words}")


def _says(worker: Worker, words: str) -> bool:
    lines = [line for line in worker.log if line["event"] == "database_unavailable"]
    return any(words in str(line["reason"]) for line in lines)


@case(30, size=5, short=1)
def deadlock(stand: Stand, size: int) -> None:
    """Somebody locks in the opposite order, so that the database ends the worker's transaction."""
    worker = _loaded(stand)
    for _ in range(size):
        with psycopg.connect(stand.url) as conn:
            conn.execute(
                "SET deadlock_timeout = '1h'"
            )  # the worker is to be the one who notices, and gives way
            conn.execute("SELECT FROM ledger_client FOR UPDATE")
            time.sleep(0.2)
            conn.execute("LOCK TABLE ledger IN SHARE MODE")
    _told(worker, "40P01")
    stand.healed()


@case(30, size=5)
def serialization_failures(stand: Stand, size: int) -> None:
    """Every transaction fails with SQLSTATE 40001 for so many seconds."""
    worker = _loaded(stand)
    stand.execute(TURNS)
    _told(worker, "40001")
    time.sleep(size)
    stand.execute("DROP TRIGGER quarrel ON ledger_client")
    stand.healed()


@contextmanager
def _small_disk() -> Iterator[Path]:
    """A file system of its own in memory."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", folder]
        subprocess.run(mount, check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@case(60, size=10, root=True, server_folder=_small_disk)
def disk_full(stand: Stand, size: int) -> None:
    """The database's disk is full for so many seconds, then emptied, and a server that gave up is started."""
    worker = _loaded(stand, 2_000)
    ballast = stand.server_folder / "ballast"
    _fill(ballast)
    _away(worker)
    time.sleep(size)
    ballast.unlink()
    if not stand.server.pids():
        stand.server.start()
    stand.healed()
    assert _says(worker, "53100") or _says(worker, "connection"), "the worker never met the full disk"


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65_536))
        except OSError:
            return


@case(60, size=20_000)
def poison(stand: Stand, size: int) -> None:
    """A message that decodes and that the database refuses, amid a batch of so many readings: it alone is rejected."""
    worker = _loaded(stand, 100)
    stand.execute(
        "ALTER TABLE reading ADD CHECK (value >= 0)"
    )  # no value that decodes is refused without one
    topic = "ganzhi/v1/370100/faults-0/telemetry"
    record = b'[{"n":"faults-0-1:number","t":%d,"v":-1}]' % stand.ledger.begin
    with psycopg.connect(stand.url) as conn:
        conn.execute("LOCK TABLE reading IN ACCESS EXCLUSIVE MODE")
        for number in range(size):
            if number == size // 2:
                stand.fleet.extra.append(Message(topic, record, reason="unsupported", refused=1))
            stand.fleet.extra.append(stand.ledger.message(0, 1))
        worker.wait(lambda m: m("messages_in_flight") >= size, "given everything")
    stand.healed()


@case(60, size=5)
def migrated_during_ingest(stand: Stand, size: int) -> None:
    """`ganzhi migrate` runs again so many times while readings come, the last time with maintenance."""
    _loaded(stand)
    for number in range(size):
        last = ["--maintain"] if number == size - 1 else []
        stand.command("migrate", *last)
    stand.healed()


@case(40, size=3, migrated=False)
def migrated_while_a_worker_waits(stand: Stand, size: int) -> None:
    """A worker that finds an older schema waits, and stores what came meanwhile once the schema is its own."""
    with connect(stand.url) as conn:
        conn.execute(migrate.SQL["version_table"])
        storage = migrate._pick_storage(conn, set(), print)
        for step in migrate._steps({}, storage)[:-size]:
            migrate._apply(conn, step, storage)
    settings = Settings(mqtt_url=f"mqtt://127.0.0.1:{stand.broker.port}")
    with Probe(
        settings, "ganzhi-0", expiry_seconds=3600, keep=True
    ) as older:  # a worker before it, and its session
        older.subscribe("ganzhi/v1/+/+/telemetry")
    stand.publish()
    _told(stand.worker(wait=False), "ganzhi migrate")
    stand.command("migrate")
    stand.healed()
    stand.warm_up()
