"""States and counts: a table of every rule at its limits, and a plain reading of the contract over random fleets."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.presence import Facts, Fleet
from devices.rhythm import intervals
from devices.states import NO_DAY, STATES, Blind, Kind, Life
from devices.tally import NAMED
from tests.bench import false_alarms

NOW = int(datetime(2026, 11, 21, 8, tzinfo=UTC).timestamp())
TODAY = 2_516
"""2026-11-21 in Shandong, in days since 2020-01-01."""
HOURLY = Kind(3_600, nbiot=False, video=False, smart=None, key_area=None)
DAILY = Kind(86_400, nbiot=True, video=False, smart=None, key_area=None)
LIVE, OVERDUE = 6_000, 12_600
"""1.5 h and 10 min, 3 h and 30 min."""


def ids(*numbers):
    return np.array(numbers, np.uint32)


def put(fleet, terminal, kind=HOURLY, life=Life.REGISTERED, day=0, cell=0, gateway=0):
    one = (ids(terminal), [cell], [fleet.kind_of(kind)], [life], [day], [gateway])
    types = (np.uint32, np.int16, np.int16, np.uint8, np.int16, np.int32)
    fleet.put(Facts(*(np.array(column, dtype) for column, dtype in zip(one, types, strict=True))))


@pytest.mark.parametrize(
    ("state", "heard_ago", "said_ago"),
    [
        ("never_heard", None, None),
        ("never_heard", None, 10),
        ("live", 0, None),
        ("live", LIVE, None),
        ("overdue", LIVE + 1, None),
        ("overdue", OVERDUE, None),
        ("lost", OVERDUE + 1, None),
        ("live", 10, 11),
        ("overdue", 10, 10),
        ("overdue", 10, 9),
        ("overdue", OVERDUE, OVERDUE - 1),
        ("overdue", OVERDUE + 1_000, OVERDUE),
        ("lost", OVERDUE + 1_000, OVERDUE + 1),
        ("lost", OVERDUE + 1_000, OVERDUE + 2_000),
    ],
)
def test_states_of_an_hourly_reporter(state, heard_ago, said_ago):
    """Silence and the notice of being offline make the state, to the second."""
    fleet = Fleet()
    put(fleet, 7)
    if heard_ago is not None:
        fleet.hear(ids(7), NOW - heard_ago)
    if said_ago is not None:
        fleet.say_offline(ids(7), NOW - said_ago)
    assert fleet.state(7, NOW) == state
    assert fleet.count(NOW, None, 1, 1).states.tolist() == [[int(s == state) for s in STATES]]


@pytest.mark.parametrize(
    ("state", "life", "day"),
    [
        ("planned", Life.REGISTERED, NO_DAY),
        ("planned", Life.REGISTERED, TODAY + 1),
        ("live", Life.REGISTERED, TODAY),
        ("live", Life.REGISTERED, -900),
        ("retired", Life.RETIRED, TODAY),
        ("discovered", Life.DISCOVERED, NO_DAY),
    ],
)
def test_states_that_the_registry_makes(state, life, day):
    """Being heard makes nobody installed, and a terminal taken out of service stays out."""
    fleet = Fleet()
    put(fleet, 3, life=life, day=day)
    fleet.hear(ids(3), NOW)
    assert fleet.state(3, NOW) == state


def test_planned_becomes_installed_at_midnight_in_shandong():
    """The day of installation begins at 00:00 UTC+8."""
    fleet = Fleet()
    put(fleet, 0, day=TODAY)
    midnight = datetime(2026, 11, 21, tzinfo=timezone(timedelta(hours=8))).timestamp()
    assert [fleet.state(0, midnight - 0.5), fleet.state(0, midnight)] == ["planned", "never_heard"]


def test_order_and_repetition_change_nothing():
    """Arrivals and notices taken twice, backwards, make what they make once."""
    said = [("hear", 50), ("say_offline", 40), ("hear", 30), ("say_offline", 20)]
    fleets = []
    for order in (said, said[::-1], said + said[::-1]):
        fleet = Fleet()
        put(fleet, 1)
        for what, ago in order:
            getattr(fleet, what)(ids(1), NOW - ago)
        fleets.append(
            (fleet.heard[1], fleet.offline.ids.tolist(), fleet.offline.at.tolist(), fleet.state(1, NOW))
        )
    assert fleets == [fleets[0]] * 3
    assert fleets[0][3] == "overdue"


def test_what_is_answered():
    """Hearing answers who was never heard before, a notice who was not known to be offline."""
    fleet = Fleet()
    assert fleet.hear(ids(1, 2), NOW).tolist() == [1, 2]
    assert fleet.hear(ids(2, 3), NOW + 1).tolist() == [3]
    assert fleet.say_offline(ids(1, 2), NOW).tolist() == [1]
    assert fleet.say_offline(ids(3, 1), NOW + 5).tolist() == [3]
    fleet.hear(ids(1), NOW + 6)
    assert fleet.say_offline(ids(1), NOW + 7).tolist() == [1]


def test_heard_before_its_registry_row():
    """An id beyond the columns grows them; it has no state until its row comes, and keeps what was heard."""
    fleet = Fleet(capacity=4)
    fleet.hear(ids(1_000_000), NOW)
    with pytest.raises(KeyError):
        fleet.state(1_000_000, NOW)
    assert fleet.count(NOW, None, 1, 1).states.sum() == 0
    put(fleet, 1_000_000)
    assert fleet.state(1_000_000, NOW) == "live"


def test_removed_terminal_is_forgotten():
    """Nothing remains of a removed terminal, so that its id may come again."""
    fleet = Fleet()
    put(fleet, 5)
    fleet.hear(ids(5), NOW)
    fleet.say_offline(ids(5), NOW)
    fleet.refuse(ids(5))
    fleet.remove(ids(5, 70_000_000))
    assert (len(fleet.invalid), len(fleet.offline.ids)) == (0, 0)
    put(fleet, 5)
    assert fleet.state(5, NOW) == "never_heard"


def test_refused_until_heard_again():
    """A terminal is invalid until it is next heard, and an older arrival does not mend it."""
    fleet = Fleet()
    put(fleet, 5)
    fleet.hear(ids(5), NOW)
    fleet.refuse(ids(5))
    fleet.hear(ids(5), NOW - 10)
    assert fleet.count(NOW, None, 1, 1).invalid.tolist() == [1]
    fleet.hear(ids(5), NOW + 10)
    assert fleet.count(NOW, None, 1, 1).invalid.tolist() == [0]


def test_a_cell_beyond_those_counted_is_an_error():
    """Nobody is left out of a count silently."""
    fleet = Fleet()
    put(fleet, 5, cell=3, gateway=2)
    with pytest.raises(ValueError, match="cell 3"):
        fleet.count(NOW, None, 3, 3)
    with pytest.raises(ValueError, match="gateway 2"):
        fleet.count(NOW, None, 4, 2)


CELLS, GATEWAYS = 3, 4
KINDS = [
    Kind(r, nbiot, video, smart, key)
    for r, nbiot, video, smart, key in (
        (11, False, False, None, None),
        (3_600, True, False, None, None),
        (86_400, False, False, None, None),
        (86_400, True, True, None, True),
        (300, False, True, True, True),
        (900, False, True, False, None),
        (300, False, True, None, False),
        (5 * 86_400, False, False, None, None),
        (20 * 86_400, True, False, None, None),
    )
]
AGES = st.one_of(
    st.sampled_from(
        [int(kind.report_seconds * factor) + more + past for kind in KINDS for past in (0, 1)
         for factor, more in ((1.5, 600), (3, 1_800), (2, 600), (1.5, 1_500), (0.5, 0), (3, 0))]
        + [86_400, 86_401, 49 * 3_600, 49 * 3_600 + 1, 30 * 86_400, 30 * 86_400 + 1, 60 * 86_400, 60 * 86_400 + 1]
    ),
    st.integers(0, 200_000),
)  # fmt: skip
"""Seconds ago, most at the limit of some kind."""
TERMINALS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "life": st.sampled_from([Life.REGISTERED] * 6 + list(Life)),
        "day": st.one_of(
            st.sampled_from([NO_DAY, TODAY + 1, TODAY]), st.integers(TODAY - 70, TODAY), st.just(-5)
        ),
        "cell": st.integers(0, CELLS - 1),
        "gateway": st.integers(0, GATEWAYS - 1),
        "heard": st.one_of(st.none(), AGES),
        "said": st.one_of(st.none(), st.none(), AGES),
        "refused": st.booleans(),
    }
)


BLIND = st.tuples(AGES, st.one_of(AGES, st.just(-np.inf)), st.booleans()).map(
    lambda t: Blind(NOW - max(t[:2]), NOW - min(t[:2]), t[2])
)


def plain_state(t):
    """The contract's table, row by row."""
    r, heard, said = t["kind"].report_seconds, t["heard"], t["said"]
    if t["life"] in {Life.RETIRED, Life.DISCOVERED}:
        return t["life"].name.lower()
    if t["day"] > TODAY:
        return "planned"
    if heard is None:
        return "never_heard"
    offline = said is not None and said <= heard
    if heard <= 1.5 * r + 600 and not offline:
        return "live"
    return "overdue" if (said if offline else heard) <= 3 * r + 1_800 else "lost"


