"""The registry's rows as columns: a binary COPY out of the database, read with numpy.

Knows the layout of the queries `facts` and `offline` in schemas/sql/observer.sql: fixed widths, no NULL. Layout of
the stream: PostgreSQL 15, section "COPY", binary format.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg import Connection

from devices.presence import Facts, Fleet
from devices.states import Kind
from schemas.profiles import PROFILES
from schemas.sql import queries

SQL = queries("observer.sql")
SIGNATURE = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
ROWS_AT_ONCE = 32_768
"""15 MB: numpy wants many, and libpq hands out one at a time, which takes 450 bytes until it is numpy's."""
PROFILE_NAMES = list(PROFILES)
VIDEO = 1 + PROFILE_NAMES.index("video")
DAY_SECONDS = 86_400
REPORT_SECONDS = np.array(
    [DAY_SECONDS, *(profile.report_every_seconds for profile in PROFILES.values())], np.int64
)
"""By place of the profile in the list, 0 for none: where a terminal says nothing of its own."""
NBIOT, NEVER_HEARD, SMART, NOT_SMART, KEY_AREA, NO_KEY_AREA = 1, 2, 4, 8, 16, 32
OF_KIND = NBIOT | SMART | NOT_SMART | KEY_AREA | NO_KEY_AREA

Columns = npt.NDArray[np.void]
Ids = npt.NDArray[np.int32]


def layout(**columns: str) -> np.dtype[np.void]:
    """A row of a binary COPY: the number of columns, then length and value of each."""
    return np.dtype(
        [("columns", ">i2"), *(pair for n, t in columns.items() for pair in ((f"{n}_bytes", ">i4"), (n, t)))]
    )


FACTS = layout(id=">i4", cell=">i2", gateway=">i4", report=">i4", profile=">i2", day=">i2", life=">i2",
               traits=">i2")  # fmt: skip
NOTICE = layout(id=">i4", at=">i8")


class Registered(NamedTuple):
    """Facts of some terminals; beside them, what only the observer needs."""

    facts: Facts
    fresh: npt.NDArray[np.bool_]
    """The database says that it was never heard."""
    unnumbered: npt.NDArray[np.bool_]
    """Its gateway has no number yet; the facts say 0."""


def rows(
    conn: Connection[Any],
    statement: str,
    dtype: np.dtype[np.void],
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[Columns]:
    """What a COPY ... TO STDOUT (FORMAT binary) answers, `ROWS_AT_ONCE` at a time."""
    with conn.cursor().copy(statement.encode(), parameters) as stream:
        pieces, skip = iter(stream), len(SIGNATURE)
        while data := b"".join(islice(pieces, ROWS_AT_ONCE)):
            count = (len(data) - skip) // dtype.itemsize  # the trailer is shorter than any row
            if count > 0:
                yield np.frombuffer(data, dtype, count, skip)
            skip = 0


def registered(
    conn: Connection[Any], fleet: Fleet, *, above: int = 0, ids: Sequence[int] | None = None
) -> Iterator[Registered]:
    """Terminals with ids greater than `above`; with `ids`, of these alone. Kinds are numbered in `fleet`."""
    asked = {"above": above, "ids": None if ids is None else list(ids), "profiles": PROFILE_NAMES}
    for row in rows(conn, SQL["facts"], FACTS, asked):
        gateway = row["gateway"].astype(np.int32)
        facts = Facts(
            ids=row["id"].astype(np.uint32),
            cell=row["cell"].astype(np.int16),
            kind=_kinds(row, fleet),
            life=row["life"].astype(np.uint8),
            installed_day=row["day"].astype(np.int16),
            gateway=np.maximum(gateway, 0),
        )
        yield Registered(facts, (row["traits"] & NEVER_HEARD) != 0, gateway < 0)


def _kinds(row: Columns, fleet: Fleet) -> npt.NDArray[np.int16]:
    """The number of each row's kind; few kinds differ, so each is looked up once."""
    own = row["report"].astype(np.int64)
    seconds = np.where(own > 0, own, REPORT_SECONDS[row["profile"]])
    keys = seconds << 7 | (row["profile"] == VIDEO).astype(np.int64) << 6 | row["traits"] & OF_KIND
    distinct, places = np.unique(keys, return_inverse=True)
    return np.array([fleet.kind_of(_kind(key)) for key in distinct.tolist()], np.int16)[places]


def _kind(key: int) -> Kind:
    return Kind(
        report_seconds=key >> 7,
        nbiot=bool(key & NBIOT),
        video=bool(key >> 6 & 1),
        smart=_known(key, SMART, NOT_SMART),
        key_area=_known(key, KEY_AREA, NO_KEY_AREA),
    )


def _known(key: int, yes: int, no: int) -> bool | None:
    return True if key & yes else False if key & no else None
