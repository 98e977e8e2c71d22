"""The metric catalogue: what it must hold, and that its data can't contradict itself."""

import tomllib
from importlib.resources import files
from math import isfinite

import pytest

from schemas.catalogue import METRICS, is_identity, metric_of, metric_of_unit, unit_of
from schemas.units import SPELLINGS, canonical, conversion

CONTRACT = """temperature Cel, humidity %RH, pressure Pa, water_volume m3, water_flow m3/h, gas_volume m3,
gas_concentration %LEL, co ppm, smoke /, heat_energy kWh, heat_power W, supply_temperature Cel,
return_temperature Cel, electric_energy kWh, power W, voltage V, current A, battery %EL, rsrp dBm, snr dB,
liquid_level m, tilt deg, pm25 ug/m3, pm10 ug/m3, noise dB, co2 ppm, wind_speed m/s, rainfall mm,
illuminance lx, soil_moisture %, soil_temperature Cel, ph pH, dissolved_oxygen mg/l, turbidity NTU,
residual_chlorine mg/l, vibration mm/s, speed_rpm 1/min, heart_rate 1/min, spo2 %, longitude lon,
latitude lat, ratio /, occupancy /, alarm /, valve /, online /"""


@pytest.mark.parametrize("line", [line.strip() for line in CONTRACT.split(",")])
def test_promised_metrics(line):
    """Every metric that gateways are promised is there, in its unit, with limits."""
    name, unit = line.split()
    metric = METRICS[name]
    assert (metric.name, metric.unit) == (name, unit)
    assert metric_of(name) == name
    assert isfinite(metric.hard_low) and isfinite(metric.hard_high)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)
def test_entry_is_sound(metric):
    """Soft limits lie within hard ones, and the unit is a canonical one."""
    assert metric.hard_low <= metric.soft_low < metric.soft_high <= metric.hard_high
    assert canonical(metric.unit) == metric.unit
    assert metric.unit in SPELLINGS or metric.name == "value"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("temp", "temperature"),
        ("TEMP", "temperature"),
        ("hum", "humidity"),
        ("volt", "voltage"),
        ("batt", "battery"),
        ("batteryLevel", "battery"),
        ("Battery_Level", "battery"),
        ("RSRP", "rsrp"),
        ("PM2.5", "pm25"),
        ("pm2_5", "pm25"),
        ("PM1_0", "pm1"),
        ("PM_10", "pm10"),
        ("Pm10", "pm10"),
        ("WaterVolume", "water_volume"),
        ("温度", "temperature"),
        ("3303/0/5700", "temperature"),
        ("/3303/12/5700", "temperature"),
        ("3303_0_5700", "temperature"),
        ("3304/0/5700", "humidity"),
        ("3323/0/5700", "pressure"),
        ("3331/0/5700", "electric_energy"),
        ("3305/0/5800", "power"),
        ("3423/0/1", "gas_volume"),
        ("3424/65535/1", "water_volume"),
        ("3428/0/3", "pm25"),
        ("4/0/2", "rsrp"),
        ("3305/0/5700", None),
        ("3423/0/9", "leak_suspected"),
        ("3424/0/11", "backflow"),
        ("3424/0/8", "flow_max"),
        ("3429/0/6", "out_of_position"),
        ("3432/0/3", "vehicle_count"),
        ("10242/0/14", "voltage_b"),
        ("10272/0/6013", "leak"),
        ("4_0_8", "cell_id"),
        ("4/0/13", "ce_level"),
        ("3425/0/1", None),
        ("3303/0/5601", None),
        ("3303/5700", None),
        ("3303/*/5700", "temperature"),
        ("temperature2", None),
        ("", None),
    ],
)
def test_names(name, expected):
    """A metric is known by name, alias in any case, or LwM2M path of any instance; nothing else is."""
    assert metric_of(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tilt", "deg"),
        ("angle", "deg"),
        ("3429/0/1", "rad"),
        ("3435/0/3", "cm"),
        ("10242/0/34", "kW"),
        ("3424/0/7", "m3/s"),
        ("3305/0/5815", "varh"),
        ("nope", None),
    ],
)
def test_unit_of_a_bare_value(name, expected):
    """A name that stands for another unit than the catalogue's says so."""
    assert unit_of(name) == expected


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("Cel", "temperature"),
        ("℃", "temperature"),
        ("degF", "temperature"),
        ("%RH", "humidity"),
        ("lon", "longitude"),
        ("lat", "latitude"),
        ("%EL", "battery"),
        ("/", "ratio"),
        ("V", None),
        ("%", None),
        ("", None),
    ],
)
def test_units_that_stand_for_a_metric(unit, expected):
    """Only a unit that can mean one metric stands for it."""
    assert metric_of_unit(unit) == expected


@pytest.mark.parametrize(
    ("names", "metric"),
    [
        (("imei", "IMEI", "3412/0/22"), "imei"),
        (("IMSI", "3412_0_21"), "imsi"),
        (("iccid", "ICCID", "3412/1/24"), "iccid"),
        (("Cell_ID", "4/0/8", "/4/0/8"), "cell_id"),
        (("SMNC", "4/0/9"), "mobile_network_code"),
        (("mcc", "4/0/10"), "mobile_country_code"),
        (("3/0/2", "serialNo"), "serial_number"),
    ],
)
def test_identities(names, metric):
    """Numbers of devices, cards, cells and networks have an entry, and are known as identities by every name."""
    assert {metric_of(name) for name in names} == {metric}
    assert all(map(is_identity, names))
    assert not any(map(is_identity, ("temperature", "4/0/2", "4/0/11", "3412/0/20", "unheard_of")))


def test_data_contradicts_itself_nowhere():
    """No alias is listed for two metrics, and every unit named converts to its metric's."""
    data = tomllib.loads(files("schemas").joinpath("data/metrics.toml").read_text(encoding="utf-8"))
    for name, entry in data.items():
        assert set(entry) <= {"unit", "hard", "soft", "aliases", "aliases_in", "stands_for", "identity"}
        for alias in entry.get("aliases", ()):
            assert (metric_of(alias), unit_of(alias)) == (name, entry["unit"]), alias
        for unit, aliases in entry.get("aliases_in", {}).items():
            assert conversion(unit, entry["unit"])
            assert all((metric_of(alias), unit_of(alias)) == (name, unit) for alias in aliases), name
        assert all(conversion(unit, entry["unit"]) for unit in entry.get("stands_for", ()))
