"""What a scenario says and what a fleet makes of it: rhythms, silences, clones, and the register of it all."""

import itertools
from collections import Counter, defaultdict
from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.code import canonical
from devices.datum import Datum
from devices.division import DIVISIONS, city
from devices.importer import Fault, Terminals, gateways
from ingest.fleet import GATEWAY_COLUMNS, TERMINAL_COLUMNS, gateway_registry, province, registry
from ingest.scenario import Scenario, Silence, counties
from ingest.settings import SettingsError
from ingest.simulate import gateways_of, load_scenario, shipped
from ingest.timetable import timetable
from schemas.message import Message
from schemas.name import split
from schemas.telemetry import decode

MIDNIGHT = 1_795_276_800.0  # 2026-11-22 in Shandong
TODAY = date(2026, 11, 22)
NOON = MIDNIGHT + 43_200
QUIET = {"bad_share": 0, "duplicate_share": 0}


def _scenario(*fleets, **fields):
    return Scenario(fleet=fleets, **(QUIET | fields))


def _sent(scenario, seconds, begin=NOON):
    """The fleet, and all that it sends in these seconds as (due after begin, message)."""
    fleet = gateways_of(scenario)
    due = itertools.takewhile(lambda timed: timed[0] < begin + seconds, timetable(fleet, scenario, begin))
    return fleet, [(at - begin, message) for at, message in due]


def _codes(message, now=NOON):
    """The terminals that a message speaks of, each once."""
    if message.topic.endswith("/presence"):
        body = msgspec.json.decode(message.payload)
        return set(body["online"]) | set(body["offline"])
    (part,) = decode(Message(message.topic, message.payload, now, message.content_type))
    assert not part.refusals
    return {split(name, unit)[0] for name, unit in zip(part.names, part.units, strict=True)}


def _gateway(message):
    return message.topic.split("/")[3]


@pytest.mark.parametrize("name", shipped())
def test_what_comes_along_can_be_played(name):
    """Every shipped scenario has gateways for each of its silences, distinct codes and names, and sends in order."""
    scenario = load_scenario(name)
    fleet, sent = _sent(scenario, 10)
    known = [terminal.code for gateway in fleet for terminal in gateway.terminals if terminal.registered]
    assert len(set(known)) == len(known)
    assert len({gateway.name for gateway in fleet}) == len(fleet)
    assert [at for at, _ in sent] == sorted(at for at, _ in sent)


def test_the_berths_of_qingdao_are_all_there_at_full_size():
    """2,200 lots with 560,000 berths, scaled by the factor."""
    scenario = load_scenario("parking_qingdao", factor=1)
    assert scenario.size(scenario.fleet[0]) == (2_200, 560_000)
    fleet = province(load_scenario("parking_qingdao"))
    assert sum(len(gateway.terminals) for gateway in fleet) == 11_200
    assert {city(gateway.division) for gateway in fleet} == {370_200}


def test_one_seed_is_one_province():
    """Fleet, register and messages follow from the scenario and the start."""
    scenario = load_scenario("demo", factor=0.05)
    assert _sent(scenario, 60) == _sent(scenario, 60)
    assert _sent(scenario, 60) != _sent(load_scenario("demo", factor=0.05, seed=2), 60)


@given(
    st.sampled_from(["water_meter", "machine", "air_quality", "video"]),
    st.integers(1, 60),
    st.sampled_from([1, 24, 720]),
    st.floats(0, 86_400),
)
def test_every_terminal_reports_at_its_rhythm(profile, terminals, time_scale, into_the_day):
    """In so many intervals each terminal is heard as often, give or take the border; and never too often."""
    scenario = _scenario({"profile": profile, "terminals": terminals, "gateways": 3}, time_scale=time_scale)
    (interval,) = {scenario.report_seconds(fleet) for fleet in scenario.fleet}
    fleet, sent = _sent(scenario, 3 * interval, MIDNIGHT + into_the_day)
    heard = Counter(code for _, message in sent for code in _codes(message, MIDNIGHT + 3e6))
    assert heard.keys() == {terminal.code for gateway in fleet for terminal in gateway.terminals}
    assert set(heard.values()) <= {2, 3, 4}
    assert interval >= 10


