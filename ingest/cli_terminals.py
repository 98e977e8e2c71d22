"""The commands `ganzhi terminals ...`, and what those of `ganzhi gateways ...` do like them."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg import Connection
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from devices import identifier, spelling
from devices.code import canonical
from devices.datum import Datum
from devices.day import SHANDONG
from devices.division import PROVINCE
from ingest.settings import Settings, SettingsError, load
from ingest.terminal import (
    CommandError,
    Config,
    checked,
    database,
    err,
    exit_codes,
    moment,
    out,
    shown,
)
from ingest.terminals import Imported

terminals = typer.Typer(help="The registry: which terminals there are, and where.", no_args_is_help=True)
STATES = ("planned", "installed", "retired", "discovered")

File = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="CSV or Parquet, first line: the columns.")
]


def registry_database(settings: Settings) -> AbstractContextManager[Connection[Any]]:
    """The database, as the registry's commands name themselves there."""
    return database(settings, "ganzhi registry")


@terminals.command("import", epilog="Example: ganzhi terminals import meters.csv --datum gcj02")
def import_terminals(
    file: File,
    datum: Annotated[
        Datum, typer.Option(help="What lon and lat are measured in; stored as WGS 84.")
    ] = Datum.WGS84,
    aliases: Annotated[
        bool, typer.Option("--aliases", help="The file holds other names: code, alias, valid_from, valid_to.")
    ] = False,
    config: Config = None,
) -> None:
    """Register terminals, or change what is known of them. Lines that are wrong cost only themselves."""
    from ingest import terminals as registry

    with exit_codes():
        settings = load(config)
        columns = BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        with registry_database(settings) as conn, Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("", total=1.0)

            def progress(share: float) -> None:
                bar.update(task, completed=share)

            if aliases:
                done = registry.import_aliases(conn, file, progress)
            else:
                done = registry.import_terminals(conn, file, datum, progress)
        say(done)


def say(done: Imported) -> None:
    """Tell what an import came to."""
    out.print(f"{done.created:,} created, {done.updated:,} updated, {done.unchanged:,} unchanged, "
              f"{done.refused:,} refused")  # fmt: skip
    if done.planned:
        out.print(
            f"{done.planned:,} of them without installed_on, or with a day to come: planned, in no count"
        )
    if done.refused_file:
        out.print(f"refused lines and why: {done.refused_file}", soft_wrap=True)
    if done.suspect_imeis:
        out.print(f"{done.suspect_imeis:,} IMEIs have a wrong check digit; they are registered")
    if done.ignored:
        out.print(f"columns that nobody knows: {', '.join(done.ignored)}")


@terminals.command(
    epilog="Example: ganzhi terminals alias imei:860000000000009 ctwing:0123abcd --to 2026-12-01"
)
def alias(
    code: Annotated[str, typer.Argument(help="The terminal's own code.")],
    name: Annotated[str, typer.Argument(metavar="SCHEME:VALUE", help="What another platform calls it.")],
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="First day or time, Shandong's (UTC+8) where it names no zone; now, or as it was, without it.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", help="Day or time at which the name is free again, in the same form."),
    ] = None,
    config: Config = None,
) -> None:
    """Give a terminal another name, change its period, or end it: heard under both, it is one terminal."""
    from ingest import terminals as registry

    with exit_codes():
        other = checked(spelling.alias, name)
        times = [
            moment(option, text, SHANDONG) if text else None
            for option, text in (("--from", since), ("--to", until))
        ]
        with registry_database(load(config)) as conn:
            outcome, retired = registry.put_alias(conn, canonical(code), other, *times)
    out.print(outcome)
    if retired:
        out.print(f"{retired} was discovered before: it is retired, and keeps its readings")


