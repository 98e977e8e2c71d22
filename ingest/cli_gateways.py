"""The commands `ganzhi gateways ...`."""

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from devices import spelling
from ingest.cli_terminals import File, registry_database, say
from ingest.settings import load
from ingest.terminal import CommandError, Config, checked, exit_codes, out, shown

gateways = typer.Typer(help="What publishes for many terminals.", no_args_is_help=True)


@gateways.command("import", epilog="Example: ganzhi gateways import gateways.csv")
def import_gateways(file: File, config: Config = None) -> None:
    """Register gateways: name, division, kind, owner, contact, utc_offset."""
    from ingest import terminals as registry

    with exit_codes():
        with registry_database(load(config)) as conn:
            done = registry.import_gateways(conn, file)
        say(done)


@gateways.command("list", epilog="Example: ganzhi gateways list")
def list_(config: Config = None) -> None:
    """Every gateway; those that were heard and nobody registered last, marked."""
    from ingest import terminals as registry

    with exit_codes(), registry_database(load(config)) as conn:
        rows = registry.list_gateways(conn)
    table = Table("name", "division", "", "kind", "owner", "contact", "utc offset", "state", "last seen", "terminals",
                  "", title="网关 gateways")  # fmt: skip
    for *row, registered_at in rows:
        table.add_row(*map(_cell, row), "" if registered_at else "not registered")
    out.print(table if rows else "no gateways; ganzhi gateways add NAME registers one")


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return shown(value)
    return "" if value is None else str(value)


@gateways.command("show", epilog="Example: ganzhi gateways show jn-water-01")
def show_gateway(name: str, config: Config = None) -> None:
    """One gateway: what is known of it, its terminals, and what its vendor needs."""
    from ingest import terminals as registry
    from ingest.vendor import sheet

    with exit_codes():
        settings = load(config)
        with registry_database(settings) as conn:
            rows = registry.list_gateways(conn, name)
            if not rows:
                raise CommandError(f"no gateway {name}; ganzhi gateways list shows them")
            counts = conn.execute(registry.SQL["terminals_of_gateway"], [name]).fetchall()
        for label, value in zip(("name", "division", "", "kind", "owner", "contact", "utc offset", "state", "heard"),
                                rows[0], strict=False):  # fmt: skip
            if value is not None:
                out.print(f"{label:>12}  {_cell(value)}")
        out.print(f"{'terminals':>12}  " + (", ".join(f"{n:,} {s}" for s, n in counts) or "none"))
        _vendor(sheet(settings, name, rows[0][1]))


@gateways.command(epilog="Example: ganzhi gateways add jn-water-01 --division 370102 --owner 济南水务")
def add(
    name: str,
    division: Annotated[str | None, typer.Option(help="Where its terminals are, such as 370102.")] = None,
    kind: Annotated[str | None, typer.Option(help="Such as edge, nbiot or video.")] = None,
    owner: Annotated[str | None, typer.Option()] = None,
    contact: Annotated[str | None, typer.Option(help="Whom to call when it is silent.")] = None,
    utc_offset: Annotated[
        str | None, typer.Option(help="+08:00 for one that sends local time as UTC: it is repaired.")
    ] = None,
    config: Config = None,
) -> None:
    """Register a gateway, or change it, and print what its vendor needs."""
    from ingest import terminals as registry
    from ingest.vendor import sheet

    with exit_codes():
        settings = load(config)
        checked(spelling.gateway_name, name)
        place = checked(spelling.division, division)
        offset = checked(spelling.utc_offset_seconds, utc_offset)
        with registry_database(settings) as conn:
            new = registry.add_gateway(conn, [name, place, kind, owner, contact, offset])
            place = registry.list_gateways(conn, name)[0][1]
        out.print({True: "added", False: "changed", None: "as it was"}[new])
        _vendor(sheet(settings, name, place))


def _vendor(lines: list[tuple[str, str]]) -> None:
    for label, text in lines:
        out.print(f"{label:>12}  {text}", soft_wrap=True)
