"""Messages that gateways number: known for good, accepted when in doubt, by two workers at once."""

import itertools
import json
import random
import time

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import maintain
from ingest.batch import Batch
from ingest.connection import connect
from ingest.copy import reading_rows
from ingest.decode import Decode
from ingest.numbering import Numbered
from ingest.quota import PerMinute
from ingest.sealed import Sealed
from ingest.sequence import BLOCK, Numbering, entries, known, numbers, reused, seen
from ingest.settings import Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.reading import Part
from schemas.routes import Place, Routes

TOPIC = "ganzhi/v1/370102/gw1/telemetry"
PLACE = Place(370102, "gw1")
DAYS_AGO = 3 * 86_400


class Desk:
    """A worker's writer on a database, given payloads with their epoch and number as one batch."""

    def __init__(self, url, name):
        self._writer = Writer(Settings(database_url=url), name, lambda _: False, time.time)
        self._decode = Decode(Routes.default(), 1_000_000, self._writer.registry)
        self._packet_ids = itertools.count(1)

    def write(self, *messages, topic=TOPIC):
        """What became of them: committed, duplicate, rejected, under a number that was used."""
        done = self._writer.write(self.batch(*messages, topic=topic))
        return (done.messages_committed, done.messages_duplicate, done.messages_rejected.total(),
                done.sequence_resets.total())  # fmt: skip

    def batch(self, *messages, topic=TOPIC):
        batch = Batch()
        for epoch, number, payload in messages:
            packet_id = next(self._packet_ids)
            message = Message(topic, payload, time.time(), packet_id=packet_id, epoch=epoch, sequence=number)
            way, parts = self._decode(message)
            batch.add(message, way.place, parts)
        return batch

    def close(self):
        self._writer.close()


@pytest.fixture
def new_desk(database):
    desks = []

    def make(name="desk-0"):
        desks.append(Desk(database.url, name))
        return desks[-1]

    yield make
    for desk in desks:
        desk.close()


@pytest.fixture
def forgotten(database):
    """Makes the ledger forget everything, as after its horizon."""
    return lambda: database.execute("TRUNCATE ledger, ledger_timeless")


def pack(value, at=None):
    at = time.time() - DAYS_AGO if at is None else at
    return json.dumps([{"n": "t1:temperature", "t": round(at, 3), "v": value}]).encode()


postgres = pytest.mark.parametrize("storage", ["postgres"])


