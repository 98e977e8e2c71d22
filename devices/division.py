"""Administrative divisions of Shandong (GB/T 2260) and the domains that cells are made of.

Codes are integers of six digits. `data/divisions.csv` holds today's province, cities, counties and
statistical zones; `data/divisions_abolished.csv` the codes since 1980 that are gone.
"""

import csv
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple

PROVINCE = 370000

DOMAINS = (
    "manufacturing",
    "healthcare",
    "security",
    "municipal",
    "agriculture",
    "transport",
    "energy",
    "environment",
    "community",
    "other",
)
"""What terminals are for; a cell is a division and a domain."""


class Division(NamedTuple):
    """A division of today; `level` is province, city, county or zone, `parent` None for the province."""

    code: int
    name_zh: str
    name_en: str
    level: str
    parent: int | None


def today(code: int) -> int | None:
    """Today's code: itself, an abolished one's successor or else its city; None if it never was a code."""
    return code if code in DIVISIONS else _SUCCESSORS.get(code)


def city(code: int) -> int:
    """The city of a division of today; a city is its own, and so is the province. Raises KeyError."""
    division = DIVISIONS[code]
    return code if division.parent is None or division.level == "city" else division.parent


def cell_division(code: int) -> int:
    """The division whose cells count a terminal here: zones are their city's. Raises KeyError."""
    return city(code) if DIVISIONS[code].level == "zone" else code


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = files("schemas").joinpath("data", name).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())


def _division(row: Mapping[str, str]) -> Division:
    parent = int(row["parent"]) if row["parent"] else None
    return Division(int(row["code"]), row["name_zh"], row["name_en"], row["level"], parent)


def _successors() -> dict[int, int]:
    """Abolished code to today's; one without a successor goes to its city, or to its city's successor."""
    rows = {int(row["code"]): row["current_code"] for row in _rows("divisions_abolished.csv")}
    cities = {code: code for code, division in DIVISIONS.items() if division.level == "city"}
    known = cities | {code: int(current) for code, current in rows.items() if current}
    return {code: int(current) if current else known[code // 100 * 100] for code, current in rows.items()}


DIVISIONS: Mapping[int, Division] = {int(row["code"]): _division(row) for row in _rows("divisions.csv")}
"""Every division of today by its code."""
_SUCCESSORS: Mapping[int, int] = _successors()
