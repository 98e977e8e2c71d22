"""What every command shares: output, options, the database, exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 broker or database out of reach.
"""

import asyncio
import os
import re
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import psycopg
import typer
from psycopg import Connection
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from rich.console import Console
from rich.text import Text

from devices.day import SHANDONG
from devices.spelling import Reader
from ingest.settings import Settings, SettingsError

T = TypeVar("T")
FAILED, USAGE, OUT_OF_REACH = 1, 2, 3

WIDTH = 160
"""Of tables that nobody looks at in a terminal: wide enough that nothing is cut."""
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Moves the cursor, changes colours or turns the direction of a line; lines and tabs are let through."""
NO_DATABASE_URL = """\
GANZHI_DATABASE_URL is not set in the environment. Set it there, or database_url in the file of --config:
  export GANZHI_DATABASE_URL='postgresql://user:password@host:5432/ganzhi'
The database of a demo, which names it when it starts, with its data in {folder}:
  export GANZHI_DATABASE_URL='postgresql://ganzhi@/ganzhi?host={folder}/socket'"""
NOT_ALLOWED = (InsufficientPrivilege, ReadOnlySqlTransaction)
WHO_MAY = (
    "ganzhi_observer: status, gaps, maintenance, terminals show; ganzhi_reader: export, plan show, lists; "
    "ganzhi_writer: ingest, rejections replay; ganzhi_owner: migrate, import, retire, forget, and all others"
)


class Plain(Console):
    """Prints as it is what comes from outside: no markup, no emoji, control characters spelt out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, markup=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed, cells of tables too."""
        return super().render_str(CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text), **options)


err = Plain(stderr=True)
out = Plain(width=None if sys.stdout.isatty() else WIDTH)

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
    except psycopg.OperationalError as error:
        fail(OUT_OF_REACH, out_of_reach(error))
    except (CannotStart, ConnectionError) as error:
        fail(OUT_OF_REACH, str(error).strip())
    except psycopg.errors.UndefinedTable:
        fail(FAILED, "the database has not the tables of this release: run ganzhi migrate")
    except NOT_ALLOWED as error:
        fail(FAILED, denied(error, "the role in GANZHI_DATABASE_URL"))
    except (CommandError, SchemaError, psycopg.Error) as error:
        fail(FAILED, str(error).strip())


def out_of_reach(error: psycopg.OperationalError) -> str:
    """The fault in one line and, where no connection came about, what to do in more."""
    from ingest.embedded import default_data_dir

    said = " ".join(str(error).split())
    if error.sqlstate:
        return said
    if "GANZHI_DATABASE_URL" in os.environ or "GANZHI_DATABASE_URL_FILE" in os.environ:
        return f"{said}\nCheck GANZHI_DATABASE_URL, and that the server runs and lets us in."
    folder = os.environ.get("GANZHI_DATA_DIR") or default_data_dir()
    return f"{said}\n{NO_DATABASE_URL.format(folder=folder)}"


def fail(code: int, text: str) -> NoReturn:
    """Say what is wrong, and end with this exit code."""
    err.print("ganzhi:", style="bold red", end=" ")
    err.print(text)
    raise typer.Exit(code)


@contextmanager
def database(settings: Settings, application: str) -> Iterator[Connection[Any]]:
    """The database for a command. Raises `CommandError` for what the role that is logged in may not do."""
    from ingest.connection import connect

    with connect(settings.database_url.get_secret_value(), application=application) as conn:
        role = conn.info.user
        try:
            yield conn
        except NOT_ALLOWED as error:
            raise CommandError(denied(error, role)) from None


def denied(error: psycopg.Error, role: str) -> str:
    """Who may not do what, and who may (docs/roles.md)."""
    return f"{role} may not do this: {error.diag.message_primary}. Log in as a role that may. {WHO_MAY}"


def checked(read: Reader, text: str | None) -> Any:
    """What an option or argument says, read as an import reads it; None without it. Raises `SettingsError`."""
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def moment(option: str, text: str, zone: tzinfo = UTC) -> datetime:
    """A time as an option gives it, in `zone` where it names none. Raises `SettingsError`."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{option} {text!r}: write a day or a time, 2026-11-01 or 2026-11-01T08:00+08:00"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=zone)


def shown(time: datetime | float | None) -> str:
    """A time, or Unix seconds, as every command shows it people: 2026-11-22 15:37:00+08, Shandong's; none is empty."""
    if time is None:
        return ""
    at = time if isinstance(time, datetime) else datetime.fromtimestamp(time, UTC)
    return f"{at.astimezone(SHANDONG):%Y-%m-%d %H:%M:%S}+08"


def run_service(service: Coroutine[Any, Any, T]) -> T:
    """Run a service to its end, on uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(service)
