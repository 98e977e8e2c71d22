"""The report: periods, numbers as words, charts, and a database with two periods whose numbers are known."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from devices.coverage import Ratio, Target
from devices.division import PROVINCE
from devices.report import (
    Counted,
    KindCount,
    Period,
    Plan,
    Summary,
    before,
    cells,
    last_days,
    month,
    planned_on,
    steps,
)
from ingest import report, report_charts, roles
from ingest.cli import app
from ingest.connection import connect
from ingest.report_charts import Line, bar, lines, nice_ceiling, shade, sparkline
from ingest.report_html import OTHERS, html, path
from ingest.report_map import MARGIN, WIDTH, outlines
from ingest.report_words import LANGUAGES, Words, definitions, language_of
from tests.worker import environment

ROOT = Path(__file__).parents[2]
ZH, EN = Words("zh"), Words("en")
DUE = date(2027, 12, 31)
NOVEMBER = Period(date(2026, 11, 1), date(2026, 11, 30))


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (NOVEMBER, Period(date(2026, 10, 1), date(2026, 10, 31))),
        (month(date(2026, 3, 9)), month(date(2026, 2, 1))),
        (Period(date(2026, 10, 1), date(2026, 12, 31)), Period(date(2026, 7, 1), date(2026, 9, 30))),
        (Period(date(2026, 1, 1), date(2026, 12, 31)), Period(date(2025, 1, 1), date(2025, 12, 31))),
        (Period(date(2026, 11, 1), date(2026, 11, 29)), Period(date(2026, 10, 3), date(2026, 10, 31))),
        (last_days(date(2026, 11, 22)), last_days(date(2026, 10, 23))),
        (Period(date(2026, 11, 22), date(2026, 11, 22)), Period(date(2026, 11, 21), date(2026, 11, 21))),
    ],
)
def test_the_period_before(period, expected):
    """Whole months are compared with as many whole months, other days with as many days."""
    assert before(period) == expected


def test_cells_of_what_was_counted():
    """A city is the sum of its counties; a surplus in one fills no hole in another; a county has its own alone."""
    counted = [Counted(370102, "municipal", (1, 2, 90, 0, 3, 0, 0), 93),
               Counted(370103, "municipal", (0,) * 2 + (5,) * 3
                                                                                + (0, 0), 10)]  # fmt: skip
    plan = [Target(370100, "municipal", 100, date(2026, 1, 1), "declared"),
            Target(370102, "municipal", 40, date(2026, 1, 1), "declared"),
            Target(370102, "municipal", 400, date(2027, 1, 1), "declared")]  # fmt: skip
    (figures,) = cells(counted, plan, date(2026, 11, 30), PROVINCE).values()
    assert (figures.target, figures.covered, figures.installed, figures.verified) == (100, 45, 110, 108)
    (figures,) = cells(counted[:1], plan, date(2026, 11, 30), 370102).values()
    assert (figures.target, figures.covered, figures.active) == (40, 40, 93)
    assert steps(plan, 370100) == ((date(2026, 1, 1), 100), (date(2027, 1, 1), 400))
    assert steps(plan, 370102)[-1] == (date(2027, 1, 1), 400)
    known = Plan(1, ("declared",), steps(plan, 370100))
    assert [planned_on(known, date(year, 6, 1)) for year in (2025, 2026, 2027)] == [None, 100, 400]


@pytest.mark.parametrize(
    ("value", "zh", "en"),
    [
        (None, "—", "—"), (0, "0", "0"), (999, "999", "999"), (9_999, "9,999", "10 k"), (10_000, "1万", "10 k"),
        (123_456, "12.35万", "123.5 k"), (99_990_000, "9,999万", "99.99 M"), (142_124_611, "1.42亿", "142.1 M"),
        (33e9, "330亿", "33 bn"), (-20_000, "-2万", "-20 k"),
    ],
)  # fmt: skip
def test_large_numbers_in_words(value, zh, en):
    """亿 and 万, M and k, with three digits or so."""
    assert (ZH.short(value), EN.short(value)) == (zh, en)


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "—"), (0, "0.0%"), (1e-9, "<0.01%"), (0.0123, "1.23%"), (0.4737, "47.4%"),
     (0.99999, "99.9%"), (1, "100.0%"),
     (1.25, "125.0%"), (Ratio(1, 2), "50.0%")],
)  # fmt: skip
def test_shares_are_never_rounded_to_whole_or_to_nothing(share, text):
    """A share is whole only when it is, and nothing only when it is."""
    assert ZH.percent(share) == text


def test_changes_have_a_sign():
    """Counts as counts, ratios in percentage points; none where one is missing, and no minus zero."""
    assert ZH.change("terminals_live", -1234.0) == "-1,234"
    assert ZH.change("coverage_ratio", 0.0256) == "+2.56 个百分点"
    assert EN.change("coverage_ratio", -1e-9) == "0.00 pp"
    assert (ZH.change("coverage_ratio", None), ZH.change("terminals_live", 0.0)) == ("—", "0")


@pytest.mark.parametrize(
    ("header", "language"),
    [("", "zh"), ("en-GB,en;q=0.9,zh;q=0.8", "en"), ("fr,zh-CN;q=0.5", "zh"), ("zh;q=0,en;q=0.1", "en"),
     ("de, *;q=0.1", "zh"), ("en;q=x,zh", "zh"), ("zh-TW,en", "zh")],
)  # fmt: skip
def test_the_language_that_is_wished(header, language):
    """The first that we have by its weight; Chinese where neither is wished."""
    assert language_of(header) == language


@given(st.text(max_size=60))
def test_any_header_gives_a_language(header):
    """Nothing that a client sends breaks it."""
    assert language_of(header) in LANGUAGES


def test_every_indicator_shown_is_defined_in_both_languages():
    """With name, formula, source and bias, under a name that docs/plan.md knows."""
    documented = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    for definition in definitions():
        assert f"`{definition.key}`" in documented
        assert all(len(pair) == 2 and all(pair) for pair in definition[1:5]), definition.key
    assert set(OTHERS) <= {definition.key for definition in definitions()}


def test_charts():
    """Lines go from the first day to the last, from 0 to a round number; names are escaped; nothing gives nothing."""
    points = [(date(2026, 11, 1), 0.0), (date(2026, 11, 11), 80.0), (date(2026, 11, 21), 160.0)]
    chart = lines([Line("verified", points)], EN.short, "<a>", level=150)
    left, right = report_charts.LEFT, report_charts.WIDTH - report_charts.RIGHT
    assert f'd="M{left:.1f} 196.0L{(left + right) / 2:.1f} 122.4L{right:.1f} 48.8"' in chart
    assert "&lt;a&gt;" in chart
    assert ">200<" in chart
    assert chart.count('class="level"') == 1
    assert 'class="dot line-verified"' in lines([Line("verified", points[:1])], EN.short, "")
    assert (lines([], EN.short, ""), lines([Line("x", [])], EN.short, ""), sparkline(points[:1])) == (
        "",
        "",
        "",
    )
    assert sparkline(points).count("L") == 2
    assert 'width="100.00"' in bar(1.3)
    assert bar(None) == ""


@pytest.mark.parametrize(
    ("share", "expected"),
    [(None, "none"), (0, "c0"), (0.25, "c1"), (0.74, "c2"), (0.75, "c3"), (0.9, "c4"), (2, "c4")],
)
def test_colours_of_coverage(share, expected):
    """They change at a quarter, a half, three quarters and 0.9; no figure is no colour."""
    assert shade(share) == expected


@given(st.floats(1, 1e12))
def test_axes_end_at_round_numbers(value):
    """Above the value, and never more than 2.5 times; labels at its quarters are whole numbers, nothing is rounded."""
    assert value <= nice_ceiling(value) <= 2.5 * value
    assert nice_ceiling(max(value, 4)) % 4 == 0


@pytest.mark.parametrize("words", [ZH, EN])
def test_labels_of_axes_fit_their_margin(words):
    """At the largest type, of phones and paper; a digit takes 0.64 of its height, a Chinese character all of it."""
    css = (ROOT / "ingest/templates/page.css").read_text()
    size = max(map(int, re.findall(r"\.chart \.axis \{[^}]*font-size: (\d+)px", css)))
    for power in range(10):
        for quarter in (f * 10**power / 4 * n for f in (20, 40, 80) for n in range(5)):
            label = words.short(quarter)
            width = sum(1 if sign > "\u2e80" else 0.32 if sign in ".," else 0.64 for sign in label)
            assert width * size <= report_charts.LEFT - 8, label


def test_a_plan_that_wants_no_more_is_drawn_to_the_end():
    """After its last step the plan is a level line, as far as the figures go."""
    days = [(date(2026, 11, 1), 5.0), (date(2026, 11, 30), 9.0)]
    plan = Plan(1, ("declared",), ((date(2026, 1, 1), 100),))
    drawn = path(
        Summary(PROVINCE, NOVEMBER, date(2027, 12, 31), plan=plan, trend={"terminals_verified": days}), EN
    )
    assert 'class="line line-plan' in drawn
    assert "dot line-plan" not in drawn


def test_the_map_has_every_city():
    """16 outlines whose names stand on the drawing, small enough for a page, the same as Grafana's."""
    height, shapes = outlines()
    assert len(shapes) == 16
    assert all(MARGIN < s.x < WIDTH - MARGIN and MARGIN < s.y < height - MARGIN for s in shapes)
    assert sum(len(s.path) for s in shapes) < 50_000
    ours = (ROOT / "schemas/data/shandong_cities.geojson").read_bytes()
    assert ours == (ROOT / "grafana/maps/shandong_cities.geojson").read_bytes()


