"""Three recorded series go through broker and service into the database, and come out as they were recorded."""

import csv
import gzip
import math
import random
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.worker import environment

METERS = Path(__file__).parents[1] / "data" / "meters"
CONVERTED_LATE, LATE = 4 | 16, 16
PACKS = 3 * math.ceil(19_417 / 50)
SERIES = """
[[series]]
file = "{folder}/il-electricity-cdd-hdd-hourly.csv.gz"
terminal = "urn:imei:860000000000009"
metric = "electric_energy"
unit = "kWh"
gateway = "meters-1"
division = 370102

[[series]]
file = "{folder}/il-gas-hdd-only-hourly.csv.gz"
terminal = "88.118.1/gas.meter"
metric = "gas_energy"
unit = "therm"
gateway = "meters-1"
division = 370102

[[series]]
file = "{folder}/il-tempF.csv.gz"
terminal = "weather"
metric = "temperature"
unit = "degF"
gateway = "meters-2"
division = 370203
"""
SUMMARY = """
    SELECT terminal, metric, unit, division, count(*), count(DISTINCT observed_at), min(observed_at), max(observed_at),
           min(quality), max(quality), sum(value), (array_agg(value ORDER BY observed_at))[1],
           (array_agg(value ORDER BY observed_at DESC))[1]
    FROM reading_detail GROUP BY 1, 2, 3, 4 ORDER BY metric
"""
STORAGES = pytest.mark.parametrize(
    ("storage", "version"),
    [pytest.param("timescale", "5", marks=pytest.mark.timescale), ("postgres", "3.1.1")],
)


class Expected(NamedTuple):
    """What a series is to be in the database: its key, its count, times and quality, then sum, first, last value."""

    exact: tuple[object, ...]
    values: tuple[float, float, float]


def expected(file, terminal, metric, unit, division, quality, convert=lambda value: value):
    """The series as its file has it."""
    with gzip.open(METERS / file, "rt") as lines:
        rows = [
            (datetime.fromisoformat(at), convert(float(value))) for at, value in list(csv.reader(lines))[1:]
        ]
    values = [value for _, value in rows]
    exact = terminal, metric, unit, division, 19_417, 19_417, rows[0][0], rows[-1][0], quality, quality
    return Expected(exact, (math.fsum(values), values[0], values[-1]))


EXPECTED = [
    expected("il-electricity-cdd-hdd-hourly.csv.gz", "imei:860000000000009", "electric_energy", "kWh", 370102, LATE),
    expected("il-gas-hdd-only-hourly.csv.gz", "handle:88.118.1/gas.meter", "gas_energy", "therm", 370102, LATE),
    expected("il-tempF.csv.gz", "weather", "temperature", "Cel", 370203, CONVERTED_LATE, lambda f: (f - 32) * 5 / 9),
]  # fmt: skip


def assert_as_recorded(database, told=""):
    """Every series equals its file; sums of doubles depend on their order, a conversion on its last digit."""
    found = database.rows(SUMMARY)
    assert [row[:10] for row in found] == [series.exact for series in EXPECTED], told
    for row, series in zip(found, EXPECTED, strict=True):
        assert row[10:] == pytest.approx(series.values, rel=1e-9), told
    assert found[0][11:] == EXPECTED[0].values[1:], told


@pytest.fixture
def replay(mosquitto, tmp_path):
    """Starts `ganzhi replay` of the three series."""
    series = tmp_path / "series.toml"
    series.write_text(SERIES.format(folder=METERS))
    started = []

    def start(version, rate=0):
        process = subprocess.Popen(
            [sys.executable, "-m", "ingest.cli", "replay", str(series), "--pack", "50", "--rate", str(rate)],
            env=environment(mqtt_url=f"mqtt://127.0.0.1:{mosquitto.port}", mqtt_version=version),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@STORAGES
def test_recorded_series_are_stored_as_they_are(version, database, new_worker, replay, settled):
    """Count, times, sum, first and last value of every series equal the file's, with and without conversion."""
    worker = new_worker(mqtt_version=version, max_age_days=0)
    worker.start()
    worker.wait_ready()
    assert replay(version).wait(60) == 0
    metrics = settled(worker)
    metrics.assert_balanced()
    assert metrics("messages_committed_total") == PACKS + 1
    assert metrics("readings_flagged_total", "unit_converted") == 19_417
    assert_as_recorded(database)


@STORAGES
def test_kills_and_a_second_replay_change_nothing(version, database, new_worker, replay, settled):
    """With the worker killed at five random moments and everything published twice the rows are the same."""
    seed = random.randrange(2**32)
    moments = [random.Random(seed + n).uniform(0, 0.6) for n in range(5)]
    worker = new_worker(mqtt_version=version, max_age_days=0, batch_readings=500)
    worker.start()
    worker.wait_ready()
    replays = [replay(version, rate=150) for _ in range(2)]
    for seconds in moments:
        over = all(process.poll() is not None for process in replays)
        worker.wait(
            lambda m, over=over: m("messages_received_total") > 0 or over, "at work again"
        ).assert_balanced()
        time.sleep(seconds)
        worker.restart()
    assert [process.wait(60) for process in replays] == [0, 0]
    settled(worker).assert_balanced()
    assert_as_recorded(database, f"seed {seed}: killed {moments} s after it had begun to work")
