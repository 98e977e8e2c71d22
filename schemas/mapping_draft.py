"""What the rules of a mapping find in a message, by terminal, and the parts that become of it.

A terminal's values are a part. Terminals that say one number each share one, and are known as if each had its own.
"""

from itertools import groupby
from typing import Any

from schemas.nbiot.broken import Broken
from schemas.nbiot.identity import identify, identity_alone, identity_of_readings
from schemas.payload import Unreadable
from schemas.reading import RELATIVE_BELOW, Name, Part
from schemas.rejection import Refusal

Row = tuple[str, float, float, str | None, int]
"""A reading: metric, time, value, unit, place in the message."""


class Draft:
    """A message while it is read: what each terminal said, and what can't be given to any."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        """Readings by code; an entry for each terminal."""
        self._others: dict[str, Part] = {}
        """Events and refusals by code."""
        self._times: dict[str, float] = {}
        self._numbers: dict[str, list[str | int]] = {}
        self.broken = Broken()

    def other(self, code: str, time: float | Unreadable) -> Part:
        """The part for what is no reading of a terminal; `time`: of its record."""
        if not isinstance(time, Unreadable) and time > self._times.get(code, 0.0):
            self._times[code] = time
        return self._others.setdefault(code, Part(indexes=[]))

    def refuse(self, code: str, time: float | Unreadable, refusal: Refusal) -> None:
        """Refuse one value of a terminal; `time` as in `other`."""
        self.other(code, time).refusals.append(refusal)

    def number(self, code: str, numbers: list[Any]) -> None:
        """Note what never repeats, of one of the terminal's records."""
        if all(type(number) in {str, int} for number in numbers):
            self._numbers.setdefault(code, []).extend(numbers)

    def finish(self, route: str) -> list[Part]:
        """The parts with their identities; the terminals with one reading and nothing else are in one."""
        good: list[Part] = []
        for is_alone, said in groupby(
            self.rows.items(), self._is_alone
        ):  # their order is part of what was said
            terminals = list(said)
            if is_alone and len(terminals) > 1:
                good.append(_together(route, [(code, rows[0]) for code, rows in terminals]))
            else:
                good += [self._part(route, code, rows) for code, rows in terminals]
        return [*good, *self.broken.parts(good)]

    def _is_alone(self, said: tuple[str, list[Row]]) -> bool:
        """Whether a terminal said one number, of a time, and nothing else."""
        code, rows = said
        if len(rows) != 1 or rows[0][1] < RELATIVE_BELOW:
            return False
        return not (code in self._others or code in self._numbers)

    def _part(self, route: str, code: str, rows: list[Row]) -> Part:
        part, numbers = self._others.get(code), self._numbers.get(code)
        names, times, values, units, indexes = _columns(rows)
        pairs: list[Name] = [(code, name) for name in names]
        if part is None and numbers is None:  # nearly always
            known = identity_of_readings(route, code, "", [row[:3] for row in rows], units)
            timed = max(times) >= RELATIVE_BELOW
            return Part(pairs, units, values, times, indexes, identity=known, absolute=timed)
        part = part or Part()
        part.names, part.units, part.values, part.times, part.indexes = pairs, units, values, times, indexes
        identify(part, route, code, repr(numbers) if numbers else "", self._times.get(code, 0.0))
        part.absolute = part.absolute or bool(numbers)
        return part


def _together(route: str, alone: list[tuple[str, Row]]) -> Part:
    """The part of terminals with one reading each, which count by themselves."""
    names, times, values, units, indexes = _columns([row for _, row in alone])
    pairs: list[Name] = [(code, name) for (code, _), name in zip(alone, names, strict=True)]
    identities = [identity_alone(route, code, "", name, time, value, unit)
                  for code, (name, time, value, unit, _) in alone]  # fmt: skip
    return Part(pairs, units, values, times, indexes, identities=identities)


def _columns(
    rows: list[Row],
) -> tuple[list[str], list[float], list[float], list[str | None], list[int]]:
    """The readings as columns, in the order of a row."""
    names, times, values, units, indexes = (
        map(list, zip(*rows, strict=True)) if rows else ([] for _ in range(5))
    )
    return names, times, values, units, indexes
