"""SQL as data: numbered migrations, and named queries (`-- name: x`) from the `.sql` files here."""

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, NamedTuple

Storage = str
"""`timescale` or `postgres`."""


class Migration(NamedTuple):
    """One numbered step; `storage` None means both."""

    version: int
    name: str
    storage: Storage | None
    sql: LiteralString


@cache
def queries(file: str) -> dict[str, LiteralString]:
    """The named statements of one file, by name."""
    text = files(__name__).joinpath(file).read_text()
    blocks = re.split(r"^-- name: *(\w+) *$", text, flags=re.MULTILINE)[1:]
    pairs = zip(blocks[::2], blocks[1::2], strict=True)
    return {name: sql.strip() for name, sql in pairs}


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations in order: `0001_name.sql`, or `0001_name.timescale.sql` for one storage only."""
    found = []
    for file in files(__name__).joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+?)(?:\.(timescale|postgres))?\.sql", file.name):
            number, name, storage = match.groups()
            found.append(Migration(int(number), name, storage, file.read_text()))
    return tuple(sorted(found, key=lambda m: (m.version, m.storage or "")))