SEED = """
INSERT INTO plan (version, division, domain, target, due_on, source) VALUES
    (7, 370100, 'municipal', 1000, '2026-01-01', 'declared'), (7, 370102, 'municipal', 400, '2026-01-01', 'declared'),
    (8, 370100, 'municipal', 9, '2026-01-01', 'declared');
INSERT INTO indicator (day, name, division, numerator, denominator, value, plan_version)
SELECT day::date, name, division, NULL, NULL, value * scale, 7
FROM (VALUES ('2026-10-30', 1), ('2026-10-31', 2), ('2026-11-01', 3), ('2026-11-29', 4)) AS days (day, scale),
     (VALUES ('terminals_verified', 370000, 100), ('terminals_installed', 370000, 120),
             ('terminals_verified', 370100, 60),
             ('terminals_verified', 370102, 50)) AS counts (name, division, value);
INSERT INTO indicator (day, name, division, numerator, denominator, value, plan_version) VALUES
    ('2026-10-31', 'quality_ratio', 370000, 80, 100, 0.8, 7), ('2026-11-01', 'quality_ratio', 370000, 90, 100, 0.9, 7),
    ('2026-11-29', 'quality_ratio', 370000, 290, 300, 0.9666, 7),
    ('2026-11-29', 'coverage_ratio', 370100, 450, 1000, 0.45, 7),
    ('2026-11-29', 'identifier_nodes_secondary', 370000, NULL, NULL, 31, 7),
    ('2026-12-01', 'recount_difference', 370000, NULL, NULL, 0, 7);
INSERT INTO coverage (at, division, domain, planned, installed, verified, active, never_heard, live, overdue, lost,
                      retired, discovered) VALUES
    ('2026-11-29 00:00+08', 370102, 'municipal', 0, 1, 1, 1, 0, 1, 0, 0, 0, 0),
    ('2026-11-29 23:45+08', 370102, 'municipal', 0, 700, 650, 600, 50, 500, 50, 100, 1, 2),
    ('2026-11-29 23:45+08', 370103, 'municipal', 0, 60, 60, 60, 0, 50, 10, 0, 0, 0),
    ('2026-11-30 00:00+08', 370102, 'municipal', 0, 2, 2, 2, 0, 2, 0, 0, 0, 0);
INSERT INTO coverage_gap (opened_at, closed_at, kind, division, domain, gateway, expected, live, evidence) VALUES
    ('2026-10-31 12:00+08', '2026-11-02 12:00+08', 'dark', 370102, 'municipal', NULL, 30, 0, '{}'),
    ('2026-11-05 12:00+08', '2026-12-01 00:00+08', 'dark', 370103, 'municipal', NULL, 40, 0, '{}'),
    ('2026-11-30 23:59+08', NULL, 'gateway_offline', 370100, NULL, '<script>alert(1)</script>', 900, 5, '{}'),
    ('2026-12-01 00:00+08', NULL, 'dark', 370202, 'municipal', NULL, 999, 0, '{}');
INSERT INTO declared (indicator, division, value, as_of, source) VALUES
    ('quality_ratio', 370000, 0.99, '2026-11-30', '=HYPERLINK("x")'),
    ('quality_ratio', 370000, 1, '2026-12-31', 'later');
"""


