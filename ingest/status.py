"""`ganzhi status`: is it well, what is stuck, since when? From the workers' metrics and the database."""

import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.errors import InsufficientPrivilege
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ingest import gaps, scrape
from ingest.cli_gaps import KINDS_ZH
from ingest.migrate import SchemaError, storage_of
from ingest.scrape import Answer, Values
from ingest.settings import Settings
from ingest.terminal import FAILED, OUT_OF_REACH, CommandError, database, out_of_reach, shown
from schemas.sql import queries

SQL = queries("status.sql")
BETWEEN_SECONDS = 2.0
STUCK_SECONDS = 60.0
"""As the alert GanzhiAcknowledgementsStuck; a batch normally commits within a second."""
WAKING = {"dark", "outage", "gateway_offline"}
"""Kinds of gaps that somebody has to see to now; the others are plans and installations."""
GAPS_SHOWN = 5
ACCOUNTS = ("received", "committed", "duplicate", "rejected")
HEADINGS = ("工作进程\nworker", "代理\nbroker", "数据库\ndatabase", "在途\nin flight", "最早\noldest",
            "消息/秒\nmessages/s", "读数/秒\nreadings/s", "账目\nbooks")  # fmt: skip
TOTALS = (
    "累计\ntotals",
    "收到\nreceived",
    "入库\ncommitted",
    "重复\nduplicate",
    "拒收\nrejected",
    "在途\nin flight",
)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker between two scrapes, `seconds` apart; `fault` when the second one failed."""

    number: int
    before: Values
    now: Values
    seconds: float
    fault: str = ""
    database: str = ""
    """Identity of the database that it writes to; empty: it did not say."""

    def value(self, name: str) -> float:
        """A sample of the second scrape, 0 where there is none."""
        return self.now.get(name, 0.0)

    def rate(self, name: str) -> float:
        """Growth of a counter per second; 0 for one that began anew."""
        return max(0.0, self.value(name) - self.before.get(name, 0.0)) / self.seconds

    def astray(self, kind: str) -> int:
        """How many `messages` or `readings` the books miss (more than 0) or have too many."""
        received, *accounts = (self.value(f"ganzhi_{kind}_{account}_total") for account in ACCOUNTS)
        return round(received - sum(accounts) - self.value(f"ganzhi_{kind}_in_flight"))


@dataclass(frozen=True, slots=True)
class Database:
    """What the database says, or in `fault` why it says nothing; times in Unix seconds."""

    fault: str = ""
    reached: bool = True
    storage: str = ""
    committed_at: float | None = None
    heard_at: float | None = None
    ledger_bytes: int = 0
    total_bytes: int = 0
    rejections: list[tuple[str, int, float]] = field(default_factory=list)
    """Reason, open rows of the last hour, arrival of the newest."""
    gaps: list[Any] | None = None
    """Open ones of the kinds in `WAKING` that are not planned, the largest first; None where the role may not know."""
    identity: str = ""
    """As `/readyz` of a worker names its own; empty where the role may not know."""
    address: str = ""
    """For people: name and server."""


@dataclass(frozen=True, slots=True)
class State:
    """All of it at one moment, and what is wrong, the worst first; nothing wrong is OK."""

    workers: list[Worker]
    database: Database
    at: float
    troubles: list[str]

    @property
    def exit_code(self) -> int:
        """0 OK, 1 not OK, 3 when the database is out of reach, whatever the workers say."""
        if not self.database.reached:
            return OUT_OF_REACH
        return FAILED if self.troubles else 0


def watch(settings: Settings) -> Iterator[State]:
    """The state now, and again every `BETWEEN_SECONDS`, for as long as somebody asks."""
    before, asked = scrape.workers(settings), time.monotonic()
    while True:
        time.sleep(BETWEEN_SECONDS)
        now, then, asked = scrape.workers(settings), asked, time.monotonic()
        known = {answer.worker: answer.values for answer in before}
        where = scrape.databases(settings, [answer.worker for answer in now if not answer.fault])
        workers = [_worker(answer, known, asked - then, where) for answer in now]
        database = ask_database(settings)
        at = time.time()
        yield State(workers, database, at, troubles(workers, database, at, settings))
        before = now


def _worker(answer: Answer, before: dict[int, Values], seconds: float, where: dict[int, str]) -> Worker:
    number, values = answer.worker, answer.values
    return Worker(number, before.get(number) or values, values, seconds, answer.fault, where.get(number, ""))


def ask_database(settings: Settings) -> Database:
    """The database's part. Faults are values: one that is away is what this command is there to say."""
    known = Database()
    try:
        with database(settings, "ganzhi status") as conn:
            address = f"{conn.info.dbname} at {conn.info.host}:{conn.info.port}"
            known = Database(identity=_identity(conn), address=address)
            storage = storage_of(conn)
            row: Any = conn.execute(SQL["state"]).fetchone()
            committed_at, heard_at, ledger_bytes, total_bytes = row
            rejections = [(r, n, at.timestamp()) for r, n, at in conn.execute(SQL["rejections"])]
            woken = _gaps(conn)
    except psycopg.OperationalError as error:
        return Database(out_of_reach(error), reached=False)
    except (psycopg.Error, SchemaError, CommandError) as error:
        return replace(known, fault=" ".join(str(error).split()))
    return Database("", True, storage, _seconds(committed_at), _seconds(heard_at), ledger_bytes, total_bytes,
                    rejections, woken, known.identity, known.address)  # fmt: skip


