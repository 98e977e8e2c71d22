"""The registry from files and by command: import, export, aliases; gateways. Every change leaves a line in `audit`.

An import stages the whole file in a temporary table, so that a code that stands in it twice is found, and
merges it in blocks. Each block is a transaction under the lock that discovery takes: what an import that
breaks off has merged stays, and importing again does the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from devices.code import Code, canonical
from devices.datum import Datum
from devices.importer import GATEWAY_COLUMNS, Fault, HeaderError, Sheet, Terminals, aliases, gateways
from devices.store import SQL as REGISTRY
from ingest.register import Line, Progress, Refused, lines, refused
from ingest.terminal import CommandError
from schemas.sql import queries

SQL = queries("terminals.sql")
BLOCK_LINES = 50_000
"""Merged at once: about a second, in which the discovery of new terminals waits."""
ALIASES = 1_000
"""Given in one transaction: some tens of milliseconds, in which the discovery of new terminals waits."""
STAGED_SHARE = 0.5
"""Of an import's time, as far as a progress bar cares."""


@dataclass(slots=True)
class Imported:
    """What an import did, in lines."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    planned: int = 0
    """Created or updated, and in no figure: without a day of installation, or with one to come."""
    suspect_imeis: int = 0
    """IMEIs with a wrong check digit; they are imported."""
    ignored: Sequence[str] = ()
    """Columns that nobody knows."""
    refused_file: Path | None = None


def import_terminals(conn: Connection[Any], path: Path, datum: Datum, progress: Progress) -> Imported:
    """Import a register of terminals. Raises `CommandError` when the file as a whole can't be read."""
    conn.execute(SQL["session"])
    source = lines(path, lambda share: progress(share * STAGED_SHARE))
    header = _header(path, source)
    read = _columns(path, lambda: Terminals(header, datum))
    with refused(path, header) as bad:
        conn.execute(SQL["stage"])
        try:
            last = _stage(conn, read, source, bad)
            conn.execute(SQL["staged"])
            conn.execute(SQL["twice"])
            conn.execute(SQL["aliased"])
            _refuse_contradictions(conn, path, bad)
            conn.execute(SQL["merged"])
            done = Imported(suspect_imeis=read.suspect_imeis, ignored=read.sheet.ignored)
            _merge(conn, last, done, progress)
        finally:
            if not conn.closed:
                conn.execute(SQL["unstage"])
    done.refused = bad.count
    done.unchanged = read.count - bad.count - done.created - done.updated
    return _audited(conn, "terminals import", path, done, bad)


def import_gateways(conn: Connection[Any], path: Path) -> Imported:
    """Import a register of gateways, whole or not at all. Raises `CommandError` for a file that can't be read."""
    source = lines(path, lambda _: None)
    header = _header(path, source)
    sheet = _columns(path, lambda: gateways(header))
    done = Imported(ignored=sheet.ignored)
    seen: dict[str, tuple[int, list[Any]]] = {}
    with refused(path, header) as bad, conn.transaction():
        for number, cells in source:
            facts = sheet(cells)
            if isinstance(facts, Fault):
                bad.add(number, facts, cells)
                continue
            first, known = seen.setdefault(facts[0], (number, facts))
            if known != facts:
                bad.add(number, f"{facts[0]} has other facts in line {first}", cells)
                continue
            _count(done, put_gateway(conn, facts))
        done.refused = bad.count
        return _audited(conn, "gateways import", path, done, bad)


def import_aliases(conn: Connection[Any], path: Path, progress: Progress) -> Imported:
    """Import other names of terminals with their periods. Raises `CommandError` for a file that can't be read."""
    conn.execute(SQL["session"])
    source = lines(path, progress)
    header = _header(path, source)
    sheet = _columns(path, lambda: aliases(header))
    done = Imported(ignored=sheet.ignored)
    with refused(path, header) as bad:
        while block := list(islice(source, ALIASES)):
            _put_aliases(conn, sheet, block, done, bad)
        done.refused = bad.count
        return _audited(conn, "terminals import aliases", path, done, bad)


