"""The commands that look: `check` before it runs, `status` while it runs."""

from contextlib import suppress
from typing import Annotated

import typer

from ingest.settings import load
from ingest.terminal import Config, exit_codes, out


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
