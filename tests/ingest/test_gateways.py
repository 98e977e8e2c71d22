"""What a gateway may do and what it is told: divisions, terminals of others, new terminals, refusals."""

import itertools
import json
import queue
import time

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.registry import Gateway as Registered
from devices.registry import Registry
from ingest.batch import Batch
from ingest.connection import connect
from ingest.decode import Decode
from ingest.feedback import BURST, DETAILS_MAX, Feedback
from ingest.quarantine import Quarantine
from ingest.settings import GatewayDivision, Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.reading import Part
from schemas.rejection import Reason, Refusal
from schemas.routes import Place, Routes

ONE_STORAGE = pytest.mark.parametrize("storage", ["postgres"])
TELEMETRY = "ganzhi/v1/370102/{}/telemetry"


class Desk:
    """A worker's writer, given a message at a time; `again` is another one, as after a restart."""

    def __init__(self, database, **settings):
        self.database, self._chosen = database, settings
        self.settings = Settings(database_url=database.url, **settings)
        self._times = itertools.count(int(time.time()) - 1000)
        self.begin()

    def begin(self):
        self.writer = Writer(self.settings, "desk-0", lambda _: False, time.time)
        self.writer.connect()
        self.decode = Decode(Routes.default(), 10_000_000, self.writer.registry,
                             gateway_division=self.settings.gateway_division)  # fmt: skip

    def again(self, **settings):
        self.writer.close()
        self.settings = Settings(database_url=self.database.url, **(self._chosen | settings))
        self.begin()

    def send(self, gateway, *codes, topic=TELEMETRY, key="v", value=1):
        """A pack of one record a terminal; answers what became of it."""
        at = next(self._times)
        pack = [{"n": f"{code}/temperature", "t": at, key: value} for code in codes]
        message = Message(topic.format(gateway), json.dumps(pack).encode(), time.time(), packet_id=1)
        batch = Batch()
        way, parts = self.decode(message)
        batch.add(message, way.place, parts)
        return self.writer.write(batch)

    def replay(self):
        """Every open rejection again; what it came to."""
        with connect(self.database.url) as conn:
            return list(Quarantine(conn, self.settings).replay(reason=None, division=None, dry_run=False))[-1]

    def changes(self):
        """Changes of gateways: terminal, from, to."""
        return self.database.rows(
            "SELECT code, body ->> 'old', body ->> 'new' FROM event JOIN terminal ON terminal.id = terminal_id "
            "WHERE name = 'gateway_changed' ORDER BY event.observed_at, code"
        )


@pytest.fixture
def new_desk(database):
    desks = []

    def make(**settings):
        desks.append(Desk(database, **settings))
        return desks[-1]

    yield make
    for desk in desks:
        desk.writer.close()


@pytest.fixture
def desk(new_desk):
    return new_desk()


# terminals of others


def test_a_terminal_that_comes_through_another_gateway_is_one_event(desk, database):
    """Its readings are stored, and the change is told once: not for each message, nor by a worker that began anew."""
    for gateway in ("gw-a", "gw-b", "gw-b", "gw-a", "gw-b"):
        desk.send(gateway, "m-1", "m-2")
    desk.again()
    for gateway in ("gw-b", "gw-a"):
        desk.send(gateway, "m-1", "m-2")
    assert desk.changes() == [("m-1", "gw-a", "gw-b"), ("m-2", "gw-a", "gw-b")]
    assert database.one("SELECT count(*) FROM reading") == (14,)
    desk.send("gw-c", "m-2")
    assert desk.changes()[2:] == [("m-2", "gw-a", "gw-c")]


@ONE_STORAGE
def test_a_terminal_of_events_is_watched_too(desk):
    """One that sends text only is told of as one that sends numbers; both in one message are one event."""
    desk.send("gw-a", "door-1", key="vs", value="open")
    desk.send("gw-b", "door-1", key="vs", value="shut")
    desk.send("gw-b", "door-1", key="vs", value="open")
    desk.send("gw-c", "door-1", key="v", value=1)
    assert desk.changes() == [("door-1", "gw-a", "gw-b"), ("door-1", "gw-a", "gw-c")]