def _identity(conn: Connection[Any]) -> str:
    try:
        row = conn.execute(SQL["identity"]).fetchone()
    except InsufficientPrivilege:
        return ""
    return str(row[0]) if row else ""


def _gaps(conn: Connection[Any]) -> list[Any] | None:
    row: Any = conn.execute(SQL["may_see_gaps"]).fetchone()
    if not row[0]:
        return None
    return [g for g in gaps.list_gaps(conn) if g.kind in WAKING and "maintenance" not in g.evidence]


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def troubles(workers: list[Worker], database: Database, at: float, settings: Settings) -> list[str]:
    """What is wrong, one line each, with since when where that is known."""
    found = []
    if database.fault:
        found.append(f"数据库 database: {database.fault}")
    if not workers:
        found.append(_nobody(settings, database, at))
    for worker in workers:
        trouble = [*_elsewhere(worker, database), *_stuck(worker, at)]
        found += [f"工作进程 worker {worker.number}: {each}" for each in trouble]
    return found


def _elsewhere(worker: Worker, database: Database) -> Iterator[str]:
    """What it says and what the database says belong together only where it writes there."""
    if worker.database and database.identity and worker.database != database.identity:
        yield (f"写入另一个数据库 writes to another database than {database.address}, which this command reads: "
               "set GANZHI_DATABASE_URL to that worker's, or GANZHI_HTTP_PORT to that of the one that writes "
               "here")  # fmt: skip


def _nobody(settings: Settings, database: Database, at: float) -> str:
    if not settings.http_port:
        return "GANZHI_HTTP_PORT is 0, so nobody knows where the workers answer: set it"
    last = f", last commit {_ago(database.committed_at, at)}" if database.reached else ""
    first, ends = settings.http_port, min(settings.http_port + scrape.PORTS - 1, 65_535)
    return (f"no worker answers at {settings.http_host}:{first}, nor up to port {ends}{last}: start ganzhi ingest; "
            "one that runs has another port: give this command its GANZHI_HTTP_PORT")  # fmt: skip


def _stuck(worker: Worker, at: float) -> Iterator[str]:
    if worker.fault:
        yield worker.fault
        return
    committed_at = worker.value("ganzhi_last_commit_timestamp_seconds")
    last = f"last commit {_ago(committed_at or None, at)}"
    oldest_seconds = worker.value("ganzhi_oldest_unacknowledged_seconds")
    if not worker.value("ganzhi_broker_connected"):
        yield f"代理 broker not connected, {last}"
    if not worker.value("ganzhi_database_up"):
        yield f"数据库 database down, {last}"
    if oldest_seconds > STUCK_SECONDS:
        yield f"messages are not acknowledged since {_ago(at - oldest_seconds, at)}"
    elif committed_at and _waits(worker) and at - committed_at > STUCK_SECONDS:
        yield f"messages arrive and nothing is committed since {_ago(committed_at, at)}"
    for kind in ("messages", "readings"):
        if astray := worker.astray(kind):
            yield f"账目 the books of {kind} are off by {astray:,}"


def _waits(worker: Worker) -> bool:
    """Whether messages were in hand at both scrapes, and no batch was committed between them."""
    name = "ganzhi_last_commit_timestamp_seconds"
    in_hand = worker.before.get("ganzhi_messages_in_flight", 0.0) and worker.value(
        "ganzhi_messages_in_flight"
    )
    return bool(in_hand) and worker.before.get(name) == worker.value(name)


def _ago(moment: float | None, at: float) -> str:
    """A moment, and how long ago it was at `at`; Unix seconds."""
    if moment is None:
        return "never"
    seconds = max(0, round(at - moment))
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    size, unit = next(((size, unit) for size, unit in units if seconds >= size), (1, "s"))
    return f"{shown(moment)} ({seconds // size} {unit} ago)"


