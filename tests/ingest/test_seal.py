"""What becomes of readings on their way from columns to rows: times, ranges, units, flags, cells."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.registry import Gateway, Registry
from ingest import copy
from ingest.batch import Batch
from ingest.explain import Imagined
from ingest.refuse import WORDED
from ingest.resolve import Resolver
from ingest.seal import seal
from ingest.sealed import CONVERTED, FROM_ARRIVAL, LATE, REPAIRED, SUSPECT
from ingest.settings import OnUnknown
from schemas.message import Message
from schemas.reading import Event, Part
from schemas.rejection import Reason
from schemas.routes import Place

NOW = 1_795_000_000.25
DAY = 86_400
GATEWAY = "gw1"


class Known(Imagined):
    """A registry with one gateway whose clock is 8 h ahead."""

    def gateways(self):
        return {GATEWAY: Gateway(370102, 8 * 3600)}


def sealed(*parts, directory=None, division=370102, max_age_seconds=90 * DAY, gateway=GATEWAY):
    """The parts as one message that arrives at NOW, resolved and sealed."""
    directory, registry, batch = directory or Imagined(), Registry(), Batch()
    resolver = Resolver(registry, OnUnknown.REGISTER, OnUnknown.REGISTER)
    resolver.load(directory)
    batch.add(Message("t", b"", NOW), Place(division, gateway), list(parts))
    result = seal(batch, resolver(directory, batch), registry, max_age_seconds)
    return result, registry


def one(value=21.5, time=NOW - 60, unit="Cel", name="imei:860000000000009/temperature"):
    return Part([name], [unit], [value], [time], range(1))


@pytest.mark.parametrize(
    ("part", "value", "observed_at", "quality"),
    [
        (one(), 21.5, NOW - 60, 0),
        (one(unit=None), 21.5, NOW - 60, 0),
        (one(unit="℃"), 21.5, NOW - 60, 0),
        (one(unit="degF", value=70.0), 21.111111111, NOW - 60, CONVERTED),
        (one(time=0.0), 21.5, NOW, FROM_ARRIVAL),
        (one(time=-5.0), 21.5, NOW - 5, FROM_ARRIVAL),
        (one(time=NOW + 299), 21.5, NOW + 299, 0),
        (one(value=200.0), 200, NOW - 60, SUSPECT),
        (one(time=NOW - DAY - 1), 21.5, NOW - DAY - 1, LATE),
        (one(time=NOW - DAY + 1), 21.5, NOW - DAY + 1, 0),
        (one(time=NOW - 2 * DAY, unit="K", value=500.0), 226.85, NOW - 2 * DAY, LATE | CONVERTED | SUSPECT),
    ],
)
def test_a_good_reading_becomes_a_row(part, value, observed_at, quality):
    """Value, time and quality are as the contract says."""
    result, _ = sealed(part)
    [row] = result.rows
    assert row["value"] == pytest.approx(value)
    assert row["observed_at"] / 1e6 + copy.POSTGRES_EPOCH == pytest.approx(observed_at, abs=1e-5)
    assert row["quality"] == quality
    assert not result.refusals


@pytest.mark.parametrize(
    ("part", "reason", "hint"),
    [
        (one(time=NOW + 301), Reason.TIME_IN_FUTURE, ""),
        (one(time=NOW + 8 * 3600), Reason.TIME_IN_FUTURE, "UTC"),
        (one(time=NOW * 1000), Reason.TIME_IN_FUTURE, "milliseconds"),
        (one(time=1e300), Reason.TIME_IN_FUTURE, "milliseconds"),
        (one(time=NOW - 90 * DAY - 1), Reason.TIME_TOO_OLD, ""),
        (one(time=-1e12), Reason.TIME_TOO_OLD, ""),
        (one(value=1000.1), Reason.OUT_OF_RANGE, ""),
        (one(value=-90.1), Reason.OUT_OF_RANGE, ""),
        (one(unit="kPa"), Reason.UNIT_MISMATCH, "Cel"),
        (one(name="a b/temperature"), Reason.INVALID_NAME, ""),
        (one(name="x" * 65_536 + "/temperature"), Reason.INVALID_NAME, ""),
    ],
)
def test_a_bad_reading_is_refused_with_its_reason(part, reason, hint):
    """Nothing of it is stored; the reason is the contract's, the hint says what to do."""
    result, _ = sealed(part)
    assert len(result.rows) == 0
    [[refusal]] = result.refusals.values()
    assert (refusal.reason, refusal.index) == (reason, 0)
    assert hint in refusal.hint


def test_one_bad_reading_costs_one_reading():
    """Its neighbours in the same message land, and it is named by its place in the message."""
    part = Part(["a/temp", "a/temp", "b/hum"], ["Cel"] * 2 + ["%RH"], [20.0, 1e6, 50.0], [NOW] * 3, [4, 7, 9])
    result, _ = sealed(part)
    assert result.rows["value"].tolist() == [20, 50]
    assert [r.index for r in result.refusals[0]] == [7]


