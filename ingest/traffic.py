"""What a simulated fleet sends: readings, presence, status, faults and repeats. Pure: a clock in, bytes out.

Values are functions of terminal and time, not state: a temperature follows its day, a meter only
counts up, and both go on where they were after a restart.
"""

import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cbor2
import msgspec

from devices.day import SHANDONG_SECONDS
from ingest import dialects
from ingest.fleet import PLAIN, SENML_CBOR, SENML_JSON, Gateway, Terminal
from ingest.kinds import CAMERA, SPELLINGS, Sample, Signal, iso
from ingest.publish import Outgoing
from schemas.sparkplug_message import PREFIX

DAY_SECONDS = 86_400
METERS_START = 1_735_689_600
"""2025-01-01: when the simulated meters counted from their first value."""
CBOR_LABELS = {"bn": -2, "bt": -3, "n": 0, "u": 1, "v": 2, "t": 6}
"""RFC 8428, section 6, table 4."""
FAULTS = ("out_of_range", "unit_mismatch", "time_in_future", "malformed_payload", "foreign_division")
FOREIGN_DIVISION = 440_100
"""Guangzhou: a valid code of another province."""
RECENT_MESSAGES = 50
"""A duplicate is one of the last so many, as from a gateway that missed an acknowledgement."""
OFFLINE_SHARE = 0.03


def messages(
    gateways: Sequence[Gateway],
    clock: Callable[[], float],
    *,
    readings: int = 20,
    bad_share: float = 0.01,
    duplicate_share: float = 0.01,
    seed: int = 1,
) -> Iterator[Outgoing]:
    """What the fleet sends, without end: telemetry, or presence, of one gateway after the other.

    `clock` gives Unix seconds. `readings` a message; a message is spoilt with probability `bad_share`
    (one of `FAULTS`) and an earlier one sent again with `duplicate_share`.
    """
    rng = random.Random(seed)  # noqa: S311
    talking = [gateway for gateway in gateways if gateway.terminals]
    series = {g.name: itertools.cycle(series_of(g.terminals)) for g in talking}
    repeated = repeats(duplicate_share, rng)
    for gateway in itertools.cycle(talking):
        own = list(itertools.islice(series[gateway.name], readings))
        yield from repeated(report(gateway, gateway.terminals, own, clock(), fault(bad_share, rng)))


def series_of(terminals: Sequence[Terminal]) -> list[tuple[Terminal, Signal]]:
    """All that these terminals measure."""
    return [(terminal, signal) for terminal in terminals for signal in terminal.kind.signals]


def report(
    gateway: Gateway,
    terminals: Sequence[Terminal],
    series: Sequence[tuple[Terminal, Signal]],
    now: float,
    fault: str = "",
) -> Outgoing:
    """One message at `now`: presence of `terminals` if they are cameras, else the readings of `series`."""
    if terminals[0].kind is CAMERA:
        return _presence(gateway, terminals, now)
    return _telemetry(gateway, series, now, fault)


def fault(bad_share: float, rng: random.Random) -> str:
    """One of `FAULTS` with this probability, else nothing."""
    return rng.choice(FAULTS) if rng.random() < bad_share else ""


def repeats(share: float, rng: random.Random) -> Callable[[Outgoing], Iterator[Outgoing]]:
    """What passes each message on, and with probability `share` sends a recent one again before it."""
    recent: deque[Outgoing] = deque(maxlen=RECENT_MESSAGES)

    def passed(message: Outgoing) -> Iterator[Outgoing]:
        if recent and rng.random() < share:
            yield rng.choice(recent)
        if not message.topic.startswith(PREFIX):  # Sparkplug data are QoS 0: nothing comes again
            recent.append(message)
        yield message

    return passed


def status(gateway: Gateway, now: float, *, online: bool) -> Outgoing:
    """The retained message that says a gateway is there, or has left."""
    body = {"online": online, "at": iso(now), "firmware": "simulated"}
    return Outgoing(gateway.topic("status"), msgspec.json.encode(body), PLAIN, retain=True)


def greeting(gateway: Gateway, now: float) -> Iterator[Outgoing]:
    """What a gateway says when it connects: its status, and the births of Sparkplug."""
    yield status(gateway, now, online=True)
    if gateway.dialect == "sparkplug":
        yield dialects.edge_birth(gateway.name, now)
        for terminal in gateway.talkers:
            own = [_sample(terminal, signal, round(now, 3)) for signal in terminal.kind.signals]
            yield dialects.device_birth(own, now)


def farewell(gateway: Gateway, now: float) -> Iterator[Outgoing]:
    """What it says, or its Wills, when it leaves."""
    if gateway.dialect == "sparkplug":
        yield dialects.edge_death(gateway.name, len(gateway.talkers))
    yield status(gateway, now, online=False)