@pytest.fixture
def seeded(database):
    """Figures of 30 October to 29 November, counted against version 7 of the plan."""
    database.execute(SEED)
    return database


def read(url, division=PROVINCE, period=NOVEMBER):
    with connect(url) as conn:
        return report.read(conn, period, division, DUE)


def ganzhi(database, *arguments):
    return CliRunner().invoke(
        app, ["report", *arguments], env={"GANZHI_DATABASE_URL": database.url, "COLUMNS": "250"}
    )


def test_two_periods_of_known_numbers(seeded):
    """Figures are those of the last day that has any, against the last of the month before and the plan of that day."""
    found = read(seeded.url)
    assert (found.now.day, found.then.day) == (date(2026, 11, 29), date(2026, 10, 31))
    assert found.now.value("terminals_verified", PROVINCE) == 400
    assert found.change("terminals_verified") == 200
    assert found.change("coverage_ratio", 370100) is None
    assert found.trend["terminals_verified"] == [
        (date(2026, 10, 30), 100), (date(2026, 10, 31), 200), (date(2026, 11, 1), 300),
        (date(2026, 11, 29), 400)]  # fmt: skip
    assert found.plan == Plan(7, ("declared",), ((date(2026, 1, 1), 1000),))
    assert found.counted_at == datetime(2026, 11, 29, 15, 45, tzinfo=UTC).timestamp()
    city = found.cells[370100, "municipal"]
    assert (city.installed, city.verified, city.active, city.live) == (760, 710, 660, 550)
    assert (city.target, city.covered) == (1000, 450)
    assert found.quality == Ratio(380, 400)
    assert found.quality_before == Ratio(80, 100)
    assert found.gap_kinds == {"dark": KindCount(1, 1, 1, 0, 1), "gateway_offline": KindCount(1, 0, 0, 0, 1)}
    assert [gap.expected for gap in found.gaps] == [900, 40]
    assert [d.value for d in found.declared if d.indicator == "quality_ratio"] == [0.99]
    city = read(seeded.url, 370100)
    assert city.now.value("terminals_verified", 370102) == 200
    assert city.plan.steps == ((date(2026, 1, 1), 1000),)
    assert (PROVINCE, "terminals_verified") not in {(place, name) for name, place in city.now.rows}


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_the_command_writes_the_same_again(seeded, tmp_path):
    """HTML, CSV for Excel and JSON into a folder; what is in the database is escaped in each, and nothing is newer."""
    arguments = ("--month", "2026-11", "--format", "html,csv,json", "--output", str(tmp_path))
    assert ganzhi(seeded, *arguments).exit_code == 0
    files = {path.suffix: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(files) == [".csv", ".html", ".json"]
    assert ganzhi(seeded, *arguments).exit_code == 0
    assert {path.suffix: path.read_bytes() for path in tmp_path.iterdir()} == files
    page = files[".html"].decode()
    assert "数据为 2026-11-29 23:45（北京时间）起一刻钟内的统计" in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "对照计划第 7 版（申报）" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert files[".csv"].startswith(b"\xef\xbb\xbfsection,")
    rows = list(csv.DictReader(io.StringIO(files[".csv"].decode("utf-8-sig"))))
    assert [row["day"] for row in rows if row["name"] == "counted_at"] == ["2026-11-29T23:45:00+08:00"]
    assert {row["source"] for row in rows if row["section"] == "declared"} >= {'\'=HYPERLINK("x")'}
    (verified,) = [
        r
        for r in rows
        if (r["section"], r["name"], r["division"]) == ("indicator", "terminals_verified", "370100")
    ]
    assert (verified["value"], verified["before"], verified["change"], verified["plan_version"]) == (
        "240.0",
        "120.0",
        "120.0",
        "7",
    )
    said = json.loads(files[".json"])
    (dark,) = [gap for gap in said["gaps"]["list"] if gap["kind"] == "dark"]
    assert (dark["division"], dark["expected"]) == (370103, 40)
    (node,) = [d for d in said["declared"] if d["indicator"] == "identifier_nodes_secondary"]
    assert (node["value"], node["measured"]) == (38, 31)


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_on_a_terminal_it_is_a_file(seeded, tmp_path):
    """Without --output nobody's screen is filled with HTML: a file is written where one stands, and said."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "ingest.cli", "report", "--month", "2026-11"]
    env = environment() | {"GANZHI_DATABASE_URL": seeded.url, "COLUMNS": "250", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    assert file.name == "ganzhi-report-370000-2026-11-01-2026-11-30.html"
    assert f"{file.name}: " in done.stderr
    assert "from 2026-11-29 23:45:00+08" in done.stderr


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_who_may_read(seeded):
    """The reader reads it all; a city's reader has a report of its own city, and nothing of the province."""
    with connect(seeded.url) as conn:
        roles.make(conn, None, [370100])
    for role in ("ganzhi_reader", "ganzhi_observer"):
        assert read(seeded.url.replace("postgres@", f"{role}@")) == read(seeded.url)
    own = seeded.url.replace("postgres@", "ganzhi_reader_370100@")
    assert read(own, 370100) == read(seeded.url, 370100)
    assert read(own).now.day is None


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_nothing_is_a_dash_and_never_a_zero(database):
    """Without figures the report says so, and its tables hold dashes; a wrong question is exit code 2."""
    done = ganzhi(database, "--from", "2026-11-01", "--to", "2026-11-30", "--lang", "en")
    assert done.exit_code == 0
    assert "there are no figures of 2026-11-01 to 2026-11-30" in done.stderr
    assert "No figures of these days" in done.stdout
    places = re.search(r'<table id="places">.*?</table>', done.stdout, re.DOTALL)[0]
    cells_ = re.findall(r"<td[^>]*>(?:<span>)?([^<]*)", places)
    assert set(cells_) == {"—"}
    assert "没有数据" in html(Summary(PROVINCE, NOVEMBER, DUE), "zh")
    for wrong in (["--from", "2026-11-02", "--to", "2026-11-01"], ["--from", "yesterday"], ["--month", "2026-13"],
                  ["--month", "9999-12"], ["--month", "0001-01"], ["--from", "0001-01-01"], ["--to", "9999-12-31"],
                  ["--month", "last", "--to", "2026-11-01"], ["--division", "999999"], ["--format", "pdf"],
                  ["--format", "html,csv"]):  # fmt: skip
        assert ganzhi(database, *wrong).exit_code == 2, wrong