def plain_left(t, blind):
    """Whether it left `live` within W: when its time was up, or a notice came before that.

    After a blind time W reaches back to its beginning; after a deaf one silence must have lasted its time again.
    """
    r, heard, said = t["kind"].report_seconds, t["heard"], t["said"]
    ended = heard - (1.5 * r + 600)
    if said is not None and said <= heard:
        ended = max(ended, said)
    window, said_so = max(900, r / 2), said is not None and said <= heard
    if blind is not None:
        fair = plain_fair(r, blind)
        if fair > NOW and not said_so:
            return False
        if fair + window > NOW:
            window = max(window, NOW - blind.since_seconds)
    return ended <= window


def plain_fair(r, blind):
    """Since when silence proves something."""
    return blind.until_seconds + (max(900, 1.5 * r + 600) if blind.deaf else 0)


def plain_counts(terminals, down, blind):
    """Every count of one terminal at a time."""
    names = [
        "active",
        "due",
        "heard_today",
        "ripe",
        "ripe_never",
        "left",
        "left_explained",
        "silent_explained",
        "silent_named",
        "invalid",
    ]
    n = {name: np.zeros(CELLS, int) for name in [*names, "invalid"]}
    n |= {"states": np.zeros((CELLS, 7), int), "video": np.zeros((CELLS, 6), int)}
    n["gateway"] = np.zeros((GATEWAYS, 3), int)
    for t in terminals:
        if t["life"] == Life.ABSENT:
            continue
        state, cell, kind, heard = plain_state(t), t["cell"], t["kind"], t["heard"]
        installed = state in {"never_heard", "live", "overdue", "lost"}
        n["states"][cell, STATES.index(state)] += 1
        n["invalid"][cell] += t["refused"] and (installed or state == "discovered")
        if not installed:
            continue
        r, live, days = kind.report_seconds, state == "live", TODAY - t["day"]
        due, ripe = days > 7, days > 7 and days * 86_400 > 3 * r
        left = state in {"overdue", "lost"} and plain_left(t, blind)
        n["active"][cell] += heard is not None and heard <= max(30 * 86_400, 3 * r)
        n["due"][cell] += due
        n["heard_today"][cell] += due and heard is not None and heard <= (49 if kind.nbiot else 24) * 3_600
        n["ripe"][cell] += ripe
        n["ripe_never"][cell] += ripe and heard is None
        n["left"][cell] += left
        silent, why = state in {"overdue", "lost"}, down[t["gateway"]]
        said = t["said"] is not None and heard is not None and t["said"] <= heard
        unproven = blind is not None and plain_fair(r, blind) > NOW and not said
        n["left_explained"][cell] += left and why > 0
        n["silent_explained"][cell] += silent and (why > 0 or unproven)
        n["silent_named"][cell] += silent and why == NAMED
        if t["gateway"]:
            n["gateway"][t["gateway"]] += (1, live, left)
        if kind.video:
            key, smart = kind.key_area is True, kind.smart
            unknown = kind.key_area is None
            n["video"][cell] += (key, key and live, key and smart is True, key and smart is None, unknown, 1)
    return n


