"""Rows of `rejection`: a message with refusals as it is kept, written in the transaction that stores the rest of it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from psycopg import Connection
from psycopg.types.json import Jsonb

from ingest.batch import Batch, element_count, refused_readings
from schemas.payload import shown
from schemas.rejection import GARBAGE, Reason, Refusal
from schemas.sql import queries

SQL = queries("ingest.sql")
DETAILED_REFUSALS = 1_000
"""Refusals of one message that are kept in words; a pack can bring a million, the others keep place and reason."""
COLUMN_TYPES = ("timestamptz", "text", "int4", "text", "text", "int4", "int4", "jsonb", "text", "bytea")
KEPT_BYTES = 65_536
"""Of a payload that is too large: enough to see who sends what."""


def keep(
    conn: Connection[Any], batch: Batch, by_message: dict[int, list[Refusal]], unstored: Callable[[int], bool]
) -> int:
    """Write a row for each message with refusals, in order of their places; how many of garbage were only counted.

    `unstored` is asked for each message of nothing but garbage, by its bytes to keep: True where it is only counted.
    """
    stored = {
        n: r
        for n, r in by_message.items()
        if any(one.reason not in GARBAGE for one in r)
        or not unstored(len(_kept(batch.messages[n].payload, r)))
    }
    if stored:
        with conn.cursor().copy(SQL["copy_rejection"]) as stream:
            stream.set_types(COLUMN_TYPES)
            for number, refusals in stored.items():
                stream.write_row(_row(batch, number, refusals))
    return len(by_message) - len(stored)


def details(refusals: list[Refusal]) -> Jsonb:
    """Refusals as they are kept: place and reason of each, in words only the first so many."""
    kept = [Refusal(r.index, r.reason, r.detail, r.hint, count=r.count) if r.event or r.content is not None else r
            for r in refusals[:DETAILED_REFUSALS]]  # fmt: skip
    kept += [Refusal(r.index, r.reason, count=r.count) for r in refusals[DETAILED_REFUSALS:]]
    return Jsonb(kept, msgspec.json.encode)


def _row(batch: Batch, number: int, refusals: list[Refusal]) -> tuple[Any, ...]:
    message, place = batch.messages[number], batch.places[number]
    total = element_count(batch.parts_of(number))
    rejected = refused_readings(refusals)
    return (
        datetime.fromtimestamp(message.received_at, UTC), message.topic, place.division, place.gateway,
        str(refusals[0].reason), rejected, total, details(refusals),
        message.content_type and shown(message.content_type), _kept(message.payload, refusals),
    )  # fmt: skip


def _kept(payload: bytes, refusals: list[Refusal]) -> bytes:
    return payload[:KEPT_BYTES] if refusals[0].reason is Reason.TOO_LARGE else payload
