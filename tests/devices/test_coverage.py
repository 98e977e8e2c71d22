"""Coverage: sums and ratios by table, and by brute force over random provinces."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.coverage import (
    CITIES,
    COUNTIES,
    VIDEO_KINDS,
    Figures,
    Grid,
    Target,
    by_city,
    report,
    targets_on,
    units,
)
from devices.division import DIVISIONS, DOMAINS, PROVINCE, city
from devices.states import STATES
from devices.tally import Counts

JINAN, LIXIA, SHIZHONG, QINGDAO = 370100, 370102, 370103, 370200
PLACES = [code for code, division in DIVISIONS.items() if division.level != "zone"]
CELLS = dict(enumerate(((place, domain) for place in PLACES for domain in DOMAINS), 1))
GRID = Grid(CELLS)
NODES = ("municipal", "security")


def counted(states, **columns):
    """Counts of `{(division, domain): {state: n}}`; other columns are {(division, domain): n}."""
    counts = Counts(
        at=0.0,
        states=np.zeros((GRID.size, len(STATES)), np.int64),
        video=np.zeros((GRID.size, len(VIDEO_KINDS)), np.int64),
        gateway=np.zeros((1, 3), np.int64),
        **{
            name: np.zeros(GRID.size, np.int64)
            for name in ("active", "due", "heard_today", "ripe", "ripe_never", "left", "left_explained",
                         "silent_explained", "invalid")
        },
    )  # fmt: skip
    for place, by_state in states.items():
        for state, n in by_state.items():
            counts.states[GRID.id[place], STATES.index(state)] = n
    for name, values in columns.items():
        for place, n in values.items():
            getattr(counts, name)[GRID.id[place]] = n
    return counts


def live(by_place, targets):
    """The report of live terminals alone."""
    return report(counted({place: {"live": n} for place, n in by_place.items()}), GRID, targets, NODES)


def shares(figures):
    return figures.coverage and (figures.coverage.numerator, figures.coverage.denominator)


def test_columns_are_in_the_order_of_the_counts():
    """A figure's first fields are the states, and the video kinds follow one another as they are counted."""
    assert Figures._fields[: len(STATES)] == STATES
    assert tuple(f for f in Figures._fields if f.startswith("video_")) == tuple(
        f"video_{k}" for k in VIDEO_KINDS
    )
    assert (len(CITIES), len(COUNTIES)) == (17, 136)


def test_the_figures_of_a_place():
    """Every figure is what the contract makes of the counts."""
    here, there = (LIXIA, "municipal"), (JINAN, "other")
    states = {here: dict(zip(STATES, (1, 2, 3, 4, 5, 6, 7), strict=True)), there: {"live": 10}}
    counts = counted(states, active={here: 11}, due={here: 8}, heard_today={here: 6}, invalid={there: 2},
                     video={here: [5, 4, 3, 1, 9, 20]})  # fmt: skip
    found = report(counts, GRID, {(JINAN, "municipal"): 28, (JINAN, "other"): 2}, NODES)
    jinan = found.cities[JINAN]
    assert (jinan.installed, jinan.verified, jinan.active, jinan.live) == (24, 22, 11, 13)
    assert (jinan.planned, jinan.retired, jinan.discovered, jinan.invalid) == (1, 6, 7, 2)
    assert jinan.nodes == 12
    assert (jinan.video_installed, jinan.video_key_area_unknown, jinan.video_all) == (5, 9, 20)
    assert jinan.buildout == (24, 30)
    assert jinan.networking == (13, 24)
    assert jinan.networking_daily == (6, 8)
    assert jinan.coverage == (5, 30)
    assert (jinan.video_smart_ratio, jinan.video_networking_ratio) == ((3, 5), (4, 5))
    assert jinan == found.province
    assert found.domains[JINAN, "municipal"].buildout == (14, 28)
    assert found.counties[LIXIA].coverage is None
    assert (found.progress, found.declared_progress) == ((22, 300_000_000), (24, 300_000_000))
    assert found.progress.value == pytest.approx(22 / 3e8)


