"""`python -m tests.bench.upkeep`: what late data, maintenance and the purge of the ledger cost who ingests.

As `tests.bench.storage`, with its readings and its server: a worker's own transactions, in the same run with and
without what is measured. Late: 5 % of the messages, or of single readings, up to 60 days old; then maintenance
while late readings go on coming, and rollups against readings. Ledger: 10,000 keys a second, of which as many are
purged; an hour of keys lasts 10 s and the horizon 60 s, so that minutes show what days do.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from ingest import copy, maintain, store
from ingest.connection import connect
from ingest.settings import Settings
from tests.bench.storage import BATCH, MEASURED, PACK, RUNS, Bench, batch_of, database, milliseconds, say

LATE_SHARE = 0.05
LATE_DAYS = 60
KEYS_PER_SECOND = 10_000
KEYS = 2_000
"""Of an insertion: five a second, as a worker's window fills."""
HOUR_SECONDS = 10
HORIZON_SECONDS = 60
PURGE_SECONDS = 10
AGREE = """
SELECT count(*) FILTER (WHERE raw.n IS DISTINCT FROM rolled.n OR raw.min <> rolled.min OR raw.max <> rolled.max
    OR abs(raw.sum - rolled.sum) > 1e-9 * greatest(1, abs(raw.sum))), sum(raw.n), count(*)
FROM (SELECT date_bin('1 hour', observed_at, 'epoch') AS bucket, cell_id, metric_id, count(*) AS n, sum(value) AS sum,
             min(value) AS min, max(value) AS max FROM reading GROUP BY 1, 2, 3) AS raw
FULL JOIN reading_hourly AS rolled USING (bucket, cell_id, metric_id)
"""


def make_late(rows: copy.Rows, together: int) -> None:
    """A share of the rows, so many together all alike, is up to `LATE_DAYS` old."""
    groups = -(-len(rows) // together)
    random = np.random.default_rng(int(rows["observed_at"][0]))
    late = np.where(random.random(groups) < LATE_SHARE, random.uniform(0, LATE_DAYS * 86_400, groups), 0)
    rows["observed_at"] -= np.repeat(np.rint(late * 1e6).astype(np.int64), together)[: len(rows)]


def late(url: str, rows: int) -> None:
    """The rate with and without late readings, batches beside maintenance, and what rollups say after it."""
    bench = Bench(url, rows + 3 * RUNS * MEASURED * BATCH, 1)
    bench.fill(rows)
    usual = 0.0
    for what, together in (("none late", 0), ("late messages", PACK), ("late readings", 1)):
        change = partial(make_late, together=together) if together else lambda _: None
        rate = statistics.median(bench.write(change) for _ in range(RUNS))
        usual = usual or rate
        say(f"write, {what}", f"{rate:,.0f} readings/s, {rate / usual:.2f}")
    waits = _beside(url, bench)
    say("a batch beside maintenance", f"{statistics.median(waits):.0f} ms, longest {max(waits):.0f} ms")
    maintain.run(bench.conn, Settings(), lambda _: None)
    differing, readings, groups = bench.conn.execute(AGREE).fetchone() or (None, 0, 0)
    say("rollups against readings", f"{differing} of {groups:,} hours differ, {readings:,} readings")


def _beside(url: str, bench: Bench) -> list[float]:
    """Milliseconds of each batch, 5 % late, that is written while maintenance runs."""
    done = threading.Event()

    def run() -> None:
        begun = time.perf_counter()
        with connect(url) as conn:
            maintain.run(conn, Settings(), lambda _: None)
        say("maintenance", f"{time.perf_counter() - begun:.1f} s")
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    waits = []
    while not done.wait(0.2):
        rows = bench.readings.rows(bench.count, BATCH)
        make_late(rows, PACK)
        batch, sealed = batch_of(rows)
        bench.count += BATCH
        waits.append(milliseconds(lambda b=batch, s=sealed: bench.store.write(b, s, bench.registry)))
    thread.join()
    return waits


def ledger(url: str, seconds: int) -> None:
    """Size after each purge and the longest insertion, beside an insertion with nobody else."""
    bench = Bench(url, 0)
    bench.conn.execute("UPDATE ledger_client SET settled_at = 'infinity'")
    alone = _insert(bench, 3 * HOUR_SECONDS, lambda: False)
    say("20 % of a second's keys alone", f"{statistics.median(alone):.0f} ms, longest {max(alone):.0f} ms")
    stop = threading.Event()
    thread = threading.Thread(target=_purge, args=(url, stop))
    thread.start()
    beside = _insert(bench, seconds, lambda: not thread.is_alive())
    stop.set()
    thread.join()
    say("the same beside purges", f"{statistics.median(beside):.0f} ms, longest {max(beside):.0f} ms")


def _insert(bench: Bench, seconds: int, ended: Callable[[], bool]) -> list[float]:
    """Milliseconds of each insertion, at the rate; later than planned when the database is slower."""
    waits, begun = [], time.monotonic()
    for number in range(seconds * KEYS_PER_SECOND // KEYS):
        time.sleep(max(0.0, begun + number * KEYS / KEYS_PER_SECOND - time.monotonic()))
        prefix = (int(time.time()) // HOUR_SECONDS % 2**18).to_bytes(3, "big")
        random = np.random.default_rng().bytes(13 * KEYS)
        keys = [prefix + random[n : n + 13] for n in range(0, len(random), 13)]
        statement = (store.SQL["ledger"], [copy.UuidArray.of(keys), 1])
        waits.append(milliseconds(lambda s=statement: bench.conn.execute(*s, binary=True)))
        if ended():
            raise SystemExit("the purge ended by itself")
    return waits


def _purge(url: str, stop: threading.Event) -> None:
    """As maintenance does, again and again; says how large the ledger is."""
    settings = Settings().model_copy(update={"ledger_hours": HORIZON_SECONDS / 3600})
    with connect(url) as conn:
        while not stop.wait(PURGE_SECONDS):
            begun = time.perf_counter()
            maintain.purge_ledger(conn, settings)
            size, rows = (
                conn.execute("SELECT pg_total_relation_size('ledger'), count(*) FROM ledger").fetchone() or ()
            )
            say("purge", f"{time.perf_counter() - begun:.1f} s, {rows:,} keys left in {size / 1e6:.0f} MB")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=8_000_000, help="of one day, before the late ones")
    options.add_argument("--seconds", type=int, default=240, help="of the ledger's purge")
    arguments = options.parse_args()
    if arguments.rows:
        with database("timescale") as url:
            late(url, arguments.rows)
    if arguments.seconds:
        with database("timescale") as url:
            ledger(url, arguments.seconds)


if __name__ == "__main__":
    main()
