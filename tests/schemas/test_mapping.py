"""Mappings: paths, rules, what is said of broken ones, and the vendors' mappings under any input.

Shapes and bad inputs of the vendors are golden folders: alibaba, thingsboard, jetlinks, emqx_lwm2m.
"""

import json
import math
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.registry import Registry
from ingest.decode import Decode
from ingest.settings import Settings, SettingsError, load
from schemas.mapping import compile_mapping
from schemas.mapping_rule import MappingError, Rule
from schemas.message import Message
from schemas.path import MISSING, PathError
from schemas.path import Path as JsonPath
from schemas.routes import Routes, RoutesError
from tests.schemas.parts import taken_apart

VENDORS = Path(str(files("schemas"))) / "data" / "vendors.toml"
DECODE = Decode(Routes.load(VENDORS), 10_000, Registry())
TOPICS = [filter_.replace("+", "x") for filter_ in Routes.from_file(VENDORS).filters]
DATA = {"a": [{"b": 1, "c.d": 2}, {"b": 3}], "温度": {"x": 4, "y": 5}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["params", "items", "properties", "time", "ts", "timestamp", "values", "value", "data", "content", "path",
          "msgType", "status", "subDevices", "identity", "messageId", "device"]  # fmt: skip


def rule_of(**fields):
    return compile_mapping([Rule(**{"code": "{id}", **fields})], "r", {})


def decoded(value, /, **fields):
    return rule_of(**fields)(Message("t", json.dumps(value).encode(), 0.0))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", [(DATA, {})]),
        ("a[0].b", [(1, {})]),
        ("a[*].b", [(1, {}), (3, {})]),
        ("a[0].'c.d'", [(2, {})]),
        ("温度.{key}", [(4, {"key": "x"}), (5, {"key": "y"})]),
        ("{outer}[1].{inner}", [(3, {"outer": "a", "inner": "b"})]),
        ("a[9].b", []),
        ("a.b", []),
        ("温度[0]", []),
        ("a[*].b.c", []),
    ],
)
def test_paths(path, expected):
    """A path finds what it describes, in order, and nothing where the data is built otherwise."""
    assert list(JsonPath(path).walk(DATA, {})) == expected
    if JsonPath(path).single:
        assert JsonPath(path).find(DATA) == (expected[0][0] if expected else MISSING)


@pytest.mark.parametrize(
    "path", [".a", "a.", "a..b", "a[", "a[-1]", "a[x]", "{A}", "{a", "a b", "'a", "[*]a", "a'b'"]
)
def test_broken_path(path):
    """A path that can't be read is refused with the place of the fault."""
    with pytest.raises(PathError, match="character"):
        JsonPath(path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"each": "a..b"}, "character 1"),
        ({"values": [".a"]}, "character 0"),
        ({"values": []}, "empty"),
        ({"code": ""}, "code is empty"),
        ({"time": ["a[*].t"]}, "one value"),
        ({"code": "x:{a[*]}"}, "one value"),
        ({"when": {"{k}": ["a"]}}, "one value"),
    ],
)
def test_broken_rule_is_explained(fields, said):
    """A rule that can't work is refused when it is compiled, not when messages come."""
    with pytest.raises(MappingError, match=said):
        rule_of(**fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[mapping.m]]\ncode = "a"\n', "no route's decoder"),
        ('[[mapping.v]]\ncode = ""\n', "mapping 'v': code is empty"),
        ('[[mapping.v]]\ncode = "a"\ntimes = ["t"]\n', "times"),
        ("[mapping]\nv = []\n", "no rule"),
    ],
)
def test_broken_mapping_in_a_file_is_explained(tmp_path, text, said):
    """A routes file with a broken mapping names the file and the mapping."""
    file = tmp_path / "own.toml"
    file.write_text('[[route]]\nfilter = "v/{gateway}"\nname = "v"\ndecoder = "v"\n\n' + text)
    with pytest.raises(RoutesError, match=said):
        Routes.from_file(file)


def test_routes_of_one_s_own(tmp_path, monkeypatch):
    """GANZHI_ROUTES adds routes to the service's own; what can't work is a fault of the settings."""
    assert {"ganzhi/v1/+/+/telemetry", "lwm2m/+/up/+"} <= set(Routes.load(VENDORS).filters)
    monkeypatch.setenv("GANZHI_ROUTES", str(tmp_path / "nowhere.toml"))
    with pytest.raises(SettingsError, match="GANZHI_ROUTES"):
        load(None)
    file = tmp_path / "own.toml"
    file.write_text('[[route]]\nfilter = "ganzhi/#"\nname = "v"\ndecoder = "telemetry"\n')
    monkeypatch.setenv("GANZHI_ROUTES", str(file))
    with pytest.raises(SettingsError, match="overlap"):
        load(None)
    file.write_text('[[route]]\nfilter = "own/{gateway}"\nname = "v"\ndecoder = "unheard_of"\n')
    with pytest.raises(SettingsError, match="unheard_of"):
        Decode(Routes.load(Settings(routes=file).routes), 1000, Registry())
    file.write_text('[[route]]\nfilter = "plant/spBv1.0/#"\nname = "v"\ndecoder = "sparkplug"\n')
    with pytest.raises(SettingsError, match=r"begin with spBv1\.0/"):
        Decode(Routes.load(Settings(routes=file).routes), 1000, Registry())


