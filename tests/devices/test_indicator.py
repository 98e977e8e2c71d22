"""Indicators of a day and the forecast, by table and by hypothesis."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.coverage import CITIES, COUNTIES, GOAL_TERMINALS, Figures, Ratio, Report
from devices.day import day_of, midnight_seconds
from devices.division import PROVINCE
from devices.indicator import CITIES_AND_ABOVE, EVERYWHERE, Given, forecast, rows

TODAY = date(2026, 11, 22)
NOTHING = Figures(*[0] * len(Figures._fields))
SOME = NOTHING._replace(
    never_heard=10, live=60, overdue=20, lost=10, active=70, due=90, heard_today=81, target=200, covered=50,
    nodes=40, video_installed=10, video_live=9, video_smart=8, video_smart_unknown=1, video_key_area_unknown=5,
    video_all=50,
)  # fmt: skip


def reported(province=SOME, county=NOTHING):
    """A report of one city and one county."""
    cities = dict.fromkeys(CITIES, NOTHING) | {370100: province, PROVINCE: SOME}
    return Report(0.0, province, cities, {}, dict.fromkeys(COUNTIES, NOTHING) | {370102: county})


def found(given_=None, **places):
    """Rows by name and division."""
    answer = rows(reported(**places), given_ or Given())
    keyed = {(row.name, row.division): row for row in answer}
    assert len(keyed) == len(answer)
    return keyed


def test_rows_of_a_day():
    """Counts have a value alone; ratios say what they are made of; places are the province, cities and counties."""
    keyed = found(county=SOME)
    for name, numerator, denominator in (
        ("buildout_ratio", 100, 200), ("networking_ratio", 60, 100), ("networking_daily_ratio", 81, 90),
        ("coverage_ratio", 50, 200), ("video_smart_ratio", 8, 10), ("video_networking_ratio", 9, 10),
        ("video_smart_unknown_ratio", 1, 10), ("video_key_area_unknown_ratio", 5, 50),
        ("goal_progress_ratio", 90, 3e8), ("goal_declared_ratio", 100, 3e8), ("nodes_progress_ratio", 40, 1e7),
        ("counties_covered_ratio", 0, 136),
    ):  # fmt: skip
        assert keyed[name, PROVINCE][2:] == (numerator, denominator, numerator / denominator)
    for name, value in (("terminals_installed", 100), ("terminals_verified", 90), ("terminals_active", 70),
                        ("terminals_target", 200), ("nodes_verified", 40), ("video_terminals", 10)):  # fmt: skip
        assert keyed[name, PROVINCE][2:] == (None, None, value)
    assert keyed["coverage_ratio", 370102].value == 0.25
    assert ("nodes_verified", 370102) not in keyed
    assert keyed["terminals_installed", 370101 + 2].value == 0


def test_what_is_not_known_has_no_row():
    """No target, no terminals, no counts of others: no row, and never a 0 or infinity."""
    keyed = found(province=NOTHING)
    names = {name for name, _ in keyed}
    assert names == {n for n in (*EVERYWHERE, *CITIES_AND_ABOVE) if n.startswith(("terminals_", "nodes_", "video_t"))
                     } - {"terminals_target"} | {"goal_progress_ratio", "goal_declared_ratio", "nodes_progress_ratio",
                     "coverage_gaps_opened", "coverage_gaps_closed"}  # fmt: skip


def test_what_others_count_becomes_rows():
    """Identifier nodes, quality with the province as its sum, gaps, the forecast and points gained."""
    history = [(TODAY - timedelta(days=9 - n), 1_000_000 * (n + 1)) for n in range(10)]
    keyed = found(
        Given(identifier_nodes={"secondary": 31, "enterprise": 900}, quality={370100: (90, 100), 370200: (0, 0),
              PROVINCE: (10, 100)}, gaps_opened=3, gaps_closed=2, history=history,
              baseline={("video_smart_ratio", PROVINCE): 0.71, ("video_networking_ratio", 370200): 0.5})
    )  # fmt: skip
    assert keyed["identifier_nodes_secondary", PROVINCE].value == 31
    assert keyed["identifier_nodes_enterprise", PROVINCE].value == 900
    assert keyed["quality_ratio", 370100] == ("quality_ratio", 370100, 90, 100, 0.9)
    assert keyed["quality_ratio", PROVINCE][2:] == (100, 200, 0.5)
    assert ("quality_ratio", 370200) not in keyed
    assert (keyed["coverage_gaps_opened", PROVINCE].value, keyed["coverage_gaps_closed", PROVINCE].value) == (
        3,
        2,
    )
    assert keyed["goal_forecast_timestamp_seconds", PROVINCE].value == midnight_seconds(
        TODAY + timedelta(days=290)
    )
    assert keyed["video_smart_points_gained", PROVINCE].value == pytest.approx(9)
    assert [key for key in keyed if key[0] == "video_networking_points_gained"] == []


def growing(days, a_day, start=0.0):
    return [(TODAY + timedelta(days=n), start + a_day * n) for n in range(days)]


@pytest.mark.parametrize(
    ("history", "goal", "after_days"),
    [
        ([], 100, None),
        (growing(6, 10), 100, None),
        (growing(7, 10), 100, 10),
        (growing(7, 10), 101, 11),
        (growing(7, 0, 50), 100, None),
        (growing(7, -1, 50), 100, None),
        (growing(7, 0, 100), 100, 6),
        (growing(7, 1e-9), 3e8, None),
        (growing(30, 0) + [(TODAY + timedelta(days=n), 2.0 * (n - 29)) for n in range(30, 130)], 300, 179),
        (growing(30, 10)[::5] + growing(31, 10)[-1:], 1000, 100),
    ],
)
def test_forecast(history, goal, after_days):
    """Seven days at least, growth at least; only the last 90 days count; days may be missing."""
    expected = after_days is not None and TODAY + timedelta(days=after_days)
    assert (forecast(history, goal) or False) == expected


@given(st.lists(st.integers(0, GOAL_TERMINALS), min_size=7, max_size=200))
def test_a_forecast_is_the_line_nearest_to_the_days(counts):
    """It goes on from the last day at the rate that numpy's own fit of the last 90 days gives, and never back."""
    history = [(TODAY + timedelta(days=n), float(count)) for n, count in enumerate(counts)]
    last, verified = history[-1]
    met_on = forecast(history)
    recent = counts[-90:]
    a_day = np.polyfit(np.arange(len(recent), dtype=np.float64), np.array(recent, np.float64), 1)[0]
    if met_on is None:
        assert a_day < 150  # at most: the calendar ends 8,000 years from now
    elif met_on > last:
        wait = (met_on - last).days
        assert (GOAL_TERMINALS - verified) / a_day <= wait + 1e-6 * wait
        assert wait - 1 <= (GOAL_TERMINALS - verified) / a_day * (1 + 1e-6)
    else:
        assert verified >= GOAL_TERMINALS


def test_days_begin_at_midnight_in_shandong():
    """16:00 UTC is the next day there."""
    at = datetime(2026, 11, 21, 16, tzinfo=UTC).timestamp()
    assert (day_of(at), day_of(at - 1)) == (TODAY, TODAY - timedelta(days=1))
    assert midnight_seconds(TODAY) == at


def test_every_indicator_is_defined_in_words():
    """docs/plan.md has each name in its table, and knows no other."""
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
    documented = {cells[1].strip(" `") for line in page.partition("## Indicators")[2].splitlines()
                  if len(cells := line.split("|")) > 3 and cells[1].strip().startswith("`")}  # fmt: skip
    full = Given(identifier_nodes={"secondary": 1, "enterprise": 1}, quality={370100: (1, 1)},
                 baseline={("video_smart_ratio", PROVINCE): 0.0, ("video_networking_ratio", PROVINCE): 0.0},
                 history=growing(7, 1e6))  # fmt: skip
    assert documented == {name for name, _ in found(full, county=SOME)}
    assert isinstance(SOME.coverage, Ratio)
