"""Charts as inline SVG: lines over days, bars, and the scale of a map's colours. Pure.

Colours and type are the page's: the SVG names classes (`line-verified`, `grid`, `axis`) and no style.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from markupsafe import Markup

Points = Sequence[tuple[date, float]]
WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 84, 16, 12, 24
"""Margins, for the axes' labels: 5,000万 at the size of a phone's and of paper."""
CLASSES = (0.25, 0.5, 0.75, 0.9)
"""Where the colours of coverage change; at 0.9 a county counts as covered."""
DAY_LABELS = 4


class Line(NamedTuple):
    """Days and values, oldest first; `name` is its class, and `style` another: dashed, for what is not measured."""

    name: str
    points: Points
    style: str = ""


def shade(share: float | None) -> str:
    """The class of colour of a share, from `c0` to `c4`; `none` where there is no figure."""
    return "none" if share is None else f"c{sum(share >= limit for limit in CLASSES)}"


def nice_ceiling(value: float) -> float:
    """The next 2, 4 or 8 times a power of ten, that an axis ends at: from 4 on its quarters are whole numbers."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next((m * power for m in (2, 4, 8) if m * power >= value), 20 * power)


def lines(
    drawn: Sequence[Line], label: Callable[[float], str], title: str, *, level: float | None = None
) -> Markup:
    """A chart of lines over days, from 0; `level` is a horizontal line to reach. Nothing to draw: empty.

    One day alone is a dot.
    """
    points = [point for line in drawn for point in line.points]
    if not points:
        return Markup()
    first, last = min(day for day, _ in points), max(day for day, _ in points)
    top = nice_ceiling(max([level or 0, 4, *(value for _, value in points)]))
    scale = _Scale(first, max(1, (last - first).days), top)
    parts = [_grid(scale, label), _days(scale, last)]
    if level is not None:
        y = scale.y(level)
        parts.append(Markup('<line class="level" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            LEFT, WIDTH - RIGHT, y, y))  # fmt: skip
    parts += [_line(line, scale) for line in drawn if line.points]
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup().join(parts))  # fmt: skip


def sparkline(points: Points, width: int = 120, height: int = 28) -> Markup:
    """A line without axes, from its lowest to its highest value; empty for less than two days."""
    if len(points) < 2:
        return Markup()
    values = [value for _, value in points]
    low, span = min(values), max(values) - min(values) or 1
    days = (points[-1][0] - points[0][0]).days or 1
    path = _path(
        (2 + (width - 4) * (day - points[0][0]).days / days, height - 2 - (height - 4) * (value - low) / span)
        for day, value in points
    )
    return Markup('<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true"><path d="{}"/></svg>').format(
        width, height, path)  # fmt: skip


def bar(share: float | None) -> Markup:
    """A horizontal bar of a share, at most full; empty where there is none."""
    if share is None:
        return Markup()
    return Markup('<svg class="bar {}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
                  '<rect class="ground" width="100" height="8"/><rect class="fill" width="{:.2f}" height="8"/></svg>'
                  ).format(shade(share), 100 * min(1.0, max(0.0, share)))  # fmt: skip


class _Scale(NamedTuple):
    first: date
    days: int
    top: float

    def x(self, day: date) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (day - self.first).days / self.days

    def y(self, value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.top), 1)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _line(line: Line, scale: _Scale) -> Markup:
    where = [(scale.x(day), scale.y(value)) for day, value in line.points]
    if len(where) == 1:
        ((x, y),) = where
        return Markup('<circle class="dot line-{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(line.name, x, y)
    return Markup('<path class="line line-{} {}" d="{}"/>').format(line.name, line.style, _path(where))


def _grid(scale: _Scale, label: Callable[[float], str]) -> Markup:
    rows = []
    for quarter in range(5):
        value = scale.top * quarter / 4
        y = scale.y(value)
        rows.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="axis" x="{}" y="{}" '
                           'text-anchor="end">{}</text>').format(LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4,
                                                                 label(value)))  # fmt: skip
    return Markup().join(rows)


def _days(scale: _Scale, last: date) -> Markup:
    """Labels of days, evenly apart."""
    count = min(DAY_LABELS, (last - scale.first).days + 1)
    apart = (last - scale.first).days / max(1, count - 1)
    days = [scale.first + timedelta(days=round(apart * n)) for n in range(count)]
    text = Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="{}">{}</text>')
    anchors = {last: "end", scale.first: "start"}
    return Markup().join(
        text.format(scale.x(day), HEIGHT - 6, anchors.get(day, "middle"), day.isoformat()) for day in days
    )
