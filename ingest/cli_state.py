"""The commands that look: `check` before it runs, `status` while it runs."""

from contextlib import suppress
from typing import Annotated

import typer

from ingest.logs import configure_logs
from ingest.settings import load
from ingest.terminal import CommandError, Config, exit_codes, out, run_service


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
    """One screen: is it OK, what is stuck, since when. Exit code 1 when it is not OK, 3 without the database."""
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
            "--recount",
            help="Count the registry in the database, compare with what the running observer publishes, and end.",
        ),
    ] = False,
    config: Config = None,
) -> None:
    """States, coverage and gaps of all terminals, as metrics; one for each database. SIGTERM ends it."""
    from ingest import observe as service
    from ingest import recount as recounting

    configure_logs()
    with exit_codes():
        settings = load(config)
        if not recount:
            run_service(service.run(settings))
            return
        found = recounting.recount(settings)
    out.print(f"compared with {found.against}", highlight=False, markup=False)
    for city, domain, what, (before, after), database in found.differing:
        published = f"{before:,}" if before == after else f"{before:,}, then {after:,}"
        out.print(
            f"{city} {domain}, {what}: {published} published, {database:,} in the database", highlight=False
        )
    with exit_codes():
        if found.differing:
            raise CommandError(f"{len(found.differing)} counts differ")
    out.print(
        "no difference: planned, installed, verified, never_heard, retired, discovered by city and domain"
    )
