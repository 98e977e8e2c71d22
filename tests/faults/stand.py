"""Everything a case needs, real and on this machine, with our proxies between.

    gateways -> proxy `to_gateways` -> Mosquitto -> proxy `to_broker` -> workers -> proxy `to_database` -> PostgreSQL

Proxies and gateways run on an event loop in a thread of its own; cases are plain functions on another.
"""

import asyncio
import inspect
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from threading import Thread
from typing import Any, Self

import psycopg

from ingest import migrate
from ingest.connection import connect
from tests.brokers import Mosquitto, free_port
from tests.faults.acknowledgements import Deliveries
from tests.faults.obligations import SPAN, TERMINALS, Fleet, Ledger, Message
from tests.postgres import Postgres, program_folders, timescale_programs
from tests.proxy import Proxy
from tests.worker import Worker, environment

PATIENCE_SECONDS = 60


class Loop:
    """An event loop in a thread of its own."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="stand", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _end() -> None:
        """No task is left, and every connection that was aborted has been closed."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What a function or coroutine function answers, called on the loop."""

        async def call() -> Any:
            answer = function(*arguments, **named)
            return await answer if inspect.isawaitable(answer) else answer

        coroutine: Coroutine[Any, Any, Any] = call()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class Remote:
    """Something that lives on the loop: its methods may be called from here, and what they answer is what it is."""

    def __init__(self, loop: Loop, there: Any) -> None:
        self._loop = loop
        self._there = there

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._there, name)
        if not callable(attribute):
            return attribute
        return lambda *arguments, **named: self._loop.run(attribute, *arguments, **named)


