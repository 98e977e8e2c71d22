"""What benchmarks of whole processes stand on: a server, a broker, workers that can be held, and a clock.

Every case runs in one order: terminals are known, the workers are held (SIGSTOP), the broker is filled, the clock
starts when they go on, and stops when all is committed. CPU is the workers' processes.
"""

import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from ingest import migrate
from ingest.connection import connect
from tests.brokers import Mosquitto, free_port, mosquitto_config
from tests.postgres import Postgres, program_folders, timescale_programs
from tests.worker import Metrics, Worker

LOOK_SECONDS = 0.25
"""A scrape costs the worker 3 ms."""
PATIENCE_SECONDS = 1_800
COMPILED_SECONDS = 6
"""The reader of large packs is compiled when the first has come, once a process."""


class Stand(NamedTuple):
    """A migrated database, a broker that keeps nothing on disk, and what they are."""

    url: str
    port: int
    versions: str

    @property
    def settings(self) -> dict[str, object]:
        """Of a worker that uses both."""
        return {"database_url": self.url, "mqtt_url": f"mqtt://127.0.0.1:{self.port}"}


class Held(Worker):
    """A worker that can be held, and whose processor time is read."""

    def hold(self) -> None:
        """Let it do nothing until `go`."""
        self._signal(signal.SIGSTOP)

    def go(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def cpu_seconds(self) -> float:
        """Of all its threads, in user code and in the kernel."""
        assert self._process
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def stand(folder: Path, *, timestamps: bool = False) -> Iterator[Stand]:
    """On the best server here, TimescaleDB where one offers it; `timestamps`: it remembers when rows were committed."""
    with server_here() as server:
        if timestamps:
            with psycopg.connect(server.url(), autocommit=True) as conn:
                conn.execute("ALTER SYSTEM SET track_commit_timestamp = on")
            server.stop()
            server.start()
        port = free_port()
        # Without persistence: a filled queue would be saved every second, which is the broker's bench, not ours.
        config = mosquitto_config(port, folder).replace("persistence true", "persistence false")
        with server.database() as url, Mosquitto(config, port, folder):
            with connect(url, patient=True) as conn:
                migrate.migrate(conn)
            yield Stand(url, port, machine(server.version))


def server_here() -> Postgres:
    """The best server here: with TimescaleDB where one offers it."""
    programs = timescale_programs()
    return Postgres(programs or program_folders()[-1], timescale=bool(programs))


def machine(server: str) -> str:
    """Versions, processors and load, as a line."""
    return (f"{server}, Python {platform.python_version()}, {os.cpu_count()} processors shared by all, "
            f"load {os.getloadavg()[0]:.1f}")  # fmt: skip


def accounted(metrics: Metrics) -> float:
    """Readings that a worker is done with."""
    return sum(metrics(f"readings_{what}_total") for what in ("committed", "duplicate", "rejected"))


def until(
    workers: Sequence[Worker], done: Callable[[list[Metrics]], object], seconds: float = LOOK_SECONDS
) -> None:
    """Look at all of them until `done`; fails when one ends, or when it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (all(scrapes := [worker.metrics() for worker in workers]) and done(scrapes)):
        assert all(worker.alive for worker in workers), "a worker ended"
        assert time.monotonic() < deadline, "it is not getting there"
        time.sleep(seconds)


def wait_accounted(workers: Sequence[Worker], readings: float) -> None:
    """Until all of them together are done with so many readings since they started."""
    until(workers, lambda scrapes: sum(map(accounted, scrapes)) >= readings)
