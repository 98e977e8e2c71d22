"""`ganzhi observe --recount`: the database's own counts beside what the running observer publishes.

The observer's figures are those of its `/metrics`, by city and domain; where none answers, the last rows of table
`coverage`, which are up to a quarter of an hour old. The registry is counted by SQL between two looks of the
observer: a figure that stands still must be equal, one that moved meanwhile must lie between the two.

What only the arrays know, and nothing here can check: live, overdue and lost (`devices.recount` says why).
"""

import time
from collections import Counter
from http.client import HTTPException
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from psycopg import Connection

from devices.division import city
from devices.facts import SQL
from devices.recount import COUNTED, in_database
from ingest import scrape
from ingest.connection import connect
from ingest.migrate import storage_of
from ingest.scrape import ANSWER_SECONDS, EVERYWHERE
from ingest.settings import Settings
from ingest.terminal import CommandError, shown
from schemas.sql import queries

CELLS = queries("observe.sql")["cells"]
PATIENCE_SECONDS = 120
"""Beside two looks, for one that is long: after a start, or while the night's recount is made."""
POLL_SECONDS = 0.5
VERIFIED = ("live", "overdue", "lost")

Figures = Counter[tuple[int, str, str]]
"""Terminals by city, domain and what is counted: `COUNTED`, and installed."""


class Published(NamedTuple):
    """What an observer said, and when it had counted that (Unix seconds)."""

    at: float
    figures: Figures


class Place(NamedTuple):
    """A figure that differs; `published` of the look before and the one after."""

    city: int
    domain: str
    what: str
    published: tuple[int, int]
    database: int


class Recount(NamedTuple):
    """What was compared with what."""

    against: str
    differing: list[Place]


def recount(settings: Settings) -> Recount:
    """Count the registry, compare. Raises `CommandError` where there is nothing to compare it with."""
    observer = _address(settings)
    with connect(settings.database_url.get_secret_value()) as conn:
        storage_of(conn)
        before = _scrape(settings)
        counted_at, database = _count(conn)
        if before is None:
            return _against_coverage(conn, database, observer)
    after = _next_look(settings, counted_at, 2 * settings.observe_seconds + PATIENCE_SECONDS)
    return Recount(
        f"what the observer publishes at {observer}", compared(before.figures, after.figures, database)
    )


def _address(settings: Settings) -> str:
    host = EVERYWHERE.get(settings.http_host, settings.http_host)
    return f"{f'[{host}]' if ':' in host else host}:{settings.observer_http_port}"


def _next_look(settings: Settings, counted_at: float, patience_seconds: float) -> Published:
    """What a look begun after this moment came to: the observer has followed the database up to it, at least."""
    deadline = time.monotonic() + patience_seconds
    while (published := _scrape(settings)) is None or published.at < counted_at:
        if time.monotonic() > deadline:
            raise CommandError(
                f"the observer at {_address(settings)} has not counted again within {patience_seconds:.0f} s: "
                "see `ganzhi status` and its log, then recount"
            )
        time.sleep(POLL_SECONDS)
    return published


def _scrape(settings: Settings) -> Published | None:
    """None where no observer answers, or one that has counted nothing yet. Raises `CommandError`."""
    try:
        text = scrape.metrics(settings, settings.observer_http_port, ANSWER_SECONDS)
        families = list(text_string_to_metric_families(text))
    except PermissionError as error:
        raise CommandError(f"the observer at {_address(settings)} {error}") from None
    except (OSError, HTTPException, ValueError):
        return None
    at: float | None = None
    figures = Figures()
    for family in families:
        for sample in family.samples:
            if sample.name == "ganzhi_observer_last_run_timestamp_seconds":
                at = sample.value
            elif sample.name == "ganzhi_terminals":
                place = int(sample.labels["city"]), sample.labels["domain"]
                _add(figures, place, sample.labels["state"], int(sample.value))
    return None if at is None else Published(at, figures)


def _add(figures: Figures, place: tuple[int, str], state: str, number: int) -> None:
    """Count terminals of a state under what it means."""
    what = "verified" if state in VERIFIED else state
    figures[*place, what] += number
    if what in {"verified", "never_heard"}:
        figures[*place, "installed"] += number


def _count(conn: Connection[Any]) -> tuple[float, Figures]:
    """The registry's figures, and a moment after the snapshot that they are of."""
    with conn.transaction():
        conn.execute(SQL["snapshot"])
        conn.execute(SQL["unhurried"])
        cells = {number: (division, domain) for number, division, domain in conn.execute(CELLS)}
        now = time.time()
        counted = in_database(conn, now, max(cells) + 1)
    figures = Figures()
    for number, (division, domain) in cells.items():
        for state, terminals in zip(COUNTED, counted[number].tolist(), strict=True):
            _add(figures, (city(division), domain), state, terminals)
    return now, figures


def _against_coverage(conn: Connection[Any], database: Figures, observer: str) -> Recount:
    rows = conn.execute(SQL["last_coverage"]).fetchall()
    if not rows:
        raise CommandError(
            f"nothing to compare with: no observer answers at {observer}, and table coverage is empty"
        )
    kept = Figures()
    for _, division, domain, *numbers in rows:
        for state, terminals in zip(COUNTED, numbers, strict=True):
            _add(kept, (city(division), domain), state, terminals)
    against = (
        f"the coverage rows of {shown(rows[0][0])}, for no observer answers at {observer}: "
        "what changed since then differs too"
    )
    return Recount(against, compared(kept, kept, database))


def compared(before: Figures, after: Figures, database: Figures) -> list[Place]:
    """Where the database's count is not what was published before and after, nor between the two."""
    places = []
    for key in sorted(before.keys() | after.keys() | database.keys()):
        least, most = sorted((before[key], after[key]))
        if not least <= database[key] <= most:
            places.append(Place(*key, (before[key], after[key]), database[key]))
    return places
