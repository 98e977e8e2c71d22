"""The plan in the database: imported as a new version, shown, read; declared figures beside it.

A plan is never changed: every import is a version of its own, and the newest counts. Needs the rights of
ganzhi_owner to import; everybody who reads coverage may read it.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from psycopg import Connection
from psycopg.types.json import Jsonb

from devices.coverage import Target, by_city, targets_on
from devices.declared import Declared, declared_at_first, read_declared
from devices.plan import read_plan
from devices.plan_assumed import assumed
from devices.plan_file import PlanError
from ingest.register import Line, lines
from ingest.terminal import CommandError
from schemas.sql import queries

T = TypeVar("T")
SQL = queries("plan.sql")
AUDIT = queries("terminals.sql")["audit"]


class Version(NamedTuple):
    """One version of the plan, with all its rows."""

    number: int
    imported_at: datetime
    imported_by: str
    rows: list[Target]


def seed(conn: Connection[Any]) -> None:
    """Where there is no plan yet, the assumed one becomes version 1; what is known to be declared is added."""
    conn.execute(SQL["lock"])
    if not newest(conn):
        _add(conn, 1, assumed())
    with conn.cursor() as cursor:
        cursor.executemany(SQL["declare_first"], declared_at_first())


def import_plan(conn: Connection[Any], path: Path) -> tuple[int, list[Target]]:
    """Import a plan, whole or not at all: its version and rows. Raises `CommandError` with all that is wrong."""
    rows = _read(path, read_plan)
    with conn.transaction():
        conn.execute(SQL["lock"])
        version = newest(conn) + 1
        _add(conn, version, rows)
        last = by_city(targets_on(rows, date.max))
        said = {"version": version, "rows": len(rows), "target": sum(last.values()),
                "sources": sorted({row.source for row in rows})}  # fmt: skip
        conn.execute(AUDIT, ["plan import", path.name, Jsonb(said)])
    return version, rows


def import_declared(conn: Connection[Any], path: Path) -> tuple[int, int]:
    """Import what others publish, whole or not at all: rows new and rows corrected.

    A correction keeps the value before it in `audit`. Raises `CommandError` with all that is wrong.
    """
    rows = _read(path, read_declared)
    with conn.transaction():
        conn.execute(SQL["lock"])
        corrected = [said for row in rows if (said := _correction(conn, row))]
        done = [conn.execute(SQL["declare"], row).fetchone() for row in rows]
        new = sum(bool(answer and answer[0]) for answer in done)
        said = {"rows": len(rows), "new": new, "corrected": corrected}
        conn.execute(AUDIT, ["plan import --declared", path.name, Jsonb(said)])
    return new, len(corrected)


def newest(conn: Connection[Any]) -> int:
    """The version that counts; 0 where there is no plan."""
    row = conn.execute(SQL["newest"]).fetchone()
    return int(row[0]) if row else 0


def read(conn: Connection[Any], version: int | None = None) -> Version | None:
    """A version with its rows, the newest unless one is named; None when there is none."""
    number = newest(conn) if version is None else version
    imported = conn.execute(SQL["imported"], [number]).fetchone()
    if imported is None:
        return None
    at, who = imported
    return Version(number, at, who, [Target(*row) for row in conn.execute(SQL["rows"], [number])])


def declared(conn: Connection[Any]) -> list[Declared]:
    """Everything that others publish."""
    return [Declared(*row) for row in conn.execute(SQL["declared"])]


def _read(path: Path, reader: Callable[[Iterable[Line]], T]) -> T:
    try:
        return reader(lines(path, lambda _: None))
    except PlanError as error:
        count = len(error.faults)
        what = "1 line is" if count == 1 else f"{count:,} things are"
        raise CommandError(f"{path}: nothing is imported, {what} wrong:\n{error}") from None


def _add(conn: Connection[Any], version: int, rows: Iterable[Target]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    conn.execute(SQL["add"], [version, *columns])


def _correction(conn: Connection[Any], row: Declared) -> dict[str, Any] | None:
    """What `audit` says of a value that is about to change."""
    key = [row.indicator, row.division, row.as_of, row.source]
    before = conn.execute(SQL["declared_before"], key).fetchone()
    if before is None or before[0] == row.value:
        return None
    return {"indicator": row.indicator, "division": row.division, "as_of": str(row.as_of), "before": before[0],
            "after": row.value}  # fmt: skip