@ONE_STORAGE
def test_the_gateway_of_the_registry_is_what_counts(desk, database):
    """What comes through another than the registered one is told; without one the first heard is the terminal's."""
    database.execute("INSERT INTO terminal (id, code, scheme, division, state, gateway) VALUES "
                     "(1, 'm-1', 'other', 370102, 'installed', 'gw-a'), "
                     "(2, 'm-2', 'other', 370102, 'installed', NULL)")  # fmt: skip
    desk.send("gw-b", "m-1", "m-2")
    desk.send("gw-a", "m-1", "m-2")
    assert desk.changes() == [("m-1", "gw-a", "gw-b"), ("m-2", "gw-b", "gw-a")]
    assert database.rows("SELECT gateway FROM terminal ORDER BY id") == [("gw-a",), ("gw-b",)]
    assert database.rows("SELECT terminal_id, gateway FROM terminal_gateway ORDER BY 1") == [
        (1, "gw-b"), (2, "gw-a")]  # fmt: skip


@ONE_STORAGE
def test_what_is_refused_or_known_moves_nobody(desk, database):
    """A gateway whose reading is refused, or who repeats what was stored, has brought nothing."""
    desk.send("gw-a", "m-1")
    desk.send("gw-b", "m-1", value=1e9)
    assert desk.changes() == []
    assert database.one("SELECT count(*) FROM terminal_gateway") == (0,)


# divisions


@pytest.mark.parametrize(("home", "topic", "accept", "within_city", "exact"), [
    (370102, 370102, True, True, True),
    (370102, 370103, True, True, False),
    (370102, 370100, True, True, False),
    (370102, 370000, True, True, False),
    (370102, 370202, True, False, False),
    (370100, 370102, True, True, True),
    (370000, 370202, True, True, True),
    (None, 370202, True, True, True),
    (371202, 370116, True, True, True),  # Laiwu, which is a district of Jinan since 2019
])  # fmt: skip
def test_a_registered_gateway_speaks_for_its_own_place(home, topic, accept, within_city, exact):
    """Which divisions its topic may name, by how strict the service is."""
    registry = Registry()
    registry.gateways = {"gw-a": Registered(home, None)}
    for strict, passes in zip(GatewayDivision, (accept, within_city, exact), strict=True):
        decode = Decode(Routes.default(), 1_000, registry, gateway_division=strict)
        _, (part,) = decode(
            Message(f"ganzhi/v1/{topic}/gw-a/telemetry", b'[{"n":"m/temperature","v":1}]', 0.0)
        )
        assert [refusal.reason for refusal in part.refusals] == ([] if passes else ["not_authorized"])


def test_an_unregistered_gateway_may_stand_anywhere():
    """Nobody said where it is, so its topic's word is taken."""
    _, (part,) = Decode(Routes.default(), 1_000, Registry(), gateway_division=GatewayDivision.EXACT)(
        Message("ganzhi/v1/370202/gw-a/telemetry", b'[{"n":"m/temperature","v":1}]', 0.0)
    )
    assert part.refusals == []


@ONE_STORAGE
def test_what_was_refused_for_its_division_lands_after_a_correction(desk, database):
    """It is kept as not_authorized, names nobody as heard, and a replay stores it once the gateway is put right."""
    database.execute("INSERT INTO gateway (name, division) VALUES ('gw-a', 370202)")
    desk.again()
    outcome = desk.send("gw-a", "m-1")
    assert outcome.messages_rejected == {"not_authorized": 1}
    detail = database.one("SELECT detail -> 0 ->> 'detail' FROM rejection")
    assert detail == ("gateway 'gw-a' is registered in 370202, its topic says 370102",)
    assert desk.replay().resolved == 0
    database.execute("UPDATE gateway SET division = 370102")
    assert desk.replay().resolved == 1
    assert database.one("SELECT count(*) FROM reading") == (1,)


@ONE_STORAGE
def test_a_running_worker_sees_where_a_gateway_was_put(desk, database):
    """A topic that passed is refused once its gateway is registered elsewhere, and the other way round."""
    assert desk.send("gw-a", "m-1").messages_committed == 1
    for division, passes in ((370202, 0), (370102, 1)):
        database.execute(f"""INSERT INTO gateway (name, division) VALUES ('gw-a', {division})
                             ON CONFLICT (name) DO UPDATE SET division = {division}""")
        desk.writer._looked_at = 0.0
        desk.writer.idle()
        assert desk.send("gw-a", "m-1").messages_committed == passes


# new terminals


