"""The simulated fleet: reproducible, valid where it means to be, wrong where it means to be; and published for real."""

import itertools
import random
import threading
from collections import Counter

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from devices.code import canonical
from devices.division import DIVISIONS, city
from ingest.fleet import fleet
from ingest.kinds import KINDS
from ingest.publish import BrokerOutOfReachError, Outgoing, Publisher, publish_all
from ingest.settings import SettingsError, load
from ingest.simulate import load_scenario, simulate
from ingest.traffic import messages, value
from schemas.catalogue import METRICS
from schemas.message import Message
from schemas.name import split
from schemas.telemetry import decode
from schemas.units import conversion

from .brokers import Mosquitto, free_port, needs_mosquitto

NOW = 1_795_300_000.25
COUNTIES = [code for code, division in DIVISIONS.items() if division.level == "county"]
WAIT_SECONDS = 20


def _fleet(seed=1):
    return fleet(COUNTIES, gateways=100, terminals=2000, seed=seed)


def _sent(count, **options):
    ticks = itertools.count()
    return list(itertools.islice(messages(_fleet(), lambda: NOW + next(ticks), **options), count))


def _parts(sent):
    """Each telemetry message with its decoded part."""
    for message in sent:
        if message.topic.endswith("/telemetry"):
            (part,) = decode(Message(message.topic, message.payload, NOW, message.content_type))
            yield message, part


def test_one_seed_gives_one_fleet_and_the_same_messages():
    """Everything follows from the seed and the clock."""
    assert _fleet() == _fleet()
    assert _fleet(seed=2) != _fleet()
    assert _sent(300, bad_share=0.1, duplicate_share=0.1) == _sent(300, bad_share=0.1, duplicate_share=0.1)


def test_gateways_stand_in_all_sixteen_cities():
    """The first sixteen gateways are in sixteen cities."""
    assert len({city(gateway.division) for gateway in _fleet()[:16]}) == 16


def test_codes_are_distinct_of_many_schemes_and_none_is_doubtful():
    """Every code is one terminal under its canonical form, and every IMEI has a valid check digit."""
    codes = [canonical(terminal.code) for gateway in _fleet() for terminal in gateway.terminals]
    assert len({code.code for code in codes}) == len(codes) == 2000
    assert {code.scheme for code in codes} >= {"imei", "gb28181", "handle", "bid", "other"}
    assert not [code for code in codes if code.suspect]


def test_good_messages_decode_whole_within_limits_and_in_units_that_convert():
    """Without faults nothing would be refused: every reading has a terminal of the fleet, a metric, unit, limits."""
    known = {canonical(terminal.code).code for gateway in _fleet() for terminal in gateway.terminals}
    readings = 0
    for message, part in _parts(_sent(2000, bad_share=0, duplicate_share=0)):
        assert not part.refusals
        assert len(part.values) == message.readings
        for name, unit, number in zip(part.names, part.units, part.values, strict=True):
            code, metric = split(name, unit)
            limits = METRICS[metric]
            scale, offset = conversion(unit or limits.unit, limits.unit)
            assert canonical(code).code in known
            assert limits.hard_low <= number * scale + offset <= limits.hard_high
            readings += 1
    assert readings > 30_000


def test_every_kind_and_every_payload_form_is_sent():
    """All kinds of terminals occur, as SenML in JSON and CBOR and in the plain form, announced or not."""
    kinds = {terminal.kind.name for gateway in _fleet() for terminal in gateway.terminals}
    assert kinds == {kind.name for kind in KINDS if kind.weight} | {"video"}
    forms = {message.content_type for message in _sent(200)}
    assert forms == {None, "application/senml+json", "application/senml+cbor", "application/json"}
    assert {message.topic.rpartition("/")[2] for message in _sent(200)} == {"telemetry", "presence"}


def test_faults_and_duplicates_come_at_their_rates():
    """Shares of one half give about as many spoilt and repeated messages, of every kind."""
    sent = _sent(3000, bad_share=0.5, duplicate_share=0.5)
    repeated = len(sent) - len(set(sent))
    assert 800 < repeated < 1200  # a third: one repeat for two messages
    spoilt = Counter()
    for message, part in _parts(set(sent)):
        foreign, late = "/440100/" in message.topic, bool(part.times) and max(part.times) > NOW + 7 * 3600
        spoilt.update({
            "foreign": foreign, "malformed": bool(part.refusals), "future": late,
            "out of range": -1e12 in part.values, "unit": "kat" in part.units,
        })  # fmt: skip
    assert min(spoilt.values()) > 100


@given(
    st.sampled_from([signal for kind in KINDS for signal in kind.signals if signal.per_hour]),
    st.floats(0, 1),
    st.floats(1.7e9, 2.1e9),
    st.floats(0, 1e6),
)
def test_a_meter_never_counts_down(meter, phase, now, later):
    """A counter's value is at least what it was, at any time of day."""
    assert value(meter, phase, now + later) >= value(meter, phase, now)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gateways = 0", "gateways"),
        ("speed = 3", "speed"),
        ("bad_share = 1.5", "bad_share"),
        ("seconds", "not TOML"),
    ],
)
def test_a_wrong_scenario_is_refused_by_name(tmp_path, text, names):
    """A field that does not exist or has an impossible value is named."""
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=names):
        load_scenario(file)


