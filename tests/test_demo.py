"""What the demo shows of a worker's metrics, and what it never shows."""

import pytest

from ingest.demo import Counts, describe, read_counts, without_password

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