def test_a_gateway_that_invents_codes_is_stopped(new_desk, database):
    """Beyond its hour's new terminals readings are kept as unknown_terminal; known ones and others' go on."""
    desk = new_desk(registrations_per_gateway_hour=3)
    assert desk.send("gw-a", "m-1", "m-2").readings_committed.total() == 2
    outcome = desk.send("gw-a", "m-1", "m-3", "m-4", "m-5")
    assert (outcome.readings_committed.total(), outcome.readings_rejected) == (2, {"unknown_terminal": 2})
    assert desk.send("gw-b", "n-1", "n-2", "n-3", "n-4").readings_committed.total() == 3
    desk.again()
    assert desk.send("gw-a", "m-6").messages_rejected == {"unknown_terminal": 1}
    detail, hint = database.rows("SELECT detail -> 0 ->> 'detail', detail -> 0 ->> 'hint' FROM rejection")[-1]
    assert detail == "'m-6' is not registered, and gateway gw-a brought 3 new ones this hour"
    assert "GANZHI_REGISTRATIONS_PER_GATEWAY_HOUR" in hint
    assert database.one("SELECT count(*), max(id) FROM terminal") == (6, 6)


@ONE_STORAGE
def test_a_new_hour_or_a_higher_limit_lets_in_what_was_refused(new_desk, database):
    """A replay stores what came beyond the limit, as far as there is room by then."""
    desk = new_desk(registrations_per_gateway_hour=2)
    desk.send("gw-a", "m-1", "m-2", "m-3", "m-4", "m-5", "m-6")
    assert desk.replay().readings == 0
    database.execute("UPDATE terminal SET registered_at = registered_at - interval '61 min'")
    assert desk.replay().readings == 2
    desk.again(registrations_per_gateway_hour=100)
    assert desk.replay().readings == 2
    assert database.one("SELECT count(*) FROM terminal") == (6,)
    assert database.one("SELECT count(*) FROM rejection WHERE resolved_at IS NULL") == (0,)


@ONE_STORAGE
def test_registered_terminals_need_no_room(new_desk, database):
    """The limit is on unknown ones: an imported registry comes in through one gateway at once."""
    desk = new_desk(registrations_per_gateway_hour=1)
    database.execute("INSERT INTO terminal (id, code, scheme, division, state) "
                     "SELECT n, 'm-' || n, 'other', 370102, 'installed' FROM generate_series(1, 9) AS n")  # fmt: skip
    assert desk.send("gw-a", *(f"m-{n}" for n in range(1, 12))).readings_committed.total() == 10


@ONE_STORAGE
def test_topics_without_a_gateway_share_one_limit(new_desk):
    """Bridges whose topics name no gateway are stopped as one."""
    desk = new_desk(registrations_per_gateway_hour=1)
    desk.send("gw-a", "m-1")
    batch, (_, parts) = Batch(), desk.decode(Message(TELEMETRY.format("x"), _pack("o-1", "o-2"), time.time()))
    batch.add(Message("bridge/all", b"{}", time.time()), Place(None, None), parts)
    outcome = desk.writer.write(batch)
    assert (outcome.readings_committed.total(), outcome.readings_rejected.total()) == (1, 1)
    assert outcome.feedback == []


# feedback


def _pack(*codes):
    return json.dumps(
        [{"n": f"{code}/temperature", "t": int(time.time()), "v": 1} for code in codes]
    ).encode()


class Teller:
    """Feedback on made-up refusals."""

    def __init__(self):
        self._feedback = Feedback(lambda place: place.division or 370202)

    def __call__(self, now, topics, *refusals, gateway="gw-a", division=370102):
        """Topics and payloads for messages of these topics, each with these refusals."""
        batch = Batch()
        for topic in topics:
            batch.add(Message(topic, b"payload", 1_763_712_000.5), Place(division, gateway), [Part()])
        refused = list(refusals) or [Refusal(None, Reason.MALFORMED_PAYLOAD, "no JSON")]
        told = self._feedback(batch, dict.fromkeys(range(len(topics)), refused), now)
        return [(topic, json.loads(payload)) for topic, payload in told]


def test_feedback_says_what_was_refused_and_why():
    """Time, topic and digest of the message, how many of how many, and each refusal with its hint."""
    ((topic, said),) = Teller()(0, [TELEMETRY.format("gw-a")],
                                Refusal(3, Reason.TIME_IN_FUTURE, "28800 s after its arrival", "local time?"),
                                Refusal(5, Reason.NOT_A_NUMBER, "not a number", count=4))  # fmt: skip
    assert topic == "ganzhi/v1/370102/gw-a/rejected"
    assert said == {
        "at": "2025-11-21T08:00:00.500Z",
        "topic": "ganzhi/v1/370102/gw-a/telemetry",
        "digest": "239f59ed55e737c77147cf55ad0c1b030b6d7ee748a7426952f9b852d5a935e5",
        "rejected": 5,
        "total": 0,
        "detail": [
            {
                "index": 3,
                "reason": "time_in_future",
                "detail": "28800 s after its arrival",
                "hint": "local time?",
            },
            {"index": 5, "reason": "not_a_number", "detail": "not a number", "hint": "", "count": 4},
        ],
    }


