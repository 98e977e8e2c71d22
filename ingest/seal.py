"""Checks a batch whole: times, ranges and flags are numpy passes over its columns. Pure.

Only what is refused is looked at one by one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from devices.division import cell_division
from devices.index import MISSING
from devices.paths import NO_GATEWAY
from devices.registry import Gateway, Registry
from ingest.batch import Batch
from ingest.columns import Floats
from ingest.copy import POSTGRES_EPOCH, Rows, reading_rows
from ingest.refuse import Bad, in_future, refuse, too_old
from ingest.sealed import (
    ARRIVAL,
    CONVERTED,
    FROM_ARRIVAL,
    LATE,
    REPAIRED,
    SUSPECT,
    Mask,
    Refusals,
    Sealed,
    SealedEvent,
    Targets,
)
from schemas.reading import RELATIVE_BELOW, Event
from schemas.rejection import Reason, Refusal
from schemas.routes import Place

FUTURE_SECONDS = 300
LATE_SECONDS = 86_400
EARLIEST = 0.0
"""No sensor speaks of a time before 1970; whatever says so has lost its clock."""
Number = TypeVar("Number", bound=np.number[Any])
GATEWAY_CHANGED = "gateway_changed"
"""An event of ours: a terminal came through another gateway than before; body: old, new."""


def seal(batch: Batch, targets: Targets, registry: Registry, max_age_seconds: float) -> Sealed:
    """Check, convert, flag and encode a resolved batch. `max_age_seconds` inf: readings of any age.

    A number that is an identity (a cell, a card) becomes an event.
    """
    frame = _Frame.of(batch, registry)
    refusals: Refusals = {number: list(found) for number, found in batch.refusals.items()}
    entries = registry.entries(targets.rows)
    metrics = entries["metric"].astype(np.intp)
    values, converted = _converted(batch, entries["conversion"], registry)
    times, relative, repaired = frame.observed(batch.columns.times())
    known = targets.rows != MISSING
    limits = registry.limits.take(metrics, axis=1)
    future = times > frame.received + FUTURE_SECONDS
    old = times < np.maximum(frame.received - max_age_seconds, EARLIEST)
    finite = np.isfinite(values)
    within = (values >= limits[0]) & (values <= limits[1])
    good = known & finite & within & ~future & ~old
    late = times < frame.received - LATE_SECONDS
    bad = np.flatnonzero(~good)
    if len(bad):
        part = frame.part[bad]
        wrong = Bad(bad, part, times[bad] - frame.received[bad], future[bad], old[bad],
                    values[bad], limits[:2, bad])  # fmt: skip
        refuse(wrong, batch, targets, refusals)
    suspect = (values < limits[2]) | (values > limits[3])
    quality = np.zeros(len(values), np.int16)
    for flag, flagged in ((SUSPECT, suspect), (FROM_ARRIVAL, relative), (CONVERTED, converted),
                          (REPAIRED, repaired), (LATE, late)):  # fmt: skip
        quality[flagged] |= flag
    cells = frame.cells(entries["cell"])
    named = np.flatnonzero(good & registry.identities[metrics])
    kept = good.copy()
    kept[named] = False
    rows = _encode(kept, times, entries["terminal"], metrics, cells, values, quality)
    events = _seal_events(batch, targets, frame, max_age_seconds, refusals)
    refused = _signs_of_life(bad[~late[bad]], batch, targets, frame, entries, values, registry)
    elsewhere = np.flatnonzero(good & (frame.each(frame.part_gateway) != entries["gateway"]))
    moves = _moves(elsewhere, events, targets, frame, entries, registry) if len(elsewhere) or events else []
    if len(named):
        columns = frame.part, times, entries["terminal"], entries["metric"], values, ~late, cells
        events += _identities([column[named].tolist() for column in columns], registry)
    return Sealed(rows, frame.part[kept], events, refusals, refused, moves, registry.generation)


@dataclass(slots=True)
class _Frame:
    """What a reading has from its part and message: number of the part, arrival, place."""

    counts: npt.NDArray[np.int64]
    part: npt.NDArray[np.int32]
    received: Floats
    part_received: Floats
    part_cell: npt.NDArray[np.int16]
    part_gateway: npt.NDArray[np.int32]
    part_utc_offset: Floats | None

    @classmethod
    def of(cls, batch: Batch, registry: Registry) -> "_Frame":
        counts = np.array(batch.counts, np.int64)
        message = np.array(batch.message_of, np.int64)
        received = np.fromiter((m.received_at for m in batch.messages), np.float64, len(batch.messages))[
            message
        ]
        places = {place: number for number, place in enumerate(dict.fromkeys(batch.places))}
        place = np.fromiter(map(places.__getitem__, batch.places), np.int32, len(batch.places))[message]
        cells = np.fromiter((_place_cell(p, registry) for p in places), np.int16, len(places))[place]
        gateways = np.fromiter((registry.paths.number(p.gateway) for p in places), np.int32, len(places))
        offsets = _utc_offsets(places, registry.gateways)
        part = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        return cls(counts, part, np.repeat(received, counts), received, cells, gateways[place],
                   None if offsets is None else offsets[place])  # fmt: skip

    def each(self, of_part: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """What the parts have, for each reading."""
        return np.repeat(of_part, self.counts)

    def observed(self, times: Floats) -> tuple[Floats, Mask, Mask]:
        """Absolute times, which of them came from the arrival, which were repaired by the gateway's zone."""
        relative = times < RELATIVE_BELOW
        if relative.any():
            times = np.where(relative, self.received + times, times)
        if self.part_utc_offset is None:
            return times, relative, np.zeros(len(times), np.bool_)
        offset = self.each(self.part_utc_offset)
        ahead = (times > self.received + FUTURE_SECONDS) & ~relative & ~np.isnan(offset)
        return np.where(ahead, times - offset, times), relative, ahead

    def cells(self, cells: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Cells of the readings: a discovered terminal's (negative) is the message's, where that has one."""
        if (cells >= 0).all():
            return cells
        here = self.each(self.part_cell)
        return np.where(cells >= 0, cells, np.where(here > 0, here, -cells))


def _place_cell(place: Place, registry: Registry) -> int:
    division = registry.division_of(place)
    return 0 if division is None else registry.cells[cell_division(division), "other"]


def _utc_offsets(places: Iterable[Place], gateways: Mapping[str, Gateway]) -> Floats | None:
    """Seconds that a gateway's clock is ahead of UTC, NaN where none is registered; None: nowhere here."""
    if not any(g.utc_offset_seconds for g in gateways.values()):
        return None
    found = (gateways.get(place.gateway or "") for place in places)
    return np.array(
        [g.utc_offset_seconds if g and g.utc_offset_seconds else np.nan for g in found], np.float64
    )


def _converted(batch: Batch, conversion: npt.NDArray[np.int16], registry: Registry) -> tuple[Floats, Mask]:
    values = batch.columns.values()
    converted = conversion != 0
    if converted.any():
        scale, offset = registry.conversion_table[conversion[converted]].T
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            values[converted] = values[converted] * scale + offset
    return values, converted


def _encode(
    kept: Mask, times: Floats, terminals: npt.NDArray[np.int32], metrics: npt.NDArray[np.intp],
    cells: npt.NDArray[np.int16], values: Floats, quality: npt.NDArray[np.int16],
) -> Rows:  # fmt: skip
    rows = reading_rows(int(kept.sum()))
    chosen = slice(None) if len(rows) == len(kept) else kept
    rows["observed_at"] = np.rint((times[chosen] - POSTGRES_EPOCH) * 1e6)
    for name, column in (("terminal_id", terminals), ("metric_id", metrics), ("cell_id", cells),
                         ("value", values), ("quality", quality)):  # fmt: skip
        rows[name] = column[chosen]
    return rows


def _signs_of_life(
    timely: npt.NDArray[np.int64], batch: Batch, targets: Targets, frame: _Frame, entries: npt.NDArray[np.void],
    values: Floats, registry: Registry,
) -> npt.NDArray[np.void]:  # fmt: skip
    """Of these refused readings those of known terminals that are no offline notice: part and terminal."""
    arrivals = np.empty(len(timely), ARRIVAL)
    arrivals["part"], arrivals["terminal"] = frame.part[timely], entries["terminal"][timely]
    missing = targets.rows[timely] == MISSING
    behind = (targets.behind.get(batch.columns.name(i), 0) for i in timely[missing].tolist())
    arrivals["terminal"][missing] = np.fromiter(behind, np.int32)
    online = registry.metrics.get("online")
    offline = ~missing & (entries["metric"][timely] == (online.id if online else 0)) & (values[timely] == 0)
    alive: npt.NDArray[np.void] = arrivals[(arrivals["terminal"] != 0) & ~offline]
    return alive


def _seal_events(
    batch: Batch, targets: Targets, frame: _Frame, max_age_seconds: float, refusals: Refusals
) -> list[SealedEvent]:
    sealed = []
    for number, event in batch.events:
        received = float(frame.part_received[number])
        outcome = _seal_event(event, number, targets, received, max_age_seconds)
        if isinstance(outcome, Refusal):
            refusals.setdefault(number, []).append(outcome.at(event.index, event=True))
        else:
            sealed.append(outcome)
    return sealed


def _identities(columns: list[list[Any]], registry: Registry) -> list[SealedEvent]:
    """Events of the readings that are identities, with their digits as text.

    Columns: part, time, terminal, metric, value, whether it is timely, cell.
    """
    names = {metric.id: name for name, metric in registry.metrics.items()}
    return [
        SealedEvent(part, time, terminal, names[metric], {"vs": f"{value:.16g}"}, timely, cell)
        for part, time, terminal, metric, value, timely, cell in zip(*columns, strict=True)
    ]


def _seal_event(
    event: Event, part: int, targets: Targets, received: float, max_age_seconds: float
) -> SealedEvent | Refusal:
    found = targets.events.get(event.name)
    if found is None:
        return targets.refused[event.name, None]
    observed = received + event.time if event.time < RELATIVE_BELOW else event.time
    if observed > received + FUTURE_SECONDS:
        return Refusal(None, Reason.TIME_IN_FUTURE, *in_future(observed - received))
    if observed < max(received - max_age_seconds, EARLIEST):
        return Refusal(None, Reason.TIME_TOO_OLD, *too_old(received - observed))
    heard = event.heard and observed >= received - LATE_SECONDS
    return SealedEvent(part, observed, found[0].id, found[1], event.body, heard)


def _moves(
    readings: npt.NDArray[np.int64], events: list[SealedEvent], targets: Targets, frame: _Frame,
    entries: npt.NDArray[np.void], registry: Registry,
) -> list[SealedEvent]:  # fmt: skip
    """One for each terminal that came through a gateway unknown as its own: by these readings, or by events."""
    entries, parts, rows = entries[readings], frame.part[readings], targets.rows[readings]
    before, gateways = entries["gateway"], frame.part_gateway[parts]
    usual = (before == NO_GATEWAY) | registry.paths.known(entries["terminal"], gateways)
    named = gateways != NO_GATEWAY
    registry.follow(rows[usual & named], gateways[usual & named])
    found = [(int(entries["terminal"][i]), int(before[i]), int(gateways[i]), int(parts[i]))
             for i in np.flatnonzero(~usual & named).tolist()]  # fmt: skip
    found += _elsewhere(events, targets, frame, registry)
    first = {(terminal, new): (old, part) for terminal, old, new, part in reversed(found)}
    name = registry.paths.name
    return [SealedEvent(part, float(frame.part_received[part]), terminal, GATEWAY_CHANGED,
                        {"old": name(old), "new": name(new)}, heard=False)
            for (terminal, new), (old, part) in first.items()]  # fmt: skip


def _elsewhere(
    events: list[SealedEvent], targets: Targets, frame: _Frame, registry: Registry
) -> list[tuple[int, int, int, int]]:
    """Terminal, its gateway, the one that an event came through instead, part."""
    home = {terminal.id: terminal.gateway for terminal, _ in targets.events.values()}
    found = []
    for event in events:
        old, new = home[event.terminal_id], int(frame.part_gateway[event.part])
        if NO_GATEWAY not in {old, new} and old != new and not registry.paths.knows(event.terminal_id, new):
            found.append((event.terminal_id, old, new, event.part))
    return found
