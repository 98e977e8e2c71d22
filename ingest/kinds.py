"""Kinds of simulated device: the signals of each, and how their values are spelt. Data, by profile."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from schemas.profiles import PROFILES


def iso(seconds: float) -> str:
    """A Unix time in ISO 8601, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Signal(NamedTuple):
    """How a metric moves: `base`, `swing` over the day, slow `wander`, and growth for counters."""

    metric: str
    unit: str
    base: float
    swing: float = 0.0
    wander: float = 0.0
    per_hour: float = 0.0
    on_share: float = 0.0
    """For states (0 or 1): how much of the time it is 1."""
    decimals: int = 2


class Sample(NamedTuple):
    """One reading as a terminal has it, in its own unit; `at` in Unix seconds."""

    code: str
    metric: str
    unit: str
    value: float
    at: float

    @property
    def iso(self) -> str:
        """Its time in ISO 8601, with milliseconds."""
        return iso(self.at)


class Kind(NamedTuple):
    """What terminals of a profile send: `name` is the profile's, `code_form` one of `fleet.CODE_FORMS`.

    `weight` is how frequent it is in a fleet without a scenario. Without signals it is a camera, of which
    a platform only knows whether it is connected.
    """

    name: str
    code_form: str
    weight: int
    signals: tuple[Signal, ...]

    @property
    def domain(self) -> str:
        """The profile's."""
        return PROFILES[self.name].domain


BATTERY = Signal("battery", "%EL", 85, wander=10, decimals=0)
AIR_TEMPERATURE = Signal("temperature", "Cel", 12, swing=8, wander=3)
KINDS = (
    Kind("water_meter", "imei15", 25, (
        Signal("water_volume", "m3", 800, per_hour=0.02, decimals=3),
        Signal("pressure", "Pa", 3.2e5, 3e4, 8e3, decimals=0), BATTERY)),
    Kind("gas_meter", "urn_imei", 15, (
        Signal("gas_volume", "m3", 400, per_hour=0.05, decimals=3), BATTERY)),
    Kind("heat_meter", "imei", 8, (
        Signal("heat_energy", "kWh", 5000, per_hour=1.4),
        Signal("supply_temperature", "Cel", 48, 3, 2), Signal("return_temperature", "Cel", 38, 3, 2))),
    Kind("smoke_detector", "urn_imei", 12, (
        Signal("smoke", "/", 0, on_share=0.0005, decimals=0), BATTERY,
        Signal("rsrp", "dBm", -98, wander=12, decimals=0))),
    Kind("parking", "urn_dev", 8, (
        Signal("occupancy", "/", 0, on_share=0.6, decimals=0), BATTERY)),
    Kind("street_light", "vendor", 8, (
        Signal("power", "W", 60, wander=40, decimals=1), Signal("voltage", "V", 228, 4, 3, decimals=1))),
    Kind("electricity_meter", "handle", 6, (
        Signal("electric_energy", "kWh", 20_000, per_hour=6.5),
        Signal("current", "A", 26, 12, 6), AIR_TEMPERATURE)),
    Kind("air_quality", "bid", 3, (
        Signal("pm25", "ug/m3", 45, 15, 25, decimals=0), Signal("pm10", "ug/m3", 80, 20, 40, decimals=0),
        Signal("humidity", "%RH", 60, -15, 10, decimals=1), AIR_TEMPERATURE,
        Signal("pressure", "Pa", 101_700, 150, 900, decimals=0))),
    Kind("manhole", "vendor", 6, (
        Signal("tilt", "deg", 1.5, wander=1.2), Signal("liquid_level", "m", 0.6, wander=0.4), BATTERY)),
    Kind("machine", "handle", 6, (
        Signal("vibration", "mm/s", 3.2, wander=2.1), Signal("temperature", "Cel", 55, 5, 8),
        Signal("speed_rpm", "1/min", 1480, wander=20, decimals=0))),
    Kind("soil", "imei15", 2, (
        Signal("soil_moisture", "%", 28, wander=9), Signal("soil_temperature", "Cel", 10, 2, 3))),
    Kind("vital_signs", "vendor", 1, (
        Signal("heart_rate", "1/min", 76, 6, 9, decimals=0),
        Signal("spo2", "%", 97, wander=1.5, decimals=0))),
    Kind("gas_detector", "vendor", 0, (
        Signal("gas_concentration", "%LEL", 1.5, wander=1.2), Signal("valve", "/", 1, decimals=0))),
    Kind("contact", "urn_imei", 0, (
        Signal("alarm", "/", 0, on_share=0.01, decimals=0), BATTERY)),
    Kind("water_quality", "handle", 0, (
        Signal("ph", "pH", 7.6, wander=0.5), Signal("dissolved_oxygen", "mg/l", 8, 1, 1.5),
        Signal("turbidity", "NTU", 12, wander=9))),
    Kind("weather", "bid", 0, (
        AIR_TEMPERATURE, Signal("humidity", "%RH", 60, -15, 10, decimals=1),
        Signal("pressure", "Pa", 101_700, 150, 900, decimals=0),
        Signal("wind_speed", "m/s", 4, 1, 2.5), Signal("rainfall", "mm", 1.2, wander=1.2))),
    Kind("video", "gb28181", 0, ()),
)  # fmt: skip
KIND_OF: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}
"""The kind of a profile."""
CAMERA = KIND_OF["video"]
SPELLINGS: Mapping[str, Sequence[tuple[str, float, float]]] = {
    "temperature": (("Cel", 1, 0), ("℃", 1, 0), ("°F", 1.8, 32)),
    "pressure": (("Pa", 1, 0), ("kPa", 1e-3, 0), ("MPa", 1e-6, 0)),
    "water_volume": (("m3", 1, 0), ("m³", 1, 0), ("L", 1e3, 0)),
    "gas_volume": (("m3", 1, 0), ("m³", 1, 0)),
    "heat_energy": (("kWh", 1, 0), ("GJ", 0.0036, 0), ("MJ", 3.6, 0)),
    "pm25": (("ug/m3", 1, 0), ("μg/m³", 1, 0)),
    "humidity": (("%RH", 1, 0), ("%", 1, 0)),
}
"""Unit as sent, and value sent = canonical value * factor + offset; the first is the catalogue's."""
