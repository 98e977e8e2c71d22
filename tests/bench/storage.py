"""`python -m tests.bench.storage`: what the storage takes, keeps and answers with the table at 0, a tenth, and all.

30 days of 100,000 terminals in order of time, as `publish.readings` makes them: random order of terminals,
normal values with two decimals. The measured writes are the worker's own transaction (`Store.write`, batches of
20,000 readings in messages of 100, made beforehand); what lies between them is filled by COPY. Reads are those
of reads.sql, warm, as the province's reader and as a city's; `--days` spreads the same readings over more chunks.
GANZHI_DATABASE_URL names a database to use, which must be empty; else a server of its own.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg

from devices.registry import Registry
from devices.store import Directory
from ingest import copy, migrate, roles, store
from ingest.batch import Batch
from ingest.connection import connect
from ingest.fleet import fleet
from ingest.resolve import Resolver
from ingest.sealed import Sealed
from ingest.settings import OnUnknown
from ingest.traffic import value
from schemas.message import Message
from schemas.reading import Part
from schemas.routes import Place
from schemas.sql import queries
from tests.postgres import Postgres, program_folders, timescale_programs

TERMINALS = 100_000
GATEWAYS = 1_000
CELLS = 1_360
"""Counties and the domains of each."""
DAYS = 30
"""Also the period of the read of a month."""
CITY = 370100
BATCH, PACK = 20_000, 100
FILL = 100_000
"""Rows of a COPY that only fills: one round of all terminals."""
MEASURED = 50
"""Batches of a measurement: a million readings."""
RUNS = 3
READS = 5
KEYS = 20_000
"""Keys of a batch of messages with one reading each."""
HORIZON_HOURS = 6
LEDGER_RUNS = 11
FLEET = fleet(range(370102, 370110), gateways=20, terminals=10_000)

_LEDGER_ROW = np.dtype(
    [("columns", ">i2"), ("b1", ">i4"), ("key", "V16"), ("b2", ">i4"), ("seen_at", ">i8"), ("b3", ">i4"),
     ("client", ">i2")]
)  # fmt: skip


class Readings:
    """Rows number 0 to `total`, spread evenly over so many days before `end` (Unix seconds)."""

    def __init__(self, total: int, end: float, days: int) -> None:
        self.begin, self.step = end - days * 86_400, days * 86_400 / total

    def rows(self, first: int, count: int) -> copy.Rows:
        """`count` rows from number `first`: in every round each terminal once, metrics taking turns."""
        rows = copy.reading_rows(count)
        numbers = np.arange(first, first + count)
        rounds = numbers // TERMINALS
        order = {n: np.random.default_rng(int(n)).permutation(TERMINALS) for n in np.unique(rounds)}
        terminals = np.concatenate([order[n][numbers[rounds == n] % TERMINALS] for n in order])
        random = np.random.default_rng(first)
        times = np.round(self.begin + (numbers + random.uniform(0, FILL, count)) * self.step, 3)
        rows["observed_at"] = np.rint((times - copy.POSTGRES_EPOCH) * 1e6)
        rows["terminal_id"] = terminals + 1
        rows["metric_id"] = rounds % 2 + 1
        rows["cell_id"] = terminals % CELLS + 1
        rows["value"] = np.round(random.normal(20, 5, count), 2)
        return rows


def batch_of(rows: copy.Rows) -> tuple[Batch, Sealed]:
    """The rows as a batch of messages of one gateway each, resolved and checked."""
    batch = Batch()
    newest = float(rows["observed_at"].max()) / 1e6 + copy.POSTGRES_EPOCH
    for number in range(0, len(rows), PACK):
        message = Message("ganzhi/v1/370102/gw1/telemetry", os.urandom(32), newest, None, number // PACK + 1)
        batch.add(message, Place(370102, "gw1"), [Part(times=[newest], indexes=[0])])
    part_of_row = np.arange(len(rows), dtype=np.int32) // PACK
    return batch, Sealed(rows, part_of_row, [], {})


class Bench:
    """A migrated database with its terminals, and how far it is filled."""

    def __init__(self, url: str, total: int, days: int = DAYS) -> None:
        self.url = url
        self.conn = connect(url)
        self.conn.execute("SET statement_timeout = 0")
        self.storage = migrate.migrate(self.conn).storage
        roles.make(self.conn, None, [CITY])
        if self.storage == "timescale":
            self.conn.execute("SET timescaledb.enable_direct_compress_copy = on")
        self.end = time.time() // 3600 * 3600
        self.readings = Readings(total + RUNS * MEASURED * BATCH, self.end, days)
        self.count = 0
        self.store = store.Store(self.conn, self.storage, "bench-0", lambda _: False)
        self.registry = Registry()
        Resolver(self.registry, OnUnknown.REGISTER, OnUnknown.REGISTER).load(Directory(self.conn))
        self.conn.execute(
            "INSERT INTO terminal (id, code, scheme, division, gateway, state)"
            " SELECT n, 'imei:8688' || lpad(n::text, 11, '0'), 'imei', 370102, 'gw' || n %% %s, 'installed'"
            " FROM generate_series(1, %s) n ON CONFLICT DO NOTHING", [GATEWAYS, TERMINALS],
        )  # fmt: skip
        self.conn.execute(
            "INSERT INTO gateway (name, division, last_seen) SELECT 'gw' || n, 370102, now() - n * interval '1 min'"
            " FROM generate_series(1, %s) n", [GATEWAYS],
        )  # fmt: skip
        self.conn.execute("ANALYZE terminal, gateway")

    def write(self, change: Callable[[copy.Rows], object] = lambda _: None) -> float:
        """Rows a second of the worker's own transactions; `change` is made to each batch's rows beforehand."""
        batches = []
        for first in range(self.count, self.count + MEASURED * BATCH, BATCH):
            rows = self.readings.rows(first, BATCH)
            change(rows)
            batches.append(batch_of(rows))
        begun = time.perf_counter()
        for batch, sealed in batches:
            outcome = self.store.write(batch, sealed, self.registry)
            assert outcome.direct_compress == (self.storage == "timescale")
        seconds = time.perf_counter() - begun
        self.count += MEASURED * BATCH
        return MEASURED * BATCH / seconds

    def fill(self, until: int) -> None:
        """Up to `until` rows by COPY."""
        while self.count < until:
            rows = self.readings.rows(self.count, min(FILL, until - self.count))
            _, sealed = batch_of(rows)
            if self.store._days:
                self.store._days.make(sealed)
            with self.conn.cursor().copy(store.SQL["copy_reading"]) as stream:
                stream.write(copy.copy_bytes(rows))
            self.count += len(rows)

    def settle(self) -> None:
        """What policies do meanwhile: recompress, refresh the rollups, gather statistics."""
        if self.storage == "timescale":
            self._recompress()
            for rollup in ("reading_hourly", "reading_daily"):
                self.conn.execute(f"CALL refresh_continuous_aggregate('{rollup}', NULL, NULL)")
        self.conn.execute("VACUUM ANALYZE reading")

    def _recompress(self) -> None:
        if self.storage == "timescale":
            for (chunk,) in self.conn.execute("SELECT show_chunks('reading')::text").fetchall():
                self.conn.execute(f"CALL convert_to_columnstore('{chunk}', recompress => true)")

    def bytes_per_reading(self) -> float:
        """Table and indexes, the readings only."""
        size = (
            "hypertable_size('reading')"
            if self.storage == "timescale"
            else "(SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('reading') WHERE isleaf)"
        )
        return float(self.one(f"SELECT {size}::float8")) / max(self.count, 1)

    def simulated(self) -> Iterator[tuple[str, float]]:
        """Bytes per reading of a simulated fleet's day, a report in 15 minutes, fresh and recompressed."""
        ids = dict(self.conn.execute("SELECT name, id FROM metric").fetchall())
        batches = (batch_of(simulated_rows(ids, self.readings.begin + n * 900)) for n in range(96))
        for batch, sealed in batches:
            self.store.write(batch, sealed, self.registry)
            self.count += len(sealed.rows)
        yield "fresh", self.bytes_per_reading()
        self._recompress()
        yield "recompressed", self.bytes_per_reading()
        self.conn.execute("TRUNCATE reading")
        self.count = 0

    def reads(self, role: str) -> Iterator[tuple[str, float, float]]:
        """Name, and median and worst milliseconds, of each statement of reads.sql as this role."""
        now = self.readings.begin + self.count * self.readings.step
        arguments = {
            "terminal": f"imei:8688{4711:011d}",
            "division": 370102,
            "domain": "other",
            "metric": self.one("SELECT name FROM metric WHERE id = 1"),
            "count": 100,
            "day": datetime.fromtimestamp((now - 86_400) // 86_400 * 86_400, UTC),
            "from": datetime.fromtimestamp(now - DAYS * 86_400, UTC),
            "to": datetime.fromtimestamp(now, UTC),
        }
        with psycopg.connect(self.url, user=role, autocommit=True) as conn:
            for name, statement in queries("reads.sql").items():
                timed = [milliseconds(lambda s=statement: conn.execute(s, arguments).fetchall())
                         for _ in range(READS + 1)][1:]  # fmt: skip
                yield name, statistics.median(timed), max(timed)

    def ledger(self, keys: int) -> Iterator[tuple[str, float]]:
        """Fill the ledger to `keys`, then median milliseconds of 20,000: new, known, and without locality."""
        self._fill_ledger(keys)
        new = [_keys(0, KEYS) for _ in range(LEDGER_RUNS)]
        yield "new, of this hour", self._ledger_milliseconds(new)
        yield "known, of this hour", self._ledger_milliseconds(new)
        yield "new, without locality", self._ledger_milliseconds([_keys(None, KEYS) for _ in new])

    def _ledger_milliseconds(self, batches: list[list[bytes]]) -> float:
        def insert(keys: list[bytes]) -> None:
            with self.conn.transaction():
                self.conn.execute(store.SQL["ledger"], [copy.UuidArray.of(keys), 1], binary=True)

        return statistics.median(milliseconds(lambda k=keys: insert(k)) for keys in batches)

    def _fill_ledger(self, keys: int) -> None:
        missing = keys - int(self.one("SELECT count(*) FROM ledger"))
        if missing <= 0:
            return
        self.conn.execute("ALTER TABLE ledger DROP CONSTRAINT ledger_pkey")
        per_copy = 1_000_000
        copies = max(missing // per_copy, 1)
        with self.conn.cursor().copy(
            "COPY ledger (key, seen_at, client) FROM STDIN (FORMAT binary)"
        ) as stream:
            stream.write(copy.SIGNATURE)
            for number in range(copies):
                ago = HORIZON_HOURS - 1 - number * HORIZON_HOURS // copies
                stream.write(_ledger_rows(_keys(ago, missing // copies), ago))
            stream.write(copy.TRAILER)
        self.conn.execute("SET maintenance_work_mem = '1GB'")
        self.conn.execute("ALTER TABLE ledger ADD PRIMARY KEY (key)")
        self.conn.execute("VACUUM ANALYZE ledger")

    def one(self, query: str) -> Any:
        row = self.conn.execute(query).fetchone()
        assert row
        return row[0]


def simulated_rows(metric_ids: Mapping[str, int], begin: float) -> copy.Rows:
    """One report of every terminal of a simulated fleet, a gateway after the other."""
    readings = [
        (at, id_, metric_ids[signal.metric], round(value(signal, terminal.phase, at), signal.decimals))
        for number, (gateway, at) in enumerate((g, begin + n) for n, g in enumerate(FLEET))
        for id_, terminal in enumerate(gateway.terminals, start=number * 1_000)
        for signal in terminal.kind.signals
    ]
    rows = copy.reading_rows(len(readings))
    times, rows["terminal_id"], rows["metric_id"], rows["value"] = zip(*readings, strict=True)
    rows["observed_at"] = np.rint((np.array(times) - copy.POSTGRES_EPOCH) * 1e6)
    rows["cell_id"] = rows["terminal_id"] // 1_000 + 1
    return rows


def _keys(hours_ago: int | None, count: int) -> list[bytes]:
    """Keys as `ingest.batch` makes them; None: of random hours, that is, without locality."""
    hour = int(time.time() / 3600) - (hours_ago or 0)
    random = np.random.default_rng().bytes(16 * count)
    prefix = hour.to_bytes(3, "big")
    pieces = (random[n : n + 16] for n in range(0, len(random), 16))
    return list(pieces) if hours_ago is None else [prefix + piece[3:] for piece in pieces]


def _ledger_rows(keys: list[bytes], hours_ago: int) -> bytes:
    rows = np.zeros(len(keys), _LEDGER_ROW)
    rows["columns"], rows["b1"], rows["b2"], rows["b3"] = 3, 16, 8, 2
    rows["key"] = np.frombuffer(b"".join(keys), "V16")
    rows["seen_at"] = int((time.time() - hours_ago * 3600 - copy.POSTGRES_EPOCH) * 1e6)
    rows["client"] = 1
    return rows.tobytes()


def milliseconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1e3


def say(what: str, value: str) -> None:
    print(f"| {what} | {value} | {os.getloadavg()[0]:.1f} |", flush=True)


def run(url: str, rows: int, keys: int, days: int) -> None:
    """Everything, a line of a Markdown table each, with the load average beside it."""
    bench = Bench(url, rows, days)
    say("storage", f"{bench.storage}, PostgreSQL {bench.conn.info.server_version // 10_000}")
    for state, stored in bench.simulated() if rows else ():
        say(f"a simulated fleet, {state}", f"{stored:.1f} B/reading")
    for step in (0, rows // 10, rows) if rows else ():
        bench.fill(step)
        begun = time.perf_counter()
        bench.settle()
        say(f"{step:,} readings: recompress and refresh", f"{time.perf_counter() - begun:.0f} s")
        if step:
            say(f"{step:,} readings: stored", f"{bench.bytes_per_reading():.1f} B/reading")
            for role in ("ganzhi_reader", f"ganzhi_reader_{CITY}"):
                for name, median, worst in bench.reads(role):
                    say(f"{step:,} readings: {name} as {role}", f"{median:.1f} ms (worst {worst:.1f})")
        rates = [bench.write() for _ in range(RUNS)]
        say(f"{step:,} readings: write", f"{statistics.median(rates):,.0f} readings/s")
        if not step:
            say("fresh from the worker", f"{bench.bytes_per_reading():.1f} B/reading")
    for step in (0, keys // 10, keys) if keys else ():
        for name, milliseconds in bench.ledger(step):
            say(f"{step:,} keys: 20,000 {name}", f"{milliseconds:.0f} ms")
        if step:
            size = bench.one("SELECT pg_total_relation_size('ledger')") / step
            say(f"{step:,} keys: stored", f"{size:.0f} B/key")


@contextmanager
def database(storage: str) -> Iterator[str]:
    """The URL of an empty database of this storage: the one that is named, or one on a server of its own."""
    if url := os.environ.get("GANZHI_DATABASE_URL"):
        yield url
        return
    timescale = storage == "timescale"
    programs = timescale_programs() if timescale else program_folders()[-1]
    if programs is None:
        raise SystemExit("no PostgreSQL server here offers TimescaleDB")
    with Postgres(programs, timescale=timescale) as server, server.database() as url:
        yield url


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=100_000_000)
    options.add_argument("--keys", type=int, default=0, help="of the ledger, beside the readings")
    options.add_argument("--days", type=int, default=DAYS, help="over which the readings are spread")
    options.add_argument("--storage", choices=["timescale", "postgres"], default="timescale")
    arguments = options.parse_args()
    with database(arguments.storage) as url:
        run(url, arguments.rows, arguments.keys, arguments.days)


if __name__ == "__main__":
    main()
