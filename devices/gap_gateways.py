"""Gaps of gateways: one that is away, and one whose terminals left though it is not.

Pure. A gateway has one gap at a time, which changes its kind: offline while it is down, then an outage until its
terminals are back. Times are Unix seconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from devices.division import PROVINCE
from devices.gap import Gap, Maintenance, maintained
from devices.gap_book import RECOVERED_AT_LEAST, GapBook, is_outage
from devices.gateways import GatewayNow
from devices.states import Blind
from devices.tally import NAMED, Counts

SUSPECT_SECONDS = 300
"""A gateway silent for this long may be the cause: half the time after which the quickest counts as silent."""
FORGOTTEN_SECONDS = 30 * 86_400
"""A gateway without terminals that was away for so long is no gap; as `active` forgets terminals."""
DOWN = ("offline", "silent")


class Behind(NamedTuple):
    """Terminals behind gateways whose outage opened just now: which cells theirs are, only the next count says."""

    left: int
    silent: int


class _Terminals(NamedTuple):
    """What a gateway has of them; `left` were live a moment ago."""

    installed: int
    live: int
    left: int


def gateway_down(
    gateways: Iterable[GatewayNow], gaps: Iterable[Gap], planned: Sequence[Maintenance], now_seconds: float, size: int
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """By gateway number, which may explain that terminals are silent (1; `NAMED`: its gap is open).

    `size` is that of the array. Those with an open gap, those that are down or under maintenance, and those
    from which nothing came for `SUSPECT_SECONDS`: they turn silent, or are heard, before anything else is
    opened for their terminals.
    """
    down = np.zeros(size, np.uint8)
    named = {gap.gateway for gap in gaps if gap.gateway and gap.closed_seconds is None}
    for gateway in gateways:
        seen = gateway.last_seen_seconds
        quiet = seen is not None and now_seconds - seen > SUSPECT_SECONDS
        if gateway.name in named:
            down[gateway.number] = NAMED
        else:
            covered = maintained(planned, now_seconds, _division(gateway), None, gateway.name) is not None
            down[gateway.number] = gateway.state in DOWN or quiet or covered
    return down


def judge_gateways(
    book: GapBook, gateways: Sequence[GatewayNow], counts: Counts, minimum: int, blind: Blind | None
) -> Behind:
    """Judge every gateway; answers what cells can't know yet. `minimum` terminals make an outage."""
    left = silent = 0
    figures = counts.gateway[[gateway.number for gateway in gateways]].tolist()
    for gateway, figures_of_one in zip(gateways, figures, strict=True):
        its = _Terminals(*figures_of_one)
        gap = book.find(("gateway", gateway.name))
        if gap is not None:
            _follow(book, gap, gateway, its, minimum)
            continue
        found = _found(gateway, its, minimum, book.now, blind)
        if found and book.start(found) and found.kind == "outage":
            left += its.left
            silent += its.installed - its.live
    return Behind(left, silent)


def _found(gateway: GatewayNow, its: _Terminals, minimum: int, now: float, blind: Blind | None) -> Gap | None:
    figures = {**its._asdict(), "live_before": its.live + its.left}
    if gateway.state in DOWN:
        if not _matters(gateway, its.installed, now) or not _proven(gateway, now, blind):
            return None
        figures |= {"state": gateway.state, "since": _iso(gateway.since_seconds)}
        kind, expected = "gateway_offline", its.installed
    elif is_outage(its.live, its.left, minimum):
        kind, expected = "outage", min(its.live + its.left, its.installed)
    else:
        return None
    return Gap(kind, _division(gateway), None, gateway.name, now, expected, its.live, figures)


def _follow(book: GapBook, gap: Gap, gateway: GatewayNow, its: _Terminals, minimum: int) -> None:
    """While it is down, and then until its terminals are back: an outage once the gateway is."""
    before = max(int(gap.evidence.get("live_before", 0)), its.live + its.left)
    expected = min(before, its.installed)
    evidence = {**gap.evidence, "live_before": before}
    if gateway.state in DOWN:
        if not _matters(gateway, its.installed, book.now):
            book.close(gap, expected, its.live, "no terminals, and not heard for 30 days")
            return
        evidence |= {"state": gateway.state, "since": _iso(gateway.since_seconds)}
        book.keep(replace(gap, kind="gateway_offline", evidence=evidence), its.installed, its.live)
    elif its.live >= RECOVERED_AT_LEAST * expected or (gap.kind == "gateway_offline" and before < minimum):
        book.close(gap, expected, its.live, "recovered" if its.installed else "no terminals left")
    else:
        evidence["state"] = gateway.state
        book.keep(replace(gap, kind="outage", evidence=evidence), expected, its.live)


def _matters(gateway: GatewayNow, installed: int, now: float) -> bool:
    away = now - (now if gateway.since_seconds is None else gateway.since_seconds)
    return installed > 0 or (gateway.registered and away <= FORGOTTEN_SECONDS)


def _proven(gateway: GatewayNow, now: float, blind: Blind | None) -> bool:
    """What it says is; its silence only where somebody listened for long enough."""
    listened = blind is None or now >= blind.fair_seconds(gateway.quiet_seconds)
    return gateway.state == "offline" or bool(listened)


def _division(gateway: GatewayNow) -> int:
    return PROVINCE if gateway.division is None else gateway.division


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
