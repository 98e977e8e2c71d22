"""What the simulator says in every dialect, as a real worker takes it."""

import itertools
import json
from collections import Counter, defaultdict

import pytest
from rich.console import Console

from ingest.dialects import Numbers
from ingest.scenario import Scenario
from ingest.settings import load
from ingest.simulate import gateways_of, load_scenario, simulate
from ingest.timetable import timetable
from ingest.traffic import greeting
from schemas.message import Message
from schemas.nbiot import onenet
from schemas.sparkplug_births import Node
from schemas.sparkplug_message import read

NOON = 1_795_320_000.0


@pytest.mark.parametrize("storage", ["postgres"])
def test_every_reading_of_every_dialect_is_stored_once(mosquitto, database, new_worker, settled):
    """Nothing is refused or known already, each reading is one row, and terminals have the codes of the register."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    scenario = load_scenario("dialects", factor=0.012, time_scale=86_400, fastest_seconds=1, seconds=2.5)
    quiet = Console(quiet=True)
    result = simulate(load(mqtt_url=f"mqtt://127.0.0.1:{mosquitto.port}"), scenario, console=quiet)
    metrics = settled(worker)
    metrics.assert_balanced()
    assert metrics("messages_rejected_total") == metrics("messages_duplicate_total") == 0
    assert database.rows("SELECT reason, detail FROM rejection") == []
    stored = "SELECT count(*), count(DISTINCT (terminal, metric, observed_at)) FROM reading_detail"
    assert database.one(stored) == (result.readings, result.readings)
    routes = ("ctwing", "iotda", "onenet", "sparkplug", "telemetry")
    assert all(metrics("messages_received_total", route) > 4 for route in routes)
    schemes = Counter(
        scheme for (scheme,) in database.rows("SELECT scheme FROM terminal WHERE code <> 'settled'")
    )
    assert schemes["imei"] == sum(
        scenario.size(fleet)[1] for fleet in scenario.fleet if fleet.network == "nbiot"
    )
    assert schemes["spb"] == sum(scenario.size(scenario.fleet[-1]))
    assert metrics("sequence_gaps_total") == 0


def test_both_forms_of_onenet_come_in_packs():
    """Bridges speak of several terminals in one push, some in the old suite's form, some in the current platform's."""
    fleet = {"profile": "soil", "terminals": 40, "gateways": 8, "network": "nbiot", "dialect": "onenet",
             "report_every_seconds": 60}  # fmt: skip
    scenario = Scenario(fleet=[fleet], bad_share=0, duplicate_share=0)
    played = itertools.takewhile(
        lambda timed: timed[0] < NOON + 120, timetable(gateways_of(scenario), scenario, NOON)
    )
    read_by = {str: Counter(), list: Counter()}
    for _, outgoing in played:
        if not outgoing.topic.startswith("nbiot/onenet/"):
            continue
        parts = onenet.decoder()(Message(outgoing.topic, outgoing.payload, NOON))
        assert not any(part.refusals for part in parts)
        assert sum(len(part.values) for part in parts) == outgoing.readings
        form = type(json.loads(outgoing.payload)["msg"])
        read_by[form][len({code for part in parts for code, _ in part.names})] += 1
    assert all(max(counted) > 1 for counted in read_by.values())


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"dialect": "modbus"}, "there are senml"),
        ({"dialect": "ctwing", "profile": "video"}, "leave dialect out"),
    ],
)
def test_a_dialect_that_can_not_be_spoken_is_refused(fields, why):
    """A dialect that does not exist, and one for terminals that send no readings, are named."""
    with pytest.raises(ValueError, match=why):
        Scenario(fleet=[{"profile": "soil", "terminals": 1} | fields])


def test_edge_nodes_are_born_anew_after_a_silence():
    """Every node says its births before its data, numbers its messages from 0 to 255 and on, and dies with its Will."""
    fleet = {
        "profile": "soil",
        "terminals": 30,
        "gateways": 2,
        "dialect": "sparkplug",
        "report_every_seconds": 10,
    }
    silence = {"minute": 4, "minutes": 1, "will": True, "gateways": 1}
    scenario = Scenario(fleet=[fleet], silence=[silence], bad_share=0, duplicate_share=0.5)
    gateways = gateways_of(scenario)
    hello = (message for gateway in gateways for message in greeting(gateway, NOON))
    played = itertools.takewhile(lambda timed: timed[0] < NOON + 400, timetable(gateways, scenario, NOON))
    nodes, numbers, deaths = defaultdict(Node), defaultdict(lambda: 255), Counter()
    for outgoing in map(Numbers().put, itertools.chain(hello, (message for _, message in played))):
        if not outgoing.topic.startswith("spBv1.0/"):
            continue
        _, _, kind, edge, *_ = outgoing.topic.split("/")
        spoken = read(Message(outgoing.topic, outgoing.payload, NOON), nodes[edge])
        assert spoken.part.refusals == []
        assert len(spoken.part.values) == outgoing.readings
        for birth in spoken.part.births:
            nodes[edge].put(birth)
        deaths[edge] += kind == "NDEATH"
        if kind != "NDEATH":
            expected = 0 if kind == "NBIRTH" else (numbers[edge] + 1) % 256
            assert spoken.seq == expected
            numbers[edge] = spoken.seq
    assert sorted(deaths.values()) == [0, 1]
