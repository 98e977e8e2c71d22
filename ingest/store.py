"""A sealed batch in one transaction: ledger, readings, events, rejections, heard terminals.

Knows one synchronous connection, used from one thread: libpq waits without the GIL, while the loop
decodes the next batch (measured: 0.54 of the COPY ceiling, an asyncio COPY starves). What a failure
means is `failure`'s to say.
"""

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.copy import LibpqWriter
from psycopg.errors import CheckViolation
from psycopg.types.json import Jsonb

from devices.registry import Registry
from ingest import births, copy
from ingest.batch import Batch, element_count, refused_readings
from ingest.chunks import Chunks, TooWideError
from ingest.heard import Publishers, presence, quality
from ingest.numbering import Numbered
from ingest.sealed import FLAGS, Sealed, SealedEvent
from schemas.payload import shown
from schemas.rejection import GARBAGE, Reason, Refusal
from schemas.sql import queries

SQL = queries("ingest.sql")
CHECK = queries("check.sql")
APPLICATION = "ganzhi"
SESSION = {
    "statement_timeout": "60s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
    "timezone": "UTC",
}
"""A worker that hangs holds keys that others wait for; none of it may last."""
CONNECT_SECONDS = 10
ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""A server that vanished without a word is given up after 30 s (libpq: seconds, but for the last)."""
DETAILED_REFUSALS = 1_000
"""Refusals of one message that are kept in words; a pack can bring a million, the others keep place and reason."""
FIRST_DAY = date(2000, 1, 1)
DAYS_AT_ONCE = 50
DAYS_MAX = 500
"""Partitions that one transaction may touch: each is locked, with its indexes, in a table of fixed size."""
REJECTION_TYPES = ("timestamptz", "text", "int4", "text", "text", "int4", "int4", "jsonb", "text", "bytea")
KEPT_BYTES = 65_536
"""Of a payload that is too large: enough to see who sends what."""


@dataclass(slots=True)
class Outcome:
    """What became of a batch's messages and readings, to be counted once it is committed."""

    messages_committed: int = 0
    messages_duplicate: int = 0
    messages_rejected: Counter[str] = field(default_factory=Counter)
    refused: dict[int, Refusal] = field(default_factory=dict)
    """By number of the message: the first refusal of each of which nothing could be stored."""
    refusals: dict[int, list[Refusal]] = field(default_factory=dict)
    """By number of the message, in order of their places: all of what is new."""
    feedback: list[tuple[str, bytes]] = field(default_factory=list)
    """Topics and payloads that tell gateways of refusals, to be published once it is committed."""
    readings_committed: Counter[str] = field(default_factory=Counter)
    """By domain."""
    readings_duplicate: int = 0
    readings_rejected: Counter[str] = field(default_factory=Counter)
    readings_flagged: Counter[str] = field(default_factory=Counter)
    events_committed: int = 0
    rejections_unstored: int = 0
    sequence_resets: Counter[str] = field(default_factory=Counter)
    """By gateway: messages under a number that had brought another one in the same epoch."""
    observed_at: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Device times of the committed readings, Unix seconds."""
    direct_compress: bool = False


def connect(
    url: str,
    *,
    application: str = APPLICATION,
    patient: bool = False,
    made: Callable[[Connection[Any]], object] = lambda _: None,
) -> Connection[Any]:
    """A connection as the writer needs it; `patient`: without time limits, for migrations and their locks.

    `made` gets it before anything is asked on it, which may wait for ever.
    Raises `psycopg.OperationalError` when the server is out of reach.
    """
    info = make_conninfo(url, connect_timeout=CONNECT_SECONDS, application_name=application, **ALIVE)
    conn = psycopg.connect(info, autocommit=True)
    made(conn)
    for name, value in SESSION.items():
        if not (patient and name.endswith("_timeout")):
            conn.execute("SELECT set_config(%s, %s, false)", [name, value])
    copy.register(conn)
    return conn


def break_off(conn: Connection[Any]) -> None:
    """End a connection under the thread that waits for its server; there it is an error. From any thread.

    A server that hangs while its kernel answers keeps a connection for ever: no time limit of TCP ends it, and
    those of statements are the server's own.
    """
    with (
        contextlib.suppress(OSError, psycopg.OperationalError),  # closed meanwhile: that was the aim
        socket.socket(fileno=os.dup(conn.fileno())) as same,
    ):
        same.shutdown(socket.SHUT_RDWR)


class Store:
    """Writes sealed batches over one connection."""

    def __init__(
        self, conn: Connection[Any], storage: str, client: str, unstored: Callable[[int], bool]
    ) -> None:
        self.conn = conn
        self._client, self.had_session = _client_id(conn, client)
        """`had_session`: this client committed before, in whatever process, and its session was not ended since."""
        self._days: dict[str, set[int]] | None = None
        if storage == "postgres":
            self._forget_days()
        self._unstored = unstored
        self._publishers = Publishers()
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
            self._forget_days()
            return self._write(batch, sealed, registry)

    def _write(self, batch: Batch, sealed: Sealed, registry: Registry) -> Outcome:
        self._make_days(sealed)
        self._check_width(sealed)
        now = max(message.received_at for message in batch.messages)
        with self.conn.transaction():
            known = self._known(batch)
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
            outcome.rejections_unstored = self._copy_rejections(batch, outcome.refusals)
            births.keep(self.conn, (birth for part, birth in batch.births if not known[part]))
            self.conn.execute(SQL["heard"], heard)
            outcome.sequence_resets = numbered.keep(fresh)
        self._publishers.told(gateways, now)
        outcome.direct_compress = self._compressed
        return outcome

    def write_again(self, sealed: Sealed) -> None:
        """Write readings and events past the ledger, in the caller's transaction; nobody counts as heard."""
        self._make_days(sealed)
        self._check_width(sealed)
        with self._copying(sealed.rows):
            pass
        self._copy_events(sealed.events)

    def _check_width(self, sealed: Sealed) -> None:
        """Refuse what reaches over more chunks of the timescale storage than the server has locks for."""
        if self._chunks:
            events = (
                np.array([event.observed_at for event in sealed.events], np.float64) - copy.POSTGRES_EPOCH
            )
            self._chunks.check(sealed.rows["observed_at"].astype(np.int64), (events * 1e6).astype(np.int64))

    def _forget_days(self) -> None:
        self._days = {"reading": set(), "event": set()}

    def _make_days(self, sealed: Sealed) -> None:
        """Partitions of the postgres storage for the days that the batch holds, before its transaction."""
        if self._days is None:
            return
        days = np.unique(sealed.rows["observed_at"].astype(np.int64) // 86_400_000_000).tolist()
        events = {
            int((event.observed_at - copy.POSTGRES_EPOCH) // 86_400) for event in sealed.events + sealed.moves
        }
        if len(days) + len(events) > DAYS_MAX:
            raise TooWideError(f"it holds {len(days) + len(events)} days, one transaction takes {DAYS_MAX}")
        for table, wanted in (("reading", set(days)), ("event", events)):
            new = sorted(wanted - self._days[table])
            for begin in range(0, len(new), DAYS_AT_ONCE):
                piece = new[begin : begin + DAYS_AT_ONCE]
                self.conn.execute(SQL["ensure_days"], [table, [FIRST_DAY + timedelta(day) for day in piece]])
                self._days[table].update(piece)

    def _known(self, batch: Batch) -> npt.NDArray[np.bool_]:
        """Which parts count already: in the ledger, earlier in this batch, or retained by the broker."""
        known = np.zeros(len(batch.digests), np.bool_)
        timed: dict[bytes, int] = {}
        timeless: dict[tuple[int, int], int] = {}
        retained = {n for n, message in enumerate(batch.messages) if message.retain}
        for part, (digest, number) in enumerate(zip(batch.digests, batch.message_of, strict=True)):
            if number in retained:
                known[part] = True
            elif part not in batch.nonces:
                known[part] = timed.setdefault(digest, part) != part
            elif (packet_id := batch.messages[number].packet_id) is not None:
                timeless[packet_id, part - batch.first_part[number]] = part
        self._ask_ledger(timed, known)
        self._ask_timeless(batch, timeless, known)
        return known

    def _ask_ledger(self, timed: dict[bytes, int], known: npt.NDArray[np.bool_]) -> None:
        if not timed:
            return
        keys = list(timed)
        row = self.conn.execute(
            SQL["ledger"], [copy.UuidArray.of(keys), self._client], binary=True
        ).fetchone()
        for place in row[0] if row else ():
            known[timed[keys[place]]] = True

    def _ask_timeless(
        self, batch: Batch, timeless: dict[tuple[int, int], int], known: npt.NDArray[np.bool_]
    ) -> None:
        if not timeless:
            return
        ids, parts = (list(column) for column in zip(*timeless, strict=True))
        digests = copy.UuidArray.of([batch.digests[n] for n in timeless.values()])
        nonces = copy.UuidArray.of([batch.nonces[n] for n in timeless.values()])
        again = [key[0] for key, n in timeless.items() if batch.messages[batch.message_of[n]].duplicate]
        new = self.conn.execute(
            SQL["ledger_timeless"], [self._client, ids, parts, digests, nonces, again]
        ).fetchall()
        for key in timeless.keys() - set(new):
            known[timeless[key]] = True

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
                    stream.write_row(
                        (_time(event.observed_at), event.terminal_id, event.name, Jsonb(event.body))
                    )

    def _news(self, moves: list[SealedEvent]) -> list[SealedEvent]:
        """Those that no worker has noted before; they are noted."""
        pairs = {(move.terminal_id, str(move.body["new"])): move for move in moves}
        columns = [list(column) for column in zip(*pairs, strict=True)]
        return [pairs[pair] for pair in self.conn.execute(SQL["terminal_gateway"], columns)]

    def _copy_rejections(self, batch: Batch, by_message: dict[int, list[Refusal]]) -> int:
        """Writes a row for each message with refusals; answers how many of garbage were only counted."""
        stored = {
            n: r
            for n, r in by_message.items()
            if any(one.reason not in GARBAGE for one in r)
            or not self._unstored(len(_kept(batch.messages[n].payload, r)))
        }
        if stored:
            with self.conn.cursor().copy(SQL["copy_rejection"]) as stream:
                stream.set_types(REJECTION_TYPES)
                for number, refusals in stored.items():
                    stream.write_row(_rejection_row(batch, number, refusals))
        return len(by_message) - len(stored)

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


def count(batch: Batch, fresh: Sealed, known: npt.NDArray[np.bool_], registry: Registry) -> Outcome:
    """What became of each message and reading; pure."""
    outcome, rows = Outcome(events_committed=len(fresh.events)), fresh.rows
    stored = np.bincount(fresh.part_of_row, minlength=len(batch.digests))
    for event in fresh.events:
        stored[event.part] += 1
    message_of = np.array(batch.message_of)
    new = np.bincount(message_of, ~known, len(batch.messages)) > 0
    landed = np.bincount(message_of, stored, len(batch.messages)) > 0
    outcome.messages_duplicate = int((~new).sum())
    outcome.refusals = by_message = _by_message(batch, fresh)
    for number in by_message.keys() - set(np.flatnonzero(landed).tolist()):
        outcome.refused[number] = by_message[number][0]
        outcome.messages_rejected[by_message[number][0].reason] += 1
    outcome.messages_committed = (
        len(batch.messages) - outcome.messages_duplicate - outcome.messages_rejected.total()
    )
    for number in np.flatnonzero(known).tolist():
        outcome.readings_duplicate += batch.readings_of(number)
    for refusals in fresh.refusals.values():
        for refusal in refusals:
            if refusal.index is not None and not refusal.event:
                outcome.readings_rejected[refusal.reason] += refusal.count
    identities = Counter(event.cell for event in fresh.events if event.cell is not None)
    for cell, n in (*enumerate(np.bincount(rows["cell_id"]).tolist()), *identities.items()):
        if n:
            outcome.readings_committed[registry.domain_of_cell[cell]] += n
    flagged = np.bincount(rows["quality"])
    for name, bit in FLAGS.items():
        outcome.readings_flagged[name] = int(flagged[np.arange(len(flagged)) & bit != 0].sum())
    outcome.observed_at = rows["observed_at"] / 1e6 + copy.POSTGRES_EPOCH
    return outcome


def _by_message(batch: Batch, fresh: Sealed) -> dict[int, list[Refusal]]:
    """Refusals by number of the message, in order of their places."""
    found: dict[int, list[Refusal]] = {}
    for part, refusals in fresh.refusals.items():
        found.setdefault(batch.message_of[part], []).extend(refusals)
    for refusals in found.values():
        refusals.sort(key=_place)
    return found


def _place(refusal: Refusal) -> int:
    return -1 if refusal.index is None else refusal.index


def _rejection_row(batch: Batch, number: int, refusals: list[Refusal]) -> tuple[Any, ...]:
    message, place = batch.messages[number], batch.places[number]
    total = element_count(batch.parts_of(number))
    rejected = refused_readings(refusals)
    return (
        _time(message.received_at), message.topic, place.division, place.gateway, str(refusals[0].reason),
        rejected, total, details(refusals), message.content_type and shown(message.content_type),
        _kept(message.payload, refusals),
    )  # fmt: skip


def _kept(payload: bytes, refusals: list[Refusal]) -> bytes:
    return payload[:KEPT_BYTES] if refusals[0].reason is Reason.TOO_LARGE else payload


def details(refusals: list[Refusal]) -> Jsonb:
    """Refusals as they are kept: place and reason of each, in words only the first so many."""
    kept = [Refusal(r.index, r.reason, r.detail, r.hint, count=r.count) if r.event or r.content is not None else r
            for r in refusals[:DETAILED_REFUSALS]]  # fmt: skip
    kept += [Refusal(r.index, r.reason, count=r.count) for r in refusals[DETAILED_REFUSALS:]]
    return Jsonb(kept, msgspec.json.encode)


def end_session(url: str, client: str) -> None:
    """Note that this client's session is ended on purpose. Raises psycopg.Error."""
    with connect(url) as conn:
        conn.execute(SQL["end_session"], [client])


def _client_id(conn: Connection[Any], name: str) -> tuple[int, bool]:
    row = conn.execute(SQL["client_id"], {"name": name}).fetchone()
    assert row is not None
    return int(row[0]), bool(row[1])


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
