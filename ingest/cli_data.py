"""Commands about data: `decode`, and `rejections` with its list, show and replay."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ingest.settings import load
from ingest.terminal import CommandError, Config, database, exit_codes, out, shown
from schemas.rejection import Reason, of_first, where

rejections = typer.Typer(help="The quarantine: what was refused, and running it again.", no_args_is_help=True)

ByReason = Annotated[Reason | None, typer.Option("--reason", help="Only of this reason.")]
ByDivision = Annotated[int | None, typer.Option("--division", help="Only of this division, such as 370102.")]


def decode(
    topic: Annotated[str, typer.Argument(help="The topic that it came under.")],
    payload: Annotated[str, typer.Argument(help="The payload; @FILE reads a file, - standard input.")],
    content_type: Annotated[str | None, typer.Option(help="MQTT 5 content type.")] = None,
    hex_: Annotated[bool, typer.Option("--hex", help="The payload is written in hexadecimal.")] = False,
    config: Config = None,
) -> None:
    """A topic and a payload in; readings, events and refusals out. Nothing is stored, no server is asked."""
    from ingest.explain import explain
    from schemas.message import Message

    with exit_codes():
        settings = load(config)
        message = Message(topic, _payload(payload, hex_=hex_), time.time(), content_type)
        tables, refused = explain(message, settings)
        for table in tables:
            out.print(table)
    raise typer.Exit(1 if refused else 0)


def _payload(text: str, *, hex_: bool) -> bytes:
    try:
        raw = (
            sys.stdin.buffer.read()
            if text == "-"
            else Path(text[1:]).read_bytes()
            if text[:1] == "@"
            else text.encode()
        )
        return bytes.fromhex(raw.decode()) if hex_ else raw
    except OSError as error:
        raise CommandError(f"{text}: {error.strerror}") from None
    except ValueError:
        raise CommandError(
            "the payload is not hexadecimal: leave --hex out, or send pairs of 0-9 a-f"
        ) from None


@rejections.command(
    "list", epilog="Example: ganzhi rejections list --reason time_in_future --division 370102"
)
def list_(
    reason: ByReason = None, division: ByDivision = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    all_: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    config: Config = None,
) -> None:  # fmt: skip
    """The newest rejections that are not resolved."""
    from ingest import quarantine

    with exit_codes(), database(load(config), "ganzhi rejections") as conn:
        rows = conn.execute(
            quarantine.SQL["list"], {"reason": reason, "division": division, "limit": limit, "all": all_}
        ).fetchall()
    table = Table("id", "received", "division", "gateway", "reason", "refused", "resolved", "first detail",
                  title="拒收 rejections")  # fmt: skip
    for id_, received, place, gateway, why, rejected, total, resolved, detail in rows:
        table.add_row(str(id_), shown(received), str(place or ""), gateway, why,
                      _refused(rejected, total), shown(resolved), detail)  # fmt: skip
    out.print(table if rows else "no rejections")


def _refused(rejected: int, total: int) -> str:
    """Of a message that nobody could read, nobody knows how many readings it had."""
    return f"{rejected:,} of {total:,}" if total else "全部 all"


@rejections.command(epilog="Example: ganzhi rejections show 42")
def show(
    number: Annotated[int, typer.Argument(metavar="ID")],
    raw: Annotated[bool, typer.Option("--raw", help="The payload's bytes, and nothing else.")] = False,
    config: Config = None,
) -> None:
    """One rejection: where it came from, what was wrong with each reading, and the payload."""
    from ingest import quarantine

    with exit_codes():
        with database(load(config), "ganzhi rejections") as conn:
            row = conn.execute(quarantine.SQL["show"], [number]).fetchone()
        if row is None:
            raise CommandError(f"no rejection {number}; ganzhi rejections list --all shows them")
        if raw:
            sys.stdout.buffer.write(row[10])
            return
        facts = zip(("id", "received", "topic", "division", "gateway", "reason"), row, strict=False)
        for name, value in (*facts, ("refused", _refused(row[6], row[7]))):
            _fact(name, shown(value) if name == "received" else str(value))
        for entry in row[8]:
            count = entry.get("count", 1)
            detail = f": {of_first(entry['detail'], count)}" if entry.get("detail") else ""
            hint = f"; {entry['hint']}" if entry.get("hint") else ""
            _fact(where(entry["index"], count), f"{entry['reason']}{detail}{hint}")
        out.print(row[10].decode("utf-8", "backslashreplace"))


def _fact(name: str, text: str) -> None:
    out.print(f"{name:>10}", style="bold", end="  ")
    out.print(text)


@rejections.command(epilog="Example: ganzhi rejections replay --reason unknown_terminal --dry-run")
def replay(
    reason: ByReason = None, division: ByDivision = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; store nothing.")] = False,
    config: Config = None,
) -> None:  # fmt: skip
    """Run what was refused again, after a fix: what lands is stored once and marked as resolved."""
    from ingest import quarantine

    with exit_codes():
        settings = load(config)
        with database(settings, "ganzhi rejections") as conn, out.status("replaying") as live:
            done = quarantine.Replayed()
            for done in quarantine.Quarantine(conn, settings).replay(
                reason=reason, division=division, dry_run=dry_run
            ):
                live.update(f"{done.rejections:,} rejections, {done.readings:,} readings")
    verb = "would store" if dry_run else "stored"
    out.print(f"{done.rejections:,} rejections: {verb} {done.readings:,} readings and {done.events:,} events; "
              f"{done.resolved:,} resolved, {done.refused:,} still refused")  # fmt: skip
