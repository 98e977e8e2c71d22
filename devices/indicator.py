"""What a day came to: the rows of table `indicator`, and the day on which the goal will be met.

Pure: figures, history and what others count come in as arguments. Definitions in words: docs/plan.md.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from devices.coverage import GOAL_NODES, Figures, Ratio, Report, ratio
from devices.coverage import GOAL_TERMINALS as GOAL
from devices.day import midnight_seconds
from devices.division import PROVINCE

HISTORY_DAYS = 90
"""The forecast looks back no further."""
HISTORY_DAYS_MIN = 7
"""Days that must be known: fewer say more of the week than of growth."""


class Row(NamedTuple):
    """A row of table `indicator` without day and plan version. A count has a value alone, a ratio all three."""

    name: str
    division: int
    numerator: float | None
    denominator: float | None
    value: float | None


@dataclass(frozen=True, slots=True)
class Given:
    """What a day's indicators need and terminals don't say."""

    identifier_nodes: Mapping[str, int] = field(default_factory=dict)
    """Distinct nodes in the registry by level: secondary, enterprise."""
    quality: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Unflagged and received readings of 24 h by city; their sum is the province's."""
    gaps_opened: int = 0
    gaps_closed: int = 0
    """Gaps of the day in the whole province."""
    baseline: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """First declared values of video_smart_ratio and video_networking_ratio, by indicator and division."""
    history: Sequence[tuple[date, float]] = ()
    """Verified terminals of the province by day, oldest first; the last is the day itself."""


Figure = Callable[[Figures], float | Ratio | None]

EVERYWHERE: Mapping[str, Figure] = {
    "terminals_target": lambda f: f.target or None,
    "terminals_planned": lambda f: f.planned,
    "terminals_installed": lambda f: f.installed,
    "terminals_verified": lambda f: f.verified,
    "terminals_active": lambda f: f.active,
    "terminals_live": lambda f: f.live,
    "buildout_ratio": lambda f: f.buildout,
    "networking_ratio": lambda f: f.networking,
    "networking_daily_ratio": lambda f: f.networking_daily,
    "coverage_ratio": lambda f: f.coverage,
}
"""Of province, cities and counties."""
CITIES_AND_ABOVE: Mapping[str, Figure] = {
    "terminals_never_heard": lambda f: f.never_heard,
    "terminals_overdue": lambda f: f.overdue,
    "terminals_lost": lambda f: f.lost,
    "terminals_retired": lambda f: f.retired,
    "terminals_discovered": lambda f: f.discovered,
    "terminals_invalid": lambda f: f.invalid,
    "nodes_verified": lambda f: f.nodes,
    "video_terminals": lambda f: f.video_installed,
    "video_smart_ratio": lambda f: f.video_smart_ratio,
    "video_networking_ratio": lambda f: f.video_networking_ratio,
    "video_smart_unknown_ratio": lambda f: ratio(f.video_smart_unknown, f.video_installed),
    "video_key_area_unknown_ratio": lambda f: ratio(f.video_key_area_unknown, f.video_all),
}
"""Of province and cities."""


def rows(report: Report, given: Given) -> list[Row]:
    """Every indicator of a day; none where its denominator is 0 or nobody knows."""
    cities = {code: figures for code, figures in report.cities.items() if code != PROVINCE}
    high = {PROVINCE: report.province} | cities
    found = [*_figures(EVERYWHERE, high | dict(report.counties)), *_figures(CITIES_AND_ABOVE, high),
             *_of_province(report, given), *_quality(given.quality), *_points_gained(high, given.baseline)]  # fmt: skip
    return [row for row in found if row.value is not None]


def forecast(history: Sequence[tuple[date, float]], goal: float = GOAL) -> date | None:
    """The day on which the goal is met if verified terminals grow on as in the last 90 days.

    `history` is (day, verified), oldest first. The rate is that of the straight line nearest to it (least
    squares), going on from the last day. None where fewer than 7 days are known, or nothing grows.
    """
    recent = [(day, n) for day, n in history if (history[-1][0] - day).days < HISTORY_DAYS]
    if len(recent) < HISTORY_DAYS_MIN:
        return None
    last, verified = recent[-1]
    if verified >= goal:
        return last
    days = np.array([(day - last).days for day, _ in recent], dtype=np.float64)
    counts = np.array([n for _, n in recent], dtype=np.float64)
    away = days - days.mean()
    a_day = float(away @ (counts - counts.mean()) / (away @ away))
    if a_day <= 0 or (goal - verified) / a_day >= (date.max - last).days:
        return None
    return last + timedelta(days=math.ceil((goal - verified) / a_day))


def _row(name: str, division: int, figure: float | Ratio | None) -> Row:
    if isinstance(figure, Ratio):
        return Row(name, division, figure.numerator, figure.denominator, figure.value)
    return Row(name, division, None, None, figure)


def _figures(names: Mapping[str, Figure], places: Mapping[int, Figures]) -> Iterator[Row]:
    for name, figure in names.items():
        for division, figures in places.items():
            yield _row(name, division, figure(figures))


def _of_province(report: Report, given: Given) -> Iterator[Row]:
    met_on = forecast(given.history)
    figures: dict[str, float | Ratio | None] = {
        "goal_progress_ratio": report.progress,
        "goal_declared_ratio": report.declared_progress,
        "goal_forecast_timestamp_seconds": midnight_seconds(met_on) if met_on else None,
        "nodes_progress_ratio": Ratio(report.province.nodes, GOAL_NODES),
        "counties_covered_ratio": report.counties_covered,
        "coverage_gaps_opened": given.gaps_opened,
        "coverage_gaps_closed": given.gaps_closed,
    }
    figures.update((f"identifier_nodes_{level}", count) for level, count in given.identifier_nodes.items())
    for name, figure in figures.items():
        yield _row(name, PROVINCE, figure)


def _quality(quality: Mapping[int, tuple[int, int]]) -> Iterator[Row]:
    sums = [sum(column) for column in zip(*quality.values(), strict=True)] or [0, 0]
    cities = {code: counts for code, counts in quality.items() if code != PROVINCE}
    for division, (unflagged, received) in {**cities, PROVINCE: sums}.items():
        yield _row("quality_ratio", division, ratio(unflagged, received))


def _points_gained(places: Mapping[int, Figures], baseline: Mapping[tuple[str, int], float]) -> Iterator[Row]:
    """Percentage points, where somebody has declared the ratio that was there before."""
    for name in ("video_smart", "video_networking"):
        for division, figures in places.items():
            now: Ratio | None = getattr(figures, f"{name}_ratio")
            before = baseline.get((f"{name}_ratio", division))
            gained = (now.value - before) * 100 if now and before is not None else None
            yield _row(f"{name}_points_gained", division, gained)
