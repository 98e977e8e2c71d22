"""Topics and filters against the sentences of MQTT 5, section 4.7."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topic import filters_overlap, matches, shared

LEVEL = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)


@st.composite
def filters(draw):
    levels = draw(st.lists(st.one_of(LEVEL, st.just("+")), max_size=4))
    end = draw(st.sampled_from([[], ["#"]])) or ([] if levels else ["#"])
    return "/".join([*levels, *end])


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "sport/a", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/uptime", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/uptime", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("ACCOUNTS", "Accounts", False),
        ("a/b", "a/b/", False),
    ],
)
def test_matches(topic_filter, topic, expected):
    """The standard's own examples match as it says."""
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("filters_", "expected"),
    [
        ([], None),
        (["a/#"], None),
        (["a/+/telemetry", "b/#", "a/+/presence"], None),
        (["a/1/#", "a/2/#"], None),
        (["$SYS/#", "#"], None),
        (["x", "a/+", "+/b"], ("a/+", "+/b")),
        (["a/#", "a"], ("a/#", "a")),
        (["a/+/#", "a"], None),
        (["a/b", "a/b"], ("a/b", "a/b")),
        (["#", "a/b/c"], ("#", "a/b/c")),
    ],
)
def test_overlap(filters_, expected):
    """The first two filters that share a topic are named."""
    assert filters_overlap(filters_) == expected


@given(filters(), filters(), TOPICS)
def test_topic_in_two_filters_means_overlap(one, other, topic):
    """Filters that both match some topic overlap."""
    if matches(one, topic) and matches(other, topic):
        assert filters_overlap([one, other]) == (one, other)


@given(filters(), filters())
def test_overlap_has_a_witness(one, other):
    """Where two filters overlap, a topic made from both matches both."""
    if filters_overlap([one, other]):
        left, right = one.split("/"), other.split("/")
        longer = max(left, right, key=len)
        shorter = left if longer is right else right
        if shorter[-1] == "#":
            shorter = shorter + ["#"] * (len(longer) - len(shorter))
        levels = [b if a in ("+", "#") else a for a, b in zip(longer, shorter, strict=False)]
        topic = "/".join("w" if level in ("+", "#") else level for level in levels)
        assert matches(one, topic) and matches(other, topic)


@given(filters(), filters())
def test_overlap_is_symmetric(one, other):
    """Order plays no part in whether filters overlap."""
    assert bool(filters_overlap([one, other])) == bool(filters_overlap([other, one]))


def test_shared():
    """A share group stands before the filter."""
    assert shared("ganzhi/v1/+/+/telemetry", "workers") == "$share/workers/ganzhi/v1/+/+/telemetry"
