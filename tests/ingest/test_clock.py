"""The clock is set back by an hour: batches go on by their age, and the observer keeps what it keeps."""

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
MANY = 50_000


class Stream:
    """A source that never pauses: the first message is from before the clock was set back."""

    def __init__(self):
        self.acknowledged = self.received = 0

    async def receive(self, limit):
        if self.acknowledged or self.received == MANY:
            return []
        ahead = HOUR if not self.received else 0
        self.received += limit
        return [Message("ganzhi/v1/370102/gw/telemetry", b'[{"n": "x:temperature", "v": 5}]', time.time() + ahead,
                        packet_id=number + 1) for number in range(limit)]  # fmt: skip

    def acknowledge(self, messages):
        self.acknowledged += len(messages)


def test_a_batch_does_not_wait_for_the_clock_to_come_round(database):
    """A batch begun before the clock was set back is written before it is full, in a stream without a pause."""

    async def run():
        settings = Settings(database_url=database.url, batch_readings=10**6)
        routes, stream = Routes.default(), Stream()
        writer = Writer(settings, "desk-0", lambda _: False, time.time)
        decode = Decode(routes, 100_000, writer.registry)
        pipeline = Pipeline(settings, stream, decode, writer, Metrics((*routes.names, NO_ROUTE)))
        await pipeline.open()
        await asyncio.wait_for(pipeline.run(), 30)
        return stream

    assert asyncio.run(run()).received < MANY


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