def _put_aliases(
    conn: Connection[Any], sheet: Sheet, block: list[Line], done: Imported, bad: Refused
) -> None:
    asked = []
    for number, cells in block:
        facts = sheet(cells)
        if not isinstance(facts, Fault) and facts[1]:
            asked.append((number, cells, facts))
        else:
            bad.add(number, facts if isinstance(facts, Fault) else "alias is empty", cells)
    with conn.transaction(), conn.pipeline():
        conn.execute(REGISTRY["lock"])
        answers = [conn.execute(SQL["put_alias"], _alias(*facts)) for _, _, facts in asked]
        for (number, cells, _), answer in zip(asked, answers, strict=True):
            outcome, reason, _ = answer.fetchone() or ("refused", "", None)
            if outcome == "refused":
                bad.add(number, reason, cells)
            else:
                setattr(done, outcome, getattr(done, outcome) + 1)


def put_alias(conn: Connection[Any], code: Code, alias: Code, since: datetime | None, until: datetime | None
              ) -> tuple[str, str | None]:  # fmt: skip
    """Give a terminal another name: created, updated or unchanged, and the discovered terminal that it took over.

    Without `since` from now on, or from when it had it. Raises `CommandError` when it can't have it.
    """
    with conn.transaction():
        conn.execute(REGISTRY["lock"])
        row = conn.execute(SQL["put_alias"], _alias(code, alias, since, until)).fetchone()
        assert row is not None
        outcome, reason, retired = row
        if outcome == "refused":
            raise CommandError(f"{alias.code}: {reason}")
        if outcome != "unchanged":
            period = {"from": since, "to": until}
            said = {name: time.isoformat() for name, time in period.items() if time}
            detail = {"alias": alias.code, **said} | ({"retired": retired} if retired else {})
            conn.execute(SQL["audit"], ["terminals alias", code.code, Jsonb(detail)])
    return outcome, retired


def _alias(code: Code, alias: Code, since: datetime | None, until: datetime | None) -> list[Any]:
    scheme, _, value = alias.code.partition(":")
    return [code.code, scheme, value, since, until]


def _count(done: Imported, new: bool | None) -> None:
    done.created += new is True
    done.updated += new is False
    done.unchanged += new is None


def put_gateway(conn: Connection[Any], facts: Sequence[Any]) -> bool | None:
    """Register a gateway with the facts of `GATEWAY_COLUMNS`: True new, False changed, None as it was."""
    assert len(facts) == len(GATEWAY_COLUMNS)
    row = conn.execute(SQL["put_gateway"], facts).fetchone()
    return bool(row[0]) if row else None


def add_gateway(conn: Connection[Any], facts: Sequence[Any]) -> bool | None:
    """`put_gateway` by hand, with its line in `audit`."""
    with conn.transaction():
        new = put_gateway(conn, facts)
        if new is not None:
            said = {n: f for n, f in zip(GATEWAY_COLUMNS, facts, strict=True) if f is not None}
            conn.execute(SQL["audit"], ["gateways add", facts[0], Jsonb(said)])
    return new


def list_gateways(conn: Connection[Any], name: str | None = None) -> list[tuple[Any, ...]]:
    """name, division, its name, kind, owner, contact, utc_offset, state, last_seen, how many terminals name it,
    registered_at (None: heard, but nobody registered it); of all, or of one.
    """
    return conn.execute(SQL["gateways"], {"name": name}).fetchall()


def show(conn: Connection[Any], code: str) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """A terminal's row, and its aliases: name, from, to, id of the terminal that was discovered under that name.

    Raises `CommandError` when there is none.
    """
    number = find(conn, code)
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(SQL["show"], [number]).fetchone()
    assert row
    return row, conn.execute(SQL["aliases_of"], [number]).fetchall()