@terminals.command(epilog="Example: ganzhi terminals export --division 370100 --out jinan.csv")
def export(
    division: Annotated[int, typer.Option(help="Division, all within it included.")] = PROVINCE,
    domain: Annotated[
        str | None, typer.Option(help="Only of this domain, such as municipal or 市政.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Only in this state; discovered ones are left out without it.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="File to write; standard output without it.")
    ] = None,
    config: Config = None,
) -> None:
    """The registry as CSV that `terminals import` takes; coordinates in WGS 84."""
    from ingest import terminals as registry
    from ingest.export import whole_file

    with exit_codes():
        place = checked(spelling.division, str(division))
        chosen = checked(spelling.domain, domain)
        if state not in {None, *STATES}:
            raise SettingsError(f"--state {state}: there are {', '.join(STATES)}")
        target = whole_file(file) if file else nullcontext(sys.stdout.buffer)
        with registry_database(load(config)) as conn, target as stream:
            count = registry.export(conn, stream, place, chosen, state)
        err.print(f"{count:,} terminals" + (f" in {file}" if file else ""))


@terminals.command(epilog="Example: ganzhi terminals show imei:860000000000009")
def show(
    code: Annotated[str, typer.Argument(help="Its code in any spelling, or an alias.")], config: Config = None
) -> None:
    """What is known of one terminal."""
    from devices.observer import last_heard, state_of
    from ingest import terminals as registry

    with exit_codes(), registry_database(load(config)) as conn:
        row, aliases = registry.show(conn, code)
        heard = last_heard(conn, row["id"])
        state = state_of(conn, row["id"], time.time())
    last = f"last heard {shown(heard)}" if heard else "never heard"
    out.print(f"{'now':>18}  {state}, {last}")
    for name, value in row.items():
        if value is not None:
            out.print(f"{name:>18}", style="bold", end="  ")
            out.print(shown(value) if isinstance(value, datetime) else value)
    for label, text in _said_by(row["code"]):
        out.print(f"{label:>18}  {text}")
    for alias, since, until, before in aliases:
        period = f"from {shown(since)}" + (f" to {shown(until)}" if until else "")
        earlier = f"; readings of before under id {before}" if before else ""
        out.print(f"{'alias':>18}  {alias} {period}{earlier}")


def _said_by(code: str) -> Iterator[tuple[str, str]]:
    """What an industrial identifier says of its owner."""
    if handle := identifier.handle(code):
        yield "secondary node", handle.node
        yield "enterprise", handle.enterprise or "none: the node's own"
    elif code.startswith(("handle:", "bid:")) and not identifier.bid(code):
        yield "doubt", "it is not formed as its scheme asks"


@terminals.command(epilog="Example: ganzhi terminals retire imei:860000000000009 --on 2026-11-01")
def retire(
    codes: Annotated[list[str], typer.Argument(metavar="CODE...", help="Codes in any spelling.")],
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day; today without it.")
    ] = None,
    config: Config = None,
) -> None:
    """Take terminals out of service, all of these or none. What they sent stays."""
    from ingest import terminals as registry

    day: date = (on or datetime.now(UTC).astimezone(SHANDONG)).date()
    with exit_codes(), registry_database(load(config)) as conn:
        done = registry.retire(conn, codes, day)
    out.print(f"{done:,} retired, {len(codes) - done:,} were before")


@terminals.command(epilog="Example: ganzhi terminals forget imei:860000000000009 --yes")
def forget(
    code: Annotated[str, typer.Argument(help="Its code in any spelling, or an alias.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    config: Config = None,
) -> None:
    """Remove a terminal and all it sent: readings, events, aliases, rejections. Nothing brings it back."""
    from ingest import forget as forgetting
    from ingest import terminals as registry

    with exit_codes(), registry_database(load(config)) as conn:
        row, aliases = registry.show(conn, code)
        names = ", ".join(name for name, *_ in aliases)
        out.print(f"{row['code']}{f' ({names})' if names else ''}, {row['state']}, {row['division_name']}")  # fmt: skip
        if not yes and not typer.confirm("Remove it and all that it sent, for ever?"):
            raise CommandError("nothing was removed")
        with out.status("until every worker has seen it, then chunk by chunk"):
            done = forgetting.forget(conn, code, err.print)
    out.print(f"{done.readings:,} readings, {done.events:,} events, {done.rejections:,} rejections emptied; "
              f"{done.code} stands in its place")  # fmt: skip