def test_unit_constant_and_numbers():
    """A unit comes from where the rule says; a constant replaces values; texts may stand for numbers."""
    [part] = decoded({"id": "a", "m": "flow", "v": 2, "u": "l/s"}, values=["v"], metric="{m}", unit=["u"])
    assert (part.names, part.units, part.values) == ([("a", "flow")], ["l/s"], [2.0])
    [part] = decoded({"id": "a"}, metric="online", constant=0)
    assert part.values == [0.0]
    [part] = decoded(
        {"id": "a", "s": ["开", "关", "坏"]}, values=["s[*]"], metric="valve", numbers={"开": 1, "关": 0}
    )
    assert part.values == [1.0, 0.0]
    assert [event.body for event in part.events] == [{"vs": "坏"}]


def test_times_are_looked_for_from_the_inside_out():
    """A value's own time counts before its record's, that before the message's; 0 and null are no time."""
    value = {"t": 1763710003, "r": [{"id": "a", "t": 1763710002, "v": [{"x": 1, "t": 1763710001}, {"x": 2, "t": 0}]},
                                    {"id": "a", "t": None, "v": [{"x": 3}]}]}  # fmt: skip
    [part] = decoded(value, each="r[*]", values=["v[*]"], value="x", metric="m", time=["t"])
    assert part.times == [1763710001.0, 1763710002.0, 1763710003.0]


def test_a_bad_time_costs_the_values_that_need_it():
    """A record's time that can't be read refuses the values without one of their own, and no other."""
    value = {"id": "a", "t": "noon", "v": [{"x": 1, "t": 1763710001}, {"x": 2}]}
    [part] = decoded(value, values=["v[*]"], value="x", metric="m", time=["t"])
    assert (part.values, part.times) == ([1.0], [1763710001.0])
    assert [(refusal.index, refusal.reason) for refusal in part.refusals] == [(1, "malformed_payload")]


def test_identity():
    """The same values in another order are the same part; another time, value, terminal or number is another."""
    fields = {"values": ["v.{metric}"], "time": ["t"], "identity": ["n"]}
    base = {"id": "a", "v": {"x": 1, "y": 2}, "t": 1763710001}

    def identity(**changes):
        [part] = decoded(base | changes, **fields)
        return part.identity, part.absolute

    assert identity() == identity(v={"y": 2, "x": 1})
    others = [
        {"t": 1763710002},
        {"v": {"x": 1}},
        {"id": "b"},
        {"n": 5},
        {"n": 6},
        {"t": None, "n": 5},
        {"t": None},
    ]
    identities = [identity(**other) for other in others]
    assert len({*identities, identity()}) == len(others) + 1
    assert [absolute for _, absolute in identities] == [True] * 6 + [False]


def test_other_units_are_other_data():
    """A number that comes again in another unit is another part; in the same one it is the same."""
    fields = {"values": ["v.{metric}"], "time": ["t"], "unit": ["u"]}
    base = {"id": "a", "v": {"x": 1, "y": 2}, "t": 1763710001}
    celsius, kelvin, unsaid, again = (
        decoded(base | said, **fields)[0].identity
        for said in ({"u": "Cel"}, {"u": "K"}, {}, {"u": "Cel", "v": {"y": 2, "x": 1}})
    )
    assert len({celsius, kelvin, unsaid}) == 3
    assert again == celsius


@settings(max_examples=200, deadline=None)
@given(
    topic=st.sampled_from(TOPICS),
    value=st.dictionaries(
        st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=5
    )
    | JSON,
)
def test_any_json_on_any_vendor_s_topic(topic, value):
    """No JSON makes a mapping fail; what comes out is well formed."""
    way, parts = DECODE(Message(topic, json.dumps(value).encode(), 0.0))
    assert way.decoder
    assert parts
    for part in parts:
        assert len(part.names) == len(part.units) == len(part.values) == len(part.times) == len(part.indexes)
        assert not any("decoder failed" in refusal.detail for refusal in part.refusals)
        json.dumps([event.body for event in part.events], allow_nan=False)


def test_what_is_refused_at_a_time_is_known_when_it_comes_again():
    """A bad value or a record without a code is absolute where the record has a time or a number."""
    fields = {"values": ["v.{metric}"], "time": ["t"], "identity": ["n"]}
    for value in ({"id": "a", "v": {"x": 10**400}}, {"v": {"x": 1}}):
        for said, known in (({"t": 1763710001}, True), ({"n": 5}, True), ({}, False)):
            [part] = decoded(value | said, **fields)
            assert part.refusals
            assert part.absolute == known