def test_sleepers_are_registered_and_silent_strangers_the_reverse():
    """Who sleeps stands in the register and sends nothing; who is unregistered sends and stands nowhere."""
    plan = {"profile": "water_meter", "terminals": 1000, "gateways": 4, "sleepers": 0.3, "unregistered": 0.2}
    fleet, sent = _sent(_scenario(plan, time_scale=8640), 12)
    heard = {code for _, message in sent for code in _codes(message)}
    known = {row[0] for row in registry(fleet, TODAY)}
    assert 700 < len(known) < 900
    assert len(heard - known) > 100
    assert len(known - heard) > 150
    assert len(known | heard) == 1000


def test_a_tenth_of_the_meters_report_right_after_midnight():
    """The burst is there, and it is so large: a tenth of the day's readings within six minutes."""
    plan = {"profile": "gas_meter", "terminals": 10_000, "gateways": 10, "midnight_share": 0.1}
    _, sent = _sent(_scenario(plan), 86_400, begin=MIDNIGHT)
    burst = sum(message.readings for at, message in sent if at < 360)
    assert 0.08 < burst / sum(message.readings for _, message in sent) < 0.13


def test_a_county_that_is_cut_off_says_nothing_and_nobody_says_so():
    """From its minute on no gateway of the county is heard, others are, and afterwards it is back."""
    plan = {"profile": "air_quality", "terminals": 60, "gateways": 20, "divisions": [370_200]}
    county = counties((370_200,))[0]
    outage = {"division": county, "minute": 2, "minutes": 3}
    _, sent = _sent(_scenario(plan, silence=[outage], time_scale=30), 600)
    heard = defaultdict(set)
    for at, message in sent:
        heard[120 <= at < 300].add(int(message.topic.split("/")[2]))
        assert not message.topic.endswith("/status")
    assert heard[False] - heard[True] == {county}
    assert any(at >= 300 and f"/{county}/" in message.topic for at, message in sent)


def test_a_gateway_dies_and_comes_back_again_and_again():
    """Its Will says offline when it dies, it says online when it is back, and between them there is nothing else."""
    plan = {"profile": "air_quality", "terminals": 60, "gateways": 20}
    death = {
        "profile": "air_quality",
        "gateways": 1,
        "minute": 1,
        "minutes": 1,
        "every_minutes": 3,
        "will": True,
    }
    fleet, sent = _sent(_scenario(plan, silence=[death], time_scale=30), 900)
    own = [(at, message) for at, message in sent if _gateway(message) == fleet[0].name]
    said = [
        (at, msgspec.json.decode(m.payload)["online"], m.retain)
        for at, m in own
        if m.topic.endswith("/status")
    ]
    starts = range(60, 900, 180)
    assert said == [turn for start in starts for turn in ((start, False, True), (start + 60, True, True))]
    assert not [
        at for at, m in own if m.topic.endswith("/telemetry") and any(0 < at - s < 60 for s in starts)
    ]
    assert {_gateway(m) for _, m in sent if m.topic.endswith("/status")} == {fleet[0].name}


def test_a_backlog_comes_at_once_with_the_times_at_which_it_was_measured():
    """Nothing is lost: what was due in the silence comes at its end, as old as the devices' own rhythm makes it."""
    plan = {"profile": "electricity_meter", "terminals": 40, "gateways": 2}
    off = {"gateways": 1, "minute": 1, "minutes": 4, "backlog": True}
    fleet, sent = _sent(_scenario(plan, silence=[off], time_scale=1440), 600)
    own = [(at, message) for at, message in sent if _gateway(message) == fleet[0].name]
    assert not [at for at, _ in own if 60 <= at < 300]
    flushed = [message for at, message in own if at == 300]
    ages = []
    for message in flushed:
        (part,) = decode(Message(message.topic, message.payload, NOON + 300, message.content_type))
        ages.append((NOON + 300 - max(part.times)) / 86_400)
    assert len(ages) == 4 * len({frozenset(_codes(message)) for message in flushed})
    assert 3 < max(ages) <= 4.01
    assert min(ages) < 1.01
    assert Counter(code for _, message in own for code in _codes(message)).most_common()[-1][1] >= 9


def test_clones_are_heard_from_two_cities_and_registered_once():
    """A cloned code comes through gateways of two cities."""
    plan = {"profile": "water_meter", "terminals": 400, "gateways": 16}
    fleet, sent = _sent(_scenario(plan, clones=5, time_scale=8640), 12)
    heard = defaultdict(set)
    for _, message in sent:
        for code in _codes(message):
            heard[code].add(city(int(message.topic.split("/")[2])))
    assert sum(len(cities) == 2 for cities in heard.values()) == 5
    assert (
        len([row[0] for row in registry(fleet, TODAY)])
        == len({row[0] for row in registry(fleet, TODAY)})
        == 400
    )


