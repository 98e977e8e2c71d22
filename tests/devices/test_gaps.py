"""Gaps over simulated time: terminals that report by their rhythm, the real arrays, rows as a database keeps them."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.coverage import Grid, Target
from devices.gap import Gap, Maintenance, maintained
from devices.gap_gateways import gateway_down
from devices.gap_units import declared_units
from devices.gaps import RETURN_SECONDS, decide
from devices.gateways import deaf, judge
from devices.presence import Facts, Fleet
from devices.rhythm import intervals
from devices.states import EPOCH_SECONDS, NO_DAY, Blind, Kind, Life
from devices.tally import Counts

COUNTY, OTHER_COUNTY, CITY = 370102, 370103, 370100
CELLS = {0: (370000, "other"), 1: (COUNTY, "municipal"), 2: (COUNTY, "energy"), 3: (OTHER_COUNTY, "municipal"),
         4: (CITY, "municipal")}  # fmt: skip
WATER, POWER, NEXT_DOOR = 1, 2, 3
HOUR, DAY = 3600, 86_400
NOON = EPOCH_SECONDS + 2_500 * DAY + 4 * HOUR
"""Of a day in Shandong."""
LONG_AGO = 2_000
"""A day of installation, in days since 2020."""


class World:
    """A fleet that reports, gateways, and the rows of coverage_gap: all that a round knows comes from these."""

    def __init__(self):
        self.fleet = Fleet()
        self.now = NOON
        self.gaps, self.planned, self.targets = {}, [], []
        self.gateways, self.blind = {}, None
        self.cut = np.zeros(0, bool)
        """By terminal: it is silent."""
        self.r = self.phase = np.zeros(0)
        """By terminal: seconds between reports, and when in that time it reports."""

    def add(self, count, cell, gateway, r, *, day=LONG_AGO, heard=True):
        """Install terminals that report every r seconds, spread evenly; answers their ids."""
        first = len(self.r)
        ids = np.arange(first, first + count, dtype=np.uint32)
        number = (
            list(self.gateways).index(gateway) + 1 if gateway in self.gateways else len(self.gateways) + 1
        )
        row = self.gateways.setdefault(gateway, {"seen": None, "offline": None, "division": CITY})
        kind = self.fleet.kind_of(Kind(r, False, False, None, None))
        self.fleet.put(
            Facts(ids, *(np.full(count, value) for value in (cell, kind, Life.REGISTERED, day, number)))
        )
        self.r = np.concatenate([self.r, np.full(count, float(r))])
        self.phase = np.concatenate([self.phase, np.arange(count) * r / count])
        self.cut = np.concatenate([self.cut, np.full(count, not heard)])
        if heard:
            ages = np.floor((self.now - self.phase[first:]) % r / 60) * 60
            for age in np.unique(ages):
                self.fleet.hear(ids[ages == age], self.now - age)
            row["seen"] = self.now
        return ids

    def report(self, seconds):
        """Whoever is not cut reports as its time comes, and its gateway is seen."""
        was, self.now = self.now, self.now + seconds
        due = np.floor((self.now - self.phase) / self.r) > np.floor((was - self.phase) / self.r)
        ids = np.flatnonzero(due & ~self.cut).astype(np.uint32)
        self.fleet.hear(ids, self.now)
        for number in np.unique(self.fleet.gateway[ids]).tolist():
            self.seen(list(self.gateways)[number - 1])

    def seen(self, name):
        self.gateways[name] |= {"seen": self.now, "offline": None}

    def round(self):
        """The observer looks once, knowing what is stored; the decision is stored."""
        stored = [replace(gap, evidence=json.loads(json.dumps(gap.evidence))) for gap in self.gaps.values()]
        known = [
            gap
            for gap in stored
            if gap.closed_seconds is None or gap.closed_seconds >= self.now - RETURN_SECONDS
        ]
        size = len(self.gateways) + 1
        seen = {n: row["seen"] for n, row in enumerate(self.gateways.values(), 1) if row["seen"] is not None}
        reports = intervals(self.fleet, seen, size, self.now)
        gateways = [
            judge(number, name, row["division"], row["seen"], row["offline"], reports.get(number), self.now)
            for number, (name, row) in enumerate(self.gateways.items(), 1)
        ]
        down = gateway_down(gateways, known, self.planned, self.now, size)
        counts = self.fleet.count(self.now, down, len(CELLS), size, self.blind)
        units = declared_units(self.targets, date(2026, 11, 22), Grid(CELLS))
        decision = decide(counts, CELLS, units, gateways, known, self.planned, blind=self.blind)
        for gap in decision.opened:
            self.gaps[len(self.gaps) + 1] = replace(gap, id=len(self.gaps) + 1)
        self.gaps |= {gap.id: gap for gap in (*decision.updated, *decision.closed)}
        return decision

    def run(self, seconds, step=900):
        """Time passes, with a look every step; answers every kind and place that was open at any time."""
        met = set()
        for _ in range(seconds // step):
            self.report(step)
            self.round()
            met |= set(self.open())
        return met

    def open(self):
        """Kind, cell or gateway of what is open."""
        return [
            (gap.kind, gap.gateway or (gap.division, gap.domain))
            for gap in self.gaps.values()
            if gap.closed_seconds is None
        ]

    def only(self):
        """The one gap there ever was."""
        (gap,) = self.gaps.values()
        return gap


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize("will", [True, False], ids=["will", "silent"])
def test_a_gateway_that_dies_is_one_gap_that_names_it(world, will):
    """40,000 hourly and daily meters behind one gateway fall silent: one gap, from the first to the last of them."""
    hourly = world.add(20_000, WATER, "gw1", HOUR)
    daily = world.add(20_000, POWER, "gw1", DAY)
    world.add(200, WATER, "gw2", HOUR)
    world.add(200, POWER, "gw2", DAY)
    assert world.run(3 * HOUR) == set()
    world.cut[hourly] = world.cut[daily] = True
    if will:
        world.gateways["gw1"]["offline"] = world.now
        world.round()
        assert world.open() == [("gateway_offline", "gw1")]
    met = world.run(3 * DAY, step=HOUR // 2)
    gap = world.only()
    assert {place for _, place in met} == {"gw1"}
    assert (gap.kind, gap.live, gap.closed_seconds) == ("gateway_offline", 0, None)
    assert gap.expected == 40_000
    assert gap.evidence["state"] == ("offline" if will else "silent")
    world.cut[:] = False
    world.run(HOUR // 2)
    assert world.open() == [("outage", "gw1")], "the gateway is back, its terminals are not yet"
    world.run(DAY, step=HOUR)
    assert world.only().closed_seconds is not None
    assert world.only().evidence["closed"] == "recovered"


def test_one_gateway_for_a_whole_cell_is_one_gap(world):
    """Where a silent gateway has all of a cell, the cell waits until the gateway is known for the cause."""
    world.add(1_000, WATER, "gw1", HOUR)
    world.add(1_000, POWER, "gw1", DAY)
    world.run(HOUR)
    world.cut[:] = True
    met = world.run(4 * DAY)
    assert {place for _, place in met} == {"gw1"}
    assert world.only().kind == "gateway_offline"


def test_one_dead_meter_is_no_gap_and_is_found(world):
    """A meter that dies behind a living gateway shows in the counts of its cell, and opens nothing."""
    ids = world.add(500, WATER, "gw1", HOUR)
    world.cut[ids[7]] = True
    assert world.run(DAY) == set()
    counts = world.fleet.count(world.now, None, len(CELLS), 2)
    assert counts.states[WATER].tolist() == [0, 0, 499, 0, 1, 0, 0]
    assert world.fleet.state(7, world.now) == "lost"


def test_new_meters_open_nothing_until_they_are_overdue(world):
    """40,000 imported meters are no gap for a week; more than 10 % unheard after it are one."""
    world.add(100, WATER, "gw1", DAY)
    today = 2_500
    world.add(40_000, WATER, "gw1", DAY, day=today, heard=False)
    assert world.run(7 * DAY, step=6 * HOUR) == set()
    world.run(2 * DAY, step=6 * HOUR)
    gap = world.only()
    assert (gap.kind, gap.division, gap.domain) == ("never_heard", COUNTY, "municipal")
    assert (gap.expected, gap.live) == (40_100, 100)
    world.cut[:] = False
    world.run(DAY)
    assert world.open() == []


def test_a_county_that_goes_dark_is_a_gap_of_each_cell(world):
    """Terminals of a county stop behind platforms that live on elsewhere: its cells are the place, and recover."""
    for gateway in ("platform1", "platform2"):
        world.add(500, WATER, gateway, HOUR)
        world.add(500, POWER, gateway, 60)
        world.add(2_000, NEXT_DOOR, gateway, HOUR)
    world.run(HOUR)
    world.cut[np.isin(world.fleet.cell[: len(world.r)], [WATER, POWER])] = True
    expected = {("outage", (COUNTY, "municipal")), ("outage", (COUNTY, "energy"))}
    assert world.run(6 * HOUR) == expected
    assert set(world.open()) == expected, "still, when nobody left within the window any more"
    assert all(gap.expected == 1_000 and gap.live == 0 for gap in world.gaps.values())
    world.cut[:] = False
    world.run(2 * HOUR)
    assert world.open() == []
    assert len(world.gaps) == 2


@pytest.mark.parametrize("r", [60, HOUR])
def test_a_living_gateway_that_lost_most_is_the_cause(world, r):
    """A platform that speaks for others, but lost a whole cell and so most of its own, ends up as the one open gap.

    All at once it is the only one ever; one by one the cell passes the half first, and closes as explained.
    """
    ids = world.add(1_000, WATER, "platform", r)
    world.add(200, NEXT_DOOR, "platform", r)
    world.cut[ids] = True
    world.run(8 * HOUR)
    assert world.open() == [("outage", "platform")]
    before = [gap.evidence["closed"] for gap in world.gaps.values() if gap.closed_seconds is not None]
    assert before == (["explained by gateways"] if r == HOUR else [])
    world.cut[:] = False
    world.run(2 * HOUR)
    assert world.open() == []


def test_a_gateway_that_speaks_once_an_hour_hides_no_outage(world):
    """A gateway that is only quiet may delay a cell's outage, but does not close it: it has no gap of its own."""
    ids = world.add(1_000, WATER, "platform", HOUR)
    others = world.add(3_000, NEXT_DOOR, "platform", HOUR)
    world.phase[others] = 0
    world.run(2 * HOUR)
    world.cut[ids] = True
    world.run(8 * HOUR)
    assert world.only().closed_seconds is None
    assert world.open() == [("outage", (COUNTY, "municipal"))]


