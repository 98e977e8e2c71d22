"""When a batch is written: by its age though the clock is set back by an hour, as the observer goes on; by its size."""

import asyncio
import time

import pytest

from ingest.connection import connect
from ingest.decode import NO_ROUTE, Decode
from ingest.metrics import Metrics
from ingest.pipeline import Pipeline
from ingest.round import Rounds
from ingest.settings import Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes

pytestmark = pytest.mark.parametrize("storage", ["postgres"])
HOUR = 3600
MANY = 10_000
"""Fewer than an idle writer takes for their number: half of a third of the window."""


class Stream:
    """A source that never pauses: of so many messages the first arrives so much later, by the clock."""

    def __init__(self, messages, ahead_seconds=0):
        self.messages = messages
        self.ahead_seconds = ahead_seconds
        self.received = 0
        self.acknowledged = []

    async def receive(self, limit):
        if self.received == self.messages or (self.ahead_seconds and self.acknowledged):
            return []
        ahead = self.ahead_seconds if not self.received else 0
        self.received += limit
        return [Message("ganzhi/v1/370102/gw/telemetry", b'[{"n": "x:temperature", "v": 5}]', time.time() + ahead,
                        packet_id=number + 1) for number in range(limit)]  # fmt: skip

    def acknowledge(self, messages):
        self.acknowledged.append(len(messages))


def written(database, stream, **settings):
    """The stream, once the pipeline has written what came of it."""

    async def run():
        chosen = Settings(database_url=database.url, batch_readings=10**6, **settings)
        routes = Routes.default()
        writer = Writer(chosen, "desk-0", lambda _: False, time.time)
        decode = Decode(routes, 100_000, writer.registry)
        pipeline = Pipeline(chosen, stream, decode, writer, Metrics((*routes.names, NO_ROUTE)))
        await pipeline.open()
        await asyncio.wait_for(pipeline.run(), 30)

    asyncio.run(run())
    return stream


def test_a_batch_does_not_wait_for_the_clock_to_come_round(database):
    """A batch begun before the clock was set back is written before it is full, in a stream without a pause."""
    assert written(database, Stream(MANY, ahead_seconds=HOUR)).received < MANY


def test_a_batch_takes_a_third_of_the_window(database):
    """However many readings it may hold: else one could not fill while the one before it is written."""
    acknowledged = written(database, Stream(50_000), batch_seconds=60).acknowledged
    assert sum(acknowledged) == 50_000
    assert max(acknowledged) <= 65_534 // 3


def test_a_writer_that_has_nothing_to_do_takes_half_a_batch(database):
    """As soon as it is there, not once a batch is full or old."""
    first, *_ = written(database, Stream(50_000), batch_seconds=60).acknowledged
    assert 65_534 // 6 <= first < 65_534 // 4


def test_the_observer_keeps_coverage_and_snapshots(database):
    """After a look an hour ahead the next ones still keep the quarter's row, and store who was heard."""
    now = time.time()
    database.execute("INSERT INTO terminal (id, code, scheme, division, domain, state) VALUES "
                     "(1, 'x:1', 'other', 370102, 'municipal', 'installed')")  # fmt: skip
    with connect(database.url) as conn:
        rounds = Rounds(conn, Settings(database_url=database.url))
        rounds.load()
        for at in (now + HOUR, now):
            rounds.look(at)
            rounds.chores(at)
        quarters = {at for (at,) in conn.execute("SELECT extract(epoch FROM at)::int FROM coverage")}
    assert quarters == {int(at - at % 900) for at in (now, now + HOUR)}