KINDS = {
    None: ("a/temperature", "Cel", 20.0, NOW),
    Reason.OUT_OF_RANGE: ("a/temperature", "Cel", 1e6, NOW),
    Reason.TIME_IN_FUTURE: ("b/humidity", "%RH", 1e6, NOW + 8 * 3600),
    Reason.TIME_TOO_OLD: ("a/temperature", "Cel", math.inf, NOW - 91 * DAY),
    Reason.NOT_A_NUMBER: ("c/pressure", "kPa", 1e308, NOW),
    Reason.UNIT_MISMATCH: ("a/temperature", "kPa", 20.0, NOW + DAY),
    Reason.INVALID_NAME: ("a b/temperature", None, 20.0, NOW),
}
"""A reading of each kind, many of them with something else that is wrong too."""


def of_kinds(kinds, indexes):
    """A part with readings of these kinds."""
    columns = map(list, zip(*(KINDS[kind] for kind in kinds), strict=True))
    return Part(*columns, indexes)


def one_by_one(part):
    """Place and reason of each reading that is to be refused, as the contract has it."""
    kinds = {reading: kind for kind, reading in KINDS.items()}
    readings = zip(part.names, part.units, part.values, part.times, strict=True)
    said = [kinds[reading] for reading in readings]
    return [(place, reason) for place, reason in zip(part.indexes, said, strict=True) if reason]


@st.composite
def parts(draw):
    """Stretches of one kind; places without a hole, with holes, or in any order."""
    stretches = draw(
        st.lists(st.tuples(st.sampled_from(list(KINDS)), st.integers(1, 15)), min_size=1, max_size=8)
    )
    kinds = [kind for kind, length in stretches for _ in range(length)]
    first = draw(st.integers(0, 3))
    places = st.lists(st.integers(0, 200), min_size=len(kinds), max_size=len(kinds), unique=True)
    return of_kinds(kinds, draw(st.one_of(
        st.sampled_from((range(first, first + len(kinds)), list(range(len(kinds))), range(0, 2 * len(kinds), 2))),
        places.map(sorted), places,
    )))  # fmt: skip


@given(st.lists(parts(), min_size=1, max_size=3))
def test_what_is_refused_together_is_what_would_be_one_by_one(made):
    """Places, reasons and their order are those of a look at each reading, and every refusal stands for its own."""
    result, _ = sealed(*made)
    assert len(result.rows) == sum(len(part.values) - len(one_by_one(part)) for part in made)
    worded, begins = [], []
    for number, part in enumerate(made):
        found = result.refusals.get(number, [])
        told = [(r.index + n, r.reason) for r in found for n in range(r.count)]
        assert told == one_by_one(part)
        worded += [(number, r.index) for r in found if r.detail]
        begins += [(number, place) for place in stretches(part)]
    assert worded == begins[:WORDED]


def stretches(part):
    """Where neighbours begin, in place and in order, that are refused for the same reason."""
    before = None
    for place, reason in one_by_one(part):
        if before != (place - 1, reason):
            yield place
        before = place, reason


def test_a_pack_that_is_refused_is_told_briefly():
    """One for each stretch that is refused for the same reason, with the words of its first reading."""
    kinds = [Reason.OUT_OF_RANGE] * 50 + [None] + [Reason.TIME_IN_FUTURE] * 49
    result, _ = sealed(of_kinds(kinds, range(100)))
    assert [(r.index, r.reason, r.count, r.detail) for r in result.refusals[0]] == [
        (0, Reason.OUT_OF_RANGE, 50, "1e+06 is not within -90 to 1000"),
        (51, Reason.TIME_IN_FUTURE, 49, "28800 s after its arrival, 300 are allowed"),
    ]


@pytest.mark.parametrize(
    ("readings", "told"),
    [
        (  # for another metric other limits
            ["a/temperature", "b/temperature", "c/humidity", "a/temperature"],
            [
                (0, 2, "1e+06 is not within -90"),
                (2, 1, "1e+06 is not within"),
                (3, 1, "1e+06 is not within -90"),
            ],
        ),
        (  # beyond the first three none in words, and none apart but for another reason
            ["x y/m", "x z/m", "x y/m", "x z/m", "x y/m", "a/temperature", "b/temperature"],
            [(0, 1, "name 'x y/m'"), (1, 1, "name 'x z/m'"), (2, 1, "name 'x y/m'"), (3, 2, ""), (5, 2, "")],
        ),
        (["x y/m"] * 5 + ["x z/m"], [(0, 5, "name 'x y/m'"), (5, 1, "name 'x z/m'")]),
    ],
)
def test_what_differs_by_more_than_its_numbers_is_told_apart(readings, told):
    """As long as it is among what is told in words."""
    many = len(readings)
    result, _ = sealed(Part(readings, [None] * many, [1e6] * many, [NOW] * many, range(many)))
    found = result.refusals[0]
    assert [(r.index, r.count) for r in found] == [(place, count) for place, count, _ in told]
    assert [bool(r.detail) for r in found] == [bool(begins) for *_, begins in told]
    assert all(r.detail.startswith(begins) for r, (*_, begins) in zip(found, told, strict=True))


