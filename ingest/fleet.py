"""A simulated fleet: gateways of all cities, their terminals, and what those measure. Pure, by seed.

Codes, units and payload forms are as mixed as devices here send them.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

SENML_JSON, SENML_CBOR, PLAIN = "application/senml+json", "application/senml+cbor", "application/json"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
UNANNOUNCED_SHARE = 0.1
"""Gateways that send no content type, as over MQTT 3.1.1."""
VIDEO_EVERY = 20
"""One gateway of so many is a video platform."""


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


class Kind(NamedTuple):
    """A kind of terminal: its domain, the form of its codes, how frequent it is, what it measures."""

    name: str
    domain: str
    code_form: str
    weight: int
    signals: tuple[Signal, ...]


BATTERY = Signal("battery", "%EL", 85, wander=10, decimals=0)
AIR_TEMPERATURE = Signal("temperature", "Cel", 12, swing=8, wander=3)
KINDS = (
    Kind("water_meter", "municipal", "imei15", 25, (
        Signal("water_volume", "m3", 800, per_hour=0.02, decimals=3),
        Signal("pressure", "Pa", 3.2e5, 3e4, 8e3, decimals=0), BATTERY)),
    Kind("gas_meter", "municipal", "urn_imei", 15, (
        Signal("gas_volume", "m3", 400, per_hour=0.05, decimals=3), BATTERY)),
    Kind("heat_meter", "municipal", "imei", 8, (
        Signal("heat_energy", "kWh", 5000, per_hour=1.4),
        Signal("supply_temperature", "Cel", 48, 3, 2), Signal("return_temperature", "Cel", 38, 3, 2))),
    Kind("smoke_detector", "security", "urn_imei", 12, (
        Signal("smoke", "/", 0, on_share=0.0005, decimals=0), BATTERY,
        Signal("rsrp", "dBm", -98, wander=12, decimals=0))),
    Kind("parking_bay", "transport", "urn_dev", 8, (
        Signal("occupancy", "/", 0, on_share=0.6, decimals=0), BATTERY)),
    Kind("street_light", "municipal", "vendor", 8, (
        Signal("power", "W", 60, wander=40, decimals=1), Signal("voltage", "V", 228, 4, 3, decimals=1))),
    Kind("cabinet", "energy", "handle", 6, (
        Signal("electric_energy", "kWh", 20_000, per_hour=6.5),
        Signal("current", "A", 26, 12, 6), AIR_TEMPERATURE)),
    Kind("air_station", "environment", "bid", 3, (
        Signal("pm25", "ug/m3", 45, 15, 25, decimals=0), Signal("pm10", "ug/m3", 80, 20, 40, decimals=0),
        Signal("humidity", "%RH", 60, -15, 10, decimals=1), AIR_TEMPERATURE,
        Signal("pressure", "Pa", 101_700, 150, 900, decimals=0))),
    Kind("manhole_cover", "municipal", "vendor", 6, (
        Signal("tilt", "deg", 1.5, wander=1.2), Signal("liquid_level", "m", 0.6, wander=0.4), BATTERY)),
    Kind("machine", "manufacturing", "handle", 6, (
        Signal("vibration", "mm/s", 3.2, wander=2.1), Signal("temperature", "Cel", 55, 5, 8),
        Signal("speed_rpm", "1/min", 1480, wander=20, decimals=0))),
    Kind("soil_probe", "agriculture", "imei15", 2, (
        Signal("soil_moisture", "%", 28, wander=9), Signal("soil_temperature", "Cel", 10, 2, 3))),
    Kind("ward_monitor", "healthcare", "vendor", 1, (
        Signal("heart_rate", "1/min", 76, 6, 9, decimals=0),
        Signal("spo2", "%", 97, wander=1.5, decimals=0))),
)  # fmt: skip
CAMERA = Kind("camera", "security", "gb28181", 0, ())
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


class Terminal(NamedTuple):
    """One simulated terminal. `phase` (0..1) sets it apart from its kind; `spelling` picks its units."""

    code: str
    kind: Kind
    phase: float
    spelling: int


class Gateway(NamedTuple):
    """One simulated gateway. `content_type` is the form of its payloads; it announces it or not."""

    name: str
    division: int
    content_type: str
    announces: bool
    terminals: tuple[Terminal, ...]

    def topic(self, leaf: str, division: int | None = None) -> str:
        """Its topic that ends in `leaf`."""
        return f"ganzhi/v1/{division or self.division}/{self.name}/{leaf}"


def fleet(
    divisions: Sequence[int], *, gateways: int = 100, terminals: int = 20_000, seed: int = 1
) -> list[Gateway]:
    """A fleet spread evenly over `divisions` (county codes), the same for the same arguments.

    One gateway in 20 is a video platform with cameras (presence, no readings), if there are so many.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    counties = _cities_in_turn(divisions, rng)
    made = []
    for number, division in enumerate(itertools.islice(itertools.cycle(counties), gateways)):
        video = number % VIDEO_EVERY == VIDEO_EVERY - 1
        content_type = (PLAIN, SENML_CBOR, *[SENML_JSON] * 6)[number % 8]
        own = range(number, terminals, gateways)
        kinds = [CAMERA] * len(own) if video else rng.choices(KINDS, [k.weight for k in KINDS], k=len(own))
        spelling = 0 if content_type == PLAIN else rng.randrange(3)  # the plain form cannot say units
        name = f"{'video' if video else 'gw'}-{division}-{number:03d}"
        mine = tuple(
            Terminal(_code(kind.code_form, n, division, rng), kind, rng.random(), spelling)
            for n, kind in zip(own, kinds, strict=True)
        )
        made.append(Gateway(name, division, content_type, rng.random() > UNANNOUNCED_SHARE, mine))
    return made


def _cities_in_turn(divisions: Sequence[int], rng: random.Random) -> list[int]:
    """The counties, one of each city before a second one of any."""
    cities: dict[int, list[int]] = {}
    for division in rng.sample(sorted(divisions), len(divisions)):
        cities.setdefault(division // 100, []).append(division)
    turns = itertools.zip_longest(*(cities[city] for city in sorted(cities)))
    return [division for turn in turns for division in turn if division]


def _code(form: str, number: int, division: int, rng: random.Random) -> str:
    if form == "bid":
        return "did:bid:ef" + _base58(rng.randbytes(22))
    return {
        "imei15": "{imei}",
        "imei": "imei:{imei}",
        "urn_imei": "urn:imei:{imei}",
        "gb28181": "{division}00001320{serial:06d}",  # road, IPC, police video network
        "handle": "88.118.{enterprise}/ST.{number:08d}",
        "urn_dev": "urn:dev:mac:0024befffe{number:06x}",
        "vendor": "SD-{division}-{number:06d}",
    }[form].format(
        imei=_imei(number),
        division=division,
        serial=number % 1_000_000,
        number=number,
        enterprise=1 + number % 30,
    )


def _imei(number: int) -> str:
    """15 digits of which the last is Luhn's check digit (3GPP TS 23.003, annex B)."""
    digits = f"869900{number:08d}"
    doubled = sum(sum(divmod(2 * int(d), 10)) for d in digits[1::2])
    return digits + str(-(doubled + sum(map(int, digits[::2]))) % 10)


def _base58(data: bytes) -> str:
    number, text = int.from_bytes(data), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return text
