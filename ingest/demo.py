"""`ganzhi demo`: everything on this machine. Servers, migrations, a worker, the observer, a simulated province.

The scenario's terminals and gateways are registered first, so that coverage counts against them. Worker,
observer and simulator are processes of their own, as in production. They end before the servers do, so that
what was published is stored, the observer first. Data is kept under the data folder and found again.
"""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from rich.console import Console
from rich.live import Live

from ingest.child import Child
from ingest.embedded import CannotStart, EmbeddedBroker, EmbeddedPostgres, default_data_dir, free_port
from ingest.fleet import Gateway
from ingest.publish import Publisher, stop_on_signals
from ingest.settings import Settings
from ingest.simulate import gateways_of, load_scenario, write_gateways, write_registry
from schemas.sql import queries

EMBEDDED_NOTE = (
    "Embedded PostgreSQL has no TimescaleDB: data lies in plain partitions, uncompressed.\n"
    "The embedded broker keeps nothing on disk; a broker that is stopped forgets."
)
REFRESH_SECONDS = 1.0
DRAIN_SECONDS = 35.0
"""The service drains within 30 s of SIGTERM; then it is killed, and nothing acknowledged is lost."""
READY_SECONDS = 60.0
"""A worker that found broker and database is ready within a second."""
COMMANDS = "ingest.cli"
OBSERVE_SECONDS = 5
"""Somebody is watching: the observer's own 30 s would look like a standstill."""


class DemoError(Exception):
    """A part of the demo ended by itself; the text says which, and its last words. Exit code 1."""


class Counts(NamedTuple):
    """What the worker's metrics say, since it started."""

    messages: float = 0
    committed: float = 0
    rejected: float = 0
    duplicate: float = 0
    in_flight: float = 0
    oldest_seconds: float = 0


class Coverage(NamedTuple):
    """What the observer's metrics say: terminals of all cells, and gaps that are open."""

    installed: float = 0
    verified: float = 0
    live: float = 0
    gaps: float = 0

    def __str__(self) -> str:
        return (
            f"terminals installed {self.installed:,.0f}, verified {self.verified:,.0f}, live {self.live:,.0f}; "
            f"open gaps {self.gaps:,.0f}"
        )


def run_demo(
    settings: Settings,
    *,
    mqtt_url: str | None = None,
    database_url: str | None = None,
    scenario: str = "demo",
    messages_per_second: float | None = None,
    seconds: float | None = None,
    console: Console | None = None,
) -> None:
    """Run until SIGINT, SIGTERM or `seconds` are over, then stop it all in order.

    `mqtt_url` and `database_url` name real servers to use instead of the embedded ones; `scenario` is what is
    played, as `simulate.load_scenario` takes it. Raises `SettingsError` for a wrong one, `CannotStart` or
    `BrokerOutOfReachError` when a server can't be had, `DemoError` when a part gives up.
    """
    console = console or Console()
    data_dir = settings.data_dir or default_data_dir()
    scenario = str(Path(scenario).resolve()) if Path(scenario).is_file() else scenario  # children start in /
    gateways = gateways_of(load_scenario(scenario))
    with stop_on_signals() as stop, contextlib.ExitStack() as stack:
        if not (mqtt_url and database_url):
            console.print(EMBEDDED_NOTE, highlight=False)
        children: dict[str, Child] = {}
        if database_url is None:
            postgres = stack.enter_context(EmbeddedPostgres(data_dir))
            database_url, children["database"] = postgres.url, postgres.child
        if mqtt_url is None:
            broker = stack.enter_context(EmbeddedBroker(data_dir))
            mqtt_url, children["broker"] = broker.url, broker.child
        with Publisher(settings.model_copy(update={"mqtt_url": SecretStr(mqtt_url)}), name="demo"):
            pass  # a broker that is out of reach is said here, clearly
        port, observer_port = free_port(settings.http_port), free_port(settings.observer_http_port)
        own = {name: text for name, text in os.environ.items() if not name.startswith("GANZHI_HTTP_")}
        env = own | {
            "GANZHI_MQTT_URL": mqtt_url, "GANZHI_DATABASE_URL": database_url, "GANZHI_HTTP_PORT": str(port),
            "GANZHI_OBSERVER_HTTP_PORT": str(observer_port), "GANZHI_OBSERVE_SECONDS": str(OBSERVE_SECONDS),
        }  # fmt: skip
        _do(env, "the database cannot be brought to this version", "migrate")
        if "broker" in children:  # it forgot every session when it was last stopped, which is no fault
            with psycopg.connect(database_url) as connection:
                connection.execute(queries("demo.sql")["end_sessions"])
        _register(gateways, data_dir, env, console)
        _say_where(console, data_dir, env)
        children["worker"] = _start(stack, data_dir, env, "ingest")
        _wait_ready(children["worker"], port, stop)
        children["observer"] = _start(stack, data_dir, env, "observe")
        rate = [] if messages_per_second is None else ["--rate", str(messages_per_second)]
        children["simulator"] = _start(stack, data_dir, env, "simulate", "--scenario", scenario, *rate)
        # First of all, or it would open a gap for every simulated gateway that says goodbye.
        stack.callback(children["observer"].stop, DRAIN_SECONDS)
        _watch(children, port, observer_port, stop, seconds, console)
        console.print("stopping: the observer, the simulator, the worker, the servers", highlight=False)
    console.print("stopped", highlight=False)