def test_a_scenario_file_yields_to_options(tmp_path):
    """Options that were given win over the file, the file over the defaults."""
    file = tmp_path / "scenario.toml"
    file.write_text("terminals = 7\nreadings = 3\n")
    scenario = load_scenario(file, readings=5, seed=None)
    assert (scenario.terminals, scenario.readings, scenario.seed) == (7, 5, 1)


def test_a_broker_that_is_not_there_is_named():
    """Nobody listens: the error names the address and the setting."""
    port = free_port()
    with (
        pytest.raises(BrokerOutOfReachError, match=rf"127\.0\.0\.1:{port} .*GANZHI_MQTT_URL"),
        Publisher(load(mqtt_url=f"mqtt://127.0.0.1:{port}"), name="test"),
    ):
        pass


@pytest.mark.parametrize("version", ["5", "3.1.1"])
class TestOnMosquitto:
    pytestmark = needs_mosquitto

    def test_everything_simulated_arrives(self, tmp_path, version):
        """What the summary calls acknowledged is what a subscriber got, with its content type over MQTT 5."""
        with Mosquitto(None, free_port(), tmp_path) as broker, Listener(broker.port) as listener:
            settings = load(mqtt_url=f"mqtt://127.0.0.1:{broker.port}", mqtt_version=version)
            scenario = load_scenario(gateways=20, terminals=200, seconds=1, messages_per_second=300)
            result = simulate(settings, scenario, console=Console(quiet=True))
            came = listener.wait_for(result.acknowledged)
        assert result.messages == result.acknowledged > 40
        assert len(came) == result.acknowledged
        assert bool({content_type for _, content_type in came} - {None}) == (version == "5")

    def test_an_endless_run_stops_when_told(self, tmp_path, version):
        """After `stop` nothing more is published, and what was is acknowledged."""
        with Mosquitto(None, free_port(), tmp_path) as broker:
            settings = load(mqtt_url=f"mqtt://127.0.0.1:{broker.port}", mqtt_version=version)
            with Publisher(settings, name="test") as publisher:
                stop = threading.Event()
                publish_all(
                    publisher,
                    itertools.repeat(Outgoing("topic", b"")),
                    stop=stop,
                    per_second=1000,
                    progress=lambda _: publisher.published == 50 and stop.set(),
                )
                assert publisher.acknowledged == publisher.published == 50

    def test_nothing_is_lost_when_the_broker_restarts(self, tmp_path, version):
        """Messages that were on their way when the broker stopped are sent again: all are there in the end."""
        sent = [Outgoing(f"kept/{n}", b"%d" % n, retain=True) for n in range(3000)]
        with Mosquitto(None, free_port(), tmp_path) as broker:
            settings = load(mqtt_url=f"mqtt://127.0.0.1:{broker.port}", mqtt_version=version)
            with Publisher(settings, name="test") as publisher:
                seen = threading.Event()

                def restart():
                    seen.wait(WAIT_SECONDS)
                    broker.stop()
                    broker.start()

                other = threading.Thread(target=restart)
                other.start()
                publish_all(
                    publisher, sent, stop=threading.Event(), progress=lambda m: m is sent[1000] and seen.set()
                )
                other.join()
                assert publisher.acknowledged == publisher.published == 3000
            with Listener(broker.port) as listener:
                came = {payload for payload, _ in listener.wait_for(3000)}
        assert came == {message.payload for message in sent}


def test_a_scenario_is_played_by_the_clock(mosquitto, tmp_path):
    """What its rhythms ask for in this time arrives, readings and presence, between hello and goodbye."""
    file = tmp_path / "scenario.toml"
    file.write_text(
        "seconds = 1.5\nbad_share = 0\nduplicate_share = 0\ntime_scale = 86_400\nfastest_seconds = 1\n"
        "[[fleet]]\nprofile = 'water_meter'\nterminals = 60\ngateways = 2\n"
        "[[fleet]]\nprofile = 'video'\nterminals = 50\ngateways = 1\n"
    )
    with Listener(mosquitto.port) as listener:
        settings = load(mqtt_url=f"mqtt://127.0.0.1:{mosquitto.port}")
        result = simulate(settings, load_scenario(file), console=Console(quiet=True))
        came = [payload for payload, _ in listener.wait_for(result.acknowledged)]
    assert result.messages == len(came)
    assert sum(b'"firmware"' in payload for payload in came) == 6
    assert sum(b'"offline":[' in payload for payload in came) >= 1
    assert result.readings >= 60 * 3


def test_the_limit_counts_hellos_too(mosquitto):
    """At one message a second 200 gateways do not all say hello at once, nor goodbye without a hello."""
    settings = load(mqtt_url=f"mqtt://127.0.0.1:{mosquitto.port}")
    scenario = load_scenario(gateways=200, terminals=200, seconds=0.1, messages_per_second=1)
    assert simulate(settings, scenario, console=Console(quiet=True)).messages < 40


class Listener:
    """A subscriber to everything that keeps (payload, content type)."""

    def __init__(self, port):
        self.came = []
        self._changed = threading.Condition()
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, f"listener-{random.random()}", protocol=paho.MQTTv5
        )
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._ready = threading.Event()
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._port = port

    def __enter__(self):
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._ready.wait(WAIT_SECONDS)
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = self._client.on_message = self._client.on_subscribe = None  # no cycle

    def _on_message(self, _client, _data, message):
        with self._changed:
            self.came.append((message.payload, getattr(message.properties, "ContentType", None)))
            self._changed.notify_all()

    def wait_for(self, count):
        """What came, once it is so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.came) >= count, WAIT_SECONDS)
            return list(self.came)
