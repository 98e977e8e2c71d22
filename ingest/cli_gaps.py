"""The on-call's commands: `gaps list, show, ack` and `maintenance add, end, list`."""

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg import Connection
from rich.table import Table

from devices import spelling
from devices.day import SHANDONG
from ingest.settings import SettingsError, load
from ingest.terminal import Config, checked, database, exit_codes, moment, out, shown
from schemas.payload import storable

gaps = typer.Typer(help="Where terminals are missing, since when, and whom to call.", no_args_is_help=True)
maintenance = typer.Typer(help="Planned silence: no gap opens there.", no_args_is_help=True)

KINDS_ZH = {"under_target": "未达计划", "dark": "全部失联", "outage": "大面积掉线", "gateway_offline": "网关离线",
            "never_heard": "从未上线"}  # fmt: skip

Number = Annotated[int, typer.Argument(metavar="ID")]
Division = Annotated[str | None, typer.Option(help="A city with its counties, or a county, such as 370102.")]


def _database(config: Path | None) -> AbstractContextManager[Connection[Any]]:
    return database(load(config), "ganzhi gaps")


def _minute(time: datetime | None) -> str:
    """For a column whose heading has the zone."""
    return shown(time)[:16]


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _place(division: int | None, zh: str | None, en: str | None) -> str:
    return " ".join(str(part) for part in (division, zh, en) if part is not None)


def _gap_place(gap: Any) -> str:
    return _place(gap.division, gap.name_zh, gap.name_en) + (" 其余 rest" if gap.rest else "")


def _kind(kind: str) -> str:
    return f"{KINDS_ZH[kind]} {kind}"


@gaps.command("list", epilog="Example: ganzhi gaps list --division 370100")
def list_(
    division: Division = None,
    all_: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 200,
    config: Config = None,
) -> None:
    """Gaps that are open, the largest first."""
    from ingest import gaps as store_

    with exit_codes():
        place = checked(spelling.division, division)
        with _database(config) as conn:
            rows = store_.list_gaps(conn, place, closed=all_, limit=limit)
    table = Table("id", "since +08", "kind", "place", "domain", "gateway", "live", "expected", "owner", "contact",
                  "acknowledged", *(["closed +08"] if all_ else []), title="缺口 gaps")  # fmt: skip
    for gap in rows:
        planned = " 检修 maintenance" if "maintenance" in gap.evidence and gap.closed_at is None else ""
        cells = (gap.id, _minute(gap.opened_at), _kind(gap.kind) + planned,
                 _gap_place(gap), gap.domain, gap.gateway, f"{gap.live:,}",
                 f"{gap.expected:,}", gap.owner, gap.contact, gap.acknowledged_by,
                 *([_minute(gap.closed_at)] if all_ else []))  # fmt: skip
        table.add_row(*map(_cell, cells))
    out.print(table if rows else "no gaps")


@gaps.command(epilog="Example: ganzhi gaps show 42")
def show(number: Number, config: Config = None) -> None:
    """One gap with the evidence that opened it."""
    from ingest import gaps as store_

    with exit_codes(), _database(config) as conn:
        gap = store_.show(conn, number)
    facts = {
        "id": gap.id,
        "kind": _kind(gap.kind),
        "place": _gap_place(gap)
        + (" of the city, without the counties that have targets of their own" if gap.rest else ""),
        "domain": gap.domain,
        "gateway": gap.gateway,
        "owner": gap.owner,
        "contact": gap.contact,
        "opened": shown(gap.opened_at),
        "closed": shown(gap.closed_at) or None,
        "live": f"{gap.live:,} of {gap.expected:,}",
        "acknowledged": gap.acknowledged_at and f"{shown(gap.acknowledged_at)} {gap.acknowledged_by}",
        **{f"evidence {name}": value for name, value in gap.evidence.items()},
    }
    for name, value in facts.items():
        if value is not None:
            out.print(f"{name:>28}", style="bold", end="  ")
            out.print(value)


