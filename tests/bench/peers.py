"""`python -m tests.bench.peers`: this service beside what else takes MQTT to PostgreSQL, on one machine.

Peers: Telegraf (TELEGRAF_BIN, or `telegraf` in PATH; without it its rows say so) and `tests.bench.plain`, with and
without late acknowledgement. All get the same messages from an empty Mosquitto of the same configuration and write to
one TimescaleDB server, each to a database and a table of its own making; GANZHI_DATABASE_URL names a database of a
server to use instead of the one that is started, whose fsync is off.

As in `tests.bench`: every terminal is known, the consumer is held (SIGSTOP), the broker is filled, the clock starts
when it goes on and stops when the last message is in the table. In as many more runs it is killed (SIGKILL) after half
of that time and started again, with the same client id; then readings are counted. Doubles are a matter of the moment,
so the worst of these runs is given. CPU and memory are those of the consumer's process tree.
"""

import argparse
import contextlib
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psycopg
from rich.console import Console
from rich.table import Table

from ingest import migrate
from ingest.connection import connect
from tests.bench import plain
from tests.bench.publish import packs, publish, readings
from tests.brokers import Mosquitto, free_port, mosquitto_config, mosquitto_version
from tests.postgres import Postgres, timescale_programs
from tests.worker import environment

TERMINALS = 100_000
ROUND_SECONDS = 61
"""Between a terminal's readings at least 1 s: terminal and time name one reading."""
COMPILED_SECONDS = 6
"""This service compiles its reader of large packs when the first has come; the others rest as long."""
LOOK_SECONDS = 0.05
SETTLED_SECONDS = 5
"""Without a new row: what has not come by then is lost."""
PATIENCE_SECONDS = 900

TELEGRAF = os.environ.get("TELEGRAF_BIN") or shutil.which("telegraf")
TELEGRAF_BATCH = 10_000
TELEGRAF_UNDELIVERED_READINGS = 100_000
"""Ten batches: its documentation asks for more than one, else only the flush interval writes. Batches of 20,000 of
300,000, or `tags_as_foreign_keys`, were no faster."""
TELEGRAF_CONFIG = """
[agent]
  metric_batch_size = {batch}
  metric_buffer_limit = {buffer}
  flush_interval = "1s"
  omit_hostname = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{port}"]
  topics = ["ganzhi/v1/+/+/telemetry"]
  topic_tag = ""
  qos = 1
  persistent_session = true
  client_id = "telegraf"
  max_undelivered_messages = {undelivered}
  data_format = "json"
  tag_keys = ["n", "u"]
  json_time_key = "t"
  json_time_format = "unix"
[[outputs.postgresql]]
  connection = "{url}"
  timestamp_column_type = "timestamp with time zone"
  create_templates = [
    '''CREATE TABLE {{{{ .table }}}} ({{{{ .columns }}}})''',
    '''SELECT create_hypertable({{{{ .table|quoteLiteral }}}}, 'time', chunk_time_interval => INTERVAL '7d')''',
  ]
"""


@dataclass(frozen=True)
class Place:
    """Where a consumer finds broker and database, and a folder for its files."""

    port: int
    url: str
    folder: Path


@dataclass(frozen=True)
class Peer:
    """A consumer: how to start it for packs of so many readings, and what it stores."""

    name: str
    command: Callable[[Place, int], list[str]]
    prepare: Callable[[Place], object]
    table: str
    time: str
    key: str
    """Columns that name a terminal's metric."""


def ours(_: Place, __: int) -> list[str]:
    return [sys.executable, "-m", "ingest.cli", "ingest"]


def migrated(place: Place) -> None:
    with connect(place.url) as conn:
        assert migrate.migrate(conn).storage == "timescale"


