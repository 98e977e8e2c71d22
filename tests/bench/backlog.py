"""What others wait for while a gateway flushes three days of backlog: from their publishing to the commit.

    python -m tests.bench.backlog [--storage postgres] [--readings 5000000] [--megabits 10] [--apart]

100 gateways, each on a connection of its own, publish packs of 20 readings of now, 2,000 readings/s in all. First they
are alone; then one more publishes readings of 1,000 terminals in packs of 100, the oldest first, spread over the last
three days: as fast as the broker takes them, or at a rate. `--apart` gives it a division of its own, and that a
worker of its own: another session, and so another queue at the broker. Everything is a real process. When a message
was committed is the server's commit timestamp of its row in the ledger.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.synchronize import Event
from pathlib import Path

import mqtt5
import numpy as np
import psycopg

from ingest import migrate
from ingest.batch import Batch
from ingest.connection import connect
from schemas.message import Message
from schemas.routes import Place
from schemas.telemetry import decode
from tests.bench.publish import WINDOW, _Acknowledgements
from tests.brokers import Mosquitto, free_port, mosquitto_config
from tests.postgres import Postgres, program_folders, timescale_programs
from tests.worker import Worker

GATEWAYS, PACK, PER_SECOND = 100, 20, 100
"""Others: how many, readings of a message, messages a second of all."""
TERMINALS, FLUSHED_PACK = 1_000, 100
BACKLOG_SECONDS = 3 * 86_400
WARM_SECONDS, ALONE_SECONDS = 5, 15
PATIENCE_SECONDS = 420
REST_SECONDS = 3
"""For what was freed to go back to the system."""
RECORD = '{"n":"imei:8688%011d/temperature","u":"Cel","v":%.2f%s}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", choices=("timescale", "postgres"), default="timescale")
    parser.add_argument("--readings", type=int, default=5_000_000, help="of the backlog")
    parser.add_argument(
        "--megabits", type=float, default=0, help="a second, of the gateway that flushes; 0: no limit"
    )
    parser.add_argument("--window", type=int, default=WINDOW, help="messages it has on their way at once")
    parser.add_argument("--numbered", action="store_true", help="it says epoch and seq")
    parser.add_argument(
        "--apart", action="store_true", help="a worker of its own for the gateway that flushes"
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = timescale_programs() if options.storage == "timescale" else program_folders()[-1]
        assert programs, "no server here offers TimescaleDB"
        server = stack.enter_context(Postgres(programs, timescale=options.storage == "timescale"))
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        server.stop()
        server.start()
        url, port = stack.enter_context(server.database()), free_port()
        stack.enter_context(Mosquitto(mosquitto_config(port, folder), port, folder))
        settings = {"database_url": url, "mqtt_url": f"mqtt://127.0.0.1:{port}"}
        with connect(url, patient=True) as conn:
            migrate.migrate(conn)
        workers = [Worker(folder / "worker-0.log", topics="ganzhi/v1/370102/+/telemetry", **settings)]
        flushed = "ganzhi/v1/370103/late/telemetry" if options.apart else "ganzhi/v1/370102/late/telemetry"
        if options.apart:
            topics = "ganzhi/v1/370103/+/telemetry"
            workers.append(Worker(folder / "late.log", topics=topics, client_id="late", **settings))
        for worker in workers:
            stack.enter_context(worker)
            worker.wait_ready()
        print(
            f"{server.version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options}", flush=True
        )
        measure(options, url, port, flushed, workers[-1])


def measure(options: argparse.Namespace, url: str, port: int, topic: str, worker: Worker) -> None:
    """Others alone, then beside the flood; until everything is committed. `worker` is the one that is flooded."""
    go, ready = multiprocessing.Event(), multiprocessing.Event()
    arguments = (port, topic, options, ready, go)
    flood = multiprocessing.Process(target=flush, args=arguments)
    flood.start()
    ready.wait()
    others = Others(port)
    others.start()
    time.sleep(WARM_SECONDS + ALONE_SECONDS)
    before_bytes = worker.memory_bytes()
    begun = time.time()
    go.set()
    flood.join()
    published = time.time()
    deadline = published + PATIENCE_SECONDS
    with psycopg.connect(url, autocommit=True) as conn:
        count = "SELECT count(*) FROM reading WHERE observed_at < to_timestamp(%s)"
        while conn.execute(count, [others.first - 1]).fetchone() != (options.readings,):
            assert time.time() < deadline, "the backlog is not committed"
            time.sleep(1)
        committed = time.time()
        others.stop()
        waits = others.waits(conn, deadline)
    time.sleep(REST_SECONDS)
    megabytes = [number / 1e6 for number in (before_bytes, worker.peak_bytes(), worker.memory_bytes())]
    print("worker: {:.0f} MB before, {:.0f} at most, {:.0f} afterwards".format(*megabytes))
    print(f"backlog: {options.readings:,} readings, published in {published - begun:.1f} s, "
          f"committed in {committed - begun:.1f} s: {options.readings / (committed - begun):,.0f}/s")  # fmt: skip
    for when, since, until in (("alone", others.first + WARM_SECONDS, begun), ("flood", begun, committed)):
        seconds = np.array([wait for at, wait in waits if since <= at < until])
        p50, p99 = np.percentile(seconds, [50, 99])
        print(
            f"others, {when}: {len(seconds):,} messages, p50 {p50:.3f} s, p99 {p99:.3f} s, max {seconds.max():.3f} s"
        )


class Others(threading.Thread):
    """The other gateways, until `stop`."""

    def __init__(self, port: int) -> None:
        super().__init__(name="others")
        self.first = time.time()
        self._sockets = [connected(port, f"gw{n}") for n in range(GATEWAYS)]
        self._sent: dict[uuid.UUID, float] = {}
        self._over = threading.Event()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        number = 0
        while not self._over.is_set():
            self._publish(number)
            number += 1
            self._over.wait(max(0.0, self.first + number / PER_SECOND - time.time()))

    def _publish(self, number: int) -> None:
        """Counted from when it is due: a broker that does not take it is part of the wait."""
        sock, gateway = self._sockets[number % GATEWAYS], f"gw{number % GATEWAYS}"
        now = self.first + number / PER_SECOND
        records = [
            RECORD % (10_000_000 + number % GATEWAYS * PACK + n, 20, f',"t":{now:.6f}') for n in range(PACK)
        ]
        topic, payload = f"ganzhi/v1/370102/{gateway}/telemetry", f"[{','.join(records)}]".encode()
        self._sent[key(topic, payload)] = now
        sock.sendall(packet(topic, payload, number // GATEWAYS))
        with contextlib.suppress(BlockingIOError):  # acknowledgements, as far as they are here
            sock.recv(65_536, socket.MSG_DONTWAIT)

    def waits(self, conn: psycopg.Connection, deadline: float) -> list[tuple[float, float]]:
        """When each message was sent, and how long it took from there to its commit; all of them are there."""
        query = "SELECT key, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM ledger WHERE key = ANY(%s)"
        while len(rows := conn.execute(query, [list(self._sent)]).fetchall()) < len(self._sent):
            assert time.time() < deadline, (
                f"{len(self._sent) - len(rows)} messages of others are not committed"
            )
            time.sleep(1)
        return [(self._sent[which], committed - self._sent[which]) for which, committed in rows]


def key(topic: str, payload: bytes) -> uuid.UUID:
    """The message's key in the ledger."""
    batch, message = Batch(), Message(topic, payload, 0.0)
    batch.add(message, Place(None, None), decode(message))
    return uuid.UUID(bytes=batch.digests[0])