def fleet_of(terminals, gap):
    """The same terminals, `gap` ids apart."""
    fleet = Fleet(capacity=2)
    for number, t in enumerate(terminals):
        terminal = number * gap
        put(fleet, terminal, t["kind"], t["life"], t["day"], t["cell"], t["gateway"])
        if t["heard"] is not None:
            fleet.hear(ids(terminal), NOW - t["heard"])
        if t["said"] is not None:
            fleet.say_offline(ids(terminal), NOW - t["said"])
    fleet.refuse(number * gap for number, t in enumerate(terminals) if t["refused"])
    return fleet


@settings(deadline=None, max_examples=150)
@given(
    st.lists(TERMINALS, max_size=40),
    st.lists(st.sampled_from([0, 1, NAMED]), min_size=GATEWAYS, max_size=GATEWAYS),
    st.sampled_from([1, 40_000]),
    st.one_of(st.none(), BLIND),
)
def test_counts_are_those_of_a_plain_reading_of_the_contract(terminals, down, gap, blind):
    """Every count of every cell and gateway equals what one terminal at a time gives; so does every state."""
    fleet = fleet_of(terminals, gap)
    counts = fleet.count(NOW, np.array(down, np.uint8), CELLS, GATEWAYS, blind)
    for name, expected in plain_counts(terminals, down, blind).items():
        assert getattr(counts, name).tolist() == expected.tolist(), name
    for number, t in enumerate(terminals):
        if t["life"] != Life.ABSENT:
            assert fleet.state(number * gap, NOW) == plain_state(t)


