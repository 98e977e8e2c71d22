"""Coordinates of maps made in China, taken back to WGS 84. Degrees; longitude first.

GCJ-02 shifts WGS 84 by some 100 to 700 m in a way that is not published; the formulas here are the ones
in public use (first in EvilTransform, 2012), good to a few metres against surveyed points. BD-09 shifts
GCJ-02 once more. Each is inverted by iteration: what comes back is within 1e-7 degrees, a centimetre,
of what these formulas map to the input.
"""

from collections.abc import Callable
from enum import StrEnum
from math import atan2, cos, hypot, pi, sin, sqrt

AXIS_METRES = 6378245.0
ECCENTRICITY_SQUARED = 0.00669342162296594323
"""Of the Krasovsky ellipsoid, which the published formulas take."""
ROUNDS = 5
"""The shift changes by less than 1 % of a step: each round gains two digits."""

Point = tuple[float, float]


class Datum(StrEnum):
    """What coordinates are measured in."""

    WGS84 = "wgs84"
    GCJ02 = "gcj02"
    BD09 = "bd09"


def to_wgs84(lon: float, lat: float, datum: Datum) -> Point:
    """Longitude and latitude in WGS 84."""
    if datum is Datum.BD09:
        lon, lat = _inverse(_gcj_to_bd, lon, lat)
    return (lon, lat) if datum is Datum.WGS84 else _inverse(_wgs_to_gcj, lon, lat)


def from_wgs84(lon: float, lat: float, datum: Datum) -> Point:
    """Longitude and latitude as a map in this datum shows them."""
    if datum is Datum.WGS84:
        return lon, lat
    gcj = _wgs_to_gcj(lon, lat)
    return gcj if datum is Datum.GCJ02 else _gcj_to_bd(*gcj)


def _inverse(forward: Callable[[float, float], Point], lon: float, lat: float) -> Point:
    x, y = lon, lat
    for _ in range(ROUNDS):
        shown = forward(x, y)
        x, y = x + lon - shown[0], y + lat - shown[1]
    return x, y


def _wgs_to_gcj(lon: float, lat: float) -> Point:
    x, y = lon - 105.0, lat - 35.0
    root = sqrt(abs(x))
    common = (20 * sin(6 * x * pi) + 20 * sin(2 * x * pi)) * 2 / 3
    north = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + common
    north += (
        (20 * sin(y * pi) + 40 * sin(y / 3 * pi) + 160 * sin(y / 12 * pi) + 320 * sin(y * pi / 30)) * 2 / 3
    )
    east = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + common
    east += (
        (20 * sin(x * pi) + 40 * sin(x / 3 * pi) + 150 * sin(x / 12 * pi) + 300 * sin(x / 30 * pi)) * 2 / 3
    )
    radians = lat / 180 * pi
    w = 1 - ECCENTRICITY_SQUARED * sin(radians) ** 2
    meridian = AXIS_METRES * (1 - ECCENTRICITY_SQUARED) / (w * sqrt(w))
    parallel = AXIS_METRES / sqrt(w) * cos(radians)
    return lon + east * 180 / (parallel * pi), lat + north * 180 / (meridian * pi)


def _gcj_to_bd(lon: float, lat: float) -> Point:
    turn = pi * 3000 / 180
    radius = hypot(lon, lat) + 0.00002 * sin(lat * turn)
    angle = atan2(lat, lon) + 0.000003 * cos(lon * turn)
    return radius * cos(angle) + 0.0065, radius * sin(angle) + 0.006
