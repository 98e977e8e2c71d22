"""Sparkplug through real workers: births outlive a worker, reach another one, and are asked for; holes are counted."""

import asyncio
import queue
import time
from contextlib import contextmanager

import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from devices.registry import Registry
from ingest import births
from ingest.batch import Batch
from ingest.births import Births
from ingest.connection import connect
from ingest.decode import DECODERS, NO_ROUTE, Decode
from ingest.metrics import Metrics
from ingest.pipeline import Pipeline
from ingest.settings import Settings
from ingest.sources import Pushes
from ingest.write import Writer
from schemas import sparkplug
from schemas.message import Message
from schemas.routes import Place, Routes
from tests.sparkplug import metric, payload

pytestmark = pytest.mark.parametrize("storage", ["postgres"])
EDGE, DEVICE = "spb:plant/edge 1", "spb:plant/edge 1/meter7"
STORED = "SELECT terminal, metric, value FROM reading_detail ORDER BY observed_at, terminal, metric"
NOWHERE = Place(None, None)


def now_ms():
    """The time as a node writes it."""
    return int(time.time() * 1000)


def node_birth(seq=0):
    """An NBIRTH of connection 3."""
    control = metric(name="Node Control/Rebirth", datatype=11, bool=0)
    return payload(metric(name="bdSeq", datatype=4, long=3), control, at_ms=now_ms(), seq=seq)


def device_birth(seq=1):
    """A DBIRTH that declares count, a signed number, as alias 11."""
    return payload(metric(name="count", alias=11, datatype=3, int=0), at_ms=now_ms(), seq=seq)


def count(value, seq, alias=11):
    """A DDATA that names an alias only."""
    return payload(metric(alias=alias, int=value % 2**32), at_ms=now_ms(), seq=seq)


def names_of(batch):
    """What the readings of a batch are called."""
    return [batch.columns.name(i)[0] for i in range(len(batch.columns))]


@contextmanager
def commands(port):
    """What is sent to nodes, as (topic, payload), in a queue."""
    heard, ready = queue.SimpleQueue(), queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: heard.put((message.topic, message.payload))
    client.on_subscribe = lambda *_: ready.put(None)
    client.connect("127.0.0.1", port)
    client.subscribe("spBv1.0/+/NCMD/+")
    client.loop_start()
    ready.get(timeout=10)
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()
        client.on_message = client.on_subscribe = None


def data(gateway, *payloads):
    """Publish as the device."""
    gateway.publish("spBv1.0/plant/DDATA/edge 1/meter7", *payloads)


def counts(database):
    """The values of `count` in order."""
    return [value for code, name, value in database.rows(STORED) if (code, name) == (DEVICE, "count")]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_births_outlive_their_worker(version, database, mosquitto, gateway, new_worker, settled):
    """Data by alias is read after a restart too, a missing number is counted, and a death says offline."""
    worker = new_worker(mqtt_version=version)
    worker.start()
    worker.wait_ready()
    with commands(mosquitto.port) as heard:
        gateway.publish("spBv1.0/plant/NBIRTH/edge 1", node_birth())
        gateway.publish("spBv1.0/plant/DBIRTH/edge 1/meter7", device_birth())
        data(gateway, count(-5, 2), count(7, 3))
        settled(worker).assert_balanced()
        assert heard.empty()
        worker.restart()
        worker.wait_ready()
        data(gateway, count(-9, 4), count(8, 7))
        metrics = settled(worker)
        metrics.assert_balanced()
        assert metrics("sequence_gaps_total", "sparkplug") == 2
        topic, asked = heard.get(timeout=10)
        assert topic == "spBv1.0/plant/NCMD/edge 1"
        [command] = sparkplug.load(asked).metrics
        assert (command[sparkplug.NAME], command[sparkplug.BOOL]) == (b"Node Control/Rebirth", 1)
        data(gateway, count(1, 8, alias=99), count(2, 9, alias=99))
        gateway.publish("spBv1.0/plant/NDEATH/edge 1", payload(metric(name="bdSeq", datatype=4, long=3)))
        data(gateway, count(3, 10))
        settled(worker).assert_balanced()
        assert heard.empty(), "asked twice within a minute"
    assert sorted(counts(database)) == [-9.0, -5.0, 0.0, 7.0, 8.0]
    online = [(code, value) for code, name, value in database.rows(STORED) if name == "online"]
    assert sorted(online) == [(EDGE, 0.0), (EDGE, 1.0), (DEVICE, 0.0), (DEVICE, 1.0)]
    refused = database.rows("SELECT reason, rejected FROM rejection")
    assert refused == [("unknown_alias", 1)] * 3


