"""The command `export`, and the options of `migrate` that make the roles to export as."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from devices import spelling
from devices.division import PROVINCE
from ingest.export import OF_TERMINALS, WRITERS, Format, What, of_terminal, select, session, whole_file
from ingest.settings import SettingsError, load
from ingest.terminal import Config, checked, err, exit_codes, moment

Roles = Annotated[
    bool, typer.Option("--roles", help="Make the roles, or renew what they may do; as a superuser.")
]
PasswordDir = Annotated[
    Path | None,
    typer.Option(help="Folder of passwords: a file for each role, named like it, such as ganzhi_writer."),
]
CityReader = Annotated[
    list[int] | None,
    typer.Option(
        help="A city or county that gets a reader of its own, ganzhi_reader_370100; may be repeated."
    ),
]


def export(
    since: Annotated[str, typer.Option("--from", help="Start, ISO 8601; UTC where it names no zone.")],
    until: Annotated[str, typer.Option("--to", help="End, not included.")],
    division: Annotated[int, typer.Option(help="Division, all within it included.")] = PROVINCE,
    domain: Annotated[
        str | None, typer.Option(help="Only of this domain, such as municipal or 市政.")
    ] = None,
    what: Annotated[
        What,
        typer.Option(help="Readings, events, rollups by hour and cell or day and terminal, or indicators."),
    ] = What.READINGS,
    terminal: Annotated[
        str | None,
        typer.Option(help="Only of this terminal, by its code or an alias: readings, events, daily."),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="Parquet needs the extra `parquet`.")
    ] = Format.CSV,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output without it.")] = None,
    config: Config = None,
) -> None:
    """Readings, events, rollups or indicators of a place, terminal and period. Nothing is written to the database."""
    with exit_codes():
        if format_ is Format.PARQUET and out is None:
            raise SettingsError("--format parquet writes a file: name it with --out")
        if terminal and what not in OF_TERMINALS:
            raise SettingsError(
                f"--terminal {terminal}: {what} names no terminal; --what {', '.join(OF_TERMINALS)}"
            )
        period = moment("--from", since), moment("--to", until)
        selection = select(what, division, checked(spelling.domain, domain), *period)
        url = load(config).database_url.get_secret_value()
        target = whole_file(out) if out else nullcontext(sys.stdout.buffer)
        with session(url) as conn, target as stream, err.status("exporting") as live:
            selection = of_terminal(conn, terminal, selection) if terminal else selection
            count = WRITERS[format_](conn, what, selection, stream, lambda n: live.update(_said(format_, n)))
        err.print(f"{count:,} rows" + (f" in {out}" if out else ""))


def _said(format_: Format, done: int) -> str:
    return f"{done / 1e6:,.0f} MB" if format_ is Format.CSV else f"{done:,} rows"