@pytest.mark.parametrize(
    ("said", "known"),
    [({"t": 1763710001}, True), ({"n": 5}, True), ({"r": [{"t": 1763710001}]}, True),
     ({"r": [{"v": [{"t": 1763710001}]}]}, True), ({}, False), ({"t": "noon"}, False)],
)  # fmt: skip
def test_a_message_that_no_rule_fits_is_known_by_its_time(said, known):
    """What fits no rule, or holds nothing where they look, is a retry when it says a time where they look for one."""
    for value in ({"kind": "b"}, {"kind": "a", "r": []}):
        fields = {
            "when": {"kind": ("a",)},
            "each": "r[*]",
            "values": ["v[*]"],
            "time": ["t"],
            "identity": ["n"],
        }
        if value["kind"] == "a" and "r" in said:
            continue
        one, two = decoded(value | said, **fields), decoded(dict(reversed((value | said).items())), **fields)
        assert one[0].refusals[0].reason in {"unsupported", "malformed_payload"}
        assert (one[0].identity, one[0].absolute) == (two[0].identity, known)
        assert one[0].identity != decoded(value | said | {"x": 1}, **fields)[0].identity


@given(JSON | st.dictionaries(st.text(max_size=4) | st.just("m" * 300), JSON | st.floats(), max_size=4))
def test_members_are_read_the_same_on_every_path(members):
    """The short cut for an object whose keys are the metrics gives what the longer way to it gives."""
    [short] = decoded({"v": members}, code="c", values=["v.{metric}"])
    [long] = decoded({"v": members}, code="c", values=["{any}.{metric}"])
    assert [refusal.reason for refusal in short.refusals] == [refusal.reason for refusal in long.refusals]
    if short.names or short.events:
        assert short == long


def test_an_imei_of_equal_digits_is_no_code():
    """An IMEI that was never given leaves the terminal with its other code."""
    [part] = decoded({"id": "a", "i": "0" * 15, "x": 1}, imei="{i}", values=["x"], metric="x")
    assert part.names == [("a", "x")]


def test_a_long_key_around_many_values_is_not_copied_for_each():
    """A metric's name that no terminal may have is refused before it stands in the identity of each value."""
    [part] = decoded({"id": "a", "m": {"k" * 100_000: [1, 2, 3]}}, each="m.{metric}[*]")
    assert [(refusal.index, refusal.reason) for refusal in part.refusals] == [
        (n, "invalid_name") for n in range(3)
    ]
    assert len(part.identity) < 1000


VALUES = st.sampled_from([1.5, 7, 2**60, 100.0, True, "21.5", "text", "", None, {"deep": math.inf}])
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"v": st.dictionaries(st.sampled_from(["a", "/b", "rsrp", "imsi", "\ud800", "m" * 257]), VALUES, max_size=3)},
        optional={"t": st.sampled_from([1763710001, 1763710001000, 0, "noon"]), "u": st.sampled_from(["Cel", 5]),
                  "n": st.sampled_from(["n1", 5, None])},
    ),
    max_size=2,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    terminals=st.dictionaries(st.sampled_from("abcd"), RECORDS, min_size=1),
    fields=st.sampled_from([{}, {"unit": ["u"]}, {"identity": ["n"]}, {"unit": ["u"], "identity": ["n"]}]),
)
def test_terminals_of_one_message_are_known_as_alone(terminals, fields):
    """What a terminal says among others has the identity that it has in a message of its own, put together or not."""
    rule = {"each": "{id}[*]", "values": ["v.{metric}"], "time": ["t"], **fields}

    def parts(message):
        found = taken_apart(decoded(message, **rule))
        return [part for part in found if part.names or part.events]

    def known(part):
        readings = zip(part.names, part.units, part.values, part.times, strict=True)
        return part.identity, part.absolute, list(readings), [(e.name, e.time, e.body) for e in part.events]

    alone = [known(part) for id_, records in terminals.items() for part in parts({id_: records})]
    among = parts(terminals)
    assert sorted(map(known, among), key=repr) == sorted(alone, key=repr)
    places = [index for part in among for index in part.indexes]
    assert len(places) == len(set(places))


def test_terminals_with_one_reading_are_one_part():
    """Neighbours that say one number each are one part with an identity for each; others have a part of their own."""
    records = {
        "a": [{"v": {"x": 1}, "t": 1763710001}],
        "b": [{"v": {"x": 2, "y": 3}, "t": 1763710001}],
        "c": [{"v": {"x": 4}}],
        "d": [{"v": {"x": 5}, "t": 1763710001}],
        "e": [{"v": {"x": 6}, "t": 1763710001}],
    }
    parts = decoded(records, each="{id}[*]", values=["v.{metric}"], time=["t"])
    assert [part.values for part in parts] == [[1.0], [2.0, 3.0], [4.0], [5.0, 6.0]]
    assert [part.indexes for part in parts] == [[0], [1, 2], [3], [4, 5]]
    assert [len(part.identities) for part in parts] == [0, 0, 0, 2]
