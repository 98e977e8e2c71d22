"""`ganzhi rejections`: what was refused, shown, and run again after a fix.

A replay takes the refused readings of a message and nothing else, past the ledger; what lands, and the
mark that it did, are one transaction, so that it happens once. It is no sign of life of its terminals.
"""

import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from devices.registry import Registry
from devices.store import Directory
from ingest.batch import Batch, refused_readings
from ingest.births import Births
from ingest.chunks import TooWideError
from ingest.decode import Decode, decoders
from ingest.migrate import storage_of
from ingest.rejections import details
from ingest.resolve import Resolver
from ingest.seal import seal
from ingest.sealed import Sealed
from ingest.settings import OnUnknownGateway, Settings
from ingest.store import Store
from ingest.terminals import SQL as TERMINALS
from schemas.message import Message
from schemas.reading import Part
from schemas.rejection import Refusal
from schemas.routes import Routes
from schemas.sql import queries

SQL = queries("rejections.sql")
CHUNK = 100
"""Rejections in one transaction, which keeps workers from registering new terminals while it lasts."""


@dataclass(slots=True)
class Replayed:
    """What a replay came to; `readings` were stored, `events` too, `refused` rejections stay open."""

    rejections: int = 0
    resolved: int = 0
    refused: int = 0
    readings: int = 0
    events: int = 0


class Quarantine:
    """Open rejections, replayed over one connection that nothing else uses."""

    def __init__(self, conn: Connection[Any], settings: Settings) -> None:
        self._conn = conn
        self._settings = settings
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Know nothing: what a transaction brought that was rolled back must not be remembered."""
        conn, settings = self._conn, self._settings
        self._registry = Registry()
        self._resolver = Resolver(self._registry, settings.unknown_terminals, settings.unknown_metrics,
                                  settings.registrations_per_gateway_hour)  # fmt: skip
        self._resolver.load(Directory(conn))
        births = Births(time.time, alone=False)
        self._decode = Decode(Routes.load(settings.routes), settings.max_payload_bytes, self._registry,
                              only_known_gateways=settings.unknown_gateways is OnUnknownGateway.REJECT,
                              gateway_division=settings.gateway_division,
                              by_name=decoders(settings) | {"sparkplug": births.reader(conn)})  # fmt: skip
        self._store = Store(conn, storage_of(conn), f"{settings.client_id}-replay", lambda _: False)
        self._max_age_seconds = settings.max_age_seconds

    def replay(self, *, reason: str | None, division: int | None, dry_run: bool) -> Iterator[Replayed]:
        """Replay open rejections, oldest first, a transaction for each chunk; yields the sums after each.

        One that spans more days than a transaction may touch stays open; a chunk that does is taken one by one.
        """
        done, after, at_once = Replayed(), 0, CHUNK
        asked = {"reason": reason, "division": division}
        while True:
            rows: list[Any] = []
            try:
                with self._conn.transaction(force_rollback=dry_run):
                    chosen = asked | {"after": after, "limit": at_once}
                    rows = self._conn.execute(SQL["open"], chosen).fetchall()
                    if not rows:
                        return
                    self._replay_and_note(rows, done, asked)
            except TooWideError:
                self._begin_anew()
                if len(rows) > 1:
                    at_once = 1
                    continue
                done.rejections, done.refused = done.rejections + 1, done.refused + 1
            after = rows[-1][0]
            if dry_run:
                self._begin_anew()
            yield done

    def _replay_and_note(self, rows: list[Any], done: Replayed, asked: dict[str, Any]) -> None:
        before = astuple(done)
        self._replay_chunk(rows, done)
        did = {f.name: n - b for f, n, b in zip(fields(done), astuple(done), before, strict=True)}
        note = ["rejections replay", f"{rows[0][0]} to {rows[-1][0]}", Jsonb(did | asked)]
        self._conn.execute(TERMINALS["audit"], note)

    def _replay_chunk(self, rows: list[Any], done: Replayed) -> None:
        batch = Batch()
        for _, received_at, topic, content_type, payload, detail in rows:
            message = Message(topic, payload, received_at, content_type)
            way, parts = self._decode(message)
            refused = _indexes(detail)
            batch.add(
                message, way.place, parts if None in refused else [_only(part, refused) for part in parts]
            )
        targets = self._resolver(Directory(self._conn), batch)
        sealed = seal(batch, targets, self._registry, self._max_age_seconds)
        self._store.write_again(sealed)
        done.readings += len(sealed.rows)
        done.events += len(sealed.events)
        _mark(self._conn, batch, sealed, [row[0] for row in rows], done)


def _indexes(detail: list[dict[str, Any]]) -> set[int | None]:
    """The places that were refused, as they are kept; None for the whole message."""
    whole = {entry["index"] for entry in detail}
    return whole.union(*(range(e["index"], e["index"] + e["count"]) for e in detail if "count" in e))


def _mark(conn: Connection[Any], batch: Batch, sealed: Sealed, ids: list[int], done: Replayed) -> None:
    still: dict[int, list[Refusal]] = {}
    for part, refusals in sealed.refusals.items():
        still.setdefault(batch.message_of[part], []).extend(refusals)
    for number, refusals in still.items():
        rejected = refused_readings(refusals)
        conn.execute(SQL["keep"], [refusals[0].reason, rejected, details(refusals), ids[number]])
    resolved = [id_ for number, id_ in enumerate(ids) if number not in still]
    conn.execute(SQL["resolve"], [resolved])
    done.rejections += len(ids)
    done.resolved += len(resolved)
    done.refused += len(still)


def _only(part: Part, indexes: set[int | None]) -> Part:
    """The readings, events and refusals of a part that were refused before."""
    chosen = [i for i, index in enumerate(part.indexes) if index in indexes]
    return Part(
        [part.names[i] for i in chosen],
        [part.units[i] for i in chosen],
        [part.values[i] for i in chosen],
        [part.times[i] for i in chosen],
        [part.indexes[i] for i in chosen],
        [event for event in part.events if event.index in indexes],
        [refusal for refusal in part.refusals if refusal.index is None or refusal.index in indexes],
        part.identity,
        [part.identities[i] for i in chosen] if part.identities else (),
        part.absolute,
    )
