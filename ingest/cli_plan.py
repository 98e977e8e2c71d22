"""The plan's commands: `plan import` and `plan show`."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from devices.coverage import CITIES, Targets, by_city, targets_on, units
from devices.day import SHANDONG
from devices.declared import Declared
from devices.division import DIVISIONS, DOMAINS, city
from devices.spelling import DOMAINS_ZH
from devices.spelling import division as read_division
from ingest.settings import SettingsError, load
from ingest.terminal import CommandError, Config, database, exit_codes, out, shown

plan = typer.Typer(help="The rollout plan: how many terminals each place should have, and by when.",
                   no_args_is_help=True)  # fmt: skip
SOURCES_ZH = {"assumed": "假定 assumed", "declared": "申报 declared"}


@plan.command("import", epilog="Example: ganzhi plan import plan.csv")
def import_(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV or Parquet: division, domain, target, "
                             "due_on, source; with --declared indicator, division, value, as_of, source."),
    ],
    declared: Annotated[
        bool, typer.Option("--declared", help="Not a plan, but figures that others publish.")
    ] = False,
    config: Config = None,
) -> None:  # fmt: skip
    """Make a file the plan that counts, as a new version. If a line is wrong, nothing is imported."""
    from ingest import plan as plans

    with exit_codes(), database(load(config), "ganzhi plan") as conn:
        if declared:
            new, corrected = plans.import_declared(conn, file)
            out.print(f"{new:,} declared figures are new, {corrected:,} corrected")
            return
        version, rows = plans.import_plan(conn, file)
    total = sum(by_city(targets_on(rows, date.max)).values())
    last = max(row.due_on for row in rows)
    out.print(f"plan {version}: {len(rows):,} rows, {total:,} terminals by {last}")


@plan.command(epilog="Example: ganzhi plan show --day 2027-12-31")
def show(
    version: Annotated[int | None, typer.Option(min=1, help="The newest without it.")] = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="What is due by this day; today without it.")
    ] = None,
    division: Annotated[
        str | None,
        typer.Option(help="A city, such as 370100: its counties, and what is left for the rest of it."),
    ] = None,
    config: Config = None,
) -> None:
    """Targets by city and domain, a city's counties included, or those within a city; then what others declare."""
    from ingest import plan as plans

    on = (day or datetime.now(UTC).astimezone(SHANDONG)).date()
    with exit_codes():
        within = None if division is None else _city(division)
        with database(load(config), "ganzhi plan") as conn:
            found, others = plans.read(conn, version), plans.declared(conn)
        if found is None:
            raise CommandError(
                f"there is no plan {version}" if version else "there is no plan: ganzhi plan import FILE"
            )
    sources = ", ".join(SOURCES_ZH[source] for source in sorted({row.source for row in found.rows}))
    out.print(f"计划 plan {found.number}, {sources}, imported {shown(found.imported_at)} by {found.imported_by}; "
              f"due by {on}")  # fmt: skip
    due = targets_on(found.rows, on)
    targets = by_city(due) if within is None else _within(due, within)
    if targets:
        out.print(_table(targets))
    elif due:
        out.print(f"the plan wants nothing of {division} by {on}")
    else:
        first = min(row.due_on for row in found.rows)
        out.print(f"nothing is due by {on}; the first rows are due {first}")
    if others and within is None:
        out.print(_declared(others))


def _city(text: str) -> int:
    """Raises `SettingsError` for what is no city."""
    try:
        code = read_division(text)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if DIVISIONS[code].level != "city":
        raise SettingsError(f"--division {text} {DIVISIONS[code].name_zh}: name a city, such as {city(code)}")
    return code


def _within(due: Targets, code: int) -> dict[tuple[int, str], int]:
    """Targets of a city's counties that have their own, and under the city what they leave."""
    return {key: target for key, target in units(due).items() if city(key[0]) == code}


def _declared(figures: list[Declared]) -> Table:
    table = Table("indicator", "division", "value", "as of", "source", title="申报数据 declared by others",
                  title_justify="left")  # fmt: skip
    for f in figures:
        place = f"{f.division} {DIVISIONS[f.division].name_zh}"
        table.add_row(f.indicator, place, f"{f.value:,.12g}", str(f.as_of), f.source)
    return table


def _table(targets: dict[tuple[int, str], int]) -> Table:
    names = {english: chinese for chinese, english in DOMAINS_ZH.items()}
    domains = [domain for domain in DOMAINS if any(key[1] == domain for key in targets)]
    counties = sorted({key[0] for key in targets}.difference(CITIES))
    places = [*counties, *(code for code in CITIES if any(key[0] == code for key in targets))]
    table = Table("", show_footer=True, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.columns[0].footer = "合计 total"
    for domain in domains:
        total = sum(targets.get((code, domain), 0) for code in places)
        table.add_column(f"{names[domain]}\n{domain}", f"{total:,}", justify="right")
    table.add_column("合计\ntotal", f"{sum(targets.values()):,}", justify="right")
    for code in places:
        row = [targets.get((code, domain)) for domain in domains]
        cells = ["" if target is None else f"{target:,}" for target in row]
        rest = " 其余 rest" if counties and code in CITIES else ""
        table.add_row(f"{code} {DIVISIONS[code].name_zh}{rest}", *cells, f"{sum(filter(None, row)):,}")
    return table
