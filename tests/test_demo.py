"""What the demo shows of its metrics, what it never shows, and that it plays its scenario from end to end."""

import io

import pytest
from rich.console import Console

from ingest.demo import Counts, Coverage, describe, read_counts, read_coverage, run_demo, without_password
from ingest.settings import load

from .brokers import free_port

PAGE = """\
# TYPE ganzhi_messages_received_total counter
ganzhi_messages_received_total{route="telemetry"} 70.0
ganzhi_messages_received_total{route="presence"} 3.0
# TYPE ganzhi_readings_committed_total counter
ganzhi_readings_committed_total{domain="energy"} 1000.0
ganzhi_readings_committed_total{domain="other"} 500.0
# TYPE ganzhi_readings_rejected_total counter
ganzhi_readings_rejected_total{reason="out_of_range"} 7.0
# TYPE ganzhi_messages_duplicate_total counter
ganzhi_messages_duplicate_total 2.0
# TYPE ganzhi_messages_in_flight gauge
ganzhi_messages_in_flight 4.0
# TYPE ganzhi_oldest_unacknowledged_seconds gauge
ganzhi_oldest_unacknowledged_seconds 0.25
"""


def test_counts_are_summed_over_their_labels():
    """A count with labels is the sum of its series; one that is not there is 0."""
    assert read_counts(PAGE) == Counts(73, 1500, 7, 2, 4, 0.25)
    assert read_counts("") == Counts()


def test_rates_are_differences_over_the_time_between_two_looks():
    """Messages and readings a second come from two pages."""
    text = describe(read_counts(PAGE), Counts(messages=33, committed=500), 2.0)
    assert text.startswith("20 messages/s, 500 readings/s")


COVERAGE = """\
# TYPE ganzhi_terminals gauge
ganzhi_terminals{city="370100",domain="municipal",state="live"} 30.0
ganzhi_terminals{city="370200",domain="security",state="live"} 12.0
ganzhi_terminals{city="370200",domain="security",state="lost"} 5.0
# TYPE ganzhi_terminals_installed gauge
ganzhi_terminals_installed 60.0
# TYPE ganzhi_terminals_verified gauge
ganzhi_terminals_verified 50.0
# TYPE ganzhi_coverage_gaps gauge
ganzhi_coverage_gaps{city="370200",domain="municipal",kind="gateway_offline"} 1.0
ganzhi_coverage_gaps{city="370200",domain="security",kind="never_heard"} 2.0
"""


def test_the_headline_is_summed_over_cells():
    """Live terminals and open gaps are those of all cities and domains."""
    assert read_coverage(COVERAGE) == Coverage(60, 50, 42, 3)
    assert read_coverage("") == Coverage()


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_the_scenario_is_registered_before_it_is_played(empty_database, mosquitto, tmp_path):
    """Every terminal heard is one that the register had before, and the gateways that it names are there too."""
    scenario = tmp_path / "small.toml"
    scenario.write_text(
        "time_scale = 86_400\nfastest_seconds = 1\nbad_share = 0\n"
        "[[fleet]]\nprofile = 'gas_meter'\nterminals = 40\ngateways = 2\n"
    )
    screen = io.StringIO()
    run_demo(
        load(data_dir=tmp_path / "demo", http_port=free_port(), observer_http_port=free_port()),
        mqtt_url=f"mqtt://127.0.0.1:{mosquitto.port}",
        database_url=empty_database.url,
        scenario=str(scenario),
        seconds=3,
        console=Console(file=screen, width=200),
    )
    assert "terminals: 40 created, 0 updated, 0 unchanged, 0 refused" in screen.getvalue()
    counts = "SELECT state, count(*), count(DISTINCT gateway) FROM terminal GROUP BY state"
    assert empty_database.rows(counts) == [("installed", 40, 2)]
    heard = "SELECT count(DISTINCT terminal_id) FROM reading"
    assert empty_database.one(heard) == (40,)
    assert empty_database.one("SELECT count(*) FROM gateway WHERE division IS NOT NULL") == (2,)
    goodbyes = "SELECT count(said_offline_at), count(*) FROM gateway"
    assert empty_database.one(goodbyes) == (0, 2), (
        "a gap for each would be open when the demo is started again"
    )
    assert f"export GANZHI_DATABASE_URL={empty_database.url}" in screen.getvalue()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://user:secret@broker:1883", "mqtt://user@broker:1883"),
        ("postgresql://ganzhi:p%40ss@127.0.0.1/ganzhi", "postgresql://ganzhi@127.0.0.1/ganzhi"),
        ("postgresql://ganzhi@/ganzhi?host=%2Ftmp", "postgresql://ganzhi@/ganzhi?host=%2Ftmp"),
        ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1883"),
    ],
)
def test_passwords_are_not_shown(url, shown):
    """An address is shown without its password."""
    assert without_password(url) == shown
