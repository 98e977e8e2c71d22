"""Millions of terminals end to end: import, observer, first contact of every terminal, what the metrics then say.

    python -m tests.bench.province [--terminals 5000000]

Everything is a real process: `ganzhi terminals import`, `ingest` and `observe`, Mosquitto, PostgreSQL (with TimescaleDB
where a server offers it). Packs of 100 readings of terminals in random order, as in the main benchmark.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tests.bench.publish import GATEWAYS, by_gateway, packs, publish
from tests.bench.stand import until
from tests.brokers import Mosquitto, free_port, mosquitto_config
from tests.postgres import Postgres, program_folders, timescale_programs
from tests.worker import Worker, environment

HEADER = "code,division,profile,network,gateway,installed_on\n"
AT_ONCE = 500_000
"""Terminals whose messages are made at once: a message is 9 kB."""
DIVISIONS = (370102, 370103, 370202, 370203, 370302, 371302)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--terminals", type=int, default=5_000_000)
    count = parser.parse_args().terminals
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = timescale_programs()
        server = stack.enter_context(Postgres(programs or program_folders()[-1], timescale=bool(programs)))
        url = stack.enter_context(server.database())
        port = free_port()
        config = mosquitto_config(port, folder).replace("persistence true", "persistence false")
        stack.enter_context(Mosquitto(config, port, folder))
        print(f"{count:,} terminals; {server.version}, Python {platform.python_version()}, {os.cpu_count()} cores, "
              f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
        settings = {"database_url": url, "mqtt_url": f"mqtt://127.0.0.1:{port}"}
        command("migrate", settings)
        timed("import", count, lambda: command("terminals", settings, "import", str(registry(folder, count))))
        observer = Worker(folder / "observe.log", "observe", **settings, observe_seconds=5)
        worker = Worker(folder / "ingest.log", **settings)
        for process in (observer, worker):
            stack.enter_context(process)
        begun = time.perf_counter()
        until([observer], lambda m: m[0]("terminals_installed") == count)
        print(f"observer: {time.perf_counter() - begun:.1f} s from start to every terminal counted")
        worker.wait_ready()
        timed("first contact, committed", count, lambda: contact(port, count, worker))
        begun = time.perf_counter()
        until([observer], lambda m: m[0]("terminals_verified") == count)
        print(f"visible in the observer's metrics {time.perf_counter() - begun:.1f} s after the last commit")
        timed("second contact, committed", count, lambda: contact(port, count, worker))
        begun = time.perf_counter()
        series = len(observer.metrics())
        print(f"scrape: {1e3 * (time.perf_counter() - begun):.0f} ms with parsing, {series:,} series")
        for name, process in (("observer", observer), ("worker", worker)):
            print(f"memory of the {name}: {process.memory_bytes() / 1e6:.0f} MB")
        timed("recount beside the observer", count,
              lambda: command("observe", settings | {"observer_http_port": observer.port}, "--recount"))  # fmt: skip
        begun = time.perf_counter()
        assert observer.terminate() == 0
        print(f"observer left, with its last snapshot, in {time.perf_counter() - begun:.1f} s")


def command(name: str, settings: dict[str, object], *arguments: str) -> None:
    """Run a command of ganzhi to its end."""
    subprocess.run([sys.executable, "-m", "ingest.cli", name, *arguments], check=True, stdout=subprocess.DEVNULL,
                   env=environment(**settings))  # fmt: skip


def timed(what: str, count: int, action: Callable[[], None]) -> None:
    """Say how long it took."""
    begun = time.perf_counter()
    action()
    seconds = time.perf_counter() - begun
    print(f"{what}: {seconds:.1f} s, {count / seconds:,.0f}/s", flush=True)


def registry(folder: Path, count: int) -> Path:
    """A file of water meters on NB-IoT, spread over the gateways that publish for them."""
    file = folder / "terminals.csv"
    with file.open("w") as out:
        out.write(HEADER)
        for n in range(count):
            out.write(f"imei:8688{n:011d},{DIVISIONS[n % 6]},water_meter,nbiot,gw{n % GATEWAYS},2026-01-01\n")
    return file


def contact(port: int, count: int, worker: Worker) -> None:
    """Every terminal once, in random order; until all of it is committed."""
    random = np.random.default_rng()
    order, done = random.permutation(count), worker.metrics()("readings_committed_total")
    for begin in range(0, count, AT_ONCE):
        chosen = by_gateway(order[begin : begin + AT_ONCE]).tolist()
        times = np.full(len(chosen), round(time.time(), 3)).tolist()
        publish(
            "127.0.0.1", port, list(packs(100, (chosen, random.normal(20, 5, len(chosen)).tolist(), times)))
        )
    until([worker], lambda m: m[0]("readings_committed_total") == done + count)


if __name__ == "__main__":
    main()
