"""Unit spellings and conversions, against the tables of RFC 8428 and RFC 8798."""

import tomllib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.units import CONVERSIONS, SPELLINGS, canonical, conversion

SENML = """
m kg g s A K cd mol Hz rad sr N Pa J W C V F Ohm S Wb T H Cel lm lx Bq Gy Sv kat m2 m3 l m/s m/s2 m3/s
l/s W/m2 cd/m2 bit bit/s lat lon pH dB dBW Bspl count / %RH %EL EL 1/s 1/min beats S/m
B VA VAs var vars J/m kg/m3 deg
"""
RFC8798 = [
    ("ms", "s", 1 / 1000, 0),
    ("min", "s", 60, 0),
    ("h", "s", 3600, 0),
    ("MHz", "Hz", 1000000, 0),
    ("kW", "W", 1000, 0),
    ("kVA", "VA", 1000, 0),
    ("kvar", "var", 1000, 0),
    ("Ah", "C", 3600, 0),
    ("Wh", "J", 3600, 0),
    ("kWh", "J", 3600000, 0),
    ("varh", "vars", 3600, 0),
    ("kvarh", "vars", 3600000, 0),
    ("kVAh", "VAs", 3600000, 0),
    ("Wh/km", "J/m", 3.6, 0),
    ("KiB", "B", 1024, 0),
    ("GB", "B", 1e9, 0),
    ("Mbit/s", "bit/s", 1000000, 0),
    ("B/s", "bit/s", 8, 0),
    ("MB/s", "bit/s", 8000000, 0),
    ("mV", "V", 1 / 1000, 0),
    ("mA", "A", 1 / 1000, 0),
    ("dBm", "dBW", 1, -30),
    ("ug/m3", "kg/m3", 1e-9, 0),
    ("mm/h", "m/s", 1 / 3600000, 0),
    ("m/h", "m/s", 1 / 3600, 0),
    ("ppm", "/", 1e-6, 0),
    ("/100", "/", 1 / 100, 0),
    ("/1000", "/", 1 / 1000, 0),
    ("hPa", "Pa", 100, 0),
    ("mm", "m", 1 / 1000, 0),
    ("cm", "m", 1 / 100, 0),
    ("km", "m", 1000, 0),
    ("km/h", "m/s", 1 / 3.6, 0),
]
DEVICES = [
    ("℃", "Cel", 20, 20),
    ("°C", "Cel", 20, 20),
    ("degC", "Cel", 20, 20),
    ("C", "Cel", 20, 20),
    ("℉", "Cel", 212, 100),
    ("°F", "Cel", 32, 0),
    ("F", "Cel", -40, -40),
    ("degF", "Cel", 98.6, 37),
    ("K", "Cel", 273.15, 0),
    ("MPa", "Pa", 0.4, 400000),
    ("mbar", "Pa", 1013.25, 101325),
    ("bar", "kPa", 1, 100),
    ("m³", "m3", 5, 5),
    ("㎥", "m3", 5, 5),
    ("m^3", "m3", 5, 5),
    ("L", "m3", 1500, 1.5),
    ("ℓ", "m3", 1500, 1.5),
    ("GJ", "kWh", 3.6, 1000),
    ("MJ", "kWh", 3.6, 1),
    ("kJ", "kWh", 7200, 2),
    ("J", "kWh", 3.6e6, 1),
    ("Wh", "kWh", 1500, 1.5),
    ("MWh", "kWh", 1.5, 1500),
    ("%", "%RH", 55, 55),
    ("％", "%EL", 55, 55),
    ("/", "%RH", 0.55, 55),
    ("/", "%EL", 0.55, 55),
    ("/", "%", 0.55, 55),
    ("%", "/", 55, 0.55),
    ("‰", "%", 55, 5.5),
    ("μg/m³", "ug/m3", 35, 35),
    ("µg/m³", "ug/m3", 35, 35),
    ("mg/m3", "ug/m3", 0.035, 35),
    ("ppm", "mg/l", 0.3, 0.3),
    ("L/s", "m3/h", 10, 36),
    ("km/h", "m/s", 36, 10),
    ("lux", "lx", 300, 300),
    ("rpm", "1/min", 1500, 1500),
    ("rad", "deg", 3.141592653589793, 180),
    ("°", "lon", 117.1, 117.1),
    ("dB(A)", "dB", 61, 61),
    ("kW", "W", 1.5, 1500),
]
NEVER = [
    ("%RH", "%EL"), ("%RH", "%"), ("%EL", "%RH"), ("%", "%LEL"), ("ppm", "%RH"), ("ppm", "ug/m3"), ("Hz", "1/min"),
    ("dB", "dBm"), ("W", "VA"), ("kWh", "kvarh"), ("W", "J"), ("m3", "kWh"), ("lat", "lon"), ("lon", "deg"),
    ("mm", "mm/h"), ("m3", "m3/h"), ("Nm3", "m3"), ("A", "Ah"), ("nonsense", "Cel"), ("Cel", "nonsense"), ("", "Cel"),
    ("mw", "MW"),
]  # fmt: skip


