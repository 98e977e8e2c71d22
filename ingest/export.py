"""Readings, events, rollups and indicators of a division, domain and period as CSV or Parquet, streamed.

The session is read-only and names its tables without a schema: a city's reader exports its own rows.
Memory does not grow with rows: CSV is the server's COPY passed on, Parquet comes by a cursor, a block
at a time. Rows come in no particular order: sorting them would take the server's disk.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from psycopg import Connection, rows

from devices.division import DIVISIONS, DOMAINS, PROVINCE, city, today
from ingest.connection import connect
from ingest.settings import SettingsError
from ingest.terminal import CommandError
from ingest.terminals import find
from schemas.sql import queries

SQL, FORGET = queries("export.sql"), queries("forget.sql")
BLOCK_ROWS = 20_000
"""Of Parquet, fetched at once and held in memory: about 20 MB as Python objects."""
ROW_GROUP_ROWS = 200_000
"""What readers of Parquet skip or read at once; 10 MB of columns held until it is written."""
TOLD_BYTES = 1_000_000
"""Of CSV between two words on progress: one for each row took three quarters of the time."""

Progress = Callable[[int], object]
"""Is told what is done so far: bytes of CSV, or rows of Parquet."""


class What(StrEnum):
    """What can be exported; each is a statement of `schemas/sql/export.sql`."""

    READINGS = "readings"
    EVENTS = "events"
    HOURLY = "hourly"
    DAILY = "daily"
    INDICATORS = "indicators"


class Format(StrEnum):
    """How it is written."""

    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows: `divisions`, `domain`, `terminals` None mean all; from `since` to before `until`, with a zone."""

    divisions: list[int] | None
    domain: str | None
    since: datetime
    until: datetime
    terminals: list[int] | None = None
    """Ids."""


OF_TERMINALS = (What.READINGS, What.EVENTS, What.DAILY)
"""What there is of one terminal."""


def select(what: What, division: int, domain: str | None, since: datetime, until: datetime) -> Selection:
    """The rows of a division and all within it. Raises `SettingsError` for what there is not."""
    if what is What.INDICATORS and domain:
        raise SettingsError(
            f"--domain {domain}: indicators are of a place, all domains together; leave it out"
        )
    if domain not in {None, *DOMAINS}:
        raise SettingsError(f"--domain {domain}: there are {', '.join(DOMAINS)}")
    if since >= until:
        raise SettingsError(f"--from {since.isoformat()} is not before --to {until.isoformat()}")
    return Selection(_within(division), domain, since, until)


def of_terminal(conn: Connection[Any], code: str, chosen: Selection) -> Selection:
    """Of these rows those of a terminal, by its code or an alias, and of those that were discovered as it.

    Raises `CommandError` when there is none that whoever is connected may see.
    """
    rows = conn.execute(FORGET["terminals"], {"id": find(conn, code)}).fetchall()
    return replace(chosen, terminals=[id_ for id_, _ in rows])


def _within(code: int) -> list[int] | None:
    known = today(code)
    if known is None:
        raise SettingsError(f"--division {code}: no such division; 370100 is a city, 370102 a county")
    if known == PROVINCE:
        return None
    if DIVISIONS[known].level == "zone":
        raise SettingsError(
            f"--division {code}: the readings of a zone are counted with its city's, {city(known)}"
        )
    return [d.code for d in DIVISIONS.values() if known in {d.code, d.parent}]


@contextmanager
def session(url: str) -> Iterator[Connection[Any]]:
    """A read-only connection whose statements may take as long as they need."""
    with connect(url, application="ganzhi export") as conn:
        for name, value in (("default_transaction_read_only", "on"), ("statement_timeout", "0")):
            conn.execute("SELECT set_config(%s, %s, false)", [name, value])
        yield conn


def csv(conn: Connection[Any], what: What, selection: Selection, out: BinaryIO, progress: Progress) -> int:
    """Write CSV with a header line (RFC 4180, UTF-8, LF); answers the number of rows."""
    done = told = 0
    with conn.cursor() as cursor:
        with cursor.copy(SQL["csv"].replace("{rows}", SQL[what]), asdict(selection)) as stream:
            for line in stream:  # the server sends each row by itself
                out.write(line)
                done += len(line)
                if done - told >= TOLD_BYTES:
                    progress(told := done)
        return cursor.rowcount


def parquet(
    conn: Connection[Any], what: What, selection: Selection, out: BinaryIO, progress: Progress
) -> int:
    """Write Parquet (Zstandard); answers the number of rows. Raises `CommandError` without pyarrow."""
    arrow, files = _pyarrow()
    done = 0
    with conn.transaction(), conn.cursor("export", row_factory=rows.tuple_row) as cursor:
        cursor.execute(SQL[what], asdict(selection), binary=True)
        schema = arrow.schema([(c.name, _type(arrow, c.type_display)) for c in cursor.description or ()])
        with files.ParquetWriter(out, schema, compression="zstd") as writer:
            while block := _row_group(arrow, cursor, schema):
                writer.write_table(block)
                done += block.num_rows
                progress(done)
    return done


def _row_group(arrow: Any, cursor: Any, schema: Any) -> Any:
    """The next rows as columns, None after the last."""
    batches = []
    for _ in range(ROW_GROUP_ROWS // BLOCK_ROWS):
        block = cursor.fetchmany(BLOCK_ROWS)
        if not block:
            break
        columns = zip(*block, strict=True)
        arrays = [arrow.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        batches.append(arrow.record_batch(arrays, schema=schema))
    return arrow.Table.from_batches(batches) if batches else None


def _type(arrow: Any, name: str) -> Any:
    kinds = {"timestamptz": arrow.timestamp("us", tz="UTC"), "text": arrow.string(), "float8": arrow.float64(),
             "date": arrow.date32(), "int8": arrow.int64(), "int4": arrow.int32(), "int2": arrow.int16()}  # fmt: skip
    return kinds[name]


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise CommandError(f"Parquet needs pyarrow ({error}): pip install 'ganzhi[parquet]', or take --format csv"
                           ) from None  # fmt: skip


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that bears its name only when it is complete; what was there before stays until then."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            yield stream
        part.replace(path)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


WRITERS = {Format.CSV: csv, Format.PARQUET: parquet}