def test_a_fleet_may_be_new():
    """Days of installation are in 2024, or so many days ago."""
    fleet = gateways_of(_scenario({"profile": "soil", "terminals": 9}, {"profile": "video", "terminals": 9,
                                                                       "installed_days_ago": 3}))  # fmt: skip
    days = {row[3]: row[7] for row in registry(fleet, TODAY)}
    assert (days["video"], days["soil"].year) == (date(2026, 11, 19), 2024)


def test_berths_say_when_a_car_comes():
    """Changes come beside the rhythm, at their rate: here 240 a day in each of 100 berths, a tenth of a day."""
    plan = {"profile": "parking", "terminals": 100, "gateways": 4, "changes_per_day": 240}
    _, sent = _sent(_scenario(plan), 8_640)
    assert 2_200 < sum(len(_codes(message)) == 1 for _, message in sent) < 2_600


@pytest.mark.parametrize("name", shipped())
def test_the_registers_are_imported_without_a_refused_line(name):
    """Every line that a scenario writes is one that the import takes, with the division and rhythm it has."""
    scenario = load_scenario(name, factor=0.02)
    fleet = gateways_of(scenario)
    read = Terminals(TERMINAL_COLUMNS, Datum.WGS84)
    facts = [read([str(cell) for cell in row]) for row in registry(fleet, TODAY)]
    assert not [fact for fact in facts if isinstance(fact, Fault)]
    codes = [canonical(row[0]) for row in registry(fleet, TODAY)]
    assert len({code.code for code in codes}) == len(codes) > 100
    assert not [code for code in codes if code.suspect]
    sheet = gateways(GATEWAY_COLUMNS)
    assert not [
        row for row in gateway_registry(fleet) if isinstance(sheet([str(cell) for cell in row]), Fault)
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[fleet]]\nprofile = 'tank'\nterminals = 5", "fleet.0.profile: tank: there are air_quality"),
        ("[[fleet]]\nprofile = 'video'\nterminals = 5\ndivisions = [440100]", "440100 is no division"),
        ("[[fleet]]\nprofile = 'video'\nterminals = 5\ndomain = 'space'", "space: there are manufacturing"),
        (
            "gateways = 5\n[[fleet]]\nprofile = 'video'\nterminals = 5",
            "gateways: fleet tables have their own",
        ),
        ("time_scale = 5", "time_scale: only a scenario with fleet tables"),
        (
            "[[fleet]]\nprofile='video'\nterminals=5\n[[silence]]\nminute=1\nminutes=5\nevery_minutes=5",
            "silence.0: every_minutes must be more than minutes",
        ),
    ],
)
def test_what_cannot_be_played_is_said(tmp_path, text, says):
    """The error names the table and the field, and what would be right."""
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_scenario(file)


def test_a_silence_that_hits_nobody_is_refused():
    """A county without a gateway cannot fall silent."""
    plan = {"profile": "video", "terminals": 5, "divisions": [370_200]}
    with pytest.raises(SettingsError, match="silence 1: the scenario has no gateway"):
        gateways_of(_scenario(plan, silence=[{"division": 370_100, "minute": 1, "minutes": 1}]))


def test_a_scenario_that_is_not_there_is_answered_with_those_that_are():
    """An unknown name lists the known ones."""
    with pytest.raises(SettingsError, match=r"nothere: .*demo, dialects, parking_qingdao, province"):
        load_scenario("nothere")


@given(st.integers(0, 100), st.integers(1, 10), st.integers(1, 10), st.integers(0, 10_000))
def test_a_silence_holds_its_windows_and_nothing_else(minute, minutes, rest, seconds):
    """A time lies in a silence exactly if one of its windows holds it."""
    silence = Silence(minute=minute, minutes=minutes, every_minutes=minutes + rest)
    count = int(seconds / 60 / (minutes + rest)) + 2
    windows = [silence.window(number) for number in range(count)]
    holding = [window for window in windows if window.start <= seconds < window.end]
    assert [window for window in [silence.at(seconds)] if window] == holding


def test_places_are_counties_of_cities():
    """A city stands for its counties, nothing for all 136."""
    assert len(counties(())) == 136
    assert counties((370_203,)) == [370_203]
    assert {DIVISIONS[code].parent for code in counties((370_100, 370_200))} == {370_100, 370_200}
