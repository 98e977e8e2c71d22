"""The benchmarks at a scale of nothing: that each measures what it says, and says what it measured."""

import time
from xml.etree import ElementTree as ET

import pytest

from schemas import scan
from tests.bench import growth, guard
from tests.bench.path import PACK, rounds, running
from tests.bench.report import Point, label, picture, table, with_section

MESSAGES = 20
ONE_STORAGE = pytest.mark.parametrize("storage", ["postgres"], indirect=True)


@pytest.fixture(autouse=True)
def _nothing_compiled():
    """Benchmarks compile the reader of packs in this process; other tests want lists."""
    yield
    scan._loop = None


def sample(path, name, **labels):
    return path.metrics.registry.get_sample_value(f"ganzhi_{name}_total", labels or None) or 0


@ONE_STORAGE
async def test_path_commits_what_it_measures(database):
    """Every reading of a measurement is committed, none a duplicate, and every terminal was known."""
    async with running(database.url) as path:
        path.know(1_000)
        for seed in range(2):
            cost = await path.cost(rounds(1_000, MESSAGES, seed), MESSAGES * PACK)
            assert cost.rate > 0
            assert cost.cpu_us > 0
        assert sample(path, "readings_committed", domain="other") == 2 * MESSAGES * PACK
        assert sample(path, "readings_duplicate") == 0


@ONE_STORAGE
async def test_spoilt_messages_are_refused_as_they_are_meant(database):
    """Garbage is malformed, and of a message that is refused every reading is out of range."""
    async with running(database.url) as path:
        path.know(1_000)
        whole = rounds(1_000, MESSAGES, 3)
        await path.cost(growth.spoilt(whole, 1.0, 1), MESSAGES)
        await path.cost(growth.refused(whole, 1.0, 1), MESSAGES)
        assert sample(path, "messages_rejected", reason="malformed_payload") == MESSAGES
        assert sample(path, "readings_rejected", reason="out_of_range") == MESSAGES * PACK


@ONE_STORAGE
async def test_aged_messages_are_late(database):
    """The share of messages that is made old is stored with the flag, whole messages at a time."""
    async with running(database.url) as path:
        path.know(1_000)
        await path.cost(growth.aged(rounds(1_000, MESSAGES, 4), 0.5, 3, 1), MESSAGES * PACK)
        late = sample(path, "readings_flagged", flag="late")
        assert 0 < late < MESSAGES * PACK
        assert late % PACK == 0


def test_rounds_are_packs_of_one_gateway():
    """A pack has as many readings as it is to have, whatever the metrics of a terminal, and no payload comes twice."""
    made = rounds(1_000, MESSAGES, int(time.time()), growth.CHANNELS[:7])
    assert {payload.count(b'"n"') for _, payload in made} == {PACK}
    assert len(set(made)) == MESSAGES


@pytest.mark.parametrize(
    ("rate_ratio", "cpu_ratio", "bends"),
    [(1, 1, False), (0.81, 1.19, False), (0.79, 1, True), (1, 1.21, True), (3, 0.3, False)],
)
def test_a_curve_bends_where_a_reading_is_a_fifth_dearer(rate_ratio, cpu_ratio, bends):
    """Slower or dearer by more than a fifth bends a curve, faster and cheaper does not."""
    points = [Point("some", 1, 1e5, 1.0, 1.0, 1.0), Point("some", 2, 1e5, 1.0, rate_ratio, cpu_ratio)]
    assert points[1].bends == bends
    assert table(points).splitlines()[-1].endswith("| no |" if bends else "| yes |")


def test_picture_has_a_panel_a_curve():
    """The picture is XML with two lines for each curve, inside its bounds."""
    points = [
        Point(f"curve {n}", at, 1, 1, ratio, ratio) for n in range(5) for at, ratio in ((1, 1), (10, 9.0))
    ]
    lines = ET.fromstring(picture(points)).findall(".//{*}polyline")
    assert len(lines) == 10
    assert all(float(y) >= 0 for line in lines for _, y in (p.split(",") for p in line.get("points").split()))


@pytest.mark.parametrize(
    ("at", "text"), [(0.0, "0"), (0.05, "5 %"), (50, "50"), (10_000, "10k"), (2e8, "200M")]
)
def test_label(at, text):
    """Shares are percent, counts short, and nothing is nothing."""
    assert label(at) == text


def test_section_is_replaced_between_its_marks():
    """A section is added at the end once, and replaced where it stands after that."""
    page = with_section("# Page\n", "growth", "one")
    page = with_section(page + "\n## Next\n", "growth", "two\n")
    assert page == "# Page\n\n<!-- growth: begin -->\ntwo\n<!-- growth: end -->\n\n## Next\n"


def test_guard_names_what_moved():
    """Steps that cost a tenth more or less are named, so are new ones and those that are gone."""
    said = guard.moved(
        {"a": 1.0, "b": 1.0, "c": 1.0, "gone": 1.0}, {"a": 1.09, "b": 1.2, "c": 0.8, "new": 1.0}
    )
    assert [line.split(":")[0] for line in said] == ["new", "gone", "b", "c"]


def test_guard_measures_the_steps_that_are_recorded():
    """What is recorded has the name of each step that is measured, and each costs something."""
    steps = {f"{step}, {what}" for what in ("packs of 100", "one reading") for step in guard.STEPS}
    assert guard.recorded().keys() == steps
    assert all(cost > 0 for cost in guard.recorded().values())
