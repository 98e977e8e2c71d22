"""What every command shares: output, the `--config` option, exit codes, logs.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 broker or database out of reach.
"""

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import psycopg
import structlog
import typer
from rich.console import Console

from ingest.settings import SettingsError

T = TypeVar("T")
FAILED, USAGE, OUT_OF_REACH = 1, 2, 3

WIDTH = 160
"""Of tables that nobody looks at in a terminal: wide enough that nothing is cut."""
err = Console(stderr=True)
out = Console(width=None if sys.stdout.isatty() else WIDTH)

Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings; GANZHI_... variables win.")
]


class CommandError(Exception):
    """A command can't do what it was asked; the text says why and what to do. Exit code 1."""


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what can go wrong into one clear line and an exit code."""
    from ingest.embedded import CannotStart
    from ingest.migrate import SchemaError

    try:
        yield
    except SettingsError as error:
        fail(USAGE, str(error))
    except (psycopg.OperationalError, CannotStart, ConnectionError) as error:
        fail(OUT_OF_REACH, str(error).strip())
    except psycopg.errors.UndefinedTable:
        fail(FAILED, "the database has not the tables of this release: run ganzhi migrate")
    except (CommandError, SchemaError, psycopg.Error) as error:
        fail(FAILED, str(error).strip())


def fail(code: int, text: str) -> NoReturn:
    """Say what is wrong, and end with this exit code."""
    err.print("[bold red]ganzhi:[/]", end=" ")
    err.print(text, highlight=False, markup=False)
    raise typer.Exit(code)


def moment(option: str, text: str, zone: tzinfo = UTC) -> datetime:
    """A time as an option gives it, in `zone` where it names none. Raises `SettingsError`."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{option} {text!r}: write a day or a time, 2026-11-01 or 2026-11-01T08:00+08:00"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=zone)


def run_service(service: Coroutine[Any, Any, T]) -> T:
    """Run a service to its end, on uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(service)


def configure_logs() -> None:
    """Structured logs on standard error: for people on a terminal, JSON otherwise."""
    render: Any = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
