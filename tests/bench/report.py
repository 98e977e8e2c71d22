"""What benchmarks say of curves: a Markdown table, a picture, and a section of a page between its marks. Pure."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

BEND = 0.20
"""A reading that is a fifth dearer than at the first point."""
MARK = "<!-- {name}: {edge} -->"
COLUMNS, WIDTH, HEIGHT = 4, 200, 170
"""Of the picture: panels side by side, and the size of each in pixels."""
LEFT, RIGHT, TOP, BOTTOM = 34, 16, 26, 24
HIGHEST = 2.0
"""Of the ratios that are drawn; what lies above is drawn at the edge, and the table has the figure."""
RATE, CPU = "#1f77b4", "#d62728"


class Point(NamedTuple):
    """How far something has grown, what a reading costs there, and ratios to the first point of the curve."""

    curve: str
    at: float
    rate: float
    cpu_us: float
    rate_ratio: float
    cpu_ratio: float

    @property
    def bends(self) -> bool:
        """Whether it is slower or dearer by more than a fifth; faster and cheaper is no bend."""
        return self.rate_ratio < 1 - BEND or self.cpu_ratio > 1 + BEND


def table(points: Sequence[Point]) -> str:
    """A row a point, with the answer to whether its curve bends in the last column of its last row."""
    rows = [
        f"| what grows | to | readings/s | CPU us/reading | readings/s, ratio | CPU, ratio | within {BEND:.0%} |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of_one in groupby(points, lambda point: point.curve):
        curve = list(of_one)
        for number, p in enumerate(curve, start=1):
            answer = ("no" if any(p.bends for p in curve) else "yes") if number == len(curve) else ""
            rows.append(f"| {name} | {label(p.at)} | {p.rate:,.0f} | {p.cpu_us:.2f} | {p.rate_ratio:.2f} | "
                        f"{p.cpu_ratio:.2f} | {answer} |")  # fmt: skip
    return "\n".join(rows)


def label(at: float) -> str:
    """10k, 200M, 5 %, 0."""
    if 0 < at < 1:
        return f"{at * 100:g} %"
    size, unit = next(((s, u) for s, u in ((1e6, "M"), (1e3, "k")) if at >= s), (1, ""))
    return f"{at / size:g}{unit}"


def picture(points: Sequence[Point]) -> str:
    """An SVG with a panel a curve: both ratios over what grows, points evenly apart, the allowed band shaded."""
    curves = [list(curve) for _, curve in groupby(points, lambda point: point.curve)]
    width, height = COLUMNS * WIDTH, -(-len(curves) // COLUMNS) * HEIGHT + 20
    panels = [
        f'<g transform="translate({n % COLUMNS * WIDTH} {n // COLUMNS * HEIGHT})">{_panel(curve)}</g>'
        for n, curve in enumerate(curves)
    ]
    legend = (f'<text x="{LEFT}" y="{height - 6}"><tspan fill="{RATE}">readings/s</tspan> and <tspan fill="{CPU}">CPU '
              f"a reading</tspan>, beside the first point; the band is {BEND:.0%} to each side</text>")  # fmt: skip
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
            f'font-size="10" fill="#444"><rect width="100%" height="100%" fill="#fff"/>')  # fmt: skip
    return "\n".join([head, *panels, legend, "</svg>\n"])


def _panel(curve: Sequence[Point]) -> str:
    right = WIDTH - RIGHT
    step = (right - LEFT) / max(1, len(curve) - 1)
    xs = [LEFT + n * step for n in range(len(curve))]
    band = _y(1 - BEND) - _y(1 + BEND)
    parts = [
        f'<text x="{LEFT}" y="14" font-weight="bold">{curve[0].curve}</text>',
        f'<rect x="{LEFT}" y="{_y(1 + BEND):.1f}" width="{right - LEFT}" height="{band:.1f}" fill="#e8f3e8"/>',
    ]
    parts += [
        f'<line x1="{LEFT}" x2="{right}" y1="{_y(level):.1f}" y2="{_y(level):.1f}" stroke="#ccc"/>'
        f'<text x="{LEFT - 6}" y="{_y(level) + 3:.1f}" text-anchor="end">{level}</text>'
        for level in (0, 1, 2)
    ]
    parts += [
        f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{label(point.at)}</text>'
        for x, point in zip(xs, curve, strict=True)
    ]
    for colour, ratios in ((RATE, [p.rate_ratio for p in curve]), (CPU, [p.cpu_ratio for p in curve])):
        at = " ".join(f"{x:.1f},{_y(ratio):.1f}" for x, ratio in zip(xs, ratios, strict=True))
        parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "".join(parts)


def _y(ratio: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(ratio, HIGHEST) / HIGHEST)


def with_section(page: str, name: str, text: str) -> str:
    """The page with this text between the marks of this name; at its end where it has none."""
    begin, end = (MARK.format(name=name, edge=edge) for edge in ("begin", "end"))
    body = f"{begin}\n{text.strip()}\n{end}"
    if begin not in page:
        return f"{page.rstrip()}\n\n{body}\n"
    head, _, rest = page.partition(begin)
    return head + body + rest.partition(end)[2]