@postgres
def test_a_replay_beyond_the_ledger_changes_nothing(database, new_desk, forgotten):
    """Numbered messages that come again once the ledger forgot them, in any order and any batch, are duplicates."""
    desk = new_desk()
    sent = [(7, n, pack(20 + n / 100)) for n in range(2 * BLOCK + 10)]
    late = sent.pop(BLOCK // 2)
    assert desk.write(*sent) == (len(sent), 0, 0, 0)
    forgotten()
    random.Random(1).shuffle(sent)
    assert desk.write(*sent[:50]) == (0, 50, 0, 0)
    assert desk.write(*sent[40:], late) == (1, len(sent) - 40, 0, 0)
    assert database.one("SELECT count(*) FROM reading") == (len(sent) + 1,)
    assert database.rows("SELECT block, cardinality(seen) FROM gateway_sequence ORDER BY 1") == [
        (0, BLOCK), (1, BLOCK), (2, 10)]  # fmt: skip


@postgres
@pytest.mark.parametrize(("epoch", "number"), [(None, 5), (7, None), (None, None)])
def test_without_both_numbers_nothing_is_known_beyond_the_ledger(
    database, new_desk, forgotten, epoch, number
):
    """A gateway that says only one of epoch and seq takes no part."""
    desk, message = new_desk(), (epoch, number, pack(20))
    desk.write(message)
    forgotten()
    assert desk.write(message) == (1, 0, 0, 0)
    assert database.rows("SELECT 1 FROM gateway_sequence") == []


@postgres
def test_timeless_messages_are_told_apart(database, new_desk):
    """The same payload without a time is new under another number or epoch, and a duplicate under the same."""
    desk, door = new_desk(), b'[{"n": "door:opened", "v": 1}]'
    assert desk.write((1, 1, door), (1, 1, door), (1, 2, door)) == (2, 1, 0, 0)
    assert desk.write((1, 2, door), (2, 1, door), (2, 2, door)) == (2, 1, 0, 0)
    assert database.one("SELECT count(*) FROM reading") == (4,)


@postgres
def test_a_gateway_that_begins_anew_without_an_epoch_loses_nothing(database, new_desk, forgotten):
    """Used numbers with other content, fresh or days old, are stored and counted; so is what they bring again later."""
    desk = new_desk()
    first = [(0, n, pack(10, time.time() - DAYS_AGO + n)) for n in range(100)]
    again = [(0, n, pack(30, time.time() - DAYS_AGO / (1 + n % 2) + n)) for n in range(100)]
    desk.write(*first)
    forgotten()
    assert desk.write(*reversed(again)) == (100, 0, 0, 100)
    forgotten()
    assert desk.write(*again) == (0, 100, 0, 0)
    assert database.one("SELECT count(*) FROM reading") == (200,)


@postgres
def test_a_number_used_for_everything_loses_nothing_and_stays_small(database, new_desk):
    """A gateway whose seq stands still has all of it stored, and a row of one entry."""
    desk = new_desk()
    for begin in (0, 300):
        assert desk.write(*((1, 9, pack(n / 10)) for n in range(begin, begin + 300)))[:2] == (300, 0)
    assert database.one("SELECT sum(cardinality(seen)) FROM gateway_sequence") == (1,)


@postgres
def test_what_was_refused_may_come_again(database, new_desk, forgotten):
    """A message of which nothing was stored is judged anew; nobody else's refused message uses a number up."""
    desk = new_desk()
    assert desk.write((1, 1, b"["), (1, 2, pack(1e9))) == (0, 0, 2, 0)
    assert desk.write((1, 3, pack(20)), topic="ganzhi/v1/440100/gw1/telemetry")[2] == 1
    forgotten()
    assert desk.write((1, 1, b"["), (1, 2, pack(1e9))) == (0, 0, 2, 0)
    assert desk.write((1, 1, pack(20)), (1, 3, pack(20, time.time()))) == (2, 0, 0, 0)


@postgres
def test_what_was_refused_twice_may_come_again(database, new_desk, forgotten):
    """A refused message that came twice within the ledger's horizon is stored once its cause is gone."""
    desk, message = new_desk(), (1, 1, pack(1e9))
    assert desk.write(message) == (0, 0, 1, 0)
    assert desk.write(message) == (0, 1, 0, 0)
    forgotten()
    database.execute("UPDATE metric SET hard_high = NULL WHERE name = 'temperature'")
    assert new_desk("desk-1").write(message) == (1, 0, 0, 0)


def test_two_workers_merge_what_they_saw(database, new_desk, forgotten):
    """Numbers that two workers commit in turns are known to both; a row that both read and then write holds both's."""
    desks = [new_desk("desk-0"), new_desk("desk-1")]
    sent = [(1, n, pack(n / 10)) for n in range(60)]
    for n, message in enumerate(sent[:50]):
        assert desks[n % 2].write(message)[0] == 1
    batches = [desk.batch(*sent[50 + 5 * n : 55 + 5 * n]) for n, desk in enumerate(desks)]
    stored = Sealed(reading_rows(5), np.arange(5, dtype=np.int32), [], {})
    with connect(database.url) as one, connect(database.url) as other:
        both = [Numbered(conn, batch) for conn, batch in zip((one, other), batches, strict=True)]
        for numbered in both:
            numbered.keep(stored)
    forgotten()
    for desk in desks:
        assert desk.write(*sent) == (0, 60, 0, 0)
    assert database.one("SELECT count(*), sum(cardinality(seen)) FROM gateway_sequence") == (1, 60)


@postgres
def test_a_gateway_says_its_numbers(database, gateway, new_worker, settled, forgotten):
    """From user properties to the metrics: holes within an epoch, duplicates, and numbers that were used."""
    worker = new_worker()
    worker.start()
    worker.wait_ready()
    for epoch, number, value in (
        (1, 1, 1),
        (1, 3, 2),
        (1, 2, 3),
        (2, 90, 4),
        (2, 91, 5),
        (1, 3, 2),
        (2, 91, 6),
    ):
        if value == 5:
            settled(worker)
            forgotten()
        gateway.publish(
            TOPIC, pack(value, 1_795_000_000), user_properties=[("epoch", str(epoch)), ("seq", str(number))]
        )
    metrics = settled(worker)
    metrics.assert_balanced()
    assert database.one("SELECT count(*), count(DISTINCT value) FROM reading JOIN metric ON metric_id = id "
                        "WHERE name = 'temperature'") == (6, 6)  # fmt: skip
    assert metrics("messages_duplicate_total") == 1
    assert metrics("sequence_gaps_total", "gateway") == 1
    assert metrics("sequence_resets_total") == 1
    assert [line["gateways"] for line in worker.log if line["event"] == "sequence_reset"] == [["gw1"]]


@postgres
def test_maintenance_forgets_numbers_of_refused_age(database, new_desk):
    """Rows go a day after everything in them is too old to be stored, and none while any age is taken."""
    new_desk().write((1, 1, pack(20)), (1, BLOCK, pack(21)))
    database.execute("UPDATE gateway_sequence SET seen_on = current_date - 92 WHERE block = 0")
    with psycopg.connect(database.url, autocommit=True) as conn:
        maintain.run(conn, Settings(database_url=database.url, max_age_days=0), lambda _: None)
        assert database.one("SELECT count(*) FROM gateway_sequence") == (2,)
        maintain.run(conn, Settings(database_url=database.url), lambda _: None)
    assert database.rows("SELECT block FROM gateway_sequence") == [(1,)]


MESSAGES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3 * BLOCK) | st.integers(0, 10**18 - 1),
                              st.binary(max_size=1)), max_size=30)  # fmt: skip