def readings_kept(database_url: str) -> int:
    """How many readings the database holds, counted."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(queries("demo.sql")["readings"]).fetchone()
    return int(row[0]) if row else 0


def read_counts(page: str) -> Counts:
    """The counts of a worker's /metrics page (Prometheus text format)."""
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            sums[sample.name] += sample.value
    return Counts(
        sums["ganzhi_messages_received_total"],
        sums["ganzhi_readings_committed_total"],
        sums["ganzhi_readings_rejected_total"],
        sums["ganzhi_messages_duplicate_total"],
        sums["ganzhi_messages_in_flight"],
        sums["ganzhi_oldest_unacknowledged_seconds"],
    )


def read_coverage(page: str) -> Coverage:
    """The headline of an observer's /metrics page (Prometheus text format)."""
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            state = sample.labels.get("state") if sample.name == "ganzhi_terminals" else None
            sums[state or sample.name] += sample.value
    return Coverage(
        sums["ganzhi_terminals_installed"],
        sums["ganzhi_terminals_verified"],
        sums["live"],
        sums["ganzhi_coverage_gaps"],
    )


def describe(now: Counts, before: Counts, seconds: float) -> str:
    """The live line: rates between two looks `seconds` apart, and totals."""
    messages, readings = ((new - old) / seconds for new, old in zip(now[:2], before[:2], strict=True))
    return (
        f"{messages:,.0f} messages/s, {readings:,.0f} readings/s, "
        f"{now.in_flight:,.0f} messages in flight for at most {now.oldest_seconds:.1f} s\n"
        f"readings committed {now.committed:,.0f}, rejected {now.rejected:,.0f}, "
        f"messages known already {now.duplicate:,.0f}"
    )


def _do(env: Mapping[str, str], failure: str, *command: str | Path) -> str:
    """Run one of our commands, answer what it said; raises `CannotStart` with `failure` and its last words."""
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", COMMANDS, *map(str, command)],
        check=False,
        capture_output=True,
        text=True,
        env=env,
    )
    if done.returncode:
        raise CannotStart(f"{failure}: {' '.join(done.stderr.removeprefix('ganzhi: ').split())}")
    return done.stdout.strip()


def _register(gateways: Sequence[Gateway], data_dir: Path, env: Mapping[str, str], console: Console) -> None:
    """Import the scenario's gateways and terminals; what an earlier demo registered is unchanged."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for what, write in (("gateways", write_gateways), ("terminals", write_registry)):
        file = data_dir / f"{what}.csv"
        write(file, gateways)
        said = _do(env, f"the {what} of {file} cannot be registered", what, "import", file)
        console.print(f"{what}: {said}", highlight=False, soft_wrap=True)


def _say_where(console: Console, data_dir: Path, env: Mapping[str, str]) -> None:
    kept = readings_kept(env["GANZHI_DATABASE_URL"])
    urls = [
        f"{name}={quote(without_password(env[name]))}" for name in ("GANZHI_DATABASE_URL", "GANZHI_MQTT_URL")
    ]
    ports = [f"{name}={env[name]}" for name in ("GANZHI_HTTP_PORT", "GANZHI_OBSERVER_HTTP_PORT")]
    for line in (
        f"metrics   http://127.0.0.1:{env['GANZHI_HTTP_PORT']}/metrics",
        f"coverage  http://127.0.0.1:{env['GANZHI_OBSERVER_HTTP_PORT']}/  (metrics: /metrics)",
        f"broker    {without_password(env['GANZHI_MQTT_URL'])}",
        f"database  {without_password(env['GANZHI_DATABASE_URL'])}",
        f"data      {data_dir} (logs too); {kept:,} readings are there already",
        "In another terminal, so that ganzhi status and the other commands find this demo:",
        f"export {' '.join(urls + ports)}",
        "Ctrl-C stops it all.",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def without_password(url: str) -> str:
    """The URL for people to read, or a database's address as words."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    shown = parts._replace(netloc=user.partition(":")[0] + at + host).geturl()
    return re.sub(r"(password\s*=\s*)('[^']*'|[^&\s]+)", r"\1***", shown)


def _start(stack: contextlib.ExitStack, data_dir: Path, env: dict[str, str], *command: str) -> Child:
    data_dir.mkdir(parents=True, exist_ok=True)
    child = Child([sys.executable, "-m", COMMANDS, *command], log=data_dir / f"{command[0]}.log", env=env)
    stack.callback(child.stop, DRAIN_SECONDS)
    return child


def _wait_ready(worker: Child, port: int, stop: threading.Event) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not stop.is_set() and worker.exit_code is None and _page(port, "readyz") is None:
        if time.monotonic() > deadline:
            raise CannotStart(f"the worker is not ready after {READY_SECONDS:.0f} s; {worker.log} says:\n"
                              f"{worker.last_words()}")  # fmt: skip
        stop.wait(0.1)


def _watch(
    children: Mapping[str, Child],
    port: int,
    observer_port: int,
    stop: threading.Event,
    seconds: float | None,
    console: Console,
) -> None:
    deadline = time.monotonic() + seconds if seconds else float("inf")
    before, looked = Counts(), time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        while not stop.wait(REFRESH_SECONDS) and time.monotonic() < deadline:
            for name, child in children.items():
                if child.exit_code is not None:
                    raise DemoError(f"the {name} ended by itself; {child.log} says:\n{child.last_words()}")
            page = _page(port, "metrics")
            counts, now = read_counts(page) if page else before, time.monotonic()
            lines = [describe(counts, before, now - looked)]
            if "observer" in children and (page := _page(observer_port, "metrics")):
                lines.append(str(read_coverage(page)))
            live.update("\n".join(lines), refresh=True)
            before, looked = counts, now
    console.line()


def _page(port: int, path: str) -> str | None:
    """A page of the worker or the observer, None while it does not answer with 200."""
    with (
        contextlib.suppress(OSError, urllib.error.URLError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer,
    ):
        return str(answer.read(), "utf-8")
    return None