def flush(port: int, topic: str, options: argparse.Namespace, ready: Event, go: Event) -> None:
    """The gateway's process: everything is made beforehand, then published in order with a window."""
    readings, megabits, window = options.readings, options.megabits, options.window
    begin, step = time.time() - BACKLOG_SECONDS, BACKLOG_SECONDS / readings * FLUSHED_PACK
    rng = random.Random(1)
    packets = []
    for number in range(readings // FLUSHED_PACK):
        first = number * FLUSHED_PACK % TERMINALS
        records = ",".join([RECORD % (first + n, rng.gauss(20, 5), "") for n in range(FLUSHED_PACK)])
        payload = f'[{{"bt":{begin + number * step:.3f},{records[1:]}]'.encode()
        numbers = [("epoch", "1"), ("seq", str(number))] if options.numbered else []
        packets.append(packet(topic, payload, number, numbers))
    sock = connected(port, "late")
    acknowledgements = _Acknowledgements(sock)
    ready.set()
    go.wait()
    begun, size = time.time(), 0
    for number, data in enumerate(packets):
        if number - acknowledgements.count >= window:
            acknowledgements.wait_for(number - window // 2)
        sock.sendall(data)
        size += len(data)
        if megabits:
            time.sleep(max(0.0, begun + size * 8 / (megabits * 1e6) - time.time()))
    acknowledgements.wait_for(len(packets))


def connected(port: int, name: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(mqtt5.ConnectPacket(client_id=name, clean_start=True, keep_alive=600).write())
    sock.recv(1024)
    return sock


def packet(topic: str, payload: bytes, number: int, properties: Sequence[tuple[str, str]] = ()) -> bytes:
    """Of QoS 1."""
    return mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number % 65_535 + 1,
                               user_properties=list(properties)).write()  # fmt: skip


if __name__ == "__main__":
    main()