@settings(max_examples=200, deadline=None, database=None)
@given(MESSAGES, st.lists(MESSAGES, max_size=4))
def test_known_is_what_was_kept_last_under_its_number(first, later):
    """Against a plain dictionary: a message is known if and only if it is the last that its number brought."""
    rows, model = {}, {}
    for messages in (first, *later):
        batch = Batch()
        for epoch, number, content in messages:
            batch.add(Message("t", content, 0.0, epoch=epoch, sequence=number), PLACE, [Part(times=[3e8])])
        numbered = numbers(batch)
        before = seen((*block, list(places.values())) for block, places in rows.items())
        expected, now = set(), set()
        for n, (epoch, number, content) in enumerate(messages):
            if model.get((epoch, number)) == content or (epoch, number, content) in now:
                expected.add(n)
            now.add((epoch, number, content))
        assert known(numbered, before) == expected
        new = [one for n, one in numbered.items() if n not in expected]
        others = 0
        for epoch, number, content in (message for n, message in enumerate(messages) if n not in expected):
            others += model.get((epoch, number), content) != content
            model[epoch, number] = content
        assert len(reused(new, before)) == others
        for one in entries(new):
            assert -(2**63) <= one.entry < 2**63
            rows.setdefault(one.block, {})[one.place] = one.entry


def test_numbers_behind_the_expected_one():
    """With an epoch a smaller number is late or comes again, and says nothing about holes."""
    numbering = Numbering()
    assert [numbering.behind("gw 1", n) for n in (5,)] == [False]
    numbering.begin("gw 1", 5)
    assert [numbering.behind("gw 1", n) for n in (4, 5, 6, 7)] == [True, True, False, False]


def test_a_minute_takes_so_many_rows_and_bytes():
    """The first to come to the limit of either is the last, whatever its own size; the next minute begins anew."""
    now = [0.0]
    quota = PerMinute(3, lambda: now[0], 100)
    assert [quota.take(size) for size in (1, 1, 1, 1)] == [True, True, True, False]
    now[0] = 60.0
    assert [quota.take(size) for size in (99, 500, 1)] == [True, True, False]