def test_a_share_group_shares_births(database, mosquitto, gateway, new_worker, settled):
    """Whichever of two workers got the birth, both read the data; nobody counts holes that are the other's share."""
    workers = [new_worker(share_group="g", client_id=name) for name in ("one", "two")]
    for worker in workers:
        worker.start()
        worker.wait_ready()
    gateway.publish("spBv1.0/plant/NBIRTH/edge 1", node_birth())
    gateway.publish("spBv1.0/plant/DBIRTH/edge 1/meter7", device_birth())
    workers[0].wait(lambda _: len(counts(database)) == 1, "done with the births")
    data(gateway, *(count(value, value + 1) for value in range(1, 9)))
    workers[0].wait(lambda _: len(counts(database)) == 9, "done with the data")
    for worker in workers:
        metrics = worker.wait(lambda m: m("messages_in_flight") == 0, "done")
        metrics.assert_balanced()
        assert metrics("messages_committed_total") > 0
        assert metrics("sequence_gaps_total") == 0
    assert sorted(counts(database)) == list(map(float, range(9)))
    assert database.rows("SELECT 1 FROM rejection") == []


def test_a_gateway_that_numbers_its_messages(database, gateway, new_worker, settled):
    """Numbers missing in a gateway's user property `seq` are counted, and what has none is not."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    for number in ("1", "2", "5", "x", "6", "3"):
        pack = b'[{"n": "gw:x", "v": 1, "t": %d}]' % time.time()
        gateway.publish("ganzhi/v1/370102/gw1/telemetry", pack, user_properties=[("a", "b"), ("seq", number)])
    assert settled(worker)("sequence_gaps_total", "gateway") == 2


def test_two_workers_see_what_the_other_put(database):
    """A birth counts for another worker from its commit on, whatever order the transactions began in."""
    one, two = Births(time.time, alone=True), Births(time.time, alone=True)
    with (
        connect(database.url) as slow,
        connect(database.url) as quick,
        connect(database.url) as other,
    ):

        def decoded(by, conn, kind, what):
            batch = Batch()
            batch.add(Message(f"spBv1.0/g/{kind}/e/d", what, time.time()), NOWHERE, [])
            return by.decode(conn, batch)

        def renamed(name):
            return payload(metric(name=name, alias=11, datatype=3, int=0), at_ms=now_ms(), seq=0)

        births.keep(quick, [birth for _, birth in decoded(one, quick, "DBIRTH", renamed("a")).batch.births])
        with slow.transaction():
            slow.execute("SELECT pg_current_xact_id()")
            assert names_of(decoded(two, other, "DDATA", count(1, 1)).batch) == [("spb:g/e/d", "a")]
            births.keep(slow, [birth for _, birth in decoded(one, slow, "DBIRTH", renamed("b")).batch.births])
            assert names_of(decoded(two, other, "DDATA", count(1, 2)).batch) == [("spb:g/e/d", "a")]
        found = decoded(two, other, "DDATA", count(1, 3))
        assert (names_of(found.batch), found.readings, found.commands) == ([("spb:g/e/d", "b")], 1, ())
        again = Births(time.time, alone=True).reader(other)(Message("spBv1.0/g/DDATA/e/d", count(4, 1), 0.0))
        assert again[0].values == [4.0]


@pytest.fixture
def write(database):
    """Writes messages, each (type, payload) of g/e in a batch of its own, as one worker; answers what was known."""
    writer = Writer(Settings(database_url=database.url), "desk-0", lambda _: False, time.time)

    def written(*messages, at=None):
        outcomes = []
        for number, (kind, data) in enumerate(messages, 1):
            batch = Batch()
            message = Message(f"spBv1.0/g/{kind}/e", data, at or time.time(), packet_id=number)
            batch.add(message, NOWHERE, [])
            outcomes.append(writer.write(writer.decode(batch).batch).messages_duplicate)
        return outcomes

    yield written
    writer.close()


def test_the_same_will_ends_each_connection(database, write):
    """A death whose bytes and bdSeq repeat counts each time, and so do births of a clock that stands."""
    bd_seq, at_ms = metric(name="bdSeq", datatype=4, long=0), now_ms()
    birth, death = (
        ("NBIRTH", payload(bd_seq, at_ms=at_ms, seq=0)),
        ("NDEATH", payload(bd_seq, at_ms=at_ms - 9)),
    )
    assert write(birth, death, birth, death) == [0, 0, 0, 0]
    assert database.rows("SELECT alive FROM sparkplug_birth") == [(False,)]
    values = database.rows("SELECT value FROM reading_detail WHERE metric = 'online' ORDER BY value")
    assert values == [(0.0,), (0.0,), (1.0,), (1.0,)]


def test_the_later_birth_stays_whichever_commits_first(database):
    """Two workers commit a node's births in the other order: data are read by the later one, by both."""
    one, two = Births(time.time, alone=False), Births(time.time, alone=False)
    at = time.time()
    with connect(database.url) as conn:

        def decoded(by, kind, data, at=at):
            batch = Batch()
            batch.add(Message(f"spBv1.0/g/{kind}/e", data, at), NOWHERE, [])
            return by.decode(conn, batch).batch

        def birth(name, born_ms):
            return payload(metric(name=name, alias=1, datatype=10, double=1.0), at_ms=born_ms, seq=0)

        older = decoded(one, "NBIRTH", birth("temperature", now_ms() - 50))
        newer = decoded(two, "NBIRTH", birth("humidity", now_ms()))
        for batch in (newer, older):
            births.keep(conn, [born for _, born in batch.births])
        data = payload(metric(alias=1, double=2.0), at_ms=now_ms(), seq=1)
        assert [names_of(decoded(by, "NDATA", data)) for by in (one, two)] == [[("spb:g/e", "humidity")]] * 2
        set_back = decoded(one, "NBIRTH", birth("pressure", now_ms() - 90_000), at + 60)
        births.keep(conn, [born for _, born in set_back.births])
        assert [names_of(decoded(by, "NDATA", data)) for by in (one, two)] == [[("spb:g/e", "pressure")]] * 2


