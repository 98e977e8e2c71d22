"""`python -m tests.bench.register`: terminals a second that `ganzhi terminals import` takes in.

A register of one kind of meter in four columns, into an empty database: all of it new, the same again, and again with
another day of installation in every line. One at a time, over one connection, as the command does it.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

from devices.datum import Datum
from ingest import migrate
from ingest.connection import connect
from ingest.terminals import import_terminals
from tests.bench import stand

HEADER = ("code", "division", "profile", "installed_on")
ROUNDS = {"new": "2026-01-01", "the same again": "2026-01-01", "all changed": "2026-01-02"}


def register(path: Path, terminals: int, installed_on: str) -> None:
    """Write a register of so many terminals."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows((f"sn:{n:012d}", 370102, "water_meter", installed_on) for n in range(terminals))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--terminals", type=int, default=1_000_000)
    terminals = options.parse_args().terminals
    with stand.server_here() as server, server.database() as url, tempfile.TemporaryDirectory() as folder:
        print(stand.machine(server.version))
        with connect(url, patient=True) as conn:
            migrate.migrate(conn)
            for name, day in ROUNDS.items():
                register(path := Path(folder) / "terminals.csv", terminals, day)
                begun = time.perf_counter()
                done = import_terminals(conn, path, Datum.WGS84, lambda _share: None)
                seconds = time.perf_counter() - begun
                assert done.created + done.updated + done.unchanged == terminals, done
                print(f"{name}: {terminals / seconds:,.0f} terminals/s, {done.created:,} created, "
                      f"{done.updated:,} updated, {done.unchanged:,} as they were", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
