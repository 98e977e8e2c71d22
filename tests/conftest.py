"""Servers for tests: brokers and databases that are real, one of each storage; what they are is in the header.

The PostgreSQL servers live as long as the test run, every test has a new, migrated database on one.
Mosquitto is new for each test: it starts in 50 ms, and sessions that a test leaves would fill up in the next.
"""

import itertools
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from ingest import migrate
from ingest.connection import connect
from tests.brokers import Mosquitto, free_port, mosquitto_version, needs_mosquitto, says
from tests.gateway import Gateway
from tests.postgres import Postgres, program_folders, timescale_programs
from tests.worker import Metrics, Worker

STORAGES = [pytest.param("timescale", marks=pytest.mark.timescale), pytest.param("postgres")]


class Database(NamedTuple):
    """A migrated database, empty but for what migrations seed."""

    url: str
    storage: str
    server: Postgres

    def rows(self, query: str, *arguments: object) -> list[tuple[object, ...]]:
        """What a query answers."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            return conn.execute(query, arguments).fetchall()

    def one(self, query: str, *arguments: object) -> tuple[object, ...]:
        """The only row that a query answers."""
        (row,) = self.rows(query, *arguments)
        return row

    def migrate(self) -> None:
        """Bring it to this version."""
        with connect(self.url) as conn:
            assert migrate.migrate(conn).storage == self.storage

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody can write readings or events meanwhile: batches wait, and what comes gathers behind them."""
        with psycopg.connect(self.url) as conn:
            conn.execute("LOCK TABLE reading, event IN ACCESS EXCLUSIVE MODE")
            yield

    def execute(self, statement: str) -> None:
        """Run a statement that answers nothing."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(statement)


def pytest_report_header() -> list[str]:
    """The servers that tests run against."""
    plain = says(str(_plain_programs() / "postgres"), "--version", r"(\d[\d.]*)")
    timescale = timescale_programs()
    server = says(str(timescale / "postgres"), "--version", r"(\d[\d.]*)") if timescale else ""
    offered = (
        f"TimescaleDB {_timescale_version(timescale)} on PostgreSQL {server}"
        if timescale
        else "no TimescaleDB"
    )
    return [f"servers: Mosquitto {mosquitto_version()}; PostgreSQL {plain}; {offered}"]


def _timescale_version(programs: Path) -> str:
    share = subprocess.run([programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=True)
    control = (Path(share.stdout.strip()) / "extension" / "timescaledb.control").read_text()
    found = re.search(r"default_version = '([^']+)'", control)
    return found[1] if found else "of unknown version"


def _plain_programs() -> Path:
    """The server without the extension: the wheel's, which stands last."""
    return program_folders()[-1]


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Postgres]]:
    """The server of a storage, started when first asked for; skips where none is on this machine."""
    with ExitStack() as stack:
        running: dict[str, Postgres] = {}

        def server(storage: str) -> Postgres:
            if storage not in running:
                programs = timescale_programs() if storage == "timescale" else _plain_programs()
                if programs is None:
                    pytest.skip("no PostgreSQL server here offers TimescaleDB: its half of the tests is left out; "
                                "install it, or name a server's folder in GANZHI_TEST_PG_BIN")  # fmt: skip
                running[storage] = stack.enter_context(Postgres(programs, timescale=storage == "timescale"))
            return running[storage]

        yield server


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest) -> str:
    """Each storage in turn."""
    return str(request.param)


@pytest.fixture
def empty_database(
    storage: str, servers: Callable[[str], Postgres], request: pytest.FixtureRequest
) -> Iterator[Database]:
    """A new database on each storage, not migrated unless the test asks for `database` too."""
    server = servers(storage)
    template = _migrated(server, storage) if "database" in request.fixturenames else "template0"
    with server.database(template) as url:
        yield Database(url, storage, server)


@pytest.fixture
def database(empty_database: Database) -> Database:
    """A new, migrated database on each storage."""
    return empty_database


@cache
def _migrated(server: Postgres, storage: str) -> str:
    """A migrated database on the server to make others from: a copy takes half the time."""
    name = f"migrated_{storage}"
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    Database(server.url(name), storage, server).migrate()
    with psycopg.connect(
        server.url(), autocommit=True
    ) as conn:  # TimescaleDB's scheduler connects to any other
        conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    return name


@pytest.fixture(params=[pytest.param(None, marks=needs_mosquitto, id="mosquitto")])
def mosquitto(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto]:
    """A Mosquitto of its own for the test; skips where there is none."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    with Mosquitto(None, free_port(), folder) as broker:
        yield broker


@pytest.fixture
def gateway(mosquitto: Mosquitto) -> Iterator[Gateway]:
    """A publisher on the test's broker."""
    with Gateway(mosquitto.port) as publisher:
        yield publisher


@pytest.fixture
def new_worker(
    empty_database: Database, mosquitto: Mosquitto, tmp_path: Path
) -> Iterator[Callable[..., Worker]]:
    """Makes workers on the test's broker and database, not yet started; all are gone at the end."""
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def make(command: str = "ingest", **settings: object) -> Worker:
            usual = {"mqtt_url": f"mqtt://127.0.0.1:{mosquitto.port}", "database_url": empty_database.url}
            worker = Worker(tmp_path / f"{command}-{next(numbers)}.log", command, **(usual | settings))
            stack.callback(worker.__exit__)
            return worker

        yield make


@pytest.fixture
def settled(gateway: Gateway, empty_database: Database) -> Callable[[Worker], Metrics]:
    """Waits until the worker has dealt with everything that was published, and gives its metrics.

    A broker delivers in order and a worker commits in order: when the event that is published here is
    stored, all before it is done with. It is one more message, and no reading.
    """
    numbers = itertools.count(1)

    def wait(worker: Worker) -> Metrics:
        mark = f"mark {next(numbers)}"
        gateway.publish(
            "ganzhi/v1/370000/settled/telemetry", b'[{"n": "settled:mark", "vs": "%s"}]' % mark.encode()
        )
        seen = "SELECT 1 FROM event WHERE body ->> 'vs' = %s"
        worker.wait(lambda _: empty_database.rows(seen, mark), "done with what was published")
        return worker.wait(lambda m: m("messages_in_flight") == 0, "done with what was published")

    return wait
