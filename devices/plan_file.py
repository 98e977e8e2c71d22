"""Files of plans and of declared figures: lines in, rows of facts out, or all that is wrong with them.

Pure. Lines are texts, the first has the columns in English or Chinese. A row is the values of its columns, each by
the reader of its column; one fault anywhere and the file is refused, with every fault and its line.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from devices.spelling import Reader
from schemas.payload import shown

Line = tuple[int, Sequence[str]]
"""Number of the line in its file, the header's is 1, and its cells; no cells for what can't be read."""
HEADERS = {
    "division": ("行政区划", "区划代码", "行政区划代码"),
    "domain": ("领域", "应用领域"),
    "target": ("目标", "目标数", "计划数"),
    "due_on": ("截止日期", "完成日期"),
    "source": ("来源",),
    "indicator": ("指标", "指标名称"),
    "value": ("数值", "指标值"),
    "as_of": ("统计日期", "数据日期"),
}
_COLUMN_OF = {alias: name for name, aliases in HEADERS.items() for alias in (name, *aliases)}
_DAY = re.compile(r"(?:([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?|([0-9]{4})([0-9]{2})([0-9]{2}))"
                  r"(?:[T ]00:00(?::00(?:\.0+)?)?Z?)?")  # fmt: skip
Faults = list[tuple[int, str]]
"""Number of a line and what is wrong with it."""


class PlanError(ValueError):
    """A file that is no plan; `faults` are all that is wrong with it, each with its line."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def read_rows(
    lines: Iterable[Line], readers: Mapping[str, Reader], optional: Iterable[str] = ()
) -> tuple[list[tuple[int, list[Any]]], Faults]:
    """The values of each line in the order of the readers; lines with a fault are left out."""
    source = iter(lines)
    names = _names(next(source, (1, ()))[1], readers, optional)
    rows, faults = [], []
    for number, cells in source:
        if len(cells) != len(names):
            faults.append((number, f"{len(cells)} cells, the first line has {len(names)}" if cells else
                           "not readable as CSV"))  # fmt: skip
            continue
        texts = dict(zip(names, (cell.strip() for cell in cells), strict=True))
        if not any(texts.values()):
            continue
        read = [_read(name, texts.get(name, ""), reader) for name, reader in readers.items()]
        wrong = [str(value) for value in read if isinstance(value, ValueError)]
        faults += [(number, text) for text in wrong]
        rows += [] if wrong else [(number, read)]
    return rows, faults


def refuse(faults: Faults, rows: Sequence[Any]) -> None:
    """Raise `PlanError` with all faults in the order of lines, or where there is no row at all."""
    if faults or not rows:
        told = [f"line {number}: {text}" for number, text in sorted(faults)]
        raise PlanError(told or ["there is no line below the columns"])


def repeated(keys: Iterable[tuple[int, tuple[Any, ...]]]) -> Faults:
    """Two lines that speak of the same; also of an abolished division and its successor."""
    first: dict[tuple[Any, ...], int] = {}
    return [
        (number, f"{', '.join(map(str, key))} stands in line {first[key]} already")
        for number, key in keys
        if first.setdefault(key, number) != number
    ]


def day(text: str) -> date:
    """A day as people write it. Raises ValueError."""
    found = _DAY.fullmatch(text)
    try:
        year, month, number = map(int, filter(None, found.groups() if found else ()))
        return date(year, month, number)
    except ValueError:
        raise ValueError(f"day {shown(text)}: write it as 2027-12-31") from None


def _names(header: Sequence[str], readers: Mapping[str, Reader], optional: Iterable[str]) -> list[str]:
    """Our names of the columns that the first line has. Raises `PlanError` when one is missing or there twice."""
    names = [_column(cell) for cell in header]
    missing = [name for name in readers if name not in names and name not in optional]
    twice = {name for name in names if name in readers and names.count(name) > 1}
    if missing or twice:
        what = (
            f"there is no column {', '.join(missing)}" if missing else f"two columns are {', '.join(twice)}"
        )
        wanted = ", ".join(f"{name} ({HEADERS[name][0]})" for name in readers)
        raise PlanError([f"line 1: {what}: the columns are {wanted}"])
    return names


def _column(cell: str) -> str:
    name = cell.strip().removeprefix("\ufeff").casefold().replace(" ", "_")
    return _COLUMN_OF.get(name, name)


def _read(name: str, text: str, reader: Reader) -> Any:
    """The value, or the ValueError that says why there is none."""
    if not text and name != "source":
        return ValueError(f"{name} is empty")
    try:
        return reader(text)
    except ValueError as error:
        return error
