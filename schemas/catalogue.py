"""The metric catalogue: names, units, limits, and the other names that metrics go by.

The table is data (`data/metrics.toml`, with the reason for every limit); look-ups are
dictionaries built at import. A metric that is not here is the registry's business.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from math import inf
from typing import Any

from schemas import units
from schemas.remember import remembering

_PATH = re.compile(r"/?([0-9]{1,5})[/_][0-9]{1,5}[/_]([0-9]{1,5})")
"""object/instance/resource of LwM2M; OneNET writes the same with underscores."""
_IGNORED = str.maketrans("", "", "_- ")


@dataclass(frozen=True, slots=True)
class Metric:
    """One catalogue entry; limits are in `unit`, infinite where there is none."""

    name: str
    unit: str
    hard_low: float = -inf
    hard_high: float = inf
    soft_low: float = -inf
    soft_high: float = inf
    identity: bool = False
    """What comes under this name names a thing (a device, a card, a cell): no number that could be averaged."""


def metric_of(name: str) -> str | None:
    """The catalogue's name for a metric as sent: its own, an alias, or an LwM2M path of any instance."""
    return name if name in METRICS else _alias(name)[0]


def unit_of(name: str) -> str | None:
    """The unit of a value sent under this name without one, e.g. rad for `3429/0/1`; None if unknown.

    It is the catalogue's unit except where the name itself stands for another.
    """
    return METRICS[name].unit if name in METRICS else _alias(name)[1]


@remembering
def is_identity(name: str) -> bool:
    """Whether a metric as sent names a thing: then its values are events, whatever digits they are."""
    metric = metric_of(name)
    return metric is not None and METRICS[metric].identity


def metric_of_unit(unit: str) -> str | None:
    """The metric that a unit in any spelling stands for where a name has no metric part."""
    return _STANDS_FOR.get(units.canonical(unit))


def _alias(name: str) -> tuple[str, str] | tuple[None, None]:
    """Metric and unit of another name; as listed first, `pm1_0` is not `pm10`."""
    return _ALIASES.get(name.casefold()) or _ALIASES.get(_fold(name)) or (None, None)


def _fold(name: str) -> str:
    """An alias as compared: a path without its instance, a name without case, blanks, `_` and `-`."""
    if path := _PATH.fullmatch(name):
        return f"{path[1]}/*/{path[2]}"
    return name.translate(_IGNORED).casefold()


def _metric(name: str, entry: Mapping[str, Any]) -> Metric:
    hard, soft = entry.get("hard", (-inf, inf)), entry.get("soft", (-inf, inf))
    limits = [float(limit) for limit in (*hard, *soft)]
    return Metric(
        name, entry["unit"], limits[0], limits[1], limits[2], limits[3], entry.get("identity", False)
    )


def _aliases(catalogue: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, entry in catalogue.items():
        by_unit = {entry["unit"]: (name, *entry.get("aliases", ()))}
        for unit, aliases in (by_unit | entry.get("aliases_in", {})).items():
            for alias in aliases:
                yield alias, (name, unit)


_DATA = tomllib.loads(files("schemas").joinpath("data/metrics.toml").read_text(encoding="utf-8"))
_LISTED = dict(_aliases(_DATA))
_ALIASES: Mapping[str, tuple[str, str]] = {
    **{_fold(alias): metric for alias, metric in _LISTED.items()},
    **{alias.casefold(): metric for alias, metric in _LISTED.items()},
}
_STANDS_FOR = {unit: name for name, entry in _DATA.items() for unit in entry.get("stands_for", ())}

METRICS: Mapping[str, Metric] = {name: _metric(name, entry) for name, entry in _DATA.items()}
"""The catalogue by name."""
