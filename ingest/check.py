"""`ganzhi check`: would the service work with these settings, and what holds it up?

Looks at the real broker and the real database, changes nothing that stays, and says no secret.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from psycopg.conninfo import conninfo_to_dict
from rich.table import Table
from rich.text import Text

from ingest import check_broker, check_database, check_doors
from ingest.finding import Finding, Level, ok, redact
from ingest.settings import Settings
from ingest.terminal import FAILED, OUT_OF_REACH

STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def run(settings: Settings) -> Iterator[Finding]:
    """Every finding, as it comes, without secrets."""
    secrets = _secrets(settings)
    named, all_of_them = len(settings.model_fields_set), len(type(settings).model_fields)
    yield ok("settings", f"{named} set, {all_of_them - named} by default; they go together")
    for check in (check_doors.run, check_broker.run, check_database.run):
        for f in check(settings):
            yield replace(f, found=redact(f.found, secrets), advice=redact(f.advice, secrets))


def exit_code(findings: Iterable[Finding]) -> int:
    """0 when nothing failed, 3 when broker or database is out of reach, 1 for every other failure."""
    failed = [f for f in findings if f.level is Level.FAIL]
    if any(f.out_of_reach for f in failed):
        return OUT_OF_REACH
    return FAILED if failed else 0


def table(findings: list[Finding]) -> Table:
    """The findings for a terminal; what to do stands under what was found."""
    shown = Table("check", "", "found", title="ganzhi check", title_justify="left", show_lines=False)
    for f in findings:
        text = Text(f.found)
        if f.advice:
            text.append(f"\n→ {f.advice}", STYLES[f.level])
        shown.add_row(f.name, Text(f.level, STYLES[f.level]), text)
    return shown


def _secrets(settings: Settings) -> list[str]:
    """Tokens, and the passwords of both URLs, plain and as they stand there, the longest first."""
    database = settings.database_url.get_secret_value()
    parts = conninfo_to_dict(database)
    found = {str(parts.get("password") or ""), str(parts.get("sslpassword") or "")} | {
        *settings.push_tokens().values()
    }
    found |= {value.get_secret_value() for value in settings.secret_values().values()}
    for url in (settings.mqtt_url.get_secret_value(), database):
        quoted = urlsplit(url).password or ""
        found |= {quoted, unquote(quoted)}
    return sorted(found - {""}, key=len, reverse=True)
