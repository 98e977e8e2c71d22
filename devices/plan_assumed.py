"""The plan assumed where nobody made one: the goal of the province, spread over places, domains and quarters.

Pure. By the people of each city (`schemas/data/city_population_2020.csv`) and stated shares of the domains
(`schemas/data/plan_shares.toml`).
"""

import csv
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any

from devices.coverage import GOAL_TERMINALS, Target
from devices.division import DOMAINS

FROM, UNTIL = date(2023, 1, 1), date(2027, 12, 31)
"""The policy's five years: the assumed plan rises from nothing to its goal between them, quarter by quarter."""
QUARTER_ENDS = ((3, 31), (6, 30), (9, 30), (12, 31))


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
