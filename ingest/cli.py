"""The command `ganzhi`: what each command takes, and its exit code. The work is done elsewhere.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 broker or database out of reach.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psycopg
import structlog
import typer
from rich.console import Console

from ingest.settings import SettingsError, load

FAILED, USAGE, OUT_OF_REACH = 1, 2, 3

app = typer.Typer(name="ganzhi", help="感知 Ganzhi: takes in what the sensors of a province say.", no_args_is_help=True,
                  rich_markup_mode="markdown", pretty_exceptions_enable=False)  # fmt: skip
err = Console(stderr=True)
out = Console()

Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings; GANZHI_... variables win.")
]


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what can go wrong into one clear line and an exit code."""
    from ingest.embedded import CannotStart
    from ingest.migrate import SchemaError

    try:
        yield
    except SettingsError as error:
        _fail(USAGE, str(error))
    except (psycopg.OperationalError, CannotStart, ConnectionError) as error:
        _fail(OUT_OF_REACH, str(error).strip())
    except (SchemaError, psycopg.Error) as error:
        _fail(FAILED, str(error).strip())


def _fail(code: int, text: str) -> None:
    err.print(f"[bold red]ganzhi:[/] {text}", highlight=False)
    raise typer.Exit(code)


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


@app.command(epilog="Example: GANZHI_DATABASE_URL=postgresql://localhost/ganzhi ganzhi migrate")
def migrate(config: Config = None) -> None:
    """Bring the database to this version; picks the storage by what the server offers."""
    from ingest import migrate as steps
    from ingest import store

    with exit_codes():
        settings = load(config)
        with store.connect(settings.database_url.get_secret_value(), application="ganzhi migrate") as conn:
            done = steps.migrate(conn)
            server = conn.info.server_version // 10_000
        for step in done.applied:
            out.print(f"applied {step}")
        out.print(
            f"the database is at version {steps.newest()}, storage [bold]{done.storage}[/] on PostgreSQL {server}"
        )


@app.command(epilog="Example: ganzhi ingest --workers 2")
def ingest(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; several need a share group.")] = 1,
    worker: Annotated[int, typer.Option(min=0, hidden=True)] = 0,
    config: Config = None,
) -> None:
    """The service: from the broker to the database, acknowledged when committed. SIGTERM drains it."""
    from ingest import service
    from ingest import workers as processes

    configure_logs()
    with exit_codes():
        settings = load(config)
        if workers > 1:
            raise typer.Exit(processes.run(settings, workers, config))
        _run(service.run(settings, worker))


def _run(service: Any) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(service)


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
