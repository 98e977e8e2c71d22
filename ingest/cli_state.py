"""The commands that look: `check` before it runs, `status` while it runs."""

from contextlib import suppress
from typing import Annotated

import typer

from ingest.settings import load
from ingest.terminal import CommandError, Config, configure_logs, exit_codes, out, run_service


def check(config: Config = None) -> None:
    """Settings, broker round trip, database, and limits that would throttle; says what to change."""
    from rich.live import Live

    from ingest import check as checks

    findings = []
    with exit_codes():
        settings = load(config)
        with Live(console=out) as live:
            for finding in checks.run(settings):
                findings.append(finding)
                live.update(checks.table(findings))
    raise typer.Exit(checks.exit_code(findings))


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again every 2 s, until Ctrl-C.")] = False,
    config: Config = None,
) -> None:
    """One screen: is it OK, what is stuck, since when. Exit code 1 when it is not OK."""
    from ingest import status as states

    with exit_codes(), suppress(KeyboardInterrupt):
        for state in states.watch(load(config)):
            if watch:
                out.clear()
            out.print(states.screen(state))
            if not watch:
                raise typer.Exit(state.exit_code)


def observe(
    recount: Annotated[
        bool,
        typer.Option(
            "--recount", help="Count once more from the database, say what differs, and end; runs beside it."
        ),
    ] = False,
    config: Config = None,
) -> None:
    """States, coverage and gaps of all terminals, as metrics; one for each database. SIGTERM ends it."""
    from ingest import observe as service

    configure_logs()
    with exit_codes():
        settings = load(config)
        if not recount:
            run_service(service.run(settings))
            return
        differing = service.recount(settings)
        for cell, state, ours, theirs in differing:
            out.print(
                f"cell {cell}, {state}: {ours:,} in the arrays, {theirs:,} in the database", highlight=False
            )
        if differing:
            raise CommandError(f"{len(differing)} counts differ")
        out.print("no difference")
