"""MQTT topics and topic filters (MQTT 5, section 4.7): what matches, what overlaps.

Filters are assumed valid: `+` and `#` stand alone in their level, `#` is last. Share groups are
not part of a filter here; `shared` adds the group for SUBSCRIBE.
"""

from collections.abc import Sequence
from itertools import combinations

GATEWAY = r"[A-Za-z0-9_.-]{1,64}"
"""A gateway's name in a topic, as a regular expression."""
WILDCARDS = ("+", "#")
LONGEST_CHARACTERS = 512
"""Of a topic that is remembered, or brings names that are. A terminal's code has 256 at most; MQTT's limit is 65,535,
which would be 6.5 GB of 100,000 topics."""


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic falls under a filter; a leading wildcard matches no topic that starts with `$`."""
    return _meet(topic_filter.split("/"), topic.split("/"))


def filters_overlap(filters: Sequence[str]) -> tuple[str, str] | None:
    """The first two filters that some topic could match both of, or None. A filter given twice overlaps."""
    for one, other in combinations(filters, 2):
        if _meet(one.split("/"), other.split("/")):
            return one, other
    return None


def shared(topic_filter: str, group: str) -> str:
    """The filter as SUBSCRIBE needs it for a share group (MQTT 5, section 4.8.2)."""
    return f"$share/{group}/{topic_filter}"


def _meet(one: list[str], other: list[str]) -> bool:
    """Whether two filters, as levels, have a topic in common; a topic is a filter without wildcards."""
    if (one[0] in WILDCARDS and other[0].startswith("$")) or (
        other[0] in WILDCARDS and one[0].startswith("$")
    ):
        return False
    for left, right in zip(one, other, strict=False):
        if "#" in (left, right):
            return True
        if left != right and "+" not in (left, right):
            return False
    longer, length = max(one, other, key=len), min(len(one), len(other))
    return len(longer) == length or longer[length:] == ["#"]
