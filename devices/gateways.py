"""The state of a gateway, from when it was last heard and what its status said.

Pure: the observer keeps the times in table `gateway` and asks. Times are Unix seconds.
"""

from collections.abc import Iterable
from typing import NamedTuple

LIVE_FACTOR = 1.5
LIVE_MARGIN_SECONDS = 600
"""Silent past 1.5 intervals and 10 minutes, as its terminals are (docs/gaps.md)."""
GOODBYE_SECONDS = 60
"""What is heard within this time of a goodbye was sent before it: arrivals are known by batch, to half a minute."""
DEFAULT_REPORT_SECONDS = 86_400
"""Where no installed terminal says how often to expect something."""
DEAF_GATEWAYS, DEAF_SECONDS = 20, 300
"""So many gateways are never all late at once by chance, and nobody is missed before."""
LATE_FACTOR = 1.1
"""Of the interval, and `DEAF_SECONDS`: before the first of them counts as silent, others are late."""
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
    report_seconds: float = DEFAULT_REPORT_SECONDS

    @property
    def quiet_seconds(self) -> float:
        """Silent once nothing came for longer."""
        return LIVE_FACTOR * self.report_seconds + LIVE_MARGIN_SECONDS


def deaf(gateways: Iterable[GatewayNow], newest_seconds: float, now_seconds: float) -> bool:
    """Whether the service hears nobody; `newest_seconds` is when any terminal was last heard.

    It is deaf when gateways should have been heard since, and none was. Whose time had come before that is
    late for a reason of its own; a province of daily meters that report at midnight may be silent all day.
    """
    if now_seconds - newest_seconds <= DEAF_SECONDS:
        return False
    late = 0
    for gateway in gateways:
        seen = gateway.last_seen_seconds
        if seen is not None and newest_seconds - seen <= gateway.report_seconds + GOODBYE_SECONDS:
            late += _late(gateway, now_seconds - seen)
    return late >= DEAF_GATEWAYS


def missed(gateways: Iterable[GatewayNow], silence_seconds: float) -> bool:
    """Whether so long a silence of everybody is the service's: gateways should have been heard in it."""
    return sum(_late(gateway, silence_seconds) for gateway in gateways) >= DEAF_GATEWAYS


def _late(gateway: GatewayNow, silence_seconds: float) -> bool:
    seen = gateway.last_seen_seconds is not None
    return seen and silence_seconds > LATE_FACTOR * gateway.report_seconds + DEAF_SECONDS


def judge(
    number: int, name: str, division: int | None, last_seen_seconds: float | None,
    said_offline_seconds: float | None, report_seconds: float | None, now_seconds: float, *, registered: bool = True,
) -> GatewayNow:  # fmt: skip
    """A gateway's state now.

    `report_seconds` is how often something comes from it (`rhythm.intervals`), None where nobody knows.
    One that says offline is offline until it is heard again, even if it was never heard before: a Will
    shows that it was connected.
    """
    report = report_seconds or DEFAULT_REPORT_SECONDS
    state, since = _state(last_seen_seconds, said_offline_seconds, report, now_seconds)
    return GatewayNow(number, name, division, registered, state, since, last_seen_seconds, report)


def _state(
    last_seen: float | None, said_offline: float | None, report: float, now: float
) -> tuple[str, float | None]:
    if said_offline is not None and (last_seen is None or last_seen <= said_offline + GOODBYE_SECONDS):
        return "offline", said_offline
    if last_seen is None:
        return "planned", None
    if now - last_seen > LIVE_FACTOR * report + LIVE_MARGIN_SECONDS:
        return "silent", last_seen
    return "online", None
