"""The writer: connects, resolves, seals and stores batches, one after the other, in a thread of its own."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg import Connection

from devices.registry import Registry
from devices.store import Directory
from ingest.batch import Batch
from ingest.births import Births, Decoded
from ingest.chunks import TooWideError
from ingest.connection import break_off, connect
from ingest.failure import Failure, classify
from ingest.feedback import Feedback
from ingest.migrate import NewerSchemaError, SchemaError, storage_of
from ingest.outcome import Outcome
from ingest.quota import PerMinute
from ingest.resolve import Resolver
from ingest.seal import seal
from ingest.sealed import Sealed
from ingest.settings import Settings
from ingest.store import Store

log = structlog.get_logger()
T = TypeVar("T")
NAMED_GATEWAYS = 5
LOOK_SECONDS = 5
"""How often the registry's version is read: changes are to be seen within 10 s."""


class UnavailableError(Exception):
    """The database can't take the batch now; it may later."""


class RefusedError(Exception):
    """The database refuses the data, and would again; the text says why, without the data."""


class Writer:
    """Writes batches over a connection that it makes anew when it breaks. One thread at a time."""

    def __init__(
        self,
        settings: Settings,
        client_id: str,
        unstored: Callable[[int], bool],
        clock: Callable[[], float],
    ) -> None:
        self.registry = Registry()
        self._resolver = Resolver(self.registry, settings.unknown_terminals, settings.unknown_metrics,
                                  settings.registrations_per_gateway_hour)  # fmt: skip
        self._url = settings.database_url.get_secret_value()
        self._client_id = client_id
        self._unstored = unstored
        self._clock = clock
        self._max_age_seconds = settings.max_age_seconds
        self._feedback = Feedback(self.registry.division_of)
        self._births = Births(clock, alone=not settings.share_group)
        self._store: Store | None = None
        self._conn: Connection[Any] | None = None
        """The last one, ready or not."""
        self.had_session = False
        """Whether the broker should have a session of this client: as the database had it at the last connect."""
        self._registry_free = threading.Lock()
        """Held by whoever resolves, seals or loads: the loop, which never waits for it, or the writer's thread."""
        self._complaints = PerMinute(1, clock)
        self._looked_at = 0.0
        self._version: tuple[Any, ...] = ()
        self._against: tuple[str, ...] = ()
        """What turns direct compress off, as the log has it."""

    def write(
        self,
        batch: Batch,
        sealed: Callable[[], object] = lambda: None,
        ready: Sealed | None = None,
    ) -> Outcome:
        """Write a batch, which may be `ready`; `sealed` is called when the rest is the database's work.

        Raises `UnavailableError` or `RefusedError`; then nothing of it is stored.
        """
        try:
            writer = self._connected()
            self._refresh(writer)
            if not ready or ready.generation != self.registry.generation:
                ready = self._resolved(writer, batch)
            sealed()
            outcome = writer.write(batch, ready, self.registry)
            self._met(ready)
        except psycopg.Error as error:
            raise self._failure(error) from error
        except SchemaError as error:
            raise UnavailableError(str(error)) from error
        except TooWideError as error:
            raise RefusedError(f"{error}: send it in smaller messages") from error
        except Exception as error:  # costs the message that brings it about, never the service
            log.exception("write_failed")
            raise RefusedError(f"a fault of this service: {type(error).__name__}") from error
        self._tell_compression(writer)
        self._tell_resets(outcome)
        outcome.feedback = self._feedback(batch, outcome.refusals, self._clock())
        return outcome

    def ready(self, batch: Batch) -> Sealed | None:
        """The batch sealed without the database, if all of it is known and the registry is free. From any thread.

        On the loop, which has the time while it waits for room: two threads that compute at once, on two processors,
        take a fifth more of both (measured) and the database waits for them.
        """
        if batch.undecoded or not self._registry_free.acquire(blocking=False):
            return None
        try:
            targets = self._resolver.known(batch)
            return seal(batch, targets, self.registry, self._max_age_seconds) if targets else None
        except Exception:  # noqa: BLE001  raised again where it is written, and told there
            return None
        finally:
            self._registry_free.release()

    def _resolved(self, writer: Store, batch: Batch) -> Sealed:
        with self._registry_free:
            targets = self._resolver(Directory(writer.conn), batch)
            return seal(batch, targets, self.registry, self._max_age_seconds)

    def _met(self, written: Sealed) -> None:
        """Ways of terminals are news no more, once they are committed."""
        if written.moves:
            with self._registry_free:
                for move in written.moves:
                    self.registry.met(move.terminal_id, *move.body.values())

    def decode(self, batch: Batch) -> Decoded:
        """Decode what needs the database for it: Sparkplug. Raises `UnavailableError`."""
        if not batch.undecoded:
            return Decoded(batch)
        return self._guarded(lambda: self._births.decode(self._connected().conn, batch))

    def connect(self) -> None:
        """Connect and load what the path needs. Raises `UnavailableError`, also before migrations are done.

        Raises `NewerSchemaError` where waiting is in vain; one that is upgraded under a worker lets it finish.
        """
        try:
            self._guarded(self._connected)
        except UnavailableError as error:
            if isinstance(error.__cause__, NewerSchemaError):
                raise error.__cause__ from None
            raise

    def idle(self) -> None:
        """See that the database is there, and read what may have changed. Raises `UnavailableError`."""
        self._guarded(lambda: self._refresh(self._connected()))

    def _guarded(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except psycopg.Error as error:
            raise UnavailableError(str(self._failure(error))) from error
        except SchemaError as error:
            raise UnavailableError(str(error)) from error

    def break_off(self) -> None:
        """End the connection under the thread that waits for its server. From any thread."""
        if self._conn:
            break_off(self._conn)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._store:
            self._store.conn.close()
            self._store = None

    def _connected(self) -> Store:
        if self._store is None:
            conn = connect(self._url, made=self._keep)
            try:
                self._store = self._prepared(conn)
            except BaseException:
                conn.close()
                raise
        return self._store

    def _keep(self, conn: Connection[Any]) -> None:
        self._conn = conn

    def _prepared(self, conn: Connection[Any]) -> Store:
        storage = storage_of(conn)
        if storage == "timescale":
            conn.execute("SET timescaledb.enable_direct_compress_copy = on")
        self._load(conn)
        self._births.forget()
        log.info("database_connected", storage=storage, server=conn.info.server_version)
        ready = Store(conn, storage, self._client_id, self._unstored)
        self.had_session = ready.had_session
        self._tell_compression(ready)
        return ready

    def _tell_compression(self, ready: Store) -> None:
        """Log once each time that direct compress is turned off, or on again."""
        if ready.against == self._against:
            return
        self._against = ready.against
        if self._against:
            log.warning("direct_compress_off", reason=", ".join(self._against), advice="ganzhi check")
        else:
            log.info("direct_compress_on")

    def _tell_resets(self, outcome: Outcome) -> None:
        """Name gateways that use numbers again, once a minute at most."""
        if outcome.sequence_resets and self._complaints.take():
            gateways = [gateway for gateway, _ in outcome.sequence_resets.most_common(NAMED_GATEWAYS)]
            log.warning("sequence_reset", gateways=gateways, messages=outcome.sequence_resets.total(),
                        advice="let the gateway raise epoch when it numbers anew: docs/numbering.md")  # fmt: skip

    def _load(self, conn: Connection[Any]) -> None:
        """Know nothing but what the database says now: one that failed over may have other ids."""
        with self._registry_free:
            self._version = Directory(conn).version()
            self.registry.clear()
            self._resolver.load(Directory(conn))

    def _refresh(self, ready: Store) -> None:
        now = self._clock()
        if abs(now - self._looked_at) > LOOK_SECONDS:
            self._looked_at = now
            ready.look()
            self._tell_compression(ready)
            if Directory(ready.conn).version() != self._version:
                self._load(ready.conn)

    def _failure(self, error: psycopg.Error) -> UnavailableError | RefusedError:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        kind = classify(error.sqlstate, data_error=isinstance(error, psycopg.DataError))
        if kind is Failure.REFUSED:
            return RefusedError(f"{error.sqlstate or 'driver'}: {error.diag.message_primary or text}")
        self.close()
        return UnavailableError(f"{error.sqlstate or 'connection'}: {text}")
