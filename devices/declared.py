"""What others declare: published figures, shown beside ours and never merged with them.

Pure: a file's lines come in, rows of table `declared` come out, or all that is wrong.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from devices.plan_file import Line, day, read_rows, refuse, repeated
from devices.spelling import Reader, division
from schemas.payload import shown, storable

SOURCE_CHARACTERS = 500
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Declared(NamedTuple):
    """A figure that somebody publishes, a row of table `declared`; ratios are 0 to 1."""

    indicator: str
    division: int
    value: float
    as_of: date
    source: str


def read_declared(lines: Iterable[Line]) -> list[Declared]:
    """What others publish: indicator, division, value, as_of, source. Raises `PlanError`."""
    rows, faults = read_rows(lines, _DECLARED)
    found = [(number, Declared(*values)) for number, values in rows]
    faults += [
        (number, f"{d.indicator} {d.value:g}: a ratio is 0 to 1, 85 % is 0.85")
        for number, d in found
        if d.indicator.endswith("_ratio") and d.value > 1
    ]
    faults += repeated((number, (d.indicator, d.division, d.as_of, d.source)) for number, d in found)
    refuse(faults, found)
    return [declared for _, declared in found]


@cache
def declared_at_first() -> tuple[Declared, ...]:
    """What is known to be declared before anybody imports anything."""
    text = files("schemas").joinpath("data", "declared.csv").read_text(encoding="utf-8")
    return tuple(read_declared(enumerate(csv.reader(text.splitlines()), 1)))


def _indicator(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"indicator {shown(text)}: small letters, digits and _, such as video_smart_ratio")
    return text


def _value(text: str) -> float:
    try:
        value = float(re.sub("[,，]", "", text))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"value {shown(text)}: a number of at least 0; a ratio as 0.85")
    return value


def _who(text: str) -> str:
    if not text or len(text) > SOURCE_CHARACTERS or not storable(text) or not text.isprintable():
        raise ValueError(f"source {shown(text)}: who said it and where, up to {SOURCE_CHARACTERS} characters")
    return text


_DECLARED: Mapping[str, Reader] = {
    "indicator": _indicator, "division": division, "value": _value, "as_of": day, "source": _who,
}  # fmt: skip
