"""Lines of a register: what they say of a terminal, and what each wrong cell is called."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.datum import Datum, from_wgs84, to_wgs84
from devices.division import DOMAINS
from devices.importer import TERMINAL_COLUMNS, Fault, HeaderError, Sheet, Terminals, gateways
from schemas.catalogue import METRICS
from schemas.profiles import PROFILES


def read(datum=Datum.WGS84, **cells):
    """The facts of a line with these cells, by field; or the fault."""
    cells = {"code": "imei:860000000000009"} | cells
    facts = Terminals(list(cells), datum)(list(cells.values()))
    return facts if isinstance(facts, Fault) else dict(zip(Terminals.FIELDS, facts, strict=True))


@pytest.mark.parametrize(("column", "text", "fact"), [
    ("code", "urn:imei:860000000000009", "imei:860000000000009"),
    ("code", " 860000000000009 ", "imei:860000000000009"),
    ("code", "88.101.2/meter.7", "handle:88.101.2/meter.7"),
    ("division", "370102", 370102),
    ("division", "370684", 370614),  # abolished in 2020
    ("division", "370102.0", 370102),  # a column of numbers with holes, as data frames write it
    ("domain", "市政", "municipal"),
    ("domain", "Municipal", "municipal"),
    ("profile", "水表", "water_meter"),
    ("network", "NB-IoT", "nbiot"),
    ("report_every", "900", 900),
    ("report_every", "15min", 900),
    ("report_every", "24小时", 86_400),
    ("installed_on", "2026-11-01", date(2026, 11, 1)),
    ("installed_on", "2026/1/9", date(2026, 1, 9)),
    ("installed_on", "20261101", date(2026, 11, 1)),
    ("installed_on", "2026年1月9日", date(2026, 1, 9)),
    ("installed_on", "2026-11-01 00:00:00", date(2026, 11, 1)),
    ("smart", "是", True),
    ("key_area", "FALSE", False),
    ("site", "", None),
])  # fmt: skip
def test_a_cell_says_a_fact(column, text, fact):
    """Usual spellings of one fact are one fact."""
    assert read(**{column: text})[column] == fact


@pytest.mark.parametrize(("cells", "reason"), [
    ({"code": ""}, "code is empty"),
    ({"code": "8.6E+14"}, "a spreadsheet has rounded it"),
    ({"code": "two words"}, "visible ASCII"),
    ({"code": "nul\0"}, "visible ASCII"),
    ({"division": "110000"}, "no GB/T 2260 code of Shandong"),
    ({"division": "济南"}, "no GB/T 2260 code of Shandong"),
    ({"domain": "water"}, "there are manufacturing"),
    ({"profile": "toaster"}, "there are water_meter"),
    ({"gateway": "a/b"}, "a name is 1 to 64"),
    ({"gateway": "ganzhi-0"}, "the service itself"),
    ({"report_every": "soon"}, "seconds, or such as"),
    ({"report_every": "0"}, "seconds, or such as"),
    ({"installed_on": "2026-02-30"}, "write a day"),
    ({"smart": "maybe"}, "true or false"),
    ({"site": "nul\0"}, "characters of text"),
    ({"site": "byte \udcff"}, "characters of text"),
    ({"lon": "0", "lat": "0"}, "not in Shandong"),
    ({"lon": "36.6", "lat": "117.1"}, "are they swapped?"),
    ({"lon": "nan", "lat": "36.6"}, "not in Shandong"),
    ({"lon": "117.1", "lat": ""}, "one of lon and lat is empty"),
    ({"lon": "117°06'", "lat": "36.6"}, "decimal degrees"),
])  # fmt: skip
def test_a_fault_has_a_name(cells, reason):
    """What is wrong with a line is said in words that help."""
    fault = read(**cells)
    assert isinstance(fault, Fault)
    assert reason in fault


def test_all_that_is_wrong_is_said_at_once():
    """Nobody mends a line fault by fault."""
    fault = read(division="1", domain="x")
    assert "division" in fault
    assert "domain" in fault


def test_a_line_of_another_length_is_refused():
    """A comma too many shifts facts into other columns."""
    assert "the first line has 2" in Terminals(["code", "site"])(["a", "b", "c"])


def test_headers_in_chinese_and_unknown_ones():
    """Columns are found by either name in any order; unknown ones are reported, ours are not."""
    reader = Terminals(["line", "经度", "\ufeff编码", "颜色", "纬度", "reason"])
    facts = reader(["7", "117.1", "a", "red", "36.6", "x"])
    assert facts[0] == "a"
    assert facts[14:16] == (117.1, 36.6)
    assert reader.sheet.ignored == ["颜色"]


@pytest.mark.parametrize("header", [["division"], ["code", "编码"]])
def test_a_file_needs_its_key_once(header):
    """Without one column `code`, or with two, a file says nothing."""
    with pytest.raises(HeaderError):
        Sheet(header, TERMINAL_COLUMNS)


def test_a_camera_says_where_it_is():
    """Division, profile and key area follow from a GB/T 28181 id, marked as inferred."""
    facts = read(code="37020000001320000001")
    assert (facts["division"], facts["profile"], facts["key_area"]) == (370200, "video", True)
    assert facts["division_inferred"] and facts["profile_inferred"] and facts["key_area_inferred"]


def test_what_is_declared_beats_what_is_inferred():
    """A declared fact is not marked."""
    facts = read(code="37020000001320000001", division="370102", key_area="no")
    assert (facts["division"], facts["key_area"]) == (370102, False)
    assert not (facts["division_inferred"] or facts["key_area_inferred"])


def test_a_recorder_is_no_camera():
    """An NVR's id gives its division only."""
    facts = read(code="37020000001180000001")
    assert (facts["division"], facts["profile"], facts["key_area"]) == (370200, None, None)


