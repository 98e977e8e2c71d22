"""More than usual: ten times the messages, and people who hang on to the HTTP port."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from tests.faults.case import case
from tests.faults.cases.membership import EXTRA
from tests.faults.stand import Stand
from tests.worker import Worker

USUAL = 300
"""Messages a second; one machine runs gateways, broker, database and worker."""
SCRAPERS = 50
SLOW_CLIENTS = 20
WAIT_SECONDS = 45
"""For the service to close a connection that sends no whole request: it promises 10 s, and 30 s more."""


@case(120, size=60)
def burst(stand: Stand, size: int) -> None:
    """Ten times the usual 300 messages a second, for so many seconds."""
    stand.worker()
    stand.publish(USUAL)
    stand.warm_up()
    begun, sent = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < size:
        for _ in range(int(passed * 9 * USUAL) - sent):
            stand.fleet.extra.append(stand.ledger.message(EXTRA, 1))
            sent += 1
        time.sleep(0.01)
    stand.notes.append(f"{sent:,} messages more in {size} s")
    stand.healed()


@case(90, size=60)
def scrape_storm(stand: Stand, size: int) -> None:
    """50 clients ask a worker for its metrics without pause for so many seconds; new readings go on being visible."""
    worker = _loaded(stand)
    with _many(SCRAPERS, lambda: _scrape(worker)) as done:
        _watched(stand, worker, size)
    stand.notes.append(f"{sum(done):,} scrapes")
    if not sum(done):
        stand.faults.append("no scrape was answered")


@case(60, size=30)
def slow_clients(stand: Stand, size: int) -> None:
    """20 clients send a byte of their request a second: each is closed in the end, and others are served meanwhile."""
    worker = _loaded(stand)
    with _many(SLOW_CLIENTS, lambda: _drip(worker)) as closed:
        _watched(stand, worker, size)
        stand.wait(lambda: min(closed), "rid of the slow clients", WAIT_SECONDS)


def _loaded(stand: Stand) -> Worker:
    worker = stand.worker()
    stand.publish(USUAL)
    stand.warm_up()
    return worker


def _watched(stand: Stand, worker: Worker, seconds: int) -> None:
    """For so long new readings become visible and the books balance. Notes the longest wait."""
    begun, longest = time.monotonic(), 0.0
    while time.monotonic() - begun < seconds:
        longest = max(longest, stand.healed())
        worker.wait(bool, "answering a scrape").assert_balanced()
        time.sleep(1)
    stand.notes.append(f"visible within {longest:.1f} s")


@contextmanager
def _many(count: int, action: Callable[[], Iterator[int]]) -> Iterator[list[int]]:
    """As many threads that act until the end; what each has done, as it counts itself."""
    over, done = threading.Event(), [0] * count

    def run(number: int) -> None:
        while not over.is_set():
            with suppress(OSError, http.client.HTTPException):
                for one in action():
                    done[number] += one
                    if over.is_set():
                        return

    threads = [threading.Thread(target=run, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _scrape(worker: Worker) -> Iterator[int]:
    """Scrapes on one connection; 1 for each that was answered."""
    with closing(http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)) as connection:
        while True:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            answer.read()
            yield int(answer.status == 200)


def _drip(worker: Worker) -> Iterator[int]:
    """A request whose head comes a byte a second; 1 when the worker has closed."""
    with socket.create_connection(("127.0.0.1", worker.port)) as connection:
        connection.settimeout(1)
        for byte in b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"a" * 1_000:
            yield 0
            try:
                connection.sendall(bytes([byte]))
                closed = not connection.recv(1)
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
            if closed:
                yield 1
                return