def test_an_outage_ends_when_most_are_back_or_retired(world):
    """It stays at 79 % of what was live and closes at 80; who is retired is not expected."""
    ids = world.add(1_000, WATER, "platform", 600)
    world.add(2_000, NEXT_DOOR, "platform", 600)
    world.cut[ids] = True
    world.run(2 * HOUR)
    assert world.open() == [("outage", (COUNTY, "municipal"))]
    world.cut[ids[:790]] = False
    world.run(HOUR)
    assert (world.only().expected, world.only().live) == (1_000, 790)
    world.fleet.life[ids[-50:]] = Life.RETIRED
    world.round()
    assert world.open() == []
    assert (world.only().expected, world.only().live) == (950, 790)


def test_terminals_that_go_one_by_one_leave_a_dark_cell(world):
    """Too slow for an outage: when the last of them is silent the cell is dark, until nobody was heard for 30 days."""
    ids = world.add(100, WATER, "platform", HOUR)
    world.add(400, NEXT_DOOR, "platform", HOUR)
    for some in np.split(ids, 20):
        world.cut[some] = True
        world.run(3 * HOUR, step=HOUR)
    assert world.run(2 * HOUR) == {("dark", (COUNTY, "municipal"))}
    assert world.only().live == 0
    world.run(27 * DAY, step=DAY // 2)
    assert world.open() == [("dark", (COUNTY, "municipal"))]
    world.run(4 * DAY, step=DAY // 2)
    assert world.only().evidence["closed"] == "not heard for 30 days"


@pytest.mark.parametrize("count", [19, 20])
def test_small_places_have_no_outage(world, count):
    """19 terminals are too few to be an outage or dark, 20 are enough."""
    ids = world.add(count, WATER, "platform", 600)
    world.add(100, NEXT_DOOR, "platform", 600)
    world.cut[ids] = True
    met = world.run(2 * HOUR)
    assert met == ({("outage", (COUNTY, "municipal"))} if count == 20 else set())


@pytest.mark.parametrize("what", [(CITY, None, None), (None, None, "gw1"), (COUNTY, "energy", None)])
def test_planned_maintenance_is_silent(world, what):
    """Nothing opens under maintenance of the place or gateway; of another domain it does; afterwards it opens."""
    world.add(500, WATER, "gw1", HOUR)
    world.planned = [Maintenance(1, *what, world.now, world.now + 6 * HOUR)]
    world.cut[:] = True
    met = world.run(5 * HOUR)
    assert {place for _, place in met} == ({"gw1"} if what[1] == "energy" else set())
    world.run(2 * HOUR)
    assert world.open() == [("gateway_offline", "gw1")]


def test_an_open_gap_is_marked_under_maintenance(world):
    """It stays open, says by which maintenance, and says so no longer afterwards."""
    world.add(500, WATER, "gw1", HOUR)
    world.gateways["gw1"]["offline"] = world.now
    world.cut[:] = True
    world.round()
    world.planned = [Maintenance(7, CITY, None, None, world.now, world.now + HOUR)]
    world.run(900)
    assert world.open() == [("gateway_offline", "gw1")]
    assert world.only().evidence["maintenance"] == 7
    world.run(2 * HOUR)
    assert "maintenance" not in world.only().evidence


@pytest.mark.parametrize(("count", "day"), [(40_000, 2_500), (1, NO_DAY)], ids=["imported", "planned"])
def test_terminals_never_heard_make_no_gateway_silent(world, count, day):
    """Quick terminals that are imported or planned behind a gateway of daily meters open nothing."""
    world.add(40, WATER, "gw1", DAY)
    world.phase[:] = 0
    world.run(DAY, step=HOUR)
    world.add(count, POWER, "gw1", 60, day=day, heard=False)
    assert world.run(3 * DAY, step=HOUR) == set()


def test_one_quick_terminal_that_dies_is_no_dead_gateway(world):
    """A ten-second reporter among daily meters dies; three of them are witnesses enough."""
    world.add(40, WATER, "gw1", DAY)
    quick = world.add(3, POWER, "gw1", 10)
    world.phase[:40] = 0
    world.run(DAY, step=HOUR)
    world.cut[quick] = True
    assert world.run(2 * HOUR) == {("gateway_offline", "gw1")}
    world.cut[quick[:1]] = False
    world.run(2 * DAY, step=900)
    assert world.open() == []
    world.cut[quick[0]] = True
    assert world.run(2 * DAY) == set()


def test_maintenance_of_a_domain_leaves_gateways_out(world):
    """It covers cells; a gateway that dies in it is a gap unless its own maintenance is planned."""
    world.add(500, WATER, "gw1", HOUR)
    world.cut[:] = True
    world.planned = [Maintenance(1, CITY, "municipal", None, world.now, world.now + DAY)]
    world.run(6 * HOUR)
    assert world.open() == [("gateway_offline", "gw1")]


def test_dark_closes_beside_strangers_that_were_never_heard(world):
    """A cell's gap closes as explained by its gateway, whoever is silent or unheard elsewhere in the province."""
    ids = world.add(100, WATER, "gw1", HOUR)
    world.add(400, NEXT_DOOR, "gw2", 60)
    world.add(100, NEXT_DOOR, "gw2", 60, day=2_500, heard=False)
    world.cut[ids] = True
    for _ in range(24):
        world.report(600)
    world.gaps[1] = Gap("dark", COUNTY, "municipal", None, world.now, 100, 0, {}, 1)
    world.run(1_800)
    assert world.open() == [("gateway_offline", "gw1")]
    assert world.gaps[1].evidence["closed"] == "explained by gateways"


def test_an_outage_while_nobody_looked_is_found(world):
    """150 of a county's 200 terminals fall silent while the observer is away for two hours: the first look says so."""
    ids = world.add(200, WATER, "gw1", 60)
    world.add(800, NEXT_DOOR, "gw1", 60)
    world.round()
    since = world.now
    world.cut[ids[:150]] = True
    for _ in range(8):
        world.report(900)
    world.blind = Blind(since, world.now, deaf=False)
    world.round()
    assert world.open() == [("outage", (COUNTY, "municipal"))]


def test_silence_of_a_deaf_service_proves_nothing(world):
    """Three hours of deafness open nothing then or after; who is still silent once all had the time, is found.

    Meanwhile a spoken goodbye is believed.
    """
    for number in range(3):
        world.add(200, WATER, f"gw{number}", HOUR)
    world.add(200, POWER, "gw3", HOUR)
    world.add(40, NEXT_DOOR, "gw4", 60)
    world.run(HOUR)
    world.cut[:] = True
    world.blind = Blind(world.now, float("inf"), deaf=True)
    assert world.run(3 * HOUR) == set()
    world.gateways["gw3"]["offline"] = world.now
    world.round()
    assert world.open() == [("gateway_offline", "gw3")]
    world.blind = world.blind._replace(until_seconds=world.now)
    world.cut[200:800] = False
    world.cut[-40:] = False
    assert world.run(90 * 60, step=300) == set()
    world.run(HOUR, step=300)
    assert world.open() == [("gateway_offline", "gw0")]


def quiet_gateways(count, r, ago):
    return [judge(n, f"gw{n}", CITY, NOON - ago, None, r, NOON) for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("gateways", "newest_ago", "expected"),
    [
        (quiet_gateways(120, DAY, 4 * HOUR), 4 * HOUR, False),
        (quiet_gateways(120, 60, 1_200), 1_200, True),
        (quiet_gateways(19, 60, 1_200), 1_200, False),
        (quiet_gateways(120, 60, 1_200), 290, False),
        (quiet_gateways(100, DAY, 4 * HOUR) + quiet_gateways(20, 60, 4 * HOUR), 4 * HOUR, True),
        (quiet_gateways(100, DAY, 4 * HOUR) + quiet_gateways(20, DAY, 28 * HOUR), 3 * HOUR, False),
    ],
    ids=["daily", "minutes", "few", "heard", "mixed", "late before"],
)
def test_deaf_is_who_misses_many(gateways, newest_ago, expected):
    """Deaf is where 20 gateways should have been heard since anybody was; nobody misses daily meters by day."""
    assert deaf(gateways, NOON - newest_ago, NOON) is expected


def test_a_gateway_that_is_back_has_terminals(world):
    """One whose terminals were never live closes as recovered; without terminals it says that there are none left."""
    world.add(100, WATER, "gw1", HOUR, day=2_500, heard=False)
    world.gateways["gw1"]["offline"] = world.now
    world.round()
    world.now += 120
    world.seen("gw1")
    world.round()
    assert world.only().evidence["closed"] == "recovered"


def test_a_flapping_gateway_is_one_gap(world):
    """Offline and back every minute: one row, which counts how often it returned; opened once."""
    world.add(500, WATER, "gw1", HOUR)
    opened = None
    for _ in range(10):
        world.report(60)
        world.gateways["gw1"]["offline"] = world.now
        world.round()
        assert world.open() == [("gateway_offline", "gw1")]
        opened = opened or world.only().opened_seconds
        world.report(60)
        world.seen("gw1")
        world.round()
        assert world.open() == []
    assert world.only().evidence["returned"] == 9
    assert world.only().opened_seconds == opened


def test_a_gap_that_returns_later_is_a_new_one(world):
    """Beyond a quarter of an hour it is another gap, with a row of its own."""
    world.add(500, WATER, "gw1", HOUR)
    for _ in range(2):
        world.gateways["gw1"]["offline"] = world.now
        world.round()
        world.seen("gw1")
        world.run(3 * RETURN_SECONDS)
    assert [gap.closed_seconds is not None for gap in world.gaps.values()] == [True, True]


def test_an_observer_that_was_away_finds_what_happened(world):
    """A gateway that died while nobody looked is found at the first look, alone."""
    world.add(500, WATER, "gw1", HOUR)
    world.add(500, POWER, "gw1", DAY)
    world.add(100, WATER, "gw2", HOUR)
    world.cut[:1000] = True
    for _ in range(72):
        world.report(HOUR)
    for _ in range(3):
        world.round()
    assert world.only().gateway == "gw1"
    assert world.only().expected == 1_000, "nobody left lately: all that are installed"
    world.cut[:] = False
    world.run(DAY + HOUR)
    assert world.open() == []


def test_a_round_without_news_writes_nothing(world):
    """Looking again at the same moment opens, changes and closes nothing."""
    world.add(500, WATER, "gw1", HOUR)
    world.cut[:] = True
    world.run(3 * HOUR)
    decision = world.round()
    assert (decision.opened, decision.updated, decision.closed) == ([], [], [])


def test_a_gateway_that_is_removed_leaves_no_gap(world):
    """The gap of a gateway whose row is gone closes."""
    world.add(50, WATER, "gw1", HOUR)
    world.gaps[1] = Gap(
        "gateway_offline", CITY, None, "gone", world.now - HOUR, 50, 0, {"live_before": 50}, 1
    )
    world.round()
    assert world.only().evidence["closed"] == "no longer registered"


def test_a_gateway_without_terminals_counts_for_a_month(world):
    """A registered one that says offline is a gap, until it was away for 30 days."""
    world.gateways["spare"] = {"seen": world.now, "offline": world.now, "division": None}
    world.round()
    assert (world.only().kind, world.only().division, world.only().expected) == ("gateway_offline", 370000, 0)
    world.now += 31 * DAY
    world.round()
    assert world.open() == []


def test_a_plan_that_is_not_met(world):
    """A declared target that is due and not covered to 90 % is a gap, one that is assumed or not yet due is none."""
    world.add(899, WATER, "gw1", HOUR)
    due, later = date(2026, 6, 30), date(2027, 6, 30)
    for target in (
        Target(COUNTY, "municipal", 1_000, due, "assumed"),
        Target(COUNTY, "municipal", 1_000, later, "declared"),
        Target(COUNTY, "municipal", 998, due, "declared"),
        Target(COUNTY, "energy", 0, due, "declared"),
    ):
        world.targets = [target]
        world.round()
        assert world.open() == []
    world.targets = [Target(COUNTY, "municipal", 1_000, due, "declared")]
    world.round()
    gap = world.only()
    assert (gap.kind, gap.expected, gap.live) == ("under_target", 1_000, 899)
    world.add(1, WATER, "gw1", HOUR)
    world.round()
    assert world.open() == []


def test_what_counties_leave_of_a_city_is_a_unit(world):
    """A county with a row is on its own; the city's other counties and own cells fill the rest of the total."""
    world.add(100, WATER, "gw1", HOUR)
    world.add(30, NEXT_DOOR, "gw1", HOUR)
    world.add(30, 4, "gw1", HOUR)
    due = date(2026, 6, 30)
    world.targets = [
        Target(COUNTY, "municipal", 100, due, "declared"),
        Target(CITY, "municipal", 200, due, "declared"),
    ]
    world.round()
    assert world.open() == [("under_target", (CITY, "municipal"))]
    assert (world.only().expected, world.only().live) == (100, 60)


@pytest.mark.parametrize("target", [1_000, 5_000])
def test_a_target_missed_for_a_known_cause_is_no_gap(world, target):
    """What a dead gateway explains to 80 % of the missing opens no gap of the plan, and less does."""
    world.add(1_000, WATER, "gw1", HOUR)
    world.targets = [Target(COUNTY, "municipal", 1_000, date(2026, 6, 30), "declared")]
    world.cut[:] = True
    world.run(3 * HOUR)
    world.targets = [world.targets[0]._replace(target=target)]
    world.round()
    assert ("under_target" in {kind for kind, _ in world.open()}) == (target == 5_000)


def test_a_target_missed_for_terminals_never_heard_is_that_gap(world):
    """Where those who were never heard are what is missing, the gap says so, and none of the plan does."""
    world.add(100, WATER, "gw1", HOUR, heard=False)
    world.targets = [Target(COUNTY, "municipal", 100, date(2026, 6, 30), "declared")]
    world.round()
    assert world.open() == [("never_heard", (COUNTY, "municipal"))]


def test_a_small_gateway_is_done_with_when_it_is_back(world):
    """With fewer than 20 terminals the gap is the gateway's alone: it closes before they have reported again."""
    ids = world.add(10, WATER, "gw1", HOUR)
    world.cut[ids] = True
    world.run(3 * HOUR)
    assert world.open() == [("gateway_offline", "gw1")]
    world.seen("gw1")
    world.round()
    assert world.open() == []


def test_jitter_and_lost_reports_open_nothing():
    """A week of hourly and daily reporters that lose 2 % of their reports opens no gap."""
    world, random = World(), np.random.default_rng(7)
    world.add(300, WATER, "gw1", HOUR)
    world.add(300, POWER, "gw1", DAY)
    world.add(300, NEXT_DOOR, "gw2", 900)
    for _ in range(7 * 24):
        world.cut = random.random(len(world.r)) < 0.02
        world.phase = world.phase + random.uniform(-60, 60, len(world.r))
        assert world.run(HOUR, step=HOUR // 2) == set()


def counts_of(states, rest, gateways):
    """A count made of numbers that may be anything."""
    zero = np.zeros(len(CELLS), np.int64)
    left, behind, silent, active, ripe, never = np.array(rest, np.int64).T
    return Counts(at=NOON, states=np.array(states), active=active, due=zero, heard_today=zero, ripe=ripe + never,
                  ripe_never=never, left=left, left_explained=np.minimum(behind, left), silent_explained=silent,
                  video=zero, gateway=np.array([[0, 0, 0], *gateways]), invalid=zero)  # fmt: skip


small = st.sampled_from((0, 1, 9, 10, 19, 20, 40, 1_000))


@given(
    st.lists(st.lists(small, min_size=7, max_size=7), min_size=5, max_size=5),
    st.lists(st.lists(small, min_size=6, max_size=6), min_size=5, max_size=5),
    st.lists(st.lists(small, min_size=3, max_size=3), min_size=2, max_size=2),
    st.lists(st.sampled_from(("online", "offline", "silent")), min_size=2, max_size=2),
)
def test_whatever_the_figures_a_place_has_one_gap(states, rest, figures, words):
    """Whatever is counted, a place has one open gap of a kind, a gateway one at all, and figures are whole numbers."""
    ago = {"online": (NOON, None), "offline": (NOON - 60, NOON), "silent": (NOON - 9 * DAY, None)}
    gateways = [judge(i, f"gw{i}", CITY, *ago[word], HOUR, NOON) for i, word in enumerate(words, 1)]
    counts = counts_of(states, rest, figures)
    opened = decide(counts, CELLS, [], gateways, [], []).opened
    assert len({gap.place for gap in opened}) == len(opened)
    assert all(type(gap.expected) is type(gap.live) is int for gap in opened)
    stored = [
        replace(gap, id=i, evidence=json.loads(json.dumps(gap.evidence))) for i, gap in enumerate(opened)
    ]
    again = decide(counts, CELLS, [], gateways, stored, [])
    assert {gap.place for gap in again.opened}.isdisjoint(gap.place for gap in stored)
    assert {gap.id for gap in (*again.updated, *again.closed)} <= {gap.id for gap in stored}


def test_maintenance_covers_what_it_names():
    """The province covers everything, a city its counties, a domain itself; a time ends as it says."""
    rows = [(370000, None, None), (CITY, None, None), (COUNTY, "energy", None), (None, None, "gw1")]
    cases = {(370602, "energy", None): [0], (COUNTY, "energy", None): [0, 1, 2], (COUNTY, "municipal", None): [0, 1],
             (CITY, None, "gw1"): [0, 1, 3], (370000, None, "gw2"): [0]}  # fmt: skip
    for place, covering in cases.items():
        found = [
            i
            for i, row in enumerate(rows)
            if maintained([Maintenance(i, *row, 10, 20)], 10, *place) is not None
        ]
        assert found == covering
    assert maintained([Maintenance(1, *rows[0], 10, 20)], 20, CITY, None, None) is None


@pytest.mark.parametrize(
    ("seen", "offline", "r", "state"),
    [
        (None, None, 60, "planned"),
        (None, NOON, 60, "offline"),
        (NOON - 690, None, 60, "online"),
        (NOON - 691, None, 60, "silent"),
        (NOON - 60, NOON - 60, 60, "offline"),
        (NOON, NOON - 60, 60, "offline"),
        (NOON - 1, NOON - 62, 60, "online"),
        (NOON - 36 * HOUR, None, None, "online"),
        (NOON - 37 * HOUR, None, None, "silent"),
    ],
)
def test_state_of_a_gateway(seen, offline, r, state):
    """Planned until heard, offline when it says so, silent past 1.5 intervals and ten minutes."""
    assert judge(1, "gw1", CITY, seen, offline, r, NOON).state == state