def test_a_wrong_check_digit_is_counted():
    """A failed IMEI check digit is a doubt, never a refusal."""
    reader = Terminals(["code"])
    assert not isinstance(reader(["imei:860000000000001"]), Fault)
    assert not isinstance(reader(["imei:860000000000009"]), Fault)
    assert reader.suspect_imeis == 1


@pytest.mark.parametrize(
    ("name", "taken"),
    [("ganzhi", True), ("ganzhi-0", True), ("ganzhi-observer", True), ("observer", True), ("simulator", True),
     ("health", True), ("ganzhi2", False), ("jn-ganzhi", False), ("observer-1", False)],
)  # fmt: skip
def test_no_gateway_has_a_name_of_the_service(name, taken):
    """Users and client ids of the service are no gateway's name: it would speak, or connect, as the service."""
    line = gateways(["name"])([name])
    assert ("the service itself: choose another" in line) if taken else line[0] == name


def test_a_gateway():
    """Name, division and clock of a gateway."""
    assert gateways(["网关名称", "行政区划", "时差"])(["gw1", "370102", "+08:00"]) == [
        "gw1", 370102, None, None, None, 28_800]  # fmt: skip


@given(st.lists(st.text(), min_size=len(TERMINAL_COLUMNS), max_size=len(TERMINAL_COLUMNS)))
def test_no_line_breaks_the_reader(cells):
    """Whatever the cells are, the outcome is facts or a fault."""
    outcome = Terminals(TERMINAL_COLUMNS)(cells)
    assert isinstance(outcome, Fault) or len(outcome) == len(Terminals.FIELDS)


@pytest.mark.parametrize(("datum", "shown"), [
    (Datum.WGS84, (116.404, 39.915)),
    (Datum.GCJ02, (116.41024449916938, 39.91640428150164)),  # as in the public implementations
])  # fmt: skip
def test_maps_shift_as_published(datum, shown):
    """The shift is that of the formulas in public use."""
    assert from_wgs84(116.404, 39.915, datum) == pytest.approx(shown, abs=1e-9)


@given(st.floats(114, 123), st.floats(34, 39), st.sampled_from(Datum))
def test_the_shift_is_undone(lon, lat, datum):
    """There and back is the same place within a centimetre."""
    assert to_wgs84(*from_wgs84(lon, lat, datum), datum) == pytest.approx((lon, lat), abs=1e-7)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
def test_profiles_use_what_there_is(profile):
    """Domains and metrics of a profile are of the closed set and the catalogue."""
    assert profile.domain in DOMAINS
    assert set(profile.metrics) <= set(METRICS)
    assert profile.report_every_seconds > 0
