"""A gateway's status: what it says, and what is none."""

import pytest

from schemas.status import BadStatusError, Status, read

TOPIC = "ganzhi/v1/370102/gw-1/status"


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b'{"online": true}', Status("gw-1", 370102, True, None)),
        (b'{"online": false, "at": "2026-11-21T08:00:00Z"}', Status("gw-1", 370102, False, None)),
        (b'{"online": true, "firmware": "2.1", "more": 1}', Status("gw-1", 370102, True, "2.1")),
    ],
)
def test_what_it_says(payload, status):
    """The topic names the gateway; members that nobody knows are left alone."""
    assert read(TOPIC, payload) == status


@pytest.mark.parametrize(
    ("topic", "payload", "word"),
    [
        ("ganzhi/v1/37/gw-1/status", b'{"online": true}', "names no gateway"),
        ("ganzhi/v1/370102/g w/status", b'{"online": true}', "names no gateway"),
        (TOPIC, b"", "payload"),
        (TOPIC, b"\xff", "payload"),
        (TOPIC, b"{}", "online"),
        (TOPIC, b'{"online": "yes"}', "online"),
        (TOPIC, b'{"online": 1}', "online"),
        (TOPIC, b'{"online": true, "at": "yesterday"}', "at"),
        (TOPIC, b'{"online": true, "at": "2026-11-21T08:00:00"}', "at"),
    ],
)
def test_what_is_none(topic, payload, word):
    """A fault names the member that is wrong."""
    with pytest.raises(BadStatusError, match=word):
        read(topic, payload)