@pytest.mark.parametrize(
    ("terminals", "expected"),
    [
        ([], None),
        ([(11, 5, 0), (11, 5, 0), (11, 5, 0)], 11),
        ([(86_400, 5, 0)] * 40 + [(60, None, 0)] * 400, 86_400),
        ([(86_400, 5, 0)] * 40 + [(60, None, NO_DAY)], 86_400),
        ([(86_400, 5, 0)] * 40 + [(60, 40 * 86_400, 0)] * 5, 86_400),
        ([(86_400, 5, 0)] * 40 + [(60, 5, 0)] * 2, 86_400),
        ([(86_400, 5, 0)] * 40 + [(60, 5, 0)] * 3, 60),
        ([(60, 5, 0), (3_600, 5, 0)], 3_600),
        ([(60, None, 0), (3_600, None, 0)], 3_600),
    ],
)
def test_what_is_expected_of_a_gateway(terminals, expected):
    """The third shortest interval of those live when it was last heard; the longest of all where none was."""
    fleet = Fleet()
    for number, (r, heard, day) in enumerate(terminals):
        put(fleet, number, HOURLY._replace(report_seconds=r), day=day, gateway=2)
        if heard is not None:
            fleet.hear(ids(number), NOW - 7_200 - heard)
    put(fleet, 10_000, KINDS[0], gateway=1)
    found = intervals(fleet, {2: NOW - 7_200.5}, 3, NOW)
    assert found == ({} if expected is None else {2: expected})


def test_who_said_goodbye_is_not_expected():
    """Cameras that are said to be offline at night do not make their gateway's silence one."""
    fleet = Fleet()
    for number in range(10):
        put(fleet, number, KINDS[0] if number < 5 else HOURLY, gateway=1)
    fleet.hear(ids(*range(10)), NOW - 100)
    assert intervals(fleet, {1: NOW - 90}, 2, NOW) == {1: 11}
    fleet.say_offline(ids(*range(5)), NOW - 95)
    assert intervals(fleet, {1: NOW - 90}, 2, NOW) == {1: 3_600}


def test_columns_equal_plain_reading_when_time_has_a_fraction():
    """Half a second past a limit is past it."""
    fleet = Fleet()
    put(fleet, 0)
    fleet.hear(ids(0), NOW - LIVE)
    assert [fleet.state(0, NOW), fleet.state(0, NOW + 0.5)] == ["live", "overdue"]


@pytest.mark.parametrize(("rhythm", "days"), [(false_alarms.RHYTHMS[0], 12), (false_alarms.RHYTHMS[1], 2)])
def test_the_dead_are_found_and_the_living_are_not_lost(rhythm, days):
    """Whoever dies is noticed within its limit and two passes; a lost report makes nobody who lives lost."""
    result = false_alarms.play(rhythm, 60, days, seed=4)
    assert (len(result.delays_seconds), result.false_lost) == (result.dead, 0)
    assert result.delays_seconds.max() <= 1.5 * rhythm.every_seconds + 600 + 2 * rhythm.pass_seconds
    assert result.false_overdue > 0


def test_daily_meters_that_report_each_day_are_never_called_lost_or_overdue(monkeypatch):
    """A day of silence of a daily meter is life."""
    monkeypatch.setattr(false_alarms, "LOST_REPORTS", 0)
    result = false_alarms.play(false_alarms.RHYTHMS[0], 60, 8, seed=4)
    assert (result.false_overdue, result.false_lost) == (0, 0)
