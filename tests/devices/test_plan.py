"""Plan files: what is read, everything that is refused, and the plan assumed where there is none."""

import tomllib
from collections import Counter
from datetime import date
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.coverage import CITIES, GOAL_TERMINALS, Target, by_city, targets_on
from devices.declared import Declared, declared_at_first, read_declared
from devices.division import DOMAINS
from devices.plan import read_plan
from devices.plan_assumed import assumed, spread
from devices.plan_file import PlanError

DAY = date(2027, 12, 31)
HEADER = "division,domain,target,due_on,source"
DECLARED = "indicator,division,value,as_of,source"


def numbered(header, *lines):
    """Lines as a file gives them."""
    return [(number, line.split(",")) for number, line in enumerate((header, *lines), 1)]


def faults(read, header, *lines):
    with pytest.raises(PlanError) as caught:
        read(numbered(header, *lines))
    return caught.value.faults


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("370100,municipal,1200,2027-12-31,declared", (370100, "municipal", 1200, DAY, "declared")),
        ("370102,市政,0,2027/12/31,假定", (370102, "municipal", 0, DAY, "assumed")),
        (" 370102.0 ,Energy,1200.0,20271231,", (370102, "energy", 1200, DAY, "declared")),
        ("371202,other,5,2027年12月31日,申报", (370116, "other", 5, DAY, "declared")),
    ],
)
def test_a_line_is_read(line, row):
    """Codes, domains in both languages, numbers and days as spreadsheets write them; abolished codes resolve."""
    assert read_plan(numbered(HEADER, line)) == [Target(*row)]


def test_columns_are_found_by_name():
    """In English or Chinese and any order; others are left out, empty lines too, and source may be missing."""
    lines = numbered("备注,截止日期,目标,领域,行政区划", "x,2027-12-31,7,市政,370100", ",,,,")
    assert read_plan(lines) == [Target(370100, "municipal", 7, DAY, "declared")]
    grouped = [(1, HEADER.split(",")), (2, ["370100", "energy", "1,200,000", "2027-12-31", ""])]
    assert read_plan(grouped)[0].target == 1_200_000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("110101,energy,1,2027-12-31,", "no GB/T 2260 code of Shandong"),
        ("370000,energy,1,2027-12-31,", "the province is their sum"),
        ("370176,energy,1,2027-12-31,", "plan it in 370100"),
        ("370100,water,1,2027-12-31,", "domain 'water'"),
        ("370100,energy,-1,2027-12-31,", "target '-1'"),
        ("370100,energy,1.5,2027-12-31,", "a whole number"),
        ("370100,energy,1000000001,2027-12-31,", "to 1,000,000,000"),
        ("370100,energy,1,2027-02-30,", "day '2027-02-30'"),
        ("370100,energy,1,2027121,", "write it as"),
        ("370100,energy,1,2027-12-31,guess", "source 'guess'"),
        ("370100,energy,,2027-12-31,", "target is empty"),
        ("370100,energy,1", "3 cells, the first line has 5"),
    ],
)
def test_a_wrong_line_says_why(line, words):
    """One fault, with the number of the line and what would be right."""
    (fault,) = faults(read_plan, HEADER, "370200,energy,1,2027-12-31,", line)
    assert fault.startswith("line 3: ")
    assert words in fault


def test_all_that_is_wrong_is_said():
    """Every fault of every line, in the order of the file."""
    found = faults(
        read_plan, HEADER, "1,x,y,z,", "370100,energy,1,2027-12-31,", "370100,energy,2,2027-12-31,"
    )
    assert [fault.partition(":")[0] for fault in found] == ["line 2"] * 4 + ["line 4"]
    assert "stands in line 3 already" in found[-1]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("division,domain,due_on", "no column target"),
        ("division,行政区划,domain,target,due_on", "two columns are division"),
    ],
)
def test_a_header_says_what_is_needed(header, words):
    """Missing and repeated columns are named, with the names that there are."""
    (fault,) = faults(read_plan, header, "370100,energy,1")
    assert words in fault
    assert "due_on (截止日期)" in fault


@pytest.mark.parametrize("lines", [(), (",,,,",)])
def test_an_empty_file_is_no_plan(lines):
    """Nothing to import is a fault: it would take away the plan that counts."""
    assert faults(read_plan, HEADER, *lines) == ("there is no line below the columns",)


