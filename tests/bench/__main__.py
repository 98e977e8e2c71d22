"""`make bench`: what one worker commits, beside the raw COPY of the same rows into the same table.

Every case runs in this order: terminals are known, the worker is held (SIGSTOP), the broker is filled,
the clock starts when the worker goes on. CPU is the worker's process. Ratios are of one run.
"""

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psycopg
from rich.console import Console
from rich.table import Table

from ingest import copy, migrate, store
from ingest.connection import connect
from ingest.settings import Settings
from tests.bench.publish import packs, publish, readings
from tests.bench.stand import COMPILED_SECONDS, Held, wait_accounted
from tests.brokers import Mosquitto, free_port, mosquitto_config
from tests.postgres import Postgres, program_folders, timescale_programs

TERMINALS = 100_000
BATCH = Settings.model_fields["batch_readings"].default
COLUMNS = ("case", "messages/s", "readings/s", "CPU us/message", "CPU us/reading", "of COPY ceiling")


def ceiling(url: str, count: int) -> float:
    """Rows a second of binary COPY alone, made beforehand, in transactions of a batch."""
    terminals, values, times = (np.array(column) for column in readings(count, TERMINALS, time.time() - 120))
    rows = copy.reading_rows(count)
    rows["observed_at"] = np.rint((times - copy.POSTGRES_EPOCH) * 1e6)
    rows["terminal_id"], rows["metric_id"], rows["cell_id"], rows["value"] = terminals + 1, 1, 1, values
    batches = [copy.copy_bytes(rows[begin : begin + BATCH]) for begin in range(0, count, BATCH)]
    with connect(url) as conn:
        if migrate.storage_of(conn) == "timescale":
            conn.execute("SET timescaledb.enable_direct_compress_copy = on")
        begun = time.perf_counter()
        for data in batches:
            with conn.transaction(), conn.cursor().copy(store.SQL["copy_reading"]) as stream:
                stream.write(data)
        seconds = time.perf_counter() - begun
        conn.execute("TRUNCATE reading")
    return count / seconds


class Case(NamedTuple):
    """What is sent to a worker, and how it runs."""

    name: str
    version: str
    size: int
    messages: int


CASES = (
    Case("MQTT 5, packs of 100", "5", 100, 20_000),
    Case("MQTT 5, one reading", "5", 1, 300_000),
    Case("MQTT 3.1.1, packs of 100", "3.1.1", 100, 5_000),
    Case("MQTT 3.1.1, one reading", "3.1.1", 1, 30_000),
)
AS_IT_COMES = Case("aiomqtt as it comes, one reading", "3.1.1", 1, 100_000)
OURS = "MQTT 5, one reading"


def committed(port: int, url: str, case: Case) -> tuple[float, float]:
    """Messages a second committed, and microseconds of the worker's CPU a message."""
    settings = {"mqtt_url": f"mqtt://127.0.0.1:{port}", "database_url": url, "mqtt_version": case.version}
    with tempfile.TemporaryDirectory() as folder, Held(Path(folder) / "worker.log", **settings) as worker:
        cost = drained(worker, port, case)
        worker.terminate()
    before = TERMINALS + case.messages * case.size
    with psycopg.connect(url) as conn:
        stored = conn.execute("SELECT count(*) FROM reading").fetchone()
        assert stored == (before,), stored
        conn.execute("TRUNCATE reading, ledger, heard")
    return cost


def drained(worker: Held, port: int, case: Case) -> tuple[float, float]:
    """As `committed`, of a worker that was started just now."""
    worker.wait_ready()
    publish("127.0.0.1", port, list(packs(100, readings(TERMINALS, TERMINALS, time.time() - 3600))))
    wait_accounted([worker], TERMINALS)
    time.sleep(COMPILED_SECONDS)
    worker.hold()
    count = case.messages * case.size
    publish("127.0.0.1", port, list(packs(case.size, readings(count, TERMINALS, time.time() - 120))))
    cpu, begun = worker.cpu_seconds(), time.time()
    worker.go()
    wait_accounted([worker], TERMINALS + count)
    seconds = worker.metrics()("last_commit_timestamp_seconds") - begun
    cpu = worker.cpu_seconds() - cpu
    return case.messages / seconds, cpu / case.messages * 1e6


def as_it_comes(port: int, messages: int) -> tuple[float, float]:
    """Messages a second that aiomqtt receives in a process of its own, and microseconds of its CPU a message."""
    columns = readings(messages, TERMINALS, time.time() - 120)
    made = [(f"bench/{topic}", payload) for topic, payload in packs(1, columns)]
    command = [sys.executable, "-m", "tests.bench.received", "--port", str(port), "--count", str(messages)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "subscribed\n"
        process.send_signal(signal.SIGSTOP)
        try:
            publish("127.0.0.1", port, made)
        finally:
            process.send_signal(signal.SIGCONT)
        begun = time.perf_counter()
        cpu = float(process.stdout.readline())
        return messages / (time.perf_counter() - begun), cpu / messages * 1e6


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--scale", type=float, default=1.0, help="share of the messages")
    options.add_argument("--only", help="cases whose name contains this")
    arguments = options.parse_args()
    with ExitStack() as stack:
        url = os.environ.get("GANZHI_DATABASE_URL")
        if not url:
            programs = timescale_programs()
            server = stack.enter_context(Postgres(programs or program_folders()[0], timescale=bool(programs)))
            url = stack.enter_context(server.database())
        with connect(url) as conn:
            storage = migrate.migrate(conn).storage
            server_version = "PostgreSQL {}.{}".format(*divmod(conn.info.server_version, 10_000))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        # Without persistence: a filled queue would be saved every second, which is the broker's bench, not ours.
        config = mosquitto_config(port, folder).replace("persistence true", "persistence false")
        broker = stack.enter_context(Mosquitto(config, port, folder))
        table = Table(title=f"{storage} on {server_version}, Python {platform.python_version()}, "
                            f"{os.cpu_count()} cores shared by all; median of {arguments.runs}")  # fmt: skip
        for column in COLUMNS:
            table.add_column(column, justify="right" if table.columns else "left")
        rates = {}
        for whole in (*CASES, AS_IT_COMES):
            case = whole._replace(messages=int(whole.messages * arguments.scale))
            if not arguments.only or arguments.only in case.name:
                rates[case.name], row = measured(broker.port, url, case, arguments.runs)
                table.add_row(case.name, *row)
        Console(width=150).print(table)
    if {OURS, AS_IT_COMES.name} <= rates.keys():
        ratio = rates[OURS] / rates[AS_IT_COMES.name]
        print(f"{OURS}, committed: {ratio:.1f} times what {AS_IT_COMES.name} receives")


def measured(port: int, url: str, case: Case, runs: int) -> tuple[float, list[str]]:
    """Messages a second, and the rest of the table's row: medians of so many runs."""
    costs, ratios, ceilings = [], [], []
    for _ in range(runs):
        if case.name == AS_IT_COMES.name:
            costs.append(as_it_comes(port, case.messages))
        else:
            ceilings.append(ceiling(url, 2_000_000))
            costs.append(committed(port, url, case))
            ratios.append(costs[-1][0] * case.size / ceilings[-1])
    rate, cpu = (statistics.median(column) for column in zip(*costs, strict=True))
    beside = (
        f"{statistics.median(ratios):.2f} of {statistics.median(ceilings):,.0f}"
        if ratios
        else "stores nothing"
    )
    figures = [f"{rate:,.0f}", f"{rate * case.size:,.0f}", f"{cpu:.1f}", f"{cpu / case.size:.2f}", beside]
    return rate, figures


if __name__ == "__main__":
    main()
