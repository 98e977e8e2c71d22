"""Plans as files: what each place should have by when, what others declare, and the plan assumed where none is.

Pure: lines come in as texts (line number and cells, the header first), rows come out, or all that is wrong.
"""

import csv
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from devices.coverage import GOAL_TERMINALS, Target
from devices.division import DIVISIONS, DOMAINS, PROVINCE, city
from devices.spelling import division, domain
from schemas.payload import shown, storable

Line = tuple[int, Sequence[str]]
"""Number of the line in its file, the header's is 1, and its cells; no cells for what can't be read."""
Reader = Callable[[str], Any]
"""A cell's text, stripped, to its value; raises ValueError with what is wrong and what would be right."""

FROM, UNTIL = date(2023, 1, 1), date(2027, 12, 31)
"""The policy's five years: the assumed plan rises from nothing to its goal between them, quarter by quarter."""
QUARTER_ENDS = ((3, 31), (6, 30), (9, 30), (12, 31))
TARGET_MAX = 1_000_000_000
"""Three times the province's goal: more in one place is a slip of the pen."""
SOURCE_CHARACTERS = 500
SOURCES = {
    "assumed": "assumed",
    "假定": "assumed",
    "declared": "declared",
    "申报": "declared",
    "": "declared",
}
"""An import without a source is declared: whoever imports it stands for it."""
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
_NUMBER = re.compile(r"[0-9]{1,3}(?:[,，][0-9]{3})+|[0-9]{1,20}")
_DAY = re.compile(r"(?:([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?|([0-9]{4})([0-9]{2})([0-9]{2}))"
                  r"(?:[T ]00:00(?::00(?:\.0+)?)?Z?)?")  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Declared(NamedTuple):
    """A figure that somebody publishes, a row of table `declared`; ratios are 0 to 1."""

    indicator: str
    division: int
    value: float
    as_of: date
    source: str


class PlanError(ValueError):
    """A file that is no plan; `faults` are all that is wrong with it, each with its line."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def read_plan(lines: Iterable[Line]) -> list[Target]:
    """The rows of a plan: division, domain, target, due_on, source. Raises `PlanError`."""
    rows, faults = _rows(lines, _PLAN, optional={"source"})
    plan = [(number, Target(*values)) for number, values in rows]
    faults += _repeated((number, (t.division, t.domain, t.due_on)) for number, t in plan)
    faults += _overdrawn(plan)
    if faults or not plan:
        raise PlanError(_in_order(faults) or ["there is no line below the columns"])
    return [target for _, target in plan]


def read_declared(lines: Iterable[Line]) -> list[Declared]:
    """What others publish: indicator, division, value, as_of, source. Raises `PlanError`."""
    rows, faults = _rows(lines, _DECLARED)
    found = [(number, Declared(*values)) for number, values in rows]
    faults += [
        (number, f"{d.indicator} {d.value:g}: a ratio is 0 to 1, 85 % is 0.85")
        for number, d in found
        if d.indicator.endswith("_ratio") and d.value > 1
    ]
    faults += _repeated((number, (d.indicator, d.division, d.as_of, d.source)) for number, d in found)
    if faults or not found:
        raise PlanError(_in_order(faults) or ["there is no line below the columns"])
    return [declared for _, declared in found]


@cache
def declared_at_first() -> tuple[Declared, ...]:
    """What is known to be declared before anybody imports anything."""
    return tuple(read_declared(enumerate(csv.reader(_data("declared.csv").splitlines()), 1)))


@cache
def assumed() -> tuple[Target, ...]:
    """The plan where nobody made one: the goal spread over cities by people and over domains by stated shares.

    A row for each city, domain and quarter's end; those of one quarter sum exactly to its part of the goal.
    """
    people = {int(row["code"]): int(row["pop_2020_census"])
              for row in csv.DictReader(_data("city_population_2020.csv").splitlines())}  # fmt: skip
    shares = tomllib.loads(_data("plan_shares.toml"), parse_float=Decimal)["share"]
    weights = {
        (place, domain): n * Fraction(shares[domain]) for place, n in people.items() for domain in DOMAINS
    }
    days = [date(year, *end) for year in range(FROM.year, UNTIL.year + 1) for end in QUARTER_ENDS]
    return tuple(
        Target(place, domain, target, day, "assumed")
        for quarter, day in enumerate(days, 1)
        for (place, domain), target in spread(GOAL_TERMINALS * quarter // len(days), weights).items()
    )


def spread(total: int, weights: Mapping[Any, Fraction]) -> dict[Any, int]:
    """A total divided in proportion to weights, into whole numbers that sum to it (largest remainder)."""
    whole = sum(weights.values())
    parts = {key: divmod(total * weight, whole) for key, weight in weights.items()}
    left = total - sum(int(part) for part, _ in parts.values())
    first = set(sorted(parts, key=lambda key: parts[key][1], reverse=True)[:left])
    return {key: int(part) + (key in first) for key, (part, _) in parts.items()}


def _data(name: str) -> str:
    return files("schemas").joinpath("data", name).read_text(encoding="utf-8")


Faults = list[tuple[int, str]]


def _in_order(faults: Faults) -> list[str]:
    return [f"line {number}: {text}" for number, text in sorted(faults)]


def _rows(
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


def _repeated(keys: Iterable[tuple[int, tuple[Any, ...]]]) -> Faults:
    """Two lines that speak of the same; also of an abolished division and its successor."""
    first: dict[tuple[Any, ...], int] = {}
    return [
        (number, f"{', '.join(map(str, key))} stands in line {first[key]} already")
        for number, key in keys
        if first.setdefault(key, number) != number
    ]


def _overdrawn(plan: Sequence[tuple[int, Target]]) -> Faults:
    """Cities whose counties want more than the city's total, on any day on which something is due."""
    groups: dict[tuple[int, str], list[tuple[int, Target]]] = {}
    for number, row in plan:
        groups.setdefault((city(row.division), row.domain), []).append((number, row))
    return [
        fault for (place, domain), rows in groups.items() for fault in _overdrawn_city(place, domain, rows)
    ]