def test_where_nothing_is_there_is_no_ratio():
    """An empty province without a plan has counts of 0 and no ratio but progress."""
    found = report(counted({}), Grid(CELLS), {}, NODES)
    for place in (found.province, found.cities[JINAN], found.domains[JINAN, "energy"], found.counties[LIXIA]):
        assert set(place) == {0}
        assert {place.buildout, place.networking, place.networking_daily, place.coverage, place.video_smart_ratio,
                place.video_networking_ratio} == {None}  # fmt: skip
    assert found.counties_covered is None
    assert found.progress.value == 0


@pytest.mark.parametrize(
    ("targets", "alive", "jinan", "lixia"),
    [
        ({}, {LIXIA: 5}, None, None),
        ({JINAN: 10}, {LIXIA: 5, JINAN: 3}, (8, 10), None),
        ({JINAN: 10}, {LIXIA: 50}, (10, 10), None),
        ({JINAN: 10, LIXIA: 4}, {LIXIA: 50}, (4, 10), (4, 4)),
        ({JINAN: 10, LIXIA: 4}, {LIXIA: 50, SHIZHONG: 1, JINAN: 1}, (6, 10), (4, 4)),
        ({JINAN: 10, LIXIA: 10}, {LIXIA: 5, SHIZHONG: 9}, (5, 10), (5, 10)),
        ({LIXIA: 4}, {LIXIA: 1, SHIZHONG: 9, JINAN: 9}, (1, 4), (1, 4)),
        ({LIXIA: 0}, {LIXIA: 1}, None, None),
        ({QINGDAO: 4}, {LIXIA: 1}, None, None),
    ],
)
def test_a_surplus_here_hides_no_hole_there(targets, alive, jinan, lixia):
    """A county with a row is filled by its own; what a city's row has beyond its counties' by all others."""
    found = live({(place, "energy"): n for place, n in alive.items()},
                 {(place, "energy"): n for place, n in targets.items()})  # fmt: skip
    assert shares(found.cities[JINAN]) == jinan
    assert shares(found.domains[JINAN, "energy"]) == jinan
    assert shares(found.counties[LIXIA]) == lixia
    assert found.domains[JINAN, "municipal"].coverage is None


def test_domains_do_not_help_each_other():
    """A cell is a place and a domain: meters are no cameras."""
    found = live({(LIXIA, "municipal"): 9}, {(JINAN, "municipal"): 4, (JINAN, "security"): 4})
    assert found.cities[JINAN].coverage == (4, 8)


def test_counties_covered():
    """Of all 136, those with a target that is covered to nine tenths."""
    targets = {(LIXIA, "energy"): 10, (SHIZHONG, "energy"): 10, (370202, "energy"): 10}
    found = live({(LIXIA, "energy"): 9, (SHIZHONG, "energy"): 8, (370202, "energy"): 11}, targets)
    assert found.counties_covered == (2, 136)


def test_the_province_alone_is_a_place_of_its_own():
    """Terminals of which only the province is known are in no city, and in the province's figures."""
    found = live({(PROVINCE, "other"): 3, (LIXIA, "other"): 1}, {})
    assert (found.cities[PROVINCE].live, found.cities[JINAN].live, found.province.live) == (3, 1, 4)


def test_the_target_of_a_day_is_the_last_row_due():
    """On the due day itself it counts; before the first nothing does; order in the file is none."""
    rows = [
        Target(JINAN, "energy", n, date(2026, month, 1), "declared")
        for month, n in ((6, 60), (3, 30), (9, 90))
    ]
    wanted = {date(2026, 2, 28): None, date(2026, 3, 1): 30, date(2026, 8, 31): 60, date(2030, 1, 1): 90}
    for day, target in wanted.items():
        assert targets_on(rows, day).get((JINAN, "energy")) == target


