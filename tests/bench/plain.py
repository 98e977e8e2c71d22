"""A consumer as most people write it: aiomqtt, `json.loads`, `executemany`: a peer for `tests.bench.peers`.

It acknowledges on arrival, as aiomqtt does, and takes whatever the broker sends into aiomqtt's queue, which has no
limit unless one is set. `--acknowledge-late` acknowledges what is committed, by what aiomqtt keeps private. Both write
1,000 readings a transaction, and once a second what there is: one transaction a message would be slower.
"""

import argparse
import asyncio
import json
from typing import Any

import aiomqtt
import psycopg

TABLE = [
    "CREATE TABLE reading (time timestamptz NOT NULL, name text NOT NULL, value float8 NOT NULL)",
    "SELECT create_hypertable('reading', 'time')",
]
INSERT = "INSERT INTO reading (time, name, value) VALUES (to_timestamp(%s), %s, %s)"
TOPIC = "ganzhi/v1/+/+/telemetry"
BATCH = 1_000
FLUSH_SECONDS = 1.0


class Writer:
    """Gathers readings, writes them, and acknowledges their messages where it is given how."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], client: aiomqtt.Client | None) -> None:
        self._conn, self._client = conn, client
        self._rows: list[tuple[float, str, float]] = []
        self._messages: list[aiomqtt.Message] = []
        self._lock = asyncio.Lock()

    async def add(self, message: aiomqtt.Message) -> None:
        self._rows += [(r["t"], r["n"], r["v"]) for r in json.loads(message.payload)]
        self._messages.append(message)
        if len(self._rows) >= BATCH:
            await self.flush()

    async def flush(self) -> None:
        async with self._lock:
            rows, self._rows = self._rows, []
            messages, self._messages = self._messages, []
            if rows:
                async with self._conn.transaction(), self._conn.cursor() as cursor:
                    await cursor.executemany(INSERT, rows)
            for message in messages if self._client else ():
                self._client._client.ack(message.mid, message.qos)


async def every_second(writer: Writer) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await writer.flush()


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--database", required=True)
    options.add_argument("--acknowledge-late", action="store_true")
    arguments = options.parse_args()
    conn = await psycopg.AsyncConnection.connect(arguments.database, autocommit=True)
    client = aiomqtt.Client("127.0.0.1", arguments.port, identifier="plain", clean_session=False)
    if arguments.acknowledge_late:
        client._client.manual_ack_set(True)
    async with conn, client:
        await client.subscribe(TOPIC, qos=1)
        writer = Writer(conn, client if arguments.acknowledge_late else None)
        flushing = asyncio.create_task(every_second(writer), name="flush")
        async for message in client.messages:
            await writer.add(message)
        await flushing


if __name__ == "__main__":
    asyncio.run(main())
