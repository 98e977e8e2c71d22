"""The plan's commands: `plan import` and `plan show`."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from devices.coverage import CITIES, by_city, targets_on
from devices.division import DIVISIONS, DOMAINS
from devices.importer import DOMAINS_ZH
from devices.indicator import SHANDONG
from devices.plan import Declared
from ingest.settings import load
from ingest.terminal import CommandError, Config, exit_codes, out

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
    from ingest import store

    with exit_codes():
        url = load(config).database_url.get_secret_value()
        with store.connect(url, application="ganzhi plan") as conn:
            if declared:
                new, corrected = plans.import_declared(conn, file)
                out.print(f"{new:,} declared figures are new, {corrected:,} corrected", highlight=False)
                return
            version, rows = plans.import_plan(conn, file)
    total = sum(by_city(targets_on(rows, date.max)).values())
    out.print(f"plan {version}: {len(rows):,} rows, {total:,} terminals by {max(row.due_on for row in rows)}",
              highlight=False)  # fmt: skip


@plan.command(epilog="Example: ganzhi plan show --day 2027-12-31")
def show(
    version: Annotated[int | None, typer.Option(min=1, help="The newest without it.")] = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="What is due by this day; today without it.")
    ] = None,
    config: Config = None,
) -> None:
    """Targets by city and domain, a city's counties included; then what others declare."""
    from ingest import plan as plans
    from ingest import store

    on = (day or datetime.now(UTC).astimezone(SHANDONG)).date()
    with exit_codes():
        url = load(config).database_url.get_secret_value()
        with store.connect(url, application="ganzhi plan") as conn:
            found, others = plans.read(conn, version), plans.declared(conn)
        if found is None:
            raise CommandError(
                f"there is no plan {version}" if version else "there is no plan: ganzhi plan import FILE"
            )
    sources = ", ".join(SOURCES_ZH[source] for source in sorted({row.source for row in found.rows}))
    out.print(f"计划 plan {found.number}, {sources}, imported {found.imported_at:%Y-%m-%d} by {found.imported_by}; "
              f"due by {on}", highlight=False)  # fmt: skip
    targets = by_city(targets_on(found.rows, on))
    if targets:
        out.print(_table(targets))
    else:
        first = min(row.due_on for row in found.rows)
        out.print(f"nothing is due by {on}; the first rows are due {first}", highlight=False)
    if others:
        out.print(_declared(others))


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
    cities = [code for code in CITIES if any(key[0] == code for key in targets)]
    table = Table("", show_footer=True, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.columns[0].footer = "合计 total"
    for domain in domains:
        total = sum(targets.get((code, domain), 0) for code in cities)
        table.add_column(f"{names[domain]}\n{domain}", f"{total:,}", justify="right")
    table.add_column("合计\ntotal", f"{sum(targets.values()):,}", justify="right")
    for code in cities:
        row = [targets.get((code, domain)) for domain in domains]
        cells = ["" if target is None else f"{target:,}" for target in row]
        table.add_row(f"{code} {DIVISIONS[code].name_zh}", *cells, f"{sum(filter(None, row)):,}")
    return table
