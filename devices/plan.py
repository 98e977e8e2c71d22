"""A plan as a file: what each place should have by when.

Pure: lines come in, targets come out, or all that is wrong. Cities' rows hold their counties'.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from devices.coverage import Target
from devices.division import DIVISIONS, PROVINCE, city
from devices.plan_file import Faults, Line, day, read_rows, refuse, repeated
from devices.spelling import Reader, division, domain
from schemas.payload import shown

TARGET_MAX = 1_000_000_000
"""Three times the province's goal: more in one place is a slip of the pen."""
SOURCES = {
    "assumed": "assumed",
    "假定": "assumed",
    "declared": "declared",
    "申报": "declared",
    "": "declared",
}
"""An import without a source is declared: whoever imports it stands for it."""
_NUMBER = re.compile(r"[0-9]{1,3}(?:[,，][0-9]{3})+|[0-9]{1,20}")


def read_plan(lines: Iterable[Line]) -> list[Target]:
    """The rows of a plan: division, domain, target, due_on, source. Raises `PlanError`."""
    rows, faults = read_rows(lines, _PLAN, optional={"source"})
    plan = [(number, Target(*values)) for number, values in rows]
    faults += repeated((number, (t.division, t.domain, t.due_on)) for number, t in plan)
    faults += _overdrawn(plan)
    refuse(faults, plan)
    return [target for _, target in plan]


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
    for due_on in sorted({row.due_on for _, row in rows}):
        now |= {row.division: row.target for _, row in rows if row.due_on == due_on}
        divided = sum(target for division_, target in now.items() if division_ != place)
        if place in now and divided > now[place]:
            number = max(number for number, row in rows if row.due_on == due_on)
            yield (
                number,
                (
                    f"{place} {DIVISIONS[place].name_zh} {domain}: its counties' rows that are due by {due_on} sum to "
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


def _source(text: str) -> str:
    if (source := SOURCES.get(text.casefold())) is None:
        raise ValueError(
            f"source {shown(text)}: assumed (假定), or declared (申报), which an empty one means"
        )
    return source


_PLAN: Mapping[str, Reader] = {
    "division": _place, "domain": domain, "target": _target, "due_on": day, "source": _source,
}  # fmt: skip
