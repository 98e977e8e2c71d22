"""The map: outlines of the 16 cities as SVG paths, in units of about 1 km. Pure.

Mercator, rounded to tenths of a unit: points that two cities share stay shared, so that no gap opens between
them. Where the outlines come from: schemas/data/README.md.
"""

import json
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any, NamedTuple

WIDTH = 720
"""Of the drawing; the province is some 700 km wide."""
MARGIN = 8
Ring = Sequence[tuple[float, float]]


class Shape(NamedTuple):
    """A city: its outline as an SVG path, and where its name stands."""

    code: int
    path: str
    x: float
    y: float


@cache
def outlines() -> tuple[float, tuple[Shape, ...]]:
    """The height of the drawing, and every city."""
    text = files("schemas").joinpath("data", "shandong_cities.geojson").read_text(encoding="utf-8")
    cities = {int(f["properties"]["code"]): _rings(f["geometry"]) for f in json.loads(text)["features"]}
    points = [point for rings in cities.values() for ring in rings for point in ring]
    west, north = min(x for x, _ in points), max(y for _, y in points)
    scale = (WIDTH - 2 * MARGIN) / (max(x for x, _ in points) - west)
    height = math.ceil((north - min(y for _, y in points)) * scale) + 2 * MARGIN
    placed = {
        code: [
            [(MARGIN + (x - west) * scale, MARGIN + (north - y) * scale) for x, y in ring] for ring in rings
        ]
        for code, rings in cities.items()
    }
    return height, tuple(Shape(code, _path(rings), *_middle(rings)) for code, rings in sorted(placed.items()))


def _rings(geometry: dict[str, Any]) -> list[Ring]:
    """Every ring of a Polygon or MultiPolygon, in Mercator's units."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [[_mercator(*point[:2]) for point in ring] for part in parts for ring in part]


def _mercator(lon: float, lat: float) -> tuple[float, float]:
    return math.radians(lon), math.log(math.tan(math.pi / 4 + math.radians(lat) / 2))


def _path(rings: Sequence[Ring]) -> str:
    """Tenths of a unit, relative to the point before; points that fall together are left out."""
    parts = []
    for ring in rings:
        tenths = [(round(x * 10), round(y * 10)) for x, y in ring]
        kept = [point for n, point in enumerate(tenths) if n == 0 or point != tenths[n - 1]]
        if len(kept) < 4:
            continue
        steps = (f"{(x - px) / 10:g} {(y - py) / 10:g}" for (px, py), (x, y) in pairwise(kept))
        parts.append(f"M{kept[0][0] / 10:g} {kept[0][1] / 10:g}l{' '.join(steps)}z")
    return "".join(parts).replace(" -", "-")


def _middle(rings: Sequence[Ring]) -> tuple[float, float]:
    """The centre of gravity of the largest ring."""
    weight, x, y = max(map(_moments, rings), key=lambda moments: abs(moments[0]))
    return round(x / (3 * weight), 1), round(y / (3 * weight), 1)


def _moments(ring: Ring) -> tuple[float, float, float]:
    """Twice the area, and three times that by the centre, of the shoelace formula."""
    weight = x = y = 0.0
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        cross = x0 * y1 - x1 * y0
        weight, x, y = weight + cross, x + (x0 + x1) * cross, y + (y0 + y1) * cross
    return weight, x, y