def test_a_plan_may_be_divided():
    """Counties up to their city's total, without a city's row to any; also over several days."""
    lines = ("370100,energy,10,2026-12-31,", "370102,energy,4,2026-12-31,", "370103,energy,6,2026-12-31,",
             "370100,energy,20,2027-12-31,", "370102,energy,14,2027-12-31,",
             "370202,energy,99,2026-12-31,")  # fmt: skip
    rows = read_plan(numbered(HEADER, *lines))
    assert by_city(targets_on(rows, date(2026, 12, 31))) == {(370100, "energy"): 10, (370200, "energy"): 99}
    assert by_city(targets_on(rows, DAY)) == {(370100, "energy"): 20, (370200, "energy"): 99}


@pytest.mark.parametrize(
    ("lines", "line", "day"),
    [
        (("370100,energy,10,2027-12-31,", "370102,energy,4,2027-12-31,", "370103,energy,7,2027-12-31,"), 4, DAY),
        (("370100,energy,10,2026-12-31,", "370102,energy,11,2027-06-30,", "370100,energy,20,2027-12-31,"), 3,
         date(2027, 6, 30)),
        (("370102,energy,11,2026-12-31,", "370100,energy,10,2027-12-31,"), 3, DAY),
    ],
)  # fmt: skip
def test_counties_may_not_exceed_their_city(lines, line, day):
    """On no day on which something is due; the fault names city, domain, day and both sums."""
    (fault,) = faults(read_plan, HEADER, *lines)
    assert fault.startswith(f"line {line}: 370100 济南市 energy")
    assert f"due by {day} sum to 11, more than the city's total of 10" in fault


def test_declared_figures_are_read():
    """Whatever others publish, in either language; a ratio is no percentage."""
    lines = numbered(
        "指标,行政区划,数值,统计日期,来源", "video_smart_ratio,370000,0.71,2022-12-31,省公安厅年报"
    )
    assert read_declared(lines) == [
        Declared("video_smart_ratio", 370000, 0.71, date(2022, 12, 31), "省公安厅年报")]  # fmt: skip
    assert [d.value for d in declared_at_first()] == [38, 21, 33_000_000_000]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("video_smart_ratio,370000,71,2022-12-31,a", "85 % is 0.85"),
        ("Video smart,370000,1,2022-12-31,a", "small letters"),
        ("x,370000,nan,2022-12-31,a", "value 'nan'"),
        ("x,370000,-1,2022-12-31,a", "at least 0"),
        ("x,370000,1,2022-12-31,", "who said it and where"),
        ("x,1,1,2022-12-31,a", "no GB/T 2260 code"),
    ],
)
def test_a_wrong_declaration_says_why(line, words):
    """One fault with its line."""
    (fault,) = faults(read_declared, DECLARED, line)
    assert fault.startswith("line 2: ")
    assert words in fault


def test_the_assumed_plan_sums_to_the_goal():
    """300,000,000 on its last day, an even part at each quarter's end before; no city or domain ever falls."""
    rows = assumed()
    sums = Counter()
    for row in rows:
        sums[row.due_on] += row.target
    days = sorted(sums)
    assert (len(days), days[0], days[-1]) == (20, date(2023, 3, 31), DAY)
    assert [sums[day] for day in days] == [GOAL_TERMINALS * n // 20 for n in range(1, 21)]
    last = targets_on(rows, DAY)
    assert set(last) == {(place, domain) for place in CITIES[1:] for domain in DOMAINS}
    assert {row.source for row in rows} == {"assumed"}
    by_cell = {}
    for row in rows:
        assert by_cell.get((row.division, row.domain), 0) <= row.target
        by_cell[row.division, row.domain] = row.target


def test_the_assumed_shares_sum_to_1():
    """All of a city's terminals are in some domain, each city's by its people."""
    shares = tomllib.loads(
        (files("schemas") / "data/plan_shares.toml").read_text("utf-8"), parse_float=Decimal
    )["share"]
    assert sum(shares.values()) == 1
    assert set(shares) == set(DOMAINS)
    cities = {
        place: sum(n for (c, _), n in targets_on(assumed(), DAY).items() if c == place)
        for place in CITIES[1:]
    }
    assert cities[370200] == pytest.approx(3e8 * 10_071_722 / 101_527_453, abs=10)


@given(st.integers(0, 10**9), st.lists(st.integers(1, 10**7), min_size=1, max_size=30))
def test_a_spread_is_exact(total, weights):
    """Whole numbers that sum to the total, each within one of its part."""
    parts = spread(total, dict(enumerate(map(Fraction, weights))))
    assert sum(parts.values()) == total
    assert all(abs(parts[n] - Fraction(total * w, sum(weights))) < 1 for n, w in enumerate(weights))