COUNTS = st.dictionaries(st.sampled_from(sorted(CELLS.values())[:340]), st.integers(0, 50), max_size=30)
TARGETS = st.dictionaries(st.sampled_from(sorted(CELLS.values())[10:340]), st.integers(0, 60), max_size=12)


def by_hand(alive, targets):
    """Covered and wanted by city, unit after unit, as docs/plan.md has it."""
    answer = {}
    for place in {city(division) for division, _ in targets}:
        covered = wanted = 0
        for domain in DOMAINS:
            counties = {
                d: n for (d, o), n in targets.items() if o == domain and city(d) == place and d != place
            }
            for county, target in counties.items():
                covered += min(alive.get((county, domain), 0), target)
                wanted += target
            rest = max(0, targets.get((place, domain), 0) - sum(counties.values()))
            others = sum(
                n for (d, o), n in alive.items() if o == domain and city(d) == place and d not in counties
            )
            covered += min(others, rest)
            wanted += rest
        answer[place] = (covered, wanted)
    return answer


@given(COUNTS, TARGETS)
def test_coverage_is_what_counting_by_hand_gives(alive, targets):
    """Of every city and of the province; never more than 1; a city's total target is that of its units."""
    found = live(alive, targets)
    expected = by_hand(alive, targets)
    for place in CITIES[1:]:
        figures = found.cities[place]
        assert (figures.covered, figures.target) == expected.get(place, (0, 0))
        assert figures.target == sum(n for (c, _), n in by_city(targets).items() if c == place)
    assert found.province.covered <= found.province.target
    assert found.province.covered == sum(covered for covered, _ in expected.values())


@settings(max_examples=40)
@given(COUNTS, COUNTS)
def test_a_city_is_the_sum_of_its_cells(alive, lost):
    """Cities, domains and counties add up to the cells they are made of, and so does the province."""
    counts = counted(
        {place: {"live": alive.get(place, 0), "lost": lost.get(place, 0)} for place in alive | lost}
    )
    found = report(counts, GRID, {}, NODES)
    for place in CITIES:
        cells = [GRID.id[d, o] for d, o in CELLS.values() if city(d) == place]
        assert found.cities[place][:7] == tuple(counts.states[cells].sum(axis=0))
        domains = [found.domains[place, domain] for domain in DOMAINS]
        assert tuple(map(sum, zip(*domains, strict=True))) == found.cities[place]
        counties = [f for code, f in found.counties.items() if city(code) == place]
        own = counts.states[[GRID.id[place, domain] for domain in DOMAINS]].sum(axis=0)
        assert found.cities[place].live == sum(f.live for f in counties) + own[STATES.index("live")]
    assert tuple(map(sum, zip(*found.cities.values(), strict=True))) == found.province


@given(COUNTS, TARGETS, st.data())
def test_moving_a_terminal_from_a_surplus_to_a_hole_helps(alive, targets, data):
    """Coverage rises by one terminal, wherever the two are."""
    of = units(targets)
    found = live(alive, targets)

    def fills(place):
        """Unit whose target a terminal here fills."""
        division, domain = place
        return place if place in of else (city(division), domain)

    there = dict.fromkeys(of, 0)
    for place, n in alive.items():
        if (unit := fills(place)) in there:
            there[unit] += n
    surplus = [
        place for place, n in alive.items() if n and there.get(fills(place), 1) > of.get(fills(place), 0)
    ]
    holes = [unit for unit, target in of.items() if there[unit] < target]
    if not (surplus and holes):
        return
    here, hole = data.draw(st.sampled_from(surplus)), data.draw(st.sampled_from(holes))
    moved = alive | {here: alive[here] - 1}
    moved[hole] = moved.get(hole, 0) + 1
    assert live(moved, targets).province.covered == found.province.covered + 1
