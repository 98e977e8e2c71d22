"""The state of a gateway, from when it was last heard and what its status said.

Pure: the observer keeps the times in table `gateway` and asks. Times are Unix seconds.
"""

from typing import NamedTuple

LIVE_FACTOR = 1.5
LIVE_MARGIN_SECONDS = 600
"""Silent past 1.5 intervals and 10 minutes, as its terminals are (docs/gaps.md)."""
GOODBYE_SECONDS = 60
"""What is heard within this time of a goodbye was sent before it: arrivals are known by batch, to half a minute."""
DEFAULT_REPORT_SECONDS = 86_400
"""Where no installed terminal says how often to expect something."""
STATES = ("planned", "online", "offline", "silent")


class GatewayNow(NamedTuple):
    """A gateway as the observer sees it in one round."""

    number: int
    """Row of `Counts.gateway`; `gateway.id` of the database."""
    name: str
    division: int | None
    registered: bool
    """False: heard, but nobody registered it."""
    state: str
    """One of `STATES`."""
    since_seconds: float | None
    """Since when it is offline or silent; None in the other states."""
    last_seen_seconds: float | None


def judge(
    number: int, name: str, division: int | None, last_seen_seconds: float | None,
    said_offline_seconds: float | None, report_seconds: float | None, now_seconds: float, *, registered: bool = True,
) -> GatewayNow:  # fmt: skip
    """A gateway's state now.

    `report_seconds` is the shortest reporting interval of its installed terminals, None without any.
    One that says offline is offline until it is heard again, even if it was never heard before: a Will
    shows that it was connected.
    """
    state, since = _state(last_seen_seconds, said_offline_seconds, report_seconds, now_seconds)
    return GatewayNow(number, name, division, registered, state, since, last_seen_seconds)


def _state(
    last_seen: float | None, said_offline: float | None, report: float | None, now: float
) -> tuple[str, float | None]:
    if said_offline is not None and (last_seen is None or last_seen <= said_offline + GOODBYE_SECONDS):
        return "offline", said_offline
    if last_seen is None:
        return "planned", None
    if now - last_seen > LIVE_FACTOR * (report or DEFAULT_REPORT_SECONDS) + LIVE_MARGIN_SECONDS:
        return "silent", last_seen
    return "online", None