def test_a_birth_that_is_refused_as_a_whole_declares_nothing(database, monkeypatch):
    """Data after a birth with too many readings is not read by it: it is in no database, nor in this worker."""
    monkeypatch.setattr("schemas.payload.READINGS_MAX", 2)
    births_of = Births(time.time, alone=True)
    metrics = [metric(name=name, alias=n, datatype=10, double=1.0) for n, name in enumerate("abc", 1)]
    with connect(database.url) as conn:
        for kind, data in (
            ("NBIRTH", payload(*metrics, at_ms=now_ms(), seq=0)),
            ("NDATA", payload(metric(alias=1, double=2.0), at_ms=now_ms(), seq=1)),
        ):
            batch = Batch()
            batch.add(Message(f"spBv1.0/g/{kind}/e", data, time.time()), NOWHERE, [])
            decoded = births_of.decode(conn, batch).batch
            assert decoded.births == []
            reasons = [refusal.reason for part in decoded.parts for refusal in part.refusals]
            assert reasons == ["too_large" if kind == "NBIRTH" else "unknown_alias"]


def test_births_are_read_once(database):
    """A batch reads the births of its own nodes, and not again while they stand, whatever else is being written."""
    births_of, edges = Births(time.time, alone=True), ("e", "f")
    with connect(database.url) as conn, connect(database.url) as slow, slow.transaction():
        slow.execute("SELECT pg_current_xact_id()")

        def read_by(edge, data, kind="NDATA"):
            batch = Batch()
            batch.add(Message(f"spBv1.0/g/{kind}/{edge}", data, time.time()), NOWHERE, [])
            return births_of.decode(conn, batch).batch

        def rows():
            seen = births_of._versions.get("g/e", {})
            known = {"edge": ["g/e"] * len(seen), "device": list(seen), "changed": list(seen.values())}
            return conn.execute(births.SQL["read"], known | {"edges": ["g/e"]}).fetchall()

        for edge in edges:
            batch = read_by(edge, payload(metric(name="a", alias=1, datatype=10), at_ms=now_ms()), "NBIRTH")
            births.keep(conn, [birth for _, birth in batch.births])
        assert [edge for _, edge, *_ in rows()] == ["g/e"]
        assert read_by(
            "e", payload(metric(alias=1, double=2.0), at_ms=now_ms())
        ).columns.values().tolist() == [2.0]
        assert rows() == []