@pytest.mark.parametrize("unit", SENML.split())
def test_registry_units_keep_their_names(unit):
    """A unit of the SenML registry is its own canonical name."""
    assert unit in SPELLINGS
    assert canonical(unit) == unit


@pytest.mark.parametrize(("secondary", "primary", "scale", "offset"), RFC8798)
def test_secondary_units(secondary, primary, scale, offset):
    """Every row of RFC 8798's secondary units converts as the row says."""
    assert conversion(secondary, primary) == pytest.approx((scale, offset), rel=1e-15)


@pytest.mark.parametrize(("sent", "wanted", "value", "expected"), DEVICES)
def test_what_devices_write(sent, wanted, value, expected):
    """A value in a device's spelling becomes the same quantity in the catalogue's unit."""
    scale, offset = conversion(sent, wanted)
    assert value * scale + offset == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("sent", "wanted"), NEVER)
def test_different_quantities_never_convert(sent, wanted):
    """What is not the same quantity has no conversion."""
    assert conversion(sent, wanted) is None


@pytest.mark.parametrize("unit", ["unheard", "", "\x00", "\ud800", "x" * 10_000])
def test_unknown_spelling_is_itself(unit):
    """A spelling that nobody listed stays as it is and equals itself only."""
    assert canonical(unit) == unit
    assert conversion(unit, unit) == (1.0, 0.0)


def test_spellings_are_unambiguous():
    """No spelling is listed for two units, whichever way it is folded."""
    data = tomllib.loads(files("schemas").joinpath("data/units.toml").read_text(encoding="utf-8"))
    del data["reads"]
    listed = [
        (spelling, name)
        for units in data.values()
        for name, unit in units.items()
        for spelling in (name, *unit.get("spellings", ()))
    ]
    assert [pair for pair in listed if canonical(pair[0]) != pair[1]] == []
    assert len({name for name, _ in listed}) == len(listed)


@given(st.sampled_from(sorted(CONVERSIONS)), st.floats(-1e6, 1e6))
def test_there_and_back(pair, value):
    """A value that is converted and converted back is the same to 12 digits of what was added."""
    there, back = conversion(*pair), conversion(pair[1], pair[0])
    if back is None:
        return  # a reading of a plainer unit has no way back
    converted = value * there[0] + there[1]
    slack = 1e-12 * (abs(back[1]) + abs(value) + 1e-300)
    assert converted * back[0] + back[1] == pytest.approx(value, rel=1e-12, abs=slack)


@given(st.sampled_from(sorted(SPELLINGS)))
def test_canonical_is_idempotent(spelling):
    """A canonical unit is its own canonical unit."""
    assert canonical(canonical(spelling)) == canonical(spelling)