def screen(state: State) -> Group:
    """One screen of 80 columns: the verdict first, then whom to call, workers, totals, and the database."""
    verdict = Text(
        "NOT OK 异常" if state.troubles else "OK 正常: workers, broker, database",
        "bold red" if state.troubles else "bold green",
    )
    lines = [Text(textwrap.indent(trouble, "  "), "red") for trouble in state.troubles]
    tables = [_workers_table(state.workers), _totals_table(state.workers)] if state.workers else []
    return Group(
        verdict,
        *lines,
        *([] if state.database.fault else _gap_lines(state.database.gaps, state.at)),
        *tables,
        *_database_lines(state.database, state.at),
    )


def _gap_lines(found: list[Any] | None, at: float) -> Iterator[Text]:
    """Where terminals went silent, how many, and whom to call."""
    if found is None:
        yield Text("缺口 gaps: not for this role to see, log in as ganzhi_observer")
        return
    if not found:
        yield Text("缺口 gaps: no dark, outage or gateway_offline", "green")
        return
    missing = sum(gap.expected - gap.live for gap in found)
    taken = sum(gap.acknowledged_at is not None for gap in found)
    yield Text(f"缺口 gaps: {len(found):,} dark, outage or gateway_offline", "bold red")
    yield Text(f"  {taken:,} 已接手 acknowledged, {missing:,} terminals silent", "bold red")
    for gap in found[:GAPS_SHOWN]:
        where = (gap.division, gap.name_zh, gap.domain, gap.gateway)
        whom = gap.acknowledged_by or " ".join(part for part in (gap.owner, gap.contact) if part) or "?"
        yield Text(
            f"  {gap.id} {KINDS_ZH[gap.kind]} {gap.kind}: {' '.join(str(part) for part in where if part)}"
        )
        yield Text(f"     {gap.expected - gap.live:,} of {gap.expected:,} since "
                   f"{_ago(gap.opened_at.timestamp(), at)}")  # fmt: skip
        yield Text(f"     联系 call {whom}")
    yield Text("  ganzhi gaps list shows all, of other kinds too")


def _table(*headings: str) -> Table:
    """Without lines, which would not fit into 80 columns."""
    return Table(*headings, box=None, padding=(0, 1, 0, 0))


def _workers_table(workers: list[Worker]) -> Table:
    table = _table(*HEADINGS)
    for worker in workers:
        if worker.fault:
            table.add_row(str(worker.number), Text(worker.fault, "red"))
            continue
        table.add_row(
            str(worker.number),
            _sign(worker.value("ganzhi_broker_connected")),
            _sign(worker.value("ganzhi_database_up")),
            f"{worker.value('ganzhi_messages_in_flight'):,.0f}",
            f"{worker.value('ganzhi_oldest_unacknowledged_seconds'):.1f} s",
            f"{worker.rate('ganzhi_messages_received_total'):,.1f}",
            f"{worker.rate('ganzhi_readings_received_total'):,.1f}",
            _books(worker),
        )
    return table


def _sign(value: float) -> Text:
    return Text("up", "green") if value else Text("down", "bold red")


def _books(worker: Worker) -> Text:
    off = [f"{kind} {n:+,}" for kind in ("messages", "readings") if (n := worker.astray(kind))]
    return Text(", ".join(off), "bold red") if off else Text("平 balanced", "green")


def _totals_table(workers: list[Worker]) -> Table:
    table = _table(*TOTALS)
    for kind, heading in (("messages", "消息 messages"), ("readings", "读数 readings")):
        names = [*(f"ganzhi_{kind}_{account}_total" for account in ACCOUNTS), f"ganzhi_{kind}_in_flight"]
        table.add_row(heading, *(f"{sum(w.value(name) for w in workers):,.0f}" for name in names))
    return table


def _database_lines(database: Database, at: float) -> Iterator[Text]:
    if database.fault:
        return
    yield Text(f"数据库 database: storage {database.storage}, {database.total_bytes / 1e6:,.0f} MB, "
               f"ledger {database.ledger_bytes / 1e6:,.0f} MB")  # fmt: skip
    yield Text(f"最近提交 last commit {_ago(database.committed_at, at)}")
    yield Text(f"最近上报 last heard {_ago(database.heard_at, at)}")
    if not database.rejections:
        yield Text("拒收 rejections: none open from the last hour")
    for reason, count, newest in database.rejections:
        _, time_of_day = _ago(newest, at).split(" ", 1)  # they are of the last hour
        yield Text(f"拒收 rejections: {count:,} {reason}, newest {time_of_day}", "yellow")
