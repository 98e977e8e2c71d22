"""What the simulator says in every dialect, as a real worker takes it."""

from collections import Counter

import pytest
from rich.console import Console

from ingest.scenario import Scenario
from ingest.settings import load
from ingest.simulate import load_scenario, simulate


@pytest.mark.parametrize("storage", ["postgres"])
def test_every_reading_of_every_dialect_is_stored_once(mosquitto, database, new_worker, settled):
    """Nothing is refused or known already, each reading is one row, and terminals have the codes of the register."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    scenario = load_scenario("dialects", factor=0.012, time_scale=86_400, fastest_seconds=1, seconds=2.5)
    quiet = Console(quiet=True)
    result = simulate(load(mqtt_url=f"mqtt://127.0.0.1:{mosquitto.port}"), scenario, console=quiet)
    metrics = settled(worker)
    metrics.assert_balanced()
    assert metrics("messages_rejected_total") == metrics("messages_duplicate_total") == 0
    assert database.rows("SELECT reason, detail FROM rejection") == []
    stored = "SELECT count(*), count(DISTINCT (terminal, metric, observed_at)) FROM reading_detail"
    assert database.one(stored) == (result.readings, result.readings)
    routes = ("ctwing", "iotda", "onenet", "sparkplug", "telemetry")
    assert all(metrics("messages_received_total", route) > 4 for route in routes)
    schemes = Counter(
        scheme for (scheme,) in database.rows("SELECT scheme FROM terminal WHERE code <> 'settled'")
    )
    assert schemes["imei"] == sum(
        scenario.size(fleet)[1] for fleet in scenario.fleet if fleet.network == "nbiot"
    )
    assert schemes["spb"] == sum(scenario.size(scenario.fleet[-1]))
    assert metrics("sequence_gaps_total") == 0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"dialect": "modbus"}, "there are senml"),
        ({"dialect": "ctwing", "profile": "video"}, "leave dialect out"),
    ],
)
def test_a_dialect_that_can_not_be_spoken_is_refused(fields, why):
    """A dialect that does not exist, and one for terminals that send no readings, are named."""
    with pytest.raises(ValueError, match=why):
        Scenario(fleet=[{"profile": "soil", "terminals": 1} | fields])
