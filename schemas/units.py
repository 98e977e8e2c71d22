"""Units: spellings to canonical names, and linear conversions between units of one quantity.

The table is data (`data/units.toml`: SenML registry, RFC 8798, and what devices here write); this
module turns it into two dictionaries at import. Factors are exact fractions until the last step,
so a conversion is rounded once.
"""

import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from fractions import Fraction
from importlib.resources import files
from itertools import permutations
from typing import Any

Linear = tuple[Fraction, Fraction]


def canonical(spelling: str) -> str:
    """The canonical name of a unit, e.g. `Cel` for `℃`; a spelling nobody listed is itself."""
    return SPELLINGS.get(spelling) or SPELLINGS.get(_fold(spelling), spelling)


def conversion(sent: str, wanted: str) -> tuple[float, float] | None:
    """Scale and offset with value_wanted = value_sent * scale + offset; None if there is no such thing.

    Both may be any spelling; (1.0, 0.0) says that they are the same unit. A plainer unit is read
    as the wanted one where that is what senders mean (`%` for `%RH`, `deg` for `lon`), never back.
    """
    one, other = canonical(sent), canonical(wanted)
    return (1.0, 0.0) if one == other else CONVERSIONS.get((one, other))


def _fold(spelling: str) -> str:
    """A spelling without what only looks different; ASCII digits, `u` for micro, no blanks, no `^`."""
    text = unicodedata.normalize("NFKC", spelling).replace("μ", "u").replace("^", "")
    return "".join(text.split())


def _linear(unit: Mapping[str, Any]) -> Linear:
    return Fraction(unit.get("scale", "1")), Fraction(unit.get("offset", "0"))


def _through_base(sent: Linear, wanted: Linear) -> tuple[float, float]:
    return float(sent[0] / wanted[0]), float((sent[1] - wanted[1]) / wanted[0])


def _spellings(quantities: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for units in quantities.values():
        for name, unit in units.items():
            for spelling in (name, *unit.get("spellings", ())):
                yield spelling, name
                yield _fold(spelling), name


def _conversions(quantities: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    for units in quantities.values():
        for one, other in permutations(units, 2):
            yield (one, other), _through_base(_linear(units[one]), _linear(units[other]))


def _reads(reads: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    itself = (Fraction(1), Fraction(0))
    for wanted, units in reads.items():
        for sent, unit in units.items():
            yield (sent, wanted), _through_base(_linear(unit), itself)


_DATA = tomllib.loads(files("schemas").joinpath("data/units.toml").read_text(encoding="utf-8"))
_READS = _DATA.pop("reads")

SPELLINGS: Mapping[str, str] = dict(_spellings(_DATA))
"""Every listed spelling, as listed and folded, to its unit."""
CONVERSIONS: Mapping[tuple[str, str], tuple[float, float]] = dict((*_conversions(_DATA), *_reads(_READS)))
"""(sent, wanted) to (scale, offset), for two different units."""
