"""A sealed batch in one transaction: ledger, readings, events, rejections, heard terminals.

Knows one synchronous connection, used from one thread: libpq waits without the GIL, while the loop
decodes the next batch (measured: 0.54 of the COPY ceiling, an asyncio COPY starves). What a failure
means is `failure`'s to say.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.copy import LibpqWriter
from psycopg.errors import CheckViolation
from psycopg.types.json import Jsonb

from devices.registry import Registry
from ingest import births, copy, ledger, rejections
from ingest.batch import Batch
from ingest.chunks import Chunks
from ingest.days import Days
from ingest.heard import Publishers, presence, quality
from ingest.numbering import Numbered
from ingest.outcome import Outcome, count
from ingest.sealed import Sealed, SealedEvent
from schemas.sql import queries

SQL = queries("ingest.sql")
CHECK = queries("check.sql")


class Store:
    """Writes sealed batches over one connection."""

    def __init__(
        self, conn: Connection[Any], storage: str, client: str, unstored: Callable[[int], bool]
    ) -> None:
        self.conn = conn
        self._client, self.had_session = ledger.client_id(conn, client)
        """`had_session`: whether the broker should have a session of this client."""
        self._unstored = unstored
        self._publishers = Publishers()
        self._days = Days(conn) if storage == "postgres" else None
        self._chunks = Chunks(conn) if storage == "timescale" else None
        self._compressed = False
        """The last COPY of readings."""
        self._found: tuple[str, ...] = ()
        self._warning = ""
        self.look()
        conn.execute(SQL["compress_fast"])
        conn.add_notice_handler(self._notice)

    def look(self) -> None:
        """See what turns direct compress off: not all of it makes the server warn."""
        if self._chunks:
            self._found = tuple(str(row[0]) for row in self.conn.execute(CHECK["against_direct_compress"]))

    @property
    def against(self) -> tuple[str, ...]:
        """What turns direct compress off: at the last look, or as the server warned of the last COPY."""
        return self._found or ((self._warning,) if self._warning else ())

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        text = notice.message_primary or ""
        if "direct compress" in text and not self._found:
            self._warning = text

    def write(self, batch: Batch, sealed: Sealed, registry: Registry) -> Outcome:
        """Write it all or nothing. Raises `TooWideError` and what psycopg raises; then nothing is counted."""
        try:
            return self._write(batch, sealed, registry)
        except CheckViolation as error:
            if self._days is None or error.diag.constraint_name:
                raise
            # No constraint: no partition. Maintenance whose retention is shorter dropped one that we made.
            self._days.forget()
            return self._write(batch, sealed, registry)

    def _write(self, batch: Batch, sealed: Sealed, registry: Registry) -> Outcome:
        self._make_room(sealed)
        now = max(message.received_at for message in batch.messages)
        with self.conn.transaction():
            known = ledger.known(self.conn, self._client, batch)
            numbered = Numbered(self.conn, batch)
            for n in numbered.known:
                known[batch.first_part[n] : batch.end_of(n)] = True
            fresh = sealed.without(known)
            if fresh.moves:
                fresh = replace(fresh, events=fresh.events + self._news(fresh.moves))
            with self._copying(fresh.rows):
                outcome = count(batch, fresh, known, registry)
                gateways = self._publishers.news(batch, fresh, known, now)
                heard = self._heard(batch, fresh, gateways, now, registry)
            self._copy_events(fresh.events)
            outcome.rejections_unstored = rejections.keep(self.conn, batch, outcome.refusals, self._unstored)
            births.keep(self.conn, (birth for part, birth in batch.births if not known[part]))
            self.conn.execute(SQL["heard"], heard)
            outcome.sequence_resets = numbered.keep(fresh)
        self._publishers.told(gateways, now)
        outcome.direct_compress = self._compressed
        return outcome

    def write_again(self, sealed: Sealed) -> None:
        """Write readings and events past the ledger, in the caller's transaction; nobody counts as heard."""
        self._make_room(sealed)
        with self._copying(sealed.rows):
            pass
        self._copy_events(sealed.events)

    def _make_room(self, sealed: Sealed) -> None:
        """Before anything is written: partitions of the postgres storage, locks of the timescale storage's chunks."""
        if self._days:
            self._days.make(sealed)
        if self._chunks:
            self._chunks.check(sealed)

    @contextlib.contextmanager
    def _copying(self, rows: copy.Rows) -> Iterator[None]:
        """The readings are sent, and the server works on them inside; on leaving it is done."""
        if not len(rows):
            yield
            return
        self._warning = ""
        cursor = self.conn.cursor()
        all_sent = LibpqWriter(cursor, flush_threshold=0)
        with cursor.copy(SQL["copy_reading"], writer=all_sent) as stream:
            stream.write(copy.copy_bytes(rows))
            yield
        self._compressed = self._chunks is not None and not self.against

    def _copy_events(self, events: list[SealedEvent]) -> None:
        if events:
            with self.conn.cursor().copy(SQL["copy_event"]) as stream:
                for event in events:
                    at = datetime.fromtimestamp(event.observed_at, UTC)
                    stream.write_row((at, event.terminal_id, event.name, Jsonb(event.body)))

    def _news(self, moves: list[SealedEvent]) -> list[SealedEvent]:
        """Those that no worker has noted before; they are noted."""
        pairs = {(move.terminal_id, str(move.body["new"])): move for move in moves}
        columns = [list(column) for column in zip(*pairs, strict=True)]
        return [pairs[pair] for pair in self.conn.execute(SQL["terminal_gateway"], columns)]

    def _heard(
        self, batch: Batch, fresh: Sealed, gateways: dict[str, int | None], now: float, registry: Registry
    ) -> dict[str, Any]:
        """What the batch says of who is there, for the observer."""
        online = registry.metrics.get("online")
        said = presence(fresh, online.id if online else None)
        bitmaps = {name: ids.serialize() if ids else None for name, ids in said._asdict().items()}
        counted = quality(batch, fresh, registry)
        return {"at": now, "client": self._client, "gateways": Jsonb(gateways) if gateways else None,
                "quality": Jsonb(counted) if counted else None} | bitmaps  # fmt: skip