def test_a_node_is_asked_once_a_connection(database):
    """A node that is first heard by other than its birth may have been born unheard: asked, and its data kept."""
    now = [time.time()]
    births_of = Births(lambda: now[0], alone=True)
    with connect(database.url) as conn:

        def asked(kind, connection):
            now[0] += births.ASK_SECONDS
            batch = Batch()
            data = payload(metric(name="a", datatype=10, double=2.0), at_ms=now_ms())
            batch.add(Message(f"spBv1.0/g/{kind}/e", data, now[0], connection=connection), NOWHERE, [])
            return [topic for topic, _ in births_of.decode(conn, batch).commands]

        told = [
            asked(*said) for said in [("NBIRTH", 1), ("NDATA", 1), ("NDATA", 2), ("NDATA", 2), ("NDEATH", 3)]
        ]
    assert told == [[], [], ["spBv1.0/g/NCMD/e"], [], []]


def test_one_member_asks_for_all(database):
    """Workers that start together ask a node once, unless it does not answer; its new birth is enough for all."""
    now = [time.time()]
    members = [Births(lambda: now[0], alone=False) for _ in range(3)]
    with connect(database.url) as conn:

        def asked(member, data, kind="NDATA"):
            now[0] += 1
            batch = Batch()
            batch.add(Message(f"spBv1.0/g/{kind}/e", data, now[0], connection=1), NOWHERE, [])
            decoded = members[member].decode(conn, batch)
            births.keep(conn, [birth for _, birth in decoded.batch.births])
            return len(decoded.commands)

        def later():
            now[0] += births.ASK_SECONDS
            conn.execute("UPDATE sparkplug_request SET asked_at = asked_at - make_interval(secs => 61)")

        data = payload(metric(name="a", datatype=10, double=2.0), at_ms=now_ms())
        assert [asked(member, data) for member in (0, 1, 2, 1)] == [1, 0, 0, 0]
        later()
        assert [asked(member, data) for member in (1, 0)] == [1, 0], "no answer to the first"
        assert asked(0, node_birth(), "NBIRTH") == 0
        later()
        assert [asked(member, data) for member in (0, 1, 2)] == [0, 0, 0]
        lost = payload(metric(alias=9, double=2.0), at_ms=now_ms())
        assert [asked(member, lost) for member in (2, 1, 0)] == [1, 0, 0]


def test_a_node_is_not_asked_where_the_table_is_missing(database):
    """A request that can't be noted is none, and costs the batch nothing."""
    births_of = Births(time.time, alone=True)
    database.execute("DROP TABLE sparkplug_request")
    batch = Batch()
    batch.add(Message("spBv1.0/g/NDATA/e", payload(metric(alias=9, double=2.0)), time.time()), NOWHERE, [])
    with connect(database.url) as conn:
        decoded = births_of.decode(conn, batch)
    assert (decoded.commands, len(decoded.batch.parts)) == ((), 1)


