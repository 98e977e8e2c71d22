"""The command `report`."""

import sys
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from devices.day import SHANDONG
from devices.division import DIVISIONS, PROVINCE, city
from devices.report import Period, Summary, last_days, month
from devices.spelling import division as division_of
from ingest.settings import SettingsError, load
from ingest.terminal import CommandError, Config, database, err, exit_codes, shown


class Language(StrEnum):
    """What it is written in."""

    ZH = "zh"
    EN = "en"


FORMATS = ("html", "csv", "json")
YEARS = range(2000, 2200)
"""Of days that a report may be of: what is asked lies centuries within what a day can be."""


def report(
    since: Annotated[
        str | None, typer.Option("--from", help="First day, 2026-10-01; without it 30 days up to --to.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Last day, included; without it today (UTC+8).")
    ] = None,
    month_: Annotated[
        str | None, typer.Option("--month", help="Instead of both: a month, 2026-10, or last.")
    ] = None,
    division: Annotated[str, typer.Option(help="The province, a city such as 370200, or a county.")] = str(
        PROVINCE
    ),
    format_: Annotated[
        str, typer.Option("--format", help="html (prints on A4), csv (Excel) or json; several: html,csv.")
    ] = "html",
    lang: Annotated[Language, typer.Option(help="Chinese or English.")] = Language.ZH,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write, or a folder that is there; else standard output, on a terminal a file here."
        ),
    ] = None,
    config: Config = None,
) -> None:
    """The progress report of a period, against the period before, from what is kept of each day."""
    from ingest import report as reports

    with exit_codes():
        if output is None and sys.stdout.isatty():
            output = Path()
        formats = _formats(format_, output)
        period, place = _period(since, until, month_), _place(division)
        settings = load(config)
        with database(settings, "ganzhi report") as conn:
            summary = reports.read(conn, period, place, settings.goal_due)
        if summary.now.day is None:
            span = f"{period.since} to {period.until}"
            err.print(f"there are no figures of {span}: ganzhi observe writes them, day by day")
        if summary.counted_at:
            err.print(f"figures as counted in the quarter of an hour from {shown(summary.counted_at)}")
        for name in formats:
            _write(summary, name, lang, output)


def _write(summary: Summary, name: str, lang: Language, output: Path | None) -> None:
    text = _text(summary, name, lang).encode()
    if output is None:
        sys.stdout.buffer.write(text)
        return
    period = summary.period
    file = f"ganzhi-report-{summary.division}-{period.since}-{period.until}.{name}"
    target = output / file if output.is_dir() else output
    try:
        part = target.with_name(target.name + ".part")
        part.write_bytes(text)
        part.replace(target)
    except OSError as error:
        raise CommandError(f"{target}: {error.strerror or error}") from None
    err.print(f"{target}: {len(text):,} bytes")


def _text(summary: Summary, name: str, lang: Language) -> str:
    from ingest.report_files import as_csv, as_json
    from ingest.report_html import html

    if name == "csv":
        return as_csv(summary, lang)
    return html(summary, lang) if name == "html" else as_json(summary)


def _formats(text: str, output: Path | None) -> list[str]:
    formats = [name.strip() for name in text.split(",")]
    if not set(formats) <= set(FORMATS):
        raise SettingsError(f"--format {text}: there are {', '.join(FORMATS)}")
    if len(formats) > 1 and not (output and output.is_dir()):
        raise SettingsError(f"--format {text}: several need --output with a folder that is there")
    return formats


def _period(since: str | None, until: str | None, month_: str | None) -> Period:
    today = datetime.now(UTC).astimezone(SHANDONG).date()
    if month_ is not None:
        if since or until:
            raise SettingsError("--month stands for --from and --to: leave them out")
        return _month(month_, today)
    last = _day("--to", until) if until else today
    period = Period(_day("--from", since), last) if since else last_days(last)
    if period.since > period.until:
        raise SettingsError(f"--from {period.since} is after --to {period.until}")
    return period


def _month(text: str, today: date) -> Period:
    if text == "last":
        return month(date.fromordinal(today.replace(day=1).toordinal() - 1))
    try:
        return month(_in_years(datetime.strptime(text, "%Y-%m").replace(tzinfo=SHANDONG).date()))
    except ValueError:
        raise SettingsError(f"--month {text!r}: write 2026-10, or last") from None


def _day(option: str, text: str) -> date:
    try:
        return _in_years(date.fromisoformat(text))
    except ValueError:
        raise SettingsError(f"{option} {text!r}: write a day, 2026-10-01") from None


def _in_years(day: date) -> date:
    if day.year not in YEARS:
        raise ValueError(day)
    return day


def _place(text: str) -> int:
    try:
        code = division_of(text)
    except ValueError as error:
        raise SettingsError(f"--division: {error}") from None
    if DIVISIONS[code].level == "zone":
        raise SettingsError(f"--division {text}: a statistical zone counts with its city, {city(code)}")
    return code