@gaps.command(epilog="Example: ganzhi gaps ack 42 --by 王工")
def ack(
    number: Number,
    by: Annotated[
        str | None, typer.Option(help="Who looks after it; without it, the database's role.")
    ] = None,
    config: Config = None,
) -> None:
    """Note that somebody looks after a gap. It alerts no longer, and stays open until its cause is gone."""
    from ingest import gaps as store_

    with exit_codes(), _database(config) as conn:
        new = store_.acknowledge(conn, number, by)
        gap = store_.show(conn, number)
    out.print("acknowledged" if new else "it was acknowledged before,", f"by {gap.acknowledged_by},",
              shown(gap.acknowledged_at))  # fmt: skip


@maintenance.command(epilog="Example: ganzhi maintenance add --gateway jn-water-01 --from 2026-12-01T22:00+08:00 "
                            "--to 2026-12-02T02:00+08:00 --reason 换卡")  # fmt: skip
def add(
    since: Annotated[
        str,
        typer.Option("--from", help="Start: a time, or a day. Shandong's (UTC+8) where it names no zone."),
    ],
    until: Annotated[
        str, typer.Option("--to", help="End, in the same form; leave the terminals time to report again.")
    ],
    reason: Annotated[str, typer.Option(help="Why, for who is on call.")],
    division: Division = None,
    gateway: Annotated[
        str | None, typer.Option(help="A gateway; its terminals elsewhere go on as they do.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="Of a division: this domain only, such as municipal or 市政.")
    ] = None,
    config: Config = None,
) -> None:
    """Plan a maintenance: meanwhile no gap opens there, and gaps that are open are marked.

    With --domain it covers cells only: a gateway that is to be silent needs one of its own.
    """
    from ingest import gaps as store_

    with exit_codes():
        if (division is None) == (gateway is None):
            raise SettingsError("name a place with --division or a gateway with --gateway, one of the two")
        if domain is not None and gateway is not None:
            raise SettingsError(
                "--domain goes with --division: all that is behind a gateway is silent at once"
            )
        start, end = moment("--from", since, SHANDONG), moment("--to", until, SHANDONG)
        if not storable(reason) or not reason.isprintable():
            raise SettingsError("--reason holds characters that nobody can read: write words")
        if start >= end:
            raise SettingsError(f"--from {start.isoformat()} is not before --to {end.isoformat()}")
        place = checked(spelling.division, division)
        planned = store_.Planned(place, checked(spelling.domain, domain), gateway, start, end, reason)
        with _database(config) as conn:
            number = store_.plan_maintenance(conn, planned)
    out.print(f"maintenance {number}: {shown(start)} to {shown(end)}")


@maintenance.command(epilog="Example: ganzhi maintenance end 7")
def end(number: Number, config: Config = None) -> None:
    """End a maintenance now; one that has not begun is removed. From then on gaps open there as anywhere."""
    from ingest import gaps as store_

    with exit_codes(), _database(config) as conn:
        began = store_.end_maintenance(conn, number)
    out.print(f"maintenance {number} " + ("is over" if began else "had not begun: it is removed"))


@maintenance.command("list", epilog="Example: ganzhi maintenance list")
def list_maintenance(
    all_: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    config: Config = None,
) -> None:
    """Planned maintenance that is not over."""
    from ingest import gaps as store_

    with exit_codes(), _database(config) as conn:
        rows = store_.list_maintenance(conn, past=all_)
    table = Table("id", "from +08", "to +08", "now", "place", "domain", "gateway", "reason", "by",
                  title="计划检修 planned maintenance")  # fmt: skip
    for id_, since, until, now, division, zh, en, domain, gateway, reason, by in rows:
        cells = (id_, _minute(since), _minute(until), "是 yes" if now else "", _place(division, zh, en), domain,
                 gateway, reason, by)  # fmt: skip
        table.add_row(*map(_cell, cells))
    out.print(table if rows else "no maintenance is planned")
