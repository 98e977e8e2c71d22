"""A batch: messages that are written in one transaction, their readings as columns. Pure.

`seal` checks the whole batch at once: times, ranges and flags are numpy passes over the columns,
and only what is refused is looked at one by one.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from devices.division import cell_division
from devices.index import MISSING
from devices.index import Rows as RegistryRows
from devices.paths import NO_GATEWAY
from devices.registry import Gateway, Registry, Terminal
from ingest.columns import Columns, Floats
from ingest.copy import POSTGRES_EPOCH, Rows, reading_rows
from schemas.message import Message
from schemas.reading import RELATIVE_BELOW, Event, Name, Part
from schemas.rejection import Reason, Refusal
from schemas.routes import Place
from schemas.sparkplug_births import Birth

FUTURE_SECONDS = 300
LATE_SECONDS = 86_400
ZONE_SECONDS = 8 * 3600
"""Shandong is UTC+8: local time written as UTC is this far ahead."""
HASHED_WITH_GIL_BYTES = 2047
EARLIEST = 0.0
"""No sensor speaks of a time before 1970; whatever says so has lost its clock."""
SUSPECT, FROM_ARRIVAL, CONVERTED, REPAIRED, LATE = 1, 2, 4, 8, 16
GATEWAY_CHANGED = "gateway_changed"
"""An event of ours: a terminal came through another gateway than before; body: old, new."""
FLAGS = {"suspect": SUSPECT, "arrival_time": FROM_ARRIVAL, "unit_converted": CONVERTED,
         "clock_repaired": REPAIRED, "late": LATE}  # fmt: skip

Refusals = dict[int, list[Refusal]]
"""By number of the part."""
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Batch:
    """Messages of one connection in order of arrival, their parts, and the readings of all as four columns."""

    messages: list[Message] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    first_part: list[int] = field(default_factory=list)
    """Number of the first part of each message."""
    message_of: list[int] = field(default_factory=list)
    """Number of the message that a part belongs to."""
    digests: list[bytes] = field(default_factory=list)
    nonces: dict[int, bytes] = field(default_factory=dict)
    """Of timeless parts, drawn once, so that a batch that is written again is known."""
    undecoded: list[int] = field(default_factory=list)
    """Numbers of the messages without a part: what they say depends on the database (Sparkplug)."""
    births: list[tuple[int, Birth]] = field(default_factory=list)
    """Sparkplug births, each with the number of its part."""
    columns: Columns = field(default_factory=Columns)
    readings: int = 0
    """Readings received in the batch, refused ones included."""
    size: int = 0
    """What it weighs: its readings and events."""

    def add(self, message: Message, place: Place, parts: list[Part]) -> int:
        """Take a decoded message in; answers how many readings it has, refused ones included."""
        number, before = len(self.messages), self.readings
        self.messages.append(message)
        self.places.append(place)
        self.first_part.append(len(self.parts))
        if not parts:
            self.undecoded.append(number)
        whole = b""
        for part in parts:
            if part.identity is None:
                whole = whole or _hash(message.payload + b"\0" + message.topic.encode())
            self._add_part(part, whole if part.identity is None else _hash(part.identity))
        self.message_of += [number] * len(parts)
        return self.readings - before

    def _add_part(self, part: Part, hashed: bytes) -> None:
        if not part.absolute:
            self.nonces[len(self.parts)] = os.urandom(16)
        if part.births:
            self.births += [(len(self.parts), birth) for birth in part.births]
        self.parts.append(part)
        self.digests.append(_digest(part, hashed))
        self.columns.add(part)
        readings = reading_count(part) if part.refusals else len(part.values)
        self.readings += readings
        self.size += readings + len(part.events)

    def parts_of(self, number: int) -> list[Part]:
        """The parts of one message."""
        end = self.first_part[number + 1] if number + 1 < len(self.messages) else len(self.parts)
        return self.parts[self.first_part[number] : end]

    def with_parts(self, decoded: Mapping[int, list[Part]]) -> "Batch":
        """The batch with the parts of messages that had none; before it is written, so that nonces may change."""
        whole = Batch()
        for number, message in enumerate(self.messages):
            whole.add(message, self.places[number], decoded.get(number) or self.parts_of(number))
        return whole

    def halves(self) -> tuple["Batch", "Batch"]:
        """The batch as two, to find a message that the database refuses; identities and nonces stay."""
        middle = len(self.messages) // 2
        return self._slice(0, middle), self._slice(middle, len(self.messages))

    def _slice(self, begin: int, end: int) -> "Batch":
        piece = Batch()
        for number in range(begin, end):
            piece.add(self.messages[number], self.places[number], self.parts_of(number))
        offset = self.first_part[begin] if begin < end else 0
        for number in piece.nonces:
            piece.nonces[number] = self.nonces[number + offset]
        return piece


ARRIVAL = np.dtype([("part", "i4"), ("terminal", "i4")])


class SealedEvent(NamedTuple):
    """An event that is ready to be written; `observed_at` in Unix seconds.

    `heard`: it shows its terminal alive, neither late nor the platform's word alone. `cell`: it came as a reading of
    this cell, and counts as one in the books.
    """

    part: int
    observed_at: float
    terminal_id: int
    name: str
    body: Any
    heard: bool
    cell: int | None = None


@dataclass(slots=True)
class Sealed:
    """What a batch came to: rows ready for COPY with the part of each, events, refusals by part."""

    rows: Rows
    part_of_row: npt.NDArray[np.int32]
    events: list[SealedEvent]
    refusals: Refusals
    refused: npt.NDArray[np.void] = field(default_factory=lambda: np.empty(0, ARRIVAL))
    """Of refused readings those that show their terminal alive: known, neither late nor an offline notice."""
    moves: list[SealedEvent] = field(default_factory=list)
    """One for each terminal that came through a gateway that this worker has not met it at."""

    def without(self, known: Mask) -> "Sealed":
        """What is left without the parts that are known already."""
        if not known.any():
            return self
        new = ~known[self.part_of_row]
        return Sealed(
            self.rows[new],
            self.part_of_row[new],
            [event for event in self.events if not known[event.part]],
            {part: refusals for part, refusals in self.refusals.items() if not known[part]},
            self.refused[~known[self.refused["part"]]],
            [move for move in self.moves if not known[move.part]],
        )


class Targets(NamedTuple):
    """What names stand for: registry rows of the readings, terminals and names of the events, refusals.

    `behind`: ids of the terminals that refused names belong to, where they are known.
    """

    rows: RegistryRows
    events: Mapping[Name, tuple[Terminal, str]]
    refused: Mapping[tuple[Name, str | None], Refusal]
    behind: Mapping[tuple[Name, str | None], int]


def reading_count(part: Part) -> int:
    """Readings of a part, those refused by its decoder included; an undecodable message has none."""
    return len(part.values) + refused_readings(part.refusals)


def element_count(parts: Iterable[Part]) -> int:
    """Readings and events of these parts, refused ones included."""
    return sum(reading_count(p) + len(p.events) + sum(r.event for r in p.refusals) for p in parts)


def is_reading(refusal: Refusal) -> bool:
    """Whether a refusal is of readings, rather than of a message or an event."""
    return refusal.index is not None and not refusal.event


def refused_readings(refusals: Iterable[Refusal]) -> int:
    """How many readings were refused."""
    return sum(refusal.count for refusal in refusals if is_reading(refusal))


def seal(batch: Batch, targets: Targets, registry: Registry, max_age_seconds: float) -> Sealed:
    """Check, convert, flag and encode a resolved batch. `max_age_seconds` inf: readings of any age.

    A number that is an identity (a cell, a card) becomes an event.
    """
    frame = _Frame.of(batch, registry)
    refusals: Refusals = {n: list(p.refusals) for n, p in enumerate(batch.parts) if p.refusals}
    entries = registry.entries(targets.rows)
    values, converted = _converted(batch, entries["conversion"], registry)
    times, relative, repaired = frame.observed(batch.columns.times())
    known = targets.rows != MISSING
    limits = registry.limits[:, entries["metric"]]
    future = times > frame.received + FUTURE_SECONDS
    old = times < np.maximum(frame.received - max_age_seconds, EARLIEST)
    finite = np.isfinite(values)
    within = (values >= limits[0]) & (values <= limits[1])
    good = known & finite & within & ~future & ~old
    late = times < frame.received - LATE_SECONDS
    bad = np.flatnonzero(~good)
    for i in bad.tolist():
        refusal = _why(i, batch, targets, times[i] - frame.received[i], bool(old[i]), values[i], limits[:2, i],
                       bool(future[i]))  # fmt: skip
        part = int(frame.part[i])
        refusals.setdefault(part, []).append(
            replace(refusal, index=batch.parts[part].indexes[i - frame.start[part]])
        )
    quality = (
        SUSPECT * ((values < limits[2]) | (values > limits[3]))
        + FROM_ARRIVAL * relative + CONVERTED * converted + REPAIRED * repaired
        + LATE * late
    )  # fmt: skip
    cells = frame.cells(entries["cell"])
    named = np.flatnonzero(good & registry.identities[entries["metric"]])
    kept = good.copy()
    kept[named] = False
    rows = _encode(kept, times, entries["terminal"], entries["metric"], cells, values, quality)
    events = _seal_events(batch, targets, frame, max_age_seconds, refusals)
    refused = _signs_of_life(bad[~late[bad]], batch, targets, frame, entries, values, registry)
    elsewhere = np.flatnonzero(good & (frame.part_gateway[frame.part] != entries["gateway"]))
    moves = _moves(elsewhere, events, targets, frame, entries, registry) if len(elsewhere) or events else []
    if len(named):
        columns = frame.part, times, entries["terminal"], entries["metric"], values, ~late, cells
        events += _identities([column[named].tolist() for column in columns], registry)
    return Sealed(rows, frame.part[kept], events, refusals, refused, moves)


@dataclass(slots=True)
class _Frame:
    """What a reading has from its part and message: number of the part, arrival, place."""

    part: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    received: Floats
    part_received: Floats
    part_cell: npt.NDArray[np.int16]
    part_gateway: npt.NDArray[np.int32]
    utc_offset: Floats | None

    @classmethod
    def of(cls, batch: Batch, registry: Registry) -> "_Frame":
        counts = np.fromiter((len(p.values) for p in batch.parts), np.int64, len(batch.parts))
        part = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        message = np.array(batch.message_of, np.int64)
        received = np.fromiter((m.received_at for m in batch.messages), np.float64, len(batch.messages))[
            message
        ]
        places = {place: number for number, place in enumerate(dict.fromkeys(batch.places))}
        place = np.fromiter(map(places.__getitem__, batch.places), np.int32, len(batch.places))[message]
        cells = np.fromiter((_place_cell(p, registry) for p in places), np.int16, len(places))[place]
        gateways = np.fromiter((registry.paths.number(p.gateway) for p in places), np.int32, len(places))
        offsets = _utc_offsets(places, registry.gateways)
        return cls(part, np.cumsum(counts) - counts, received[part], received, cells, gateways[place],
                   None if offsets is None else offsets[place][part])  # fmt: skip

    def observed(self, times: Floats) -> tuple[Floats, Mask, Mask]:
        """Absolute times, which of them came from the arrival, which were repaired by the gateway's zone."""
        relative = times < RELATIVE_BELOW
        times = np.where(relative, self.received + times, times)
        if self.utc_offset is None:
            return times, relative, np.zeros(len(times), np.bool_)
        ahead = (times > self.received + FUTURE_SECONDS) & ~relative & ~np.isnan(self.utc_offset)
        return np.where(ahead, times - self.utc_offset, times), relative, ahead

    def cells(self, cells: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Cells of the readings: a discovered terminal's (negative) is the message's, where that has one."""
        here = self.part_cell[self.part]
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
        values[converted] = values[converted] * scale + offset
    return values, converted


def _encode(
    good: Mask, times: Floats, terminals: npt.NDArray[np.int32], metrics: npt.NDArray[np.int16],
    cells: npt.NDArray[np.int16], values: Floats, quality: npt.NDArray[np.int64],
) -> Rows:  # fmt: skip
    rows = reading_rows(int(good.sum()))
    rows["observed_at"] = np.rint((times[good] - POSTGRES_EPOCH) * 1e6)
    for name, column in (("terminal_id", terminals), ("metric_id", metrics), ("cell_id", cells),
                         ("value", values), ("quality", quality)):  # fmt: skip
        rows[name] = column[good]
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


def _why(
    i: int, batch: Batch, targets: Targets, ahead_seconds: float, old: bool, value: float, limits: Floats,
    future: bool,
) -> Refusal:  # fmt: skip
    """The first reason that a reading was refused for; its index is the caller's to fill in."""
    if targets.rows[i] == MISSING:
        return targets.refused[batch.columns.name(i)]
    if future:
        return _in_future(ahead_seconds)
    if old:
        return _too_old(-ahead_seconds)
    if not np.isfinite(value):
        return Refusal(None, Reason.NOT_A_NUMBER, f"{value} after the conversion of its unit")
    return Refusal(None, Reason.OUT_OF_RANGE, f"{value:g} is not within {limits[0]:g} to {limits[1]:g}")


def _in_future(ahead_seconds: float) -> Refusal:
    hint = ""
    if abs(ahead_seconds - ZONE_SECONDS) < ZONE_SECONDS / 16:
        hint = (
            "about 8 h ahead: local time written as UTC (Z)? Send UTC, or register the gateway's utc_offset"
        )
    elif ahead_seconds > 1e11:
        hint = "milliseconds where seconds belong? SenML times are in seconds"
    return Refusal(
        None, Reason.TIME_IN_FUTURE, f"{ahead_seconds:.0f} s after its arrival, 300 are allowed", hint
    )


def _too_old(age_seconds: float) -> Refusal:
    hint = "correct the clock, or raise GANZHI_MAX_AGE_DAYS"
    return Refusal(None, Reason.TIME_TOO_OLD, f"{age_seconds / LATE_SECONDS:.1f} days old", hint)


def _seal_events(
    batch: Batch, targets: Targets, frame: _Frame, max_age_seconds: float, refusals: Refusals
) -> list[SealedEvent]:
    sealed = []
    for number, event in [(n, event) for n, part in enumerate(batch.parts) for event in part.events]:
        received = float(frame.part_received[number])
        outcome = _seal_event(event, number, targets, received, max_age_seconds)
        if isinstance(outcome, Refusal):
            refusals.setdefault(number, []).append(replace(outcome, index=event.index, event=True))
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
        return _in_future(observed - received)
    if observed < max(received - max_age_seconds, EARLIEST):
        return _too_old(received - observed)
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


def _digest(part: Part, hashed: bytes) -> bytes:
    """The key of a part in the ledger: 3 bytes of the newest hour it speaks of, for locality, and 13 of a hash."""
    newest = max(part.times, default=0.0) if part.hashes is None else float(np.max(part.times))
    hour = int(newest / 3600) if RELATIVE_BELOW <= newest < 6e10 else 0
    return hour.to_bytes(3, "big") + hashed[:13]


def _hash(whole: bytes) -> bytes:
    """What tells a part from others, or topic and payload of its message, as 32 bytes.

    SHA-256 has instructions of its own: 5 us for a pack of 8.5 kB, BLAKE2b takes 9. In pieces, because hashlib
    gives the GIL away for larger ones, and then waits for the writer's thread to give it back.
    """
    if len(whole) <= HASHED_WITH_GIL_BYTES:
        return sha256(whole).digest()
    digest = sha256(whole[:HASHED_WITH_GIL_BYTES])
    for begin in range(HASHED_WITH_GIL_BYTES, len(whole), HASHED_WITH_GIL_BYTES):
        digest.update(whole[begin : begin + HASHED_WITH_GIL_BYTES])
    return digest.digest()
