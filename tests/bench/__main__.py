"""`make bench`: what one worker commits, beside the raw COPY of the same rows into the same table.

Every case runs in this order: terminals are known, the worker is held (SIGSTOP), the broker is filled,
the clock starts when the worker goes on. CPU is the worker's process. Ratios are of one run.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psycopg
from rich.console import Console
from rich.table import Table

from ingest import copy, migrate, store
from tests.bench.publish import packs, publish, readings
from tests.bench.stand import COMPILED_SECONDS, Held, wait_accounted
from tests.brokers import Mosquitto, free_port, mosquitto_config
from tests.postgres import Postgres, program_folders, timescale_programs

TERMINALS = 100_000
BATCH = 20_000


def ceiling(url: str, count: int) -> float:
    """Rows a second of binary COPY alone, made beforehand, in transactions of a batch."""
    terminals, values, times = (np.array(column) for column in readings(count, TERMINALS, time.time() - 120))
    rows = copy.reading_rows(count)
    rows["observed_at"] = np.rint((times - copy.POSTGRES_EPOCH) * 1e6)
    rows["terminal_id"], rows["metric_id"], rows["cell_id"], rows["value"] = terminals + 1, 1, 1, values
    batches = [copy.copy_bytes(rows[begin : begin + BATCH]) for begin in range(0, count, BATCH)]
    with store.connect(url) as conn:
        if migrate.storage_of(conn) == "timescale":
            conn.execute("SET timescaledb.enable_direct_compress_copy = on")
        begun = time.perf_counter()
        for data in batches:
            with conn.transaction(), conn.cursor().copy(store.SQL["copy_reading"]) as stream:
                stream.write(data)
        seconds = time.perf_counter() - begun
        conn.execute("TRUNCATE reading")
    return count / seconds


def case(port: int, url: str, version: str, size: int, messages: int) -> tuple[float, float]:
    """Messages a second committed, and microseconds of the worker's CPU a message."""
    settings = {"mqtt_url": f"mqtt://127.0.0.1:{port}", "database_url": url, "mqtt_version": version}
    with tempfile.TemporaryDirectory() as folder, Held(Path(folder) / "worker.log", **settings) as worker:
        cost = drained(worker, port, size, messages)
        worker.terminate()
    before = TERMINALS + messages * size
    with psycopg.connect(url) as conn:
        stored = conn.execute("SELECT count(*) FROM reading").fetchone()
        assert stored == (before,), stored
        conn.execute("TRUNCATE reading, ledger, heard")
    return cost


def drained(worker: Held, port: int, size: int, messages: int) -> tuple[float, float]:
    """As `case`, of a worker that was started just now."""
    worker.wait_ready()
    publish("127.0.0.1", port, list(packs(100, readings(TERMINALS, TERMINALS, time.time() - 3600))))
    wait_accounted([worker], TERMINALS)
    time.sleep(COMPILED_SECONDS)
    worker.hold()
    publish("127.0.0.1", port, list(packs(size, readings(messages * size, TERMINALS, time.time() - 120))))
    cpu, begun = worker.cpu_seconds(), time.perf_counter()
    worker.go()
    wait_accounted([worker], TERMINALS + messages * size)
    seconds, cpu = time.perf_counter() - begun, worker.cpu_seconds() - cpu
    return messages / seconds, cpu / messages * 1e6


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
        with store.connect(url) as conn:
            storage = migrate.migrate(conn).storage
            server_version = "PostgreSQL {}.{}".format(*divmod(conn.info.server_version, 10_000))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        # Without persistence: a filled queue would be saved every second, which is the broker's bench, not ours.
        config = mosquitto_config(port, folder).replace("persistence true", "persistence false")
        broker = stack.enter_context(Mosquitto(config, port, folder))
        table = Table(title=f"{storage} on {server_version}, Python {platform.python_version()}, "
                            f"{os.cpu_count()} cores shared by all; median of {arguments.runs}")  # fmt: skip
        for column in (
            "case",
            "messages/s",
            "readings/s",
            "CPU us/message",
            "CPU us/reading",
            "of COPY ceiling",
        ):
            table.add_column(column, justify="right" if table.columns else "left")
        cases = [
            ("MQTT 5, packs of 100", "5", 100, 20_000),
            ("MQTT 5, one reading", "5", 1, 300_000),
            ("MQTT 3.1.1, packs of 100", "3.1.1", 100, 5_000),
            ("MQTT 3.1.1, one reading", "3.1.1", 1, 30_000),
        ]
        for name, version, size, messages in cases:
            if arguments.only and arguments.only not in name:
                continue
            n = int(messages * arguments.scale)
            runs, ceilings = [], []
            for _ in range(arguments.runs):
                ceilings.append(ceiling(url, 2_000_000))
                runs.append(case(broker.port, url, version, size, n))
            rate, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
            ratio = statistics.median(r[0] * size / c for r, c in zip(runs, ceilings, strict=True))
            table.add_row(name, f"{rate:,.0f}", f"{rate * size:,.0f}", f"{cpu:.1f}", f"{cpu / size:.2f}",
                          f"{ratio:.2f} of {statistics.median(ceilings):,.0f}")  # fmt: skip
        Console(width=140).print(table)


if __name__ == "__main__":
    main()
