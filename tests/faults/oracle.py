"""The judgement: every obligation is stored once or refused once with its reason, and nothing else is there.

Compares by SQL, in the database, what the ledger says was sent with what is stored.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any

import numpy as np
import psycopg

from tests.faults.obligations import METRIC, SPAN, TERMINALS, TIMELESS, Ledger
from tests.faults.stand import Stand

FRESH_SECONDS = 30
"""After the fault has healed, a new reading is in the database within this."""
SETTLE_SECONDS = 120
UNSAVED_SECONDS = 4
"""Mosquitto acknowledges before it writes to its disk, every second: what it took so shortly before SIGKILL is gone."""
UNREAD_SECONDS = 0.5
"""An acknowledgement of before that was still on its way to the gateway then."""
QUIET_SECONDS = 0.5
"""Nothing has come for this long: nothing is on its way."""
MEMORY_BYTES = 100_000_000
"""What a worker may have kept: its window of three batches, and the allocator's holes."""
NAMED = 10
"""Numbers that a fault names."""


@dataclass
class Verdict:
    """Readings, but for `faults`: what is wrong, in words. Ours to keep are published = stored + rejected."""

    published: int = 0
    stored: int = 0
    duplicate: int = 0
    """Known when they came again, by the workers' metrics since they last started."""
    rejected: int = 0
    lost: int = 0
    doubled: int = 0
    recovery_seconds: float = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the case has measured."""


def judge(stand: Stand) -> Verdict:
    """Wait until everything published has arrived, and say what became of it."""
    if not stand.recovery_seconds:
        stand.healed()
    faults = list(stand.faults)
    try:
        stand.fleet.stop(SETTLE_SECONDS)
    except TimeoutError:
        faults.append("the broker has not acknowledged everything that was published")
    owed = owed_messages(stand.ledger, stand.broker_killed_at)
    faults += unsettled(stand, owed)
    verdict = Verdict(recovery_seconds=round(stand.recovery_seconds, 1), faults=faults, notes=stand.notes)
    if verdict.recovery_seconds > FRESH_SECONDS:
        faults.append(f"a new reading was visible only after {verdict.recovery_seconds} s")
    with psycopg.connect(stand.url) as conn:
        _judge_readings(conn, stand.ledger, owed, verdict)
        _judge_rejections(conn, stand.ledger, owed, verdict)
        if events := _number(conn, "SELECT count(*) FROM event"):
            faults.append(f"{events} events are stored that nobody sent")
    _judge_workers(stand, verdict)
    faults += [f"not in order of arrival: {fault}" for fault in stand.deliveries.faults]
    return verdict


def owed_messages(ledger: Ledger, broker_killed_at: list[float]) -> np.ndarray:
    """Of each message, whether the broker took it, on its disk too."""
    taken_at = np.array(ledger.taken_at)
    owed = taken_at > 0
    for killed_at in broker_killed_at:
        owed &= (taken_at <= killed_at - UNSAVED_SECONDS) | (taken_at > killed_at + UNREAD_SECONDS)
    return owed


def unsettled(stand: Stand, owed: np.ndarray) -> list[str]:
    """Wait until all that is owed can be there, nothing is in flight, and nothing more comes."""
    readings = int(np.array(stand.ledger.count)[owed].sum())
    refusals = sum(bool(owed[number]) for number in stand.ledger.refusals)

    def arrived() -> bool:
        return stand.count("reading") >= readings and stand.count("rejection") >= refusals

    received = -1.0

    def quiet() -> bool:
        nonlocal received
        scrapes = [worker.metrics() for worker in stand.workers if worker.alive]
        before, received = received, sum(m("messages_received_total") for m in scrapes)
        if all(scrapes) and before == received and not any(m("messages_in_flight") for m in scrapes):
            return True
        time.sleep(QUIET_SECONDS)
        return False

    try:
        stand.wait(arrived, "given everything", SETTLE_SECONDS)
        stand.wait(quiet, "quiet", SETTLE_SECONDS)
    except AssertionError as error:
        return [f"the service is {error}"]
    return []


def _judge_readings(
    conn: psycopg.Connection[Any], ledger: Ledger, owed: np.ndarray, verdict: Verdict
) -> None:
    _enter_sent(conn, ledger, owed)
    verdict.published = int(np.array(ledger.count)[owed].sum())
    verdict.stored = _number(conn, "SELECT count(*) FROM reading")
    lost = _numbers(conn, "SELECT number FROM sent WHERE owed EXCEPT SELECT value::bigint FROM numbered")
    doubled = _numbers(conn, "SELECT value::bigint FROM numbered GROUP BY 1 HAVING count(*) > 1")
    foreign = conn.execute(
        """SELECT r.* FROM numbered AS r LEFT JOIN sent ON number = value::bigint
           WHERE number IS NULL OR metric IS NULL OR metric NOT IN (%(metric)s, %(timeless)s)
              OR terminal IS DISTINCT FROM
                 format('faults-%%s-%%s', number / %(span)s, number %% %(span)s %% %(terminals)s)
              OR metric = %(metric)s
             AND observed_at IS DISTINCT FROM to_timestamp(%(begin)s) + number %% %(span)s * interval '1 ms'""",
        {"metric": METRIC, "timeless": TIMELESS, "span": SPAN, "terminals": TERMINALS, "begin": ledger.begin},
    ).fetchall()
    verdict.lost, verdict.doubled = len(lost), len(doubled)
    for what, numbers in (("lost", lost), ("doubled", doubled)):
        if numbers:
            verdict.faults.append(f"{len(numbers)} readings are {what}: {_named(numbers)}")
    if foreign:
        verdict.faults.append(f"{len(foreign)} readings are stored that nobody sent: {_named(foreign)}")


def _enter_sent(conn: psycopg.Connection[Any], ledger: Ledger, owed: np.ndarray) -> None:
    """Tables for the comparison: the numbers that were sent, and the readings that are stored."""
    conn.execute("CREATE TEMP TABLE sent (number bigint PRIMARY KEY, owed bool)")
    conn.execute(
        """INSERT INTO sent SELECT generate_series(first, first + count - 1), owed
           FROM unnest(%s::bigint[], %s::int[], %s::bool[]) AS message (first, count, owed)""",
        [list(ledger.first), list(ledger.count), owed.tolist()],
    )
    conn.execute(
        """CREATE TEMP TABLE numbered AS
           SELECT value, observed_at, terminal.code AS terminal, metric.name AS metric
           FROM reading LEFT JOIN terminal ON terminal.id = terminal_id LEFT JOIN metric ON metric.id = metric_id"""
    )
    conn.execute("ANALYZE sent, numbered")


def _judge_rejections(
    conn: psycopg.Connection[Any], ledger: Ledger, owed: np.ndarray, verdict: Verdict
) -> None:
    stored = Counter(
        (bytes(payload), reason, rejected)
        for payload, reason, rejected in conn.execute("SELECT payload, reason, rejected FROM rejection")
    )
    expected = {(m.payload, m.reason, m.refused): bool(owed[n]) for n, m in ledger.refusals.items()}
    lost = [key for key, is_owed in expected.items() if is_owed and key not in stored]
    doubled = [key for key, count in stored.items() if count > 1]
    foreign = [key for key in stored if key not in expected]
    verdict.published += sum(m.refused for n, m in ledger.refusals.items() if owed[n])
    verdict.rejected = sum(refused * count for (_, _, refused), count in stored.items())
    verdict.lost += sum(refused for _, _, refused in lost)
    verdict.doubled += sum(refused for _, _, refused in doubled)
    for what, keys in (("lost", lost), ("doubled", doubled), ("stored of what nobody sent so", foreign)):
        if keys:
            verdict.faults.append(f"{len(keys)} rejections are {what}: {_named(list(starmap(_short, keys)))}")


def _judge_workers(stand: Stand, verdict: Verdict) -> None:
    for number, worker in enumerate(stand.workers):
        if not worker.alive:  # a case that ends one takes it out of `stand.workers`
            verdict.faults.append(f"worker {number} does not run")
            continue
        metrics = worker.metrics()
        verdict.duplicate += int(metrics("readings_duplicate_total"))
        try:
            metrics.assert_balanced()
        except AssertionError as error:
            verdict.faults.append(f"the books of worker {number} do not balance: {error}")
        before, now = stand.memory_before_bytes.get(worker), worker.memory_bytes()
        if before and now > before + MEMORY_BYTES:
            verdict.faults.append(
                f"worker {number} took {before / 1e6:.0f} MB before, {now / 1e6:.0f} MB now"
            )


def _short(payload: bytes, reason: str, rejected: int) -> str:
    return f"{reason} ({rejected} readings) of {payload[:60]!r}"


def _named(numbers: list[Any]) -> str:
    return ", ".join(map(str, numbers[:NAMED])) + (" and more" if len(numbers) > NAMED else "")


def _number(conn: psycopg.Connection[Any], query: str) -> int:
    return _numbers(conn, query)[0]


def _numbers(conn: psycopg.Connection[Any], query: str) -> list[int]:
    return sorted(row[0] for row in conn.execute(query))