def retire(conn: Connection[Any], codes: Sequence[str], on: date) -> int:
    """Take terminals out of service, all or none; answers how many were in it. Raises `CommandError`."""
    with conn.transaction():
        conn.execute(REGISTRY["lock"])
        done = 0
        for number in [find(conn, code) for code in codes]:
            row = conn.execute(SQL["retire"], {"id": number, "on": on}).fetchone()
            if row:
                detail = {"on": on.isoformat(), "division": row[1], "domain": row[2]}
                conn.execute(SQL["audit"], ["terminals retire", row[0], Jsonb(detail)])
                done += 1
    return done


def export(conn: Connection[Any], out: BinaryIO, division: int, domain: str | None, state: str | None) -> int:
    """Write terminals as CSV that `import_terminals` takes; discovered ones only by their state."""
    with conn.cursor() as cursor:
        with cursor.copy(SQL["export"], {"division": division, "domain": domain, "state": state}) as stream:
            out.writelines(stream)
        return cursor.rowcount


def find(conn: Connection[Any], code: str) -> int:
    """The id of a terminal, by its code in any spelling or an alias. Raises `CommandError` when there is none."""
    row = conn.execute(SQL["find"], {"code": canonical(code).code}).fetchone()
    if row is None:
        raise CommandError(
            f"no terminal {code}: write its code as in the register, or an alias such as ctwing:..."
        )
    return int(row[0])


def _header(path: Path, source: Iterator[Line]) -> Sequence[str]:
    first = next(source, None)
    if first is None:
        raise CommandError(f"{path} is empty: the first line names the columns")
    return first[1]


def _columns(path: Path, make: Any) -> Any:
    try:
        return make()
    except HeaderError as error:
        raise CommandError(f"{path}: {error}") from None


def _stage(conn: Connection[Any], read: Terminals, source: Iterator[Line], bad: Refused) -> int:
    """Read the file into `incoming`; answers the number of its last line."""
    number = 1
    with conn.cursor().copy(SQL["copy"]) as stream:
        write = stream.write_row
        for number, cells in source:
            facts = read(cells)
            if type(facts) is Fault:
                bad.add(number, facts, cells)
            else:
                write((number, *facts))
    return number


def _refuse_contradictions(conn: Connection[Any], path: Path, bad: Refused) -> None:
    """Lines whose code has other facts in an earlier line, or is another's alias; cells as the file has them."""
    with conn.transaction(), conn.cursor("contradictions") as cursor:
        cursor.execute(SQL["contradictions"])
        source = lines(path, lambda _: None)
        for wanted, reason in cursor:
            cells = next(cells for number, cells in source if number == wanted)
            bad.add(wanted, reason, cells)


def _merge(conn: Connection[Any], last: int, done: Imported, progress: Progress) -> None:
    for start in range(0, last, BLOCK_LINES):
        block = [start, start + BLOCK_LINES]
        with conn.transaction():
            conn.execute(SQL["block"])
            conn.execute(REGISTRY["lock"])
            conn.execute(SQL["changed"], block)
            created, updated, planned = conn.execute(SQL["counts"]).fetchone() or (0, 0, 0)
            if updated:  # an UPDATE of nothing would make every worker read the registry anew
                conn.execute(SQL["update"])
            if created:
                conn.execute(SQL["create"])
        done.created += created
        done.updated += updated
        done.planned += planned
        progress(STAGED_SHARE + (1 - STAGED_SHARE) * min(1, block[1] / last))


def _audited(conn: Connection[Any], action: str, path: Path, done: Imported, bad: Refused) -> Imported:
    done.refused_file = bad.path if bad.count else None
    said = {name: count for name, count in asdict(done).items() if isinstance(count, int)}
    conn.execute(SQL["audit"], [action, path.name, Jsonb(said)])
    return done