def _overdrawn_city(place: int, domain: str, rows: list[tuple[int, Target]]) -> Iterator[tuple[int, str]]:
    """The first day only: the later ones mostly follow from it."""
    now: dict[int, int] = {}
    for day in sorted({row.due_on for _, row in rows}):
        now |= {row.division: row.target for _, row in rows if row.due_on == day}
        divided = sum(target for division_, target in now.items() if division_ != place)
        if place in now and divided > now[place]:
            number = max(number for number, row in rows if row.due_on == day)
            yield (
                number,
                (
                    f"{place} {DIVISIONS[place].name_zh} {domain}: its counties' rows that are due by {day} sum to "
                    f"{divided:,}, more than the city's total of {now[place]:,}; a city's row holds its counties'"
                ),
            )
            return


def _place(text: str) -> int:
    code = division(text)
    if code == PROVINCE:
        raise ValueError(
            f"division {PROVINCE}: a plan speaks of cities and counties, the province is their sum"
        )
    if DIVISIONS[code].level == "zone":
        raise ValueError(f"division {code} {DIVISIONS[code].name_zh} is a statistical zone and counts in its city: "
                         f"plan it in {city(code)}")  # fmt: skip
    return code


def _target(text: str) -> int:
    plain = re.sub(r"\.0+$", "", text)
    number = int(re.sub("[,，]", "", plain)) if _NUMBER.fullmatch(plain) else -1
    if not 0 <= number <= TARGET_MAX:
        raise ValueError(f"target {shown(text)}: terminals, a whole number from 0 to {TARGET_MAX:,}")
    return number


def _day(text: str) -> date:
    found = _DAY.fullmatch(text)
    try:
        year, month, day = map(int, filter(None, found.groups() if found else ()))
        return date(year, month, day)
    except ValueError:
        raise ValueError(f"day {shown(text)}: write it as 2027-12-31") from None


def _source(text: str) -> str:
    if (source := SOURCES.get(text.casefold())) is None:
        raise ValueError(
            f"source {shown(text)}: assumed (假定), or declared (申报), which an empty one means"
        )
    return source


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


_PLAN: Mapping[str, Reader] = {
    "division": _place, "domain": domain, "target": _target, "due_on": _day, "source": _source,
}  # fmt: skip
_DECLARED: Mapping[str, Reader] = {
    "indicator": _indicator, "division": division, "value": _value, "as_of": _day, "source": _who,
}  # fmt: skip