def test_the_same_death_of_a_device_counts_after_each_birth(database):
    """A device whose clock stands is said offline by each death, though birth and death repeat byte for byte."""
    writer = Writer(Settings(database_url=database.url), "desk-0", lambda _: False, time.time)
    at_ms = now_ms()
    birth, death = (("DBIRTH", payload(at_ms=at_ms, seq=1)), ("DDEATH", payload(at_ms=at_ms, seq=2)))
    known = []
    for number, (kind, data) in enumerate((birth, death, birth, death), 1):
        batch = Batch()
        batch.add(Message(f"spBv1.0/g/{kind}/e/d", data, time.time(), packet_id=number), NOWHERE, [])
        known.append(writer.write(writer.decode(batch).batch).messages_duplicate)
    batch.messages[0].duplicate = True
    again = Batch()
    again.add(batch.messages[0], NOWHERE, [])
    known.append(writer.write(writer.decode(again).batch).messages_duplicate)
    writer.close()
    assert known == [0, 0, 0, 0, 1]
    notices = database.rows("SELECT count(*) FROM reading_detail WHERE metric = 'online' AND value = 0")
    assert notices == [(2,)]


@pytest.mark.parametrize(("gateway", "reason"), [("gw1", "not_authorized"), (None, None)])
def test_only_a_route_that_names_a_gateway_can_refuse_one(storage, gateway, reason):
    """With GANZHI_UNKNOWN_GATEWAYS=reject Sparkplug is taken, whose topics name no gateway."""
    decode = Decode(Routes.default(), 1_000, Registry(), only_known_gateways=True)
    topic = f"ganzhi/v1/370102/{gateway}/telemetry" if gateway else "spBv1.0/plant/NBIRTH/edge 1"
    _, [part] = decode(Message(topic, node_birth() if gateway is None else b"[]", time.time()))
    assert [refusal.reason for refusal in part.refusals] == ([reason] if reason else [])


@pytest.fixture
def run_through(database):
    """Runs messages that came at once through a pipeline, in batches of 1,000 readings; answers its metrics."""

    async def ran(messages):
        settings = Settings(database_url=database.url, batch_readings=1_000)
        routes, source = Routes.default(), Pushes()
        metrics = Metrics((*routes.names, NO_ROUTE))
        writer = Writer(settings, "desk-0", lambda _: False, time.time)
        by_name = DECODERS | {"sparkplug": births.later}
        decode = Decode(routes, 100_000, writer.registry, by_name=by_name)
        pipeline = Pipeline(settings, source, decode, writer, metrics)
        await pipeline.open()
        for message in messages:
            source.put(message)
        source.stop_receiving()
        await asyncio.wait_for(pipeline.run(), 30)
        return metrics

    return lambda messages: asyncio.run(ran(messages))


def test_undecoded_messages_weigh_something(run_through):
    """What the writer decodes fills a batch too: 60 messages of 100 values are no batch of 6,000 readings."""
    values = [metric(name=f"{number:02}", datatype=9, float=1.5) for number in range(100)]
    messages = [Message("spBv1.0/g/NDATA/e", payload(*values, at_ms=now_ms(), seq=number), time.time())
                for number in range(60)]  # fmt: skip
    [histogram] = run_through(messages).batch_readings.collect()
    up_to = {sample.labels["le"]: sample.value for sample in histogram.samples if "le" in sample.labels}
    assert up_to["5000"] == up_to["+Inf"] >= 4


def test_redelivered_numbers_are_no_holes(run_through):
    """1 to 3 come, 4 to 10 again after a lost connection, then 11 and 13: one is missing."""
    messages = [
        Message("ganzhi/v1/370102/gw1/telemetry", b'[{"n": "gw:x", "v": %d}]' % number, time.time(),
                packet_id=number, sequence=number, duplicate=4 <= number <= 10)
        for number in (*range(1, 12), 13)
    ]  # fmt: skip
    gaps = run_through(messages).sequence_gaps
    assert gaps.labels("gateway")._value.get() == 1


def test_a_topic_and_a_payload_that_no_table_takes(database):
    """What can't be read costs its message alone."""
    batch = Batch()
    for topic in ("spBv1.0//NDATA/e", "spBv1.0/g\0/NDATA/e", "spBv1.0/g/NDATA/e"):
        batch.add(Message(topic, b"\x0b", time.time()), NOWHERE, [])
    with psycopg.connect(database.url) as conn:
        whole = Births(time.time, alone=True).decode(conn, batch).batch
    assert [part.refusals[0].reason for part in whole.parts] == [
        "bad_topic",
        "bad_topic",
        "malformed_payload",
    ]