def value(signal: Signal, phase: float, now: float) -> float:
    """The canonical value of a signal at `now`, Unix seconds; counters (`per_hour`) never go down."""
    turn = 2 * math.pi * phase
    daily = 2 * math.pi * (now + SHANDONG_SECONDS) / DAY_SECONDS - 5 * math.pi / 6  # warmest at 16:00
    if signal.per_hour:
        # The integral of a rate that swings by 0.8 over the day, hence never negative.
        hours, day_hours = (now - METERS_START) / 3600, DAY_SECONDS / 3600 / (2 * math.pi)
        grown = hours - 0.8 * day_hours * math.cos(daily)
        return signal.base * (0.5 + phase) + signal.per_hour * (0.5 + phase) * grown
    wander = (
        math.sin(now / 2_711 + turn) + math.sin(now / 617 + 7 * turn) + math.sin(now / 97 + 31 * turn)
    ) / 3
    if signal.on_share:
        return float((now / 1_800 * (0.5 + phase) + 1000 * phase) % 1 < signal.on_share)
    return signal.base + signal.swing * math.sin(daily + phase / 2) + signal.wander * wander


def _telemetry(
    gateway: Gateway, series: Sequence[tuple[Terminal, Signal]], now: float, fault: str
) -> Outgoing:
    at = round(now, 3) + (SHANDONG_SECONDS if fault == "time_in_future" else 0)
    samples = [_sample(terminal, signal, at - int(60 * terminal.phase)) for terminal, signal in series]
    if fault == "out_of_range":
        samples[0] = samples[0]._replace(value=-1e12)
    elif fault == "unit_mismatch":
        samples[0] = samples[0]._replace(unit="kat")
    message = _message(gateway, samples)
    payload = message.payload
    if fault == "malformed_payload":
        payload = payload[:-3]
    elif fault == "foreign_division" and not gateway.dialect:
        return message._replace(topic=gateway.topic("telemetry", FOREIGN_DIVISION))
    return message._replace(payload=payload)


def _message(gateway: Gateway, samples: Sequence[Sample]) -> Outgoing:
    """Readings in the gateway's dialect, or in the payload form of its own topic."""
    if gateway.dialect == "sparkplug":
        return dialects.device_data(samples)
    if gateway.dialect:
        return dialects.push(gateway.dialect, gateway.name, samples)
    payload = ENCODERS[gateway.content_type](samples)
    announced = gateway.content_type if gateway.announces else None
    return Outgoing(gateway.topic("telemetry"), payload, announced, len(samples))


def _presence(gateway: Gateway, terminals: Sequence[Terminal], now: float) -> Outgoing:
    """Each camera is away for its own 3 % of an hour's cycle."""
    online: list[str] = []
    offline: list[str] = []
    for terminal in terminals:
        away = (now / 3600 + terminal.phase) % 1 < OFFLINE_SHARE
        (offline if away else online).append(terminal.code)
    body = {"at": iso(now), "online": online, "offline": offline}
    return Outgoing(gateway.topic("presence"), msgspec.json.encode(body), PLAIN)


def _sample(terminal: Terminal, signal: Signal, at: float) -> Sample:
    unit, factor, offset = signal.unit, 1.0, 0.0
    if spellings := SPELLINGS.get(signal.metric):
        unit, factor, offset = spellings[terminal.spelling % len(spellings)]
    canonical = round(value(signal, terminal.phase, at), signal.decimals)
    return Sample(terminal.code, signal.metric, unit, round(canonical * factor + offset, 9), at)


def _records(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """A SenML pack: a base name per terminal, a base time for all."""
    records: list[dict[str, Any]] = []
    code, base_time = "", samples[0].at
    for sample in samples:
        record: dict[str, Any] = {} if records else {"bt": base_time}
        if sample.code != code:
            code = sample.code
            record["bn"] = code + ("/" if code.startswith(("88.", "urn:dev:")) else ":")
        record |= {"n": sample.metric, "u": sample.unit, "v": sample.value}
        if sample.at != base_time:
            record["t"] = round(sample.at - base_time, 3)
        records.append(record)
    return records


def _encode_cbor(samples: Sequence[Sample]) -> bytes:
    return cbor2.dumps([{CBOR_LABELS[label]: item for label, item in r.items()} for r in _records(samples)])


def _encode_plain(samples: Sequence[Sample]) -> bytes:
    return msgspec.json.encode([
        {"id": code, "t": int(1000 * at), "values": {s.metric: s.value for s in group}}
        for (code, at), group in itertools.groupby(samples, lambda s: (s.code, s.at))
    ])  # fmt: skip


ENCODERS: Mapping[str, Callable[[Sequence[Sample]], bytes]] = {
    SENML_JSON: lambda samples: msgspec.json.encode(_records(samples)),
    SENML_CBOR: _encode_cbor,
    PLAIN: _encode_plain,
}
