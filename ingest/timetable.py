"""When a scenario's gateways send what: (due time, message), in order and without end. Pure, by seed.

The unit is a pack: those terminals of a gateway that are due together. A heap holds one entry a pack, so
100,000 terminals are some 15,000 entries. Rhythms are counted from midnight in Shandong, whenever the run starts.
"""

import heapq
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from devices.day import SHANDONG_SECONDS
from ingest.dialects import ALONE
from ingest.fleet import Gateway, Terminal
from ingest.kinds import Signal
from ingest.publish import Outgoing
from ingest.scenario import Scenario, Silence, Window, within
from ingest.traffic import (
    DAY_SECONDS,
    farewell,
    fault,
    greeting,
    repeats,
    report,
    series_of,
)

JITTER_SHARE, JITTER_SECONDS = 0.02, 60.0
"""A report comes up to this part of its interval, and up to a minute of life, later than its preset time."""
CAMERAS_PER_MESSAGE = 500
Timed = Iterator[tuple[float, Outgoing]]


class Pack(NamedTuple):
    """Terminals of one gateway that report together, `phase` (0..1) into their interval."""

    gateway: Gateway
    terminals: Sequence[Terminal]
    series: Sequence[tuple[Terminal, Signal]]
    interval_seconds: int
    phase: float


def timetable(gateways: Sequence[Gateway], scenario: Scenario, begin: float) -> Timed:
    """What the fleet sends from `begin` on, with the Unix second at which each message is due."""
    concerned = hits(gateways, scenario.silence)
    silences: dict[str, list[Silence]] = {}
    for silence, silent in zip(scenario.silence, concerned, strict=True):
        for gateway in silent:
            silences.setdefault(gateway.name, []).append(silence)
    return heapq.merge(
        *(
            _turns(silent, silence, begin)
            for silence, silent in zip(scenario.silence, concerned, strict=True)
            if silence.will
        ),
        _reports(gateways, silences, scenario, begin),
        _changes(gateways, silences, scenario, begin),
        key=lambda timed: timed[0],
    )


def hits(gateways: Sequence[Gateway], silences: Sequence[Silence]) -> list[list[Gateway]]:
    """The gateways that each silence concerns."""
    return [
        [
            gateway
            for gateway in gateways
            if within(gateway.division, silence.division) and silence.profile in {None, gateway.profile}
        ][: silence.gateways]
        for silence in silences
    ]


def packs(gateway: Gateway, readings: int) -> Iterator[Pack]:
    """A gateway's talkers, those of one rhythm and near phases together, at most `readings` a message."""

    def order(terminal: Terminal) -> tuple[int, float]:
        return terminal.report_seconds, terminal.phase

    for interval, group in itertools.groupby(sorted(gateway.talkers, key=order), lambda t: t.report_seconds):
        due_together = list(group)
        signals = len(due_together[0].kind.signals)
        size = max(1, readings // signals) if signals else CAMERAS_PER_MESSAGE
        size = 1 if gateway.dialect in ALONE else size
        for start in range(0, len(due_together), size):
            own = due_together[start : start + size]
            yield Pack(gateway, own, series_of(own), interval, own[-1].phase)


def _reports(
    gateways: Sequence[Gateway], silences: Mapping[str, Sequence[Silence]], scenario: Scenario, begin: float
) -> Timed:
    """The packs at their rhythm. A heap entry is (send at, pack's number, preset time, measured at or None)."""
    rng = random.Random(scenario.seed)  # noqa: S311
    repeated = repeats(scenario.duplicate_share, rng)
    all_packs = [pack for gateway in gateways for pack in packs(gateway, scenario.readings)]
    heap: list[tuple[float, int, float, float | None]] = []
    for number, pack in enumerate(all_packs):
        preset = _first(pack, begin)
        heap.append((preset + _jitter(pack, scenario.time_scale, rng), number, preset, None))
    heapq.heapify(heap)
    while heap:
        due, number, preset, measured = heap[0]
        pack = all_packs[number]
        if measured is None:
            preset += pack.interval_seconds
            heapq.heapreplace(heap, (preset + _jitter(pack, scenario.time_scale, rng), number, preset, None))
        else:
            heapq.heappop(heap)
        silence, window = _silence(silences.get(pack.gateway.name, ()), due - begin)
        if window is None:
            sent = report(
                pack.gateway, pack.terminals, pack.series, measured or due, fault(scenario.bad_share, rng)
            )
            yield from ((due, message) for message in repeated(sent))
        elif silence is not None and silence.backlog:
            back = begin + window.end
            measured = measured or back - (back - due) * scenario.time_scale
            heapq.heappush(heap, (back, number, preset, measured))


def _changes(
    gateways: Sequence[Gateway], silences: Mapping[str, Sequence[Silence]], scenario: Scenario, begin: float
) -> Timed:
    """What terminals send beside their rhythm, at random: a car has come, say. In a silence it is lost."""
    rng = random.Random(scenario.seed + 1)  # noqa: S311
    changing = [gateway for gateway in gateways if gateway.changes_per_day and gateway.talkers]
    talkers = {gateway.name: gateway.talkers for gateway in changing}
    weights = [gateway.changes_per_day * len(talkers[gateway.name]) for gateway in changing]
    per_second = sum(weights) * scenario.time_scale / DAY_SECONDS
    cumulated = list(itertools.accumulate(weights))
    at = begin
    while changing:
        at += rng.expovariate(per_second)
        (gateway,) = rng.choices(changing, cum_weights=cumulated)
        terminals = (rng.choice(talkers[gateway.name]),)
        if _silence(silences.get(gateway.name, ()), at - begin)[1] is None:
            yield at, report(gateway, terminals, series_of(terminals), at)


def _turns(gateways: Sequence[Gateway], silence: Silence, begin: float) -> Timed:
    """The Wills when a silence begins, and that they are back when it ends."""
    for number in itertools.count():
        window = silence.window(number)
        if window is None:
            return
        for seconds, said in ((window.start, farewell), (window.end, greeting)):
            for gateway in gateways:
                yield from ((begin + seconds, message) for message in said(gateway, begin + seconds))


def _first(pack: Pack, begin: float) -> float:
    """The pack's first preset time from `begin` on, on a grid that starts at midnight in Shandong."""
    midnight = begin - (begin + SHANDONG_SECONDS) % DAY_SECONDS
    interval = pack.interval_seconds
    return begin + (midnight + pack.phase * interval - begin) % interval


def _jitter(pack: Pack, time_scale: float, rng: random.Random) -> float:
    return min(JITTER_SHARE * pack.interval_seconds, JITTER_SECONDS / time_scale) * rng.random()


def _silence(silences: Sequence[Silence], seconds: float) -> tuple[Silence | None, Window | None]:
    """The first of these silences that holds this time, and its window."""
    for silence in silences:
        if window := silence.at(seconds):
            return silence, window
    return None, None