@pytest.mark.parametrize(("topic", "division", "told"), [
    ("ganzhi/v1/999999/gw-a/telemetry", None, "ganzhi/v1/999999/gw-a/rejected"),
    ("ganzhi/v1/371202/gw-a/presence", 370116, "ganzhi/v1/371202/gw-a/rejected"),
    ("nbiot/ctwing/gw-a", None, "ganzhi/v1/370202/gw-a/rejected"),
    ("vendor/370102/gw-a/up", 370102, "ganzhi/v1/370102/gw-a/rejected"),
])  # fmt: skip
def test_a_gateway_is_told_beside_its_own_topic(topic, division, told):
    """Under the division that its topic names, right or wrong; else where it is registered."""
    assert [topic for topic, _ in Teller()(0, [topic], division=division)] == [told]


def test_a_message_full_of_faults_is_told_in_part():
    """The first hundred in words, all of them as a number."""
    refusals = [Refusal(n, Reason.NOT_A_NUMBER, "not a number") for n in range(5_000)]
    ((_, said),) = Teller()(0, [TELEMETRY.format("gw-a")], *refusals)
    assert (said["rejected"], len(said["detail"])) == (5_000, DETAILS_MAX)


def test_a_flood_is_told_ten_times_and_then_once_a_second():
    """What was not told is counted in the next; another gateway is told all the same."""
    teller, topic = Teller(), TELEMETRY.format("gw-a")
    assert len(teller(0, [topic] * 1_000)) == BURST
    assert len(teller(0.5, [topic] * 5)) == 0
    assert len(teller(0.5, [TELEMETRY.format("gw-b")], gateway="gw-b")) == 1
    ((_, said),) = teller(1.5, [topic])
    assert said["suppressed"] == 995
    ((_, said),) = teller(3, [topic])
    assert "suppressed" not in said


@given(st.lists(st.tuples(st.floats(-5, 60), st.integers(1, 30)), max_size=30))
def test_every_refusal_is_told_or_counted(steps):
    """Told and suppressed are all there were, at no more than the rate, also when the clock is set back."""
    teller, topic = Teller(), TELEMETRY.format("gw-a")
    now, elapsed, sent, told, counted = 0.0, 0.0, 0, 0, 0
    for seconds, count in steps:
        now, elapsed, sent = now + seconds, elapsed + max(0.0, seconds), sent + count
        payloads = [payload for _, payload in teller(now, [topic] * count)]
        told += len(payloads)
        counted += sum(payload.get("suppressed", 0) for payload in payloads)
    assert told <= BURST + elapsed
    ((_, last),) = teller(now + 1_000, [topic])
    assert told + counted + last.get("suppressed", 0) == sent


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@ONE_STORAGE
def test_a_gateway_gets_its_refusals(database, new_worker, mosquitto, gateway, settled, version):
    """What it subscribes to brings reason and hint of what it sent in vain, once that is committed."""
    inbox = queue.Queue()
    listener = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: inbox.put(message)
    listener.on_subscribe = lambda *_: inbox.put(None)
    listener.connect("127.0.0.1", mosquitto.port)
    listener.loop_start()
    listener.subscribe("ganzhi/v1/+/gw-a/rejected")
    assert inbox.get(timeout=10) is None
    with new_worker(mqtt_version=version) as worker:
        worker.wait_ready()
        local = int(time.time()) + 8 * 3600
        pack = [{"n": "m-1/temperature", "v": 20}, {"n": "m-1/humidity", "v": 50, "t": local}]
        gateway.publish(TELEMETRY.format("gw-b"), b"rubbish")
        gateway.publish(TELEMETRY.format("gw-a"), json.dumps(pack).encode())
        settled(worker)
        message = inbox.get(timeout=10)
    listener.disconnect()
    listener.loop_stop()
    said = json.loads(message.payload)
    assert message.topic == "ganzhi/v1/370102/gw-a/rejected"
    assert (said["rejected"], said["total"]) == (1, 2)
    assert (said["detail"][0]["index"], said["detail"][0]["reason"]) == (1, "time_in_future")
    assert "utc_offset" in said["detail"][0]["hint"]
    assert inbox.empty()
