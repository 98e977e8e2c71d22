"""The registry's statements: what the ingest path asks of it, and how new terminals and metrics get ids.

Registration is a committed transaction of its own under an advisory lock, ids are max + 1, and
nothing is cached before the commit: two workers that meet one new code agree on its id.
"""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from psycopg import Connection

from devices.registry import Gateway, Metric
from schemas.sql import queries

SQL = queries("registry.sql")
CHUNK = 20_000
"""Codes asked for in one statement."""


class Known(NamedTuple):
    """A terminal's row, as far as its cell depends on it."""

    id: int
    division: int
    domain: str
    state: str


class NewTerminal(NamedTuple):
    """A terminal to be registered as discovered."""

    code: str
    scheme: str
    division: int
    gateway: str | None


def find_terminals(conn: Connection[Any], codes: Collection[str]) -> dict[str, Known]:
    """Rows of the codes that are registered, under their own name or as an alias that is valid now."""
    wanted = list(codes)
    found: dict[str, Known] = {}
    for statement in (SQL["terminals"], SQL["aliases"]):
        rows = conn.execute(statement, [wanted])
        found |= {code: Known(*rest) for code, *rest in rows}
        wanted = [code for code in wanted if code not in found]
        if not wanted:
            break
    return found


def register_terminals(conn: Connection[Any], new: Iterable[NewTerminal]) -> dict[str, Known]:
    """Register these as discovered, commit, and answer their rows; those that are there already stay."""
    columns = [list(column) for column in zip(*new, strict=True)]
    with conn.transaction():
        conn.execute(SQL["lock"])
        conn.execute(SQL["register_terminals"], columns)
    return find_terminals(conn, columns[0])


def load_metrics(conn: Connection[Any]) -> list[Metric]:
    """Every metric, in order of its id."""
    rows = conn.execute(SQL["metrics"])
    infinite = (float("-inf"), float("inf")) * 2
    return [
        Metric(*row[:3], *(i if v is None else v for v, i in zip(row[3:], infinite, strict=True)))
        for row in rows
    ]


def register_metrics(conn: Connection[Any], new: dict[str, str]) -> None:
    """Register metrics (name -> unit) that nobody knew, and commit; those that are there already stay."""
    with conn.transaction():
        conn.execute(SQL["lock"])
        conn.execute(SQL["register_metrics"], [list(new), list(new.values())])


def load_cells(conn: Connection[Any]) -> dict[tuple[int, str], int]:
    """(division, domain) -> cell id."""
    return {(division, domain): id_ for id_, division, domain in conn.execute(SQL["cells"])}


def load_gateways(conn: Connection[Any]) -> dict[str, Gateway]:
    """Registered gateways by name."""
    return {name: Gateway(division, offset) for name, division, offset in conn.execute(SQL["gateways"])}