class Stand:
    """A context manager. `folder` keeps the logs; `database` is a server and the URL of a migrated database on it.

    Without one it starts a server of its own, with TimescaleDB where there is one and it is wanted, in the folder that
    `server_folder` makes: a context of a path.
    """

    def __init__(
        self,
        folder: Path,
        database: tuple[Postgres, str] | None = None,
        *,
        server_folder: Callable[[], AbstractContextManager[Path | None]] = nullcontext,
        migrated: bool = True,
        timescale: bool = True,
    ) -> None:
        self.folder = folder
        self.ledger = Ledger()
        self.deliveries = Deliveries()
        self.workers: list[Worker] = []
        self.memory_before_bytes: dict[Worker, int] = {}
        self.broker_killed_at: list[float] = []
        self.recovery_seconds = 0.0
        self.notes: list[str] = []
        """What a case has measured, for the table."""
        self.faults: list[str] = []
        """What a case has found wrong, beside what the judgement finds."""
        self.fleet: Any = None
        self._database = database
        self.server_folder: Path | None = None
        self._make_server_folder = server_folder
        self._migrated = migrated
        self._timescale = timescale
        self._numbers = itertools.count(1)
        self._stack = ExitStack()
        self._loop = Loop()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._loop)
            self.server, self.url = self._database or self._own_database(stack)
            self.broker = stack.enter_context(Mosquitto(None, free_port(), self.folder))
            self.to_gateways = self._proxy(stack, self.broker.port)
            self.to_broker = self._proxy(stack, self.broker.port, watch=self.deliveries.watch)
            self.to_database = self._proxy(stack, self.server.port)
            stack.callback(lambda: self.fleet and self.fleet.abort())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)

    def _own_database(self, stack: ExitStack) -> tuple[Postgres, str]:
        programs = timescale_programs() if self._timescale else None
        self.server_folder = stack.enter_context(self._make_server_folder())
        server = stack.enter_context(Postgres(programs or program_folders()[-1], timescale=bool(programs),
                                              parent=self.server_folder))  # fmt: skip
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("CREATE DATABASE faults")
        url = server.url("faults")
        if self._migrated:
            with connect(url) as conn:
                migrate.migrate(conn)
        return server, url

    def _proxy(self, stack: ExitStack, port: int, **options: Any) -> Any:
        proxy = Remote(self._loop, Proxy(port, keep=False, **options))
        proxy.start()
        stack.callback(proxy.stop)
        return proxy

    # what a case starts

    def proxy(self, port: int) -> Any:
        """One more proxy, to this port."""
        return self._proxy(self._stack, port)

    def worker(self, *, wait: bool = True, **settings: object) -> Worker:
        """A worker, ready unless told not to `wait`."""
        worker = self._start("ingest", settings)
        self.workers.append(worker)
        if wait:
            worker.wait_ready()
        return worker

    def command(self, *arguments: str, **settings: object) -> str:
        """What `ganzhi` says with these arguments on this database. Fails when it does."""
        done = subprocess.run([sys.executable, "-m", "ingest.cli", *arguments], capture_output=True, text=True,
                              env=environment(database_url=self.url, **settings), timeout=2 * PATIENCE_SECONDS,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def observer(self, **settings: object) -> Worker:
        """The observer, without waiting for it."""
        return self._start("observe", settings)

    @property
    def settings(self) -> dict[str, object]:
        """Of a worker: broker and database by way of the proxies."""
        database = self.url.replace(f":{self.server.port}/", f":{self.to_database.port}/")
        return {"mqtt_url": f"mqtt://127.0.0.1:{self.to_broker.port}", "database_url": database}

    def _start(self, command: str, settings: dict[str, object]) -> Worker:
        log = self.folder / f"{command}-{next(self._numbers)}.log"
        worker = Worker(log, command, **(self.settings | settings))
        self._stack.callback(worker.__exit__)
        worker.start()
        return worker

    def publish(self, messages_per_second: float = 500, gateways: int = 4) -> Any:
        """Start the gateways, once; they publish until the case has been judged. A `Fleet`."""
        assert self.fleet is None, "the gateways publish already"
        port = self.to_gateways.port
        self.fleet = Remote(
            self._loop, self._loop.run(Fleet, self.ledger, port, messages_per_second, gateways)
        )
        return self.fleet

    def publish_again(self, messages: Iterable[Message], gateways: int = 4) -> None:
        """Publish these once more, as new messages by other gateways; until the broker has taken them all."""
        ledger = Ledger()  # they are no obligations, and no new numbers
        fleet = Remote(self._loop, self._loop.run(Fleet, ledger, self.to_gateways.port, 0, gateways))
        fleet.extra.extend(messages)
        fleet.stop(PATIENCE_SECONDS)
        assert all(ledger.taken_at), "the broker did not take what was published again"

    def warm_up(self) -> None:
        """Wait until readings are stored and all terminals registered, and note what memory each worker takes."""
        self.wait(lambda: self.count("reading") > 1_000, "storing readings")
        terminals = TERMINALS * len(self.ledger.next_numbers)
        self.wait(lambda: self.count("terminal") >= terminals, "acquainted with all terminals")
        self.memory_before_bytes |= {worker: worker.memory_bytes() for worker in self.workers if worker.alive}

    # what a case does and asks

    def healed(self) -> float:
        """The fault is over: seconds until a reading is in the database that was not yet published now."""
        begun = time.monotonic()
        numbers = [next_number + 1 for next_number in self.ledger.next_numbers]
        fresh = """SELECT FROM reading JOIN unnest(%s::float8[]) AS fresh (number)
                   ON value BETWEEN number AND number + %s LIMIT 1"""
        self.wait(lambda: self.rows(fresh, numbers, SPAN / 2), "storing new readings", 2 * PATIENCE_SECONDS)
        seconds = time.monotonic() - begun
        self.recovery_seconds = max(self.recovery_seconds, seconds)
        return seconds

    def kill_broker(self) -> None:
        """SIGKILL; what it acknowledged in its last seconds was not on its disk."""
        self.broker_killed_at.append(time.time())
        self.broker.kill()

    def wait(self, done: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Ask until `done`. Fails when it takes too long, and when the database stays away."""
        deadline, fault = time.monotonic() + seconds, None
        while True:
            try:
                if done():
                    return
            except psycopg.OperationalError as error:
                fault = error
            assert time.monotonic() < deadline, f"not {what} after {seconds} s; {fault or ''}"
            time.sleep(0.05)

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """What a query answers, past the proxy."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=10) as conn:
            return conn.execute(query, arguments).fetchall()

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])

    def execute(self, *statements: str) -> None:
        """Run statements that answer nothing, past the proxy."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement)
