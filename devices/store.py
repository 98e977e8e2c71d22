"""The registry's statements: what the ingest path asks of it, and how new terminals and metrics get ids.

Registration is a committed transaction of its own under an advisory lock, ids are max + 1, and
nothing is cached before the commit: two workers that meet one new code agree on its id.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from psycopg import Connection

from devices.registry import Gateway, Metric
from schemas.sql import queries

SQL = queries("registry.sql")
ALIASES_AT_ONCE = 1_000
"""In one transaction: each raises the one row of the registry's version, and its dead rows are walked again."""


class Known(NamedTuple):
    """A terminal's row, as far as its cell depends on it."""

    id: int
    division: int
    domain: str
    state: str
    gateway: str | None = None
    """What it comes through, as far as anybody knows."""


class NewTerminal(NamedTuple):
    """A terminal to be registered as discovered."""

    code: str
    scheme: str
    division: int
    gateway: str | None


class Directory:
    """The registry's tables, over one connection."""

    def __init__(self, conn: Connection[Any]) -> None:
        self._conn = conn

    def find_terminals(self, codes: Collection[str]) -> dict[str, Known]:
        """Rows of the codes that are registered, as an alias that is valid now or else under their own name.

        The alias first: a terminal that was discovered under that name before is out of service.
        """
        wanted = list(codes)
        found: dict[str, Known] = {}
        for statement in (SQL["aliases"], SQL["terminals"]):
            rows = self._conn.execute(statement, [wanted])
            found |= {code: Known(*rest) for code, *rest in rows}
            wanted = [code for code in wanted if code not in found]
            if not wanted:
                break
        return found

    def register_terminals(self, new: Iterable[NewTerminal], hourly: int) -> dict[str, Known]:
        """Register these as discovered, commit, and answer their rows; those that are there already stay.

        A gateway brings at most `hourly` within an hour; of what is beyond there is no row.
        """
        codes, schemes, divisions, gateways = (list(column) for column in zip(*new, strict=True))
        columns = {"codes": codes, "schemes": schemes, "divisions": divisions, "gateways": gateways}
        with self._conn.transaction():
            self._conn.execute(SQL["lock"])
            self._conn.execute(SQL["register_terminals"], columns | {"hourly": hourly})
        return self.find_terminals(codes)

    def put_gateways(self, heard: Mapping[int, str]) -> None:
        """Let terminals (by id) whose gateway nobody knows belong to these, and commit."""
        with self._conn.transaction():
            self._conn.execute(SQL["lock"])
            self._conn.execute(SQL["put_gateways"], [list(heard), list(heard.values())])

    def put_aliases(self, aliases: Mapping[str, str]) -> dict[str, str]:
        """Let aliases stand for terminals (alias -> code) from now on, and commit; answers why not, by alias."""
        refused: dict[str, str] = {}
        pairs = list(aliases.items())
        for begin in range(0, len(pairs), ALIASES_AT_ONCE):
            columns = [list(column) for column in zip(*pairs[begin : begin + ALIASES_AT_ONCE], strict=True)]
            with self._conn.transaction():
                self._conn.execute(SQL["lock"])
                refused |= dict(self._conn.execute(SQL["put_aliases"], columns).fetchall())
        return refused

    def metrics(self) -> list[Metric]:
        """Every metric, in order of its id."""
        infinite = (float("-inf"), float("inf")) * 2
        return [
            Metric(*row[:3], *(i if v is None else v for v, i in zip(row[3:], infinite, strict=True)))
            for row in self._conn.execute(SQL["metrics"])
        ]

    def register_metrics(self, new: dict[str, str]) -> None:
        """Register metrics (name -> unit) that nobody knew, and commit; those that are there already stay."""
        with self._conn.transaction():
            self._conn.execute(SQL["lock"])
            self._conn.execute(SQL["register_metrics"], [list(new), list(new.values())])

    def cells(self) -> dict[tuple[int, str], int]:
        """(division, domain) -> cell id."""
        return {(division, domain): id_ for id_, division, domain in self._conn.execute(SQL["cells"])}

    def version(self) -> tuple[Any, ...]:
        """Another one after every change of the registry, and whenever an alias begins or ends by the clock."""
        return self._conn.execute(SQL["version"]).fetchone() or ()

    def gateways(self) -> dict[str, Gateway]:
        """Registered gateways by name."""
        return {
            name: Gateway(division, offset) for name, division, offset in self._conn.execute(SQL["gateways"])
        }


def identifier_nodes(conn: Connection[Any]) -> tuple[int, int]:
    """Distinct secondary nodes (88.a) and enterprises (88.a.b) of the handles that are planned or installed."""
    row = conn.execute(SQL["identifier_nodes"]).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