def test_a_zone_that_is_wrong_is_told_behind_other_times_in_the_future():
    """The hint is of its own stretch; limits, which say nothing of times, make none."""
    metrics = ["a/temperature", "c/humidity"] * 10
    times = [NOW + 400] * 5 + [NOW + 8 * 3600] * 15
    result, _ = sealed(Part(metrics, [None] * 20, [20.0] * 20, times, range(20)))
    told = [(r.index, r.count, "8 h ahead" in r.hint) for r in result.refusals[0]]
    assert told == [(0, 5, False), (5, 15, True)]


def test_without_a_limit_readings_of_any_age_since_1970_are_taken():
    """A device that says 1969 has lost its clock, whatever the limit."""
    result, _ = sealed(one(time=3e8), one(time=-NOW - 1), max_age_seconds=math.inf)
    assert len(result.rows) == 1
    assert [r.reason for r in result.refusals[1]] == [Reason.TIME_TOO_OLD]


def test_the_clock_of_a_registered_gateway_is_repaired():
    """Times that are ahead by its offset are taken back and flagged; the others stay."""
    result, _ = sealed(one(time=NOW + 8 * 3600 - 30), one(), directory=Known())
    assert result.rows["quality"].tolist() == [REPAIRED, 0]
    assert result.rows["observed_at"][0] / 1e6 + copy.POSTGRES_EPOCH == pytest.approx(NOW - 30, abs=1e-5)


def test_a_discovered_terminal_is_counted_where_its_message_says():
    """Its cell is that of the topic's division, a zone's is its city's; without a division, the province's."""
    directory = Imagined()
    cells = directory.cells()
    for division, expected in ((370102, 370102), (370176, 370100), (None, 370000)):
        result, _ = sealed(one(), directory=directory, division=division)
        assert result.rows["cell_id"].tolist() == [cells[expected, "other"]]


def test_a_whole_urn_is_a_metric_a_unit():
    """The same name under two units is two metrics, in any order and in one batch."""
    name = "urn:dev:mac:0024befffe804ff1"
    part = Part([name] * 4, ["Cel", "%RH", "Cel", None], [20.0, 50.0, 21.0, 7.0], [NOW] * 4, range(4))
    result, registry = sealed(part)
    names = {metric.id: metric.name for metric in registry.metrics.values()}
    assert [names[i] for i in result.rows["metric_id"].tolist()] == [
        "temperature",
        "humidity",
        "temperature",
        "value",
    ]


def test_an_unknown_metric_keeps_the_unit_it_came_with():
    """Its first unit is its unit: the same again is no conversion, another one is refused."""
    name = "imei:860000000000009/gas_energy"
    part = Part([name] * 3, ["therm", "therm", "Cel"], [1.5, 2.5, 3.5], [NOW] * 3, range(3))
    result, registry = sealed(part)
    assert result.rows["value"].tolist() == [1.5, 2.5]
    assert result.rows["quality"].tolist() == [0, 0]
    assert registry.metrics["gas_energy"].unit == "therm"
    assert [r.reason for r in result.refusals[0]] == [Reason.UNIT_MISMATCH]


def test_events_are_sealed_like_readings():
    """An event has its terminal, name and time; one from the future is refused with its place."""
    part = Part(
        events=[Event("imei:860000000000009/door", 0.0, {"vs": "open"}, 0), Event("a/door", NOW + 400, {}, 1)]
    )
    result, _ = sealed(part)
    assert [(e.name, e.observed_at, e.body) for e in result.events] == [("door", NOW, {"vs": "open"})]
    assert [(r.index, r.reason) for r in result.refusals[0]] == [(1, Reason.TIME_IN_FUTURE)]


def test_halves_keep_identities():
    """Halving a batch keeps every message, its digests and its nonces, so that the ledger knows them."""
    batch = Batch()
    for n in range(5):
        part = one() if n % 2 else Part(["a/x"], [None], [1.0], [0.0], range(1), absolute=False)
        batch.add(Message(f"t{n}", b"x", NOW, packet_id=n), Place(None, None), [part])
    first, second = batch.halves()
    assert [m.topic for m in (*first.messages, *second.messages)] == [m.topic for m in batch.messages]
    assert first.digests + second.digests == batch.digests
    assert [*first.nonces.values(), *second.nonces.values()] == list(batch.nonces.values())
    assert first.readings + second.readings == batch.readings


def test_rows_are_the_bytes_that_copy_reads():
    """The layout of a row is the binary COPY format: 6 columns, each behind its length."""
    result, _ = sealed(one())
    stream = copy.copy_bytes(result.rows)
    assert stream.startswith(copy.SIGNATURE)
    assert stream.endswith(copy.TRAILER)
    fields = np.frombuffer(stream, copy.READING, count=1, offset=len(copy.SIGNATURE))
    columns = ("observed_at", "terminal_id", "metric_id", "cell_id", "value", "quality")
    assert [int(fields[f"{name}_bytes"][0]) for name in columns] == [8, 4, 2, 2, 8, 2]