def telegraf(place: Place, size: int) -> list[str]:
    assert TELEGRAF
    config = place.folder / "telegraf.conf"
    config.write_text(TELEGRAF_CONFIG.format(port=place.port, url=place.url, batch=TELEGRAF_BATCH,
                                             buffer=2 * TELEGRAF_UNDELIVERED_READINGS,
                                             undelivered=TELEGRAF_UNDELIVERED_READINGS // size))  # fmt: skip
    return [TELEGRAF, "--config", str(config)]


def plainly(*options: str) -> Callable[[Place, int], list[str]]:
    def command(place: Place, _: int) -> list[str]:
        program = [sys.executable, "-m", "tests.bench.plain", *options]
        return [*program, "--port", str(place.port), "--database", place.url]

    return command


def with_extension(place: Place) -> None:
    with psycopg.connect(place.url) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")


def with_plain_table(place: Place) -> None:
    with_extension(place)
    with psycopg.connect(place.url) as conn:
        for statement in plain.TABLE:
            conn.execute(statement)


PEERS = [
    Peer("Ganzhi", ours, migrated, "reading", "observed_at", "terminal_id, metric_id"),
    Peer("Telegraf", telegraf, with_extension, "mqtt_consumer", "time", "n"),
    Peer("aiomqtt + executemany", plainly(), with_plain_table, "reading", "time", "name"),
    Peer("the same, late", plainly("--acknowledge-late"), with_plain_table, "reading", "time", "name"),
]


@dataclass(frozen=True)
class Traffic:
    """Messages of one run, with readings from `begin` and before `end` (Unix seconds), which is the marker's time."""

    messages: list[tuple[str, bytes]]
    count: int
    begin: float
    end: float

    @classmethod
    def of(cls, count: int, size: int, begin: float) -> Self:
        """Rounds of every terminal, one after the other in time."""
        terminals, values, times = readings(count, TERMINALS, begin)
        times = [t + n // TERMINALS * ROUND_SECONDS for n, t in enumerate(times)]
        end = begin + -(-count // TERMINALS) * ROUND_SECONDS
        return cls(list(packs(size, (terminals, values, times))), count, begin, end)

    @property
    def marker(self) -> tuple[str, bytes]:
        return marker(self.end)


def marker(at: float) -> tuple[str, bytes]:
    """A message of one reading; what came before it was stored before it, by every consumer here."""
    return next(packs(1, ([0], [20.0], [at])))


class Life:
    """A consumer with its broker, known terminals and an open connection to what it stores."""

    def __init__(self, peer: Peer, place: Place, size: int) -> None:
        self.peer, self.place, self._size = peer, place, size
        peer.prepare(place)
        self._conn = psycopg.connect(place.url, autocommit=True)
        self.start()

    def start(self) -> None:
        settings = environment(mqtt_url=f"mqtt://127.0.0.1:{self.place.port}", database_url=self.place.url,
                               http_port=free_port())  # fmt: skip
        with (self.place.folder / "consumer.log").open("ab") as log:
            self._process = subprocess.Popen(self.peer.command(self.place, self._size), env=settings,
                                             stdout=log, stderr=log)  # fmt: skip

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._conn.close()

    def cpu_seconds(self) -> float:
        """Of user and system, all processes of the tree."""
        fields = [
            Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in tree(self._process.pid)
        ]
        return sum(int(f[11]) + int(f[12]) for f in fields) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """The sum of the peaks of all processes of the tree."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in tree(self._process.pid)]
        return sum(int(re.search(r"VmHWM:\s+(\d+)", text)[1]) * 1024 for text in texts)

    def wait_subscribed(self, at: float) -> None:
        """Publish a reading of that time until the broker finds somebody to give it to."""
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(RuntimeError):  # no matching subscribers
                return publish("127.0.0.1", self.place.port, [marker(at)])
            self._check(deadline)
            time.sleep(0.2)

    def wait_stored(self, at: float) -> None:
        """Wait until a reading of that time, or a later one, is committed."""
        peer, deadline = self.peer, time.monotonic() + PATIENCE_SECONDS
        query = f"SELECT EXISTS (SELECT FROM {peer.table} WHERE {peer.time} >= to_timestamp({at}))"
        while not self._one(query)[0]:
            self._check(deadline)
            time.sleep(LOOK_SECONDS)

    def wait_settled(self, traffic: Traffic) -> None:
        """Wait until all of it is stored, or nothing more has come for a while.

        The marker alone says nothing of a consumer that lets senders take turns: what came before it may follow.
        """
        last, since = -1, time.monotonic()
        while (rows := self.count(traffic)) < traffic.count and time.monotonic() - since < SETTLED_SECONDS:
            if rows != last:
                last, since = rows, time.monotonic()
            time.sleep(LOOK_SECONDS)

    def count(self, traffic: Traffic) -> int:
        """Rows of the traffic."""
        peer = self.peer
        query = (f"SELECT count(*) FROM {peer.table} WHERE {peer.time} >= to_timestamp({traffic.begin})"
                 f" AND {peer.time} < to_timestamp({traffic.end})")  # fmt: skip
        return int(self._one(query)[0])

    def stored(self, traffic: Traffic) -> tuple[int, int]:
        """Rows of the traffic, and how many different readings they are."""
        peer = self.peer
        rows, different = self._one(
            f"SELECT coalesce(sum(n), 0), count(*) FROM (SELECT count(*) AS n FROM {peer.table} WHERE {peer.time} >="
            f" to_timestamp({traffic.begin}) AND {peer.time} < to_timestamp({traffic.end})"
            f" GROUP BY {peer.key}, {peer.time}) AS reading"
        )
        return int(rows), different

    def _one(self, query: str) -> tuple:
        try:
            return self._conn.execute(query).fetchone()
        except psycopg.errors.UndefinedTable:  # Telegraf makes its own with the first reading
            return (False, 0)

    def _check(self, deadline: float) -> None:
        if self._process.poll() is not None or time.monotonic() > deadline:
            log = (self.place.folder / "consumer.log").read_text(errors="replace")
            raise SystemExit(f"{self.peer.name} ended or does not go on; its log ends:\n{log[-2000:]}")


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    children = " ".join(p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return [pid, *(one for child in children for one in tree(int(child)))]


def run(life: Life, traffic: Traffic) -> tuple[float, float]:
    """Seconds and CPU seconds from a full broker to the last commit."""
    life.signal(signal.SIGSTOP)
    publish("127.0.0.1", life.place.port, [*traffic.messages, traffic.marker])
    cpu, begun = life.cpu_seconds(), time.perf_counter()
    life.signal(signal.SIGCONT)
    life.wait_stored(traffic.end)
    life.wait_settled(traffic)
    seconds, cpu = time.perf_counter() - begun, life.cpu_seconds() - cpu
    assert life.stored(traffic) == (traffic.count, traffic.count), (life.peer.name, life.stored(traffic))
    return seconds, cpu


def crash(life: Life, traffic: Traffic, seconds: float) -> tuple[int, int]:
    """Readings lost and doubled by SIGKILL so long after the start."""
    life.signal(signal.SIGSTOP)
    publish("127.0.0.1", life.place.port, traffic.messages)
    life.signal(signal.SIGCONT)
    time.sleep(seconds)
    life.kill()
    life.start()
    publish("127.0.0.1", life.place.port, [traffic.marker])  # an earlier one might be among what is lost
    life.wait_stored(traffic.end)
    life.wait_settled(traffic)
    rows, different = life.stored(traffic)
    return traffic.count - different, rows - different


def measure(peer: Peer, place: Place, size: int, known: Traffic, runs: list[Traffic]) -> list[str]:
    """Cells of the peer's row; in the second half of the runs it is killed."""
    life = Life(peer, place, size)
    try:
        life.wait_subscribed(known.begin - 1)
        publish("127.0.0.1", place.port, [*known.messages, known.marker])
        life.wait_stored(known.end)
        time.sleep(COMPILED_SECONDS)
        seconds, cpu = zip(*(run(life, traffic) for traffic in runs[: len(runs) // 2]), strict=True)
        count, peak = runs[0].count, life.peak_bytes()
        half = statistics.median(seconds) / 2
        crashes = [crash(life, traffic, half) for traffic in runs[len(runs) // 2 :]]
        lost, doubled = (max(column) for column in zip(*crashes, strict=True))
    finally:
        life.close()
    return [f"{count / statistics.median(seconds):,.0f}", f"{statistics.median(cpu) / count * 1e6:.1f}",
            f"{peak / 1e6:,.0f}", f"{lost:,}", f"{doubled:,}"]  # fmt: skip


@contextlib.contextmanager
def place(server_url: str, database: str) -> Iterator[Place]:
    """An empty broker and an empty database of that name."""
    with tempfile.TemporaryDirectory() as name, psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        conn.execute(f"CREATE DATABASE {database} TEMPLATE template0")
        port, folder = free_port(), Path(name)
        # Without persistence: a filled queue would be saved every second, which is the broker's bench.
        config = mosquitto_config(port, folder).replace("persistence true", "persistence false")
        try:
            with Mosquitto(config, port, folder):
                yield Place(port, urlsplit(server_url)._replace(path=f"/{database}").geturl(), folder)
        finally:
            conn.execute(f"DROP DATABASE {database} WITH (FORCE)")


def telegraf_version() -> str:
    """What the binary says it was built from; `--version` says "unknown" of one that was built by hand."""
    assert TELEGRAF
    found = re.search(rb"\tgithub.com/influxdata/telegraf\t(v[\d.]+)", Path(TELEGRAF).read_bytes())
    said = subprocess.run([TELEGRAF, "--version"], capture_output=True, text=True, check=True).stdout
    return found[1].decode() if found else said.split()[1]


def versions(server_url: str) -> str:
    with psycopg.connect(server_url) as conn:
        server, fsync, extension = conn.execute(
            "SELECT current_setting('server_version'), current_setting('fsync'), (SELECT default_version FROM"
            " pg_available_extensions WHERE name = 'timescaledb')"
        ).fetchone()
    return (f"{datetime.now(UTC):%Y-%m-%d}, PostgreSQL {server.split()[0]}, fsync {fsync}, TimescaleDB {extension},"
            f" Mosquitto {mosquitto_version()}, Python {platform.python_version()}, Telegraf"
            f" {telegraf_version() if TELEGRAF else 'not found'}, aiomqtt {version('aiomqtt')}, psycopg"
            f" {version('psycopg')}; {os.cpu_count()} cores shared by all, load {os.getloadavg()[0]:.1f}")  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scale", type=float, default=1.0, help="share of the messages")
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--only", default="", help="peers whose name contains this")
    arguments = options.parse_args()
    with contextlib.ExitStack() as stack:
        server_url = os.environ.get("GANZHI_DATABASE_URL")
        if not server_url:
            programs = timescale_programs() or sys.exit("no server here offers TimescaleDB")
            server_url = stack.enter_context(Postgres(programs, timescale=True)).url()
        table = Table(title=f"{versions(server_url)}; median of {arguments.runs}")
        for column in (
            "messages",
            "consumer",
            "readings/s",
            "CPU s / million readings",
            "peak MB",
            "lost",
            "doubled",
        ):
            table.add_column(column, justify="right" if len(table.columns) > 1 else "left")
        for size, messages in ((100, 5_000), (1, 50_000)):
            count = int(messages * arguments.scale) * size
            seconds = (-(-count // TERMINALS) + 1) * ROUND_SECONDS
            begin = int(time.time()) - 2 * arguments.runs * seconds  # whole: not every consumer rounds alike
            known = Traffic.of(TERMINALS, 100, begin - 2 * ROUND_SECONDS)
            runs = [Traffic.of(count, size, begin + n * seconds) for n in range(2 * arguments.runs)]
            for peer in PEERS:
                if arguments.only not in peer.name:
                    continue
                row = ["not found: set TELEGRAF_BIN"]
                if peer.name != "Telegraf" or TELEGRAF:
                    with place(server_url, f"peer_{PEERS.index(peer)}") as there:
                        row = measure(peer, there, size, known, runs)
                print(f"{size}, {peer.name}: {row}", file=sys.stderr, flush=True)
                table.add_row(f"{count // size:,} of {size}", peer.name, *row)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
