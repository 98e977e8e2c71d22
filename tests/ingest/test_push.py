"""The HTTP door: what a platform pushes is answered when it is committed, and turned away without a trace before."""

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from hashlib import md5
from urllib.parse import urlencode

import pytest

from ingest import http as serving
from ingest import push, service
from ingest.settings import Settings
from ingest.sources import WINDOW_BYTES, Push, Pushes, Sources
from schemas.message import Message
from tests.brokers import free_port

pytestmark = pytest.mark.parametrize("storage", ["postgres"])
TOKEN, ONENET_TOKEN = "token-of-ctwing", "abc123"
PATH = "push/ctwing/bridge-1"
NOW = int(time.time() * 1000)
IMEI, DEVICE = "860000000000009", "0123456789abcdef0123456789abcdef"
COUNT = "SELECT count(*) FROM reading"


def report(at=NOW, imei="", **values):
    """A dataReport of CTWing."""
    return json.dumps({
        "timestamp": at, "tenantId": "10000000", "protocol": "lwm2m", "productId": "15000000", "topic": "v1/up/ad",
        "messageType": "dataReport", "deviceId": DEVICE, "IMEI": imei, "payload": values or {"temperature": 21.5},
    }).encode()  # fmt: skip


class Client:
    """Somebody who pushes to the port; `token` None sends none."""

    def __init__(self, port):
        self.port = port

    def post(self, body, path=PATH, token=TOKEN):
        """Status and JSON body of the answer."""
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", body, headers)
        return self._ask(request)

    def get(self, path):
        """Status and body of the answer to a GET."""
        return self._ask(f"http://127.0.0.1:{self.port}/{path}", str)

    @staticmethod
    def _ask(request, read=json.loads):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, read(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.code, read(error.read().decode())


@pytest.fixture
def pushing(database, new_worker):
    """A worker that is ready and its push door's client."""
    client = Client(free_port())
    worker = new_worker(push_port=client.port, push_token=f"ctwing={TOKEN},onenet={TOKEN}", max_payload_bytes=2000,
                        onenet_token=ONENET_TOKEN)  # fmt: skip
    worker.start()
    worker.wait_ready()
    return worker, client


def test_pushes_are_answered_when_they_are_committed(database, pushing):
    """Ten at once are all stored when the answers come; one that comes again counts once."""
    worker, client = pushing
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: client.post(report(NOW - n, level=n)), range(10)))
    assert answers == [(200, {"committed": True})] * 10
    assert database.one(COUNT) == (10,)
    assert client.post(report(NOW - 3, level=3), f"{PATH}?token={TOKEN}", token=None)[0] == 200
    metrics = worker.metrics()
    metrics.assert_balanced()
    assert metrics("messages_received_total", "ctwing") == 11
    assert (metrics("messages_committed_total"), metrics("messages_duplicate_total")) == (10, 1)
    assert database.one(COUNT) == (10,)


def test_what_is_refused_is_kept_and_says_why(database, pushing):
    """Garbage 400, too large 413, nothing storable 422: each a rejection; one bad value of two is no refusal."""
    worker, client = pushing
    old = NOW - 200 * 86_400_000
    bodies = b"{", b"x" * 200_000, report(old)
    answers = [client.post(body) for body in bodies]
    assert [(status, body["reason"]) for status, body in answers] == [
        (400, "malformed_payload"), (413, "too_large"), (422, "time_too_old")]  # fmt: skip
    assert client.post(report(NOW, temperature=1e9, humidity=40))[0] == 200
    rows = database.rows("SELECT topic, gateway, reason, rejected FROM rejection ORDER BY id")
    assert rows == [("nbiot/ctwing/bridge-1", "bridge-1", reason, rejected) for reason, rejected in
                    (("malformed_payload", 0), ("too_large", 0), ("time_too_old", 1), ("out_of_range", 1))]  # fmt: skip
    worker.metrics().assert_balanced()


def test_who_has_no_token_leaves_no_trace(database, pushing):
    """No token 401, a wrong one or none set 403, a wrong path 404 or 400; OneNET's URL check asks a signature."""
    worker, client = pushing
    paths = (
        (None, PATH),
        ("wrong", PATH),
        (TOKEN, "push/iotda/g"),
        (TOKEN, "push/other/g"),
        (TOKEN, "push/ctwing/g%00"),
    )
    assert [client.post(report(), path, token)[0] for token, path in paths] == [401, 403, 403, 404, 400]
    signature = b64encode(md5(f"{ONENET_TOKEN}12345678hello".encode()).digest()).decode()
    asked = {"msg": "hello", "nonce": "12345678", "signature": signature}
    checks = asked, asked | {"msg": "hallo"}, {"msg": "hello"}
    answers = [client.get(f"push/onenet/g?{urlencode(check)}") for check in checks]
    assert answers[0] == (200, "hello")
    assert [status for status, _ in answers] == [200, 403, 400]
    assert worker.metrics()("messages_received_total") == 0
    assert database.one("SELECT count(*) FROM rejection") == (0,)


def test_an_outage_is_answered_503(database, pushing):
    """What waits when the database goes is answered in time and committed later, what comes then is not taken."""
    worker, client = pushing
    database.server.stop()
    try:
        begun = time.monotonic()
        assert client.post(report(NOW, level=1))[0] == 503
        assert time.monotonic() - begun < 30
        assert client.post(report(NOW, level=2))[0] == 503
        metrics = worker.metrics()
        assert (metrics("messages_received_total"), metrics("database_up")) == (1, 0)
    finally:
        database.server.start()
    worker.wait(lambda m: m("messages_committed_total") == 1, "done with the first")
    assert [client.post(report(NOW, level=n))[0] for n in (1, 2)] == [200, 200]
    metrics = worker.metrics()
    metrics.assert_balanced()
    assert (metrics("messages_committed_total"), metrics("messages_duplicate_total")) == (2, 1)
    assert database.one(COUNT) == (2,)


def test_a_registered_gateway_says_where_its_terminals_are(database, new_worker):
    """On topics without a division that of the registered gateway counts, for the terminal and for its readings."""
    database.execute("INSERT INTO gateway (name, division) VALUES ('bridge-1', 370202)")
    client = Client(free_port())
    worker = new_worker(push_port=client.port, push_token=f"ctwing={TOKEN}")
    worker.start()
    worker.wait_ready()
    assert client.post(report())[0] == 200
    assert database.one("SELECT division FROM terminal") == (370202,)
    assert database.one("SELECT division, domain FROM reading_detail") == (370202, "other")


def test_a_push_whose_answer_was_lost_counts_once(database, pushing):
    """The worker is killed between commit and answer; the platform pushes again."""
    worker, client = pushing
    connection = http.client.HTTPConnection("127.0.0.1", client.port)
    connection.request("POST", f"/{PATH}", report(), {"Authorization": f"Bearer {TOKEN}"})
    worker.wait(lambda _: database.one(COUNT) == (1,), "done with the push")
    worker.kill()
    connection.close()
    worker.start()
    worker.wait_ready()
    assert client.post(report())[0] == 200
    assert worker.metrics()("messages_duplicate_total") == 1
    assert database.one(COUNT) == (1,)


def test_a_terminal_that_a_platform_names_twice_is_one(database, pushing):
    """First heard under the platform's id, it is the IMEI's from the push on that carries both."""
    worker, client = pushing
    for push_ in (report(NOW), report(NOW + 1, IMEI), report(NOW + 2, IMEI)):
        assert client.post(push_)[0] == 200
    states = database.rows("SELECT code, state FROM terminal ORDER BY id")
    assert states == [(f"ctwing:{DEVICE}", "retired"), (f"imei:{IMEI}", "discovered")]
    alias = "SELECT alias.scheme, value, code FROM alias JOIN terminal ON terminal.id = terminal_id"
    assert database.rows(alias) == [("ctwing", DEVICE, f"imei:{IMEI}")]
    worker.restart()
    worker.wait_ready()
    assert client.post(report(NOW + 3))[0] == 200
    codes = database.rows("SELECT terminal FROM reading_detail ORDER BY observed_at")
    assert codes == [(f"ctwing:{DEVICE}",), *[(f"imei:{IMEI}",)] * 3]


@pytest.mark.parametrize("settings", [
    {"push_port": 1},
    {"push_port": 1, "push_token": "secret-of-all"},
    {"push_port": 1, "push_token": "ctwing=short"},
    {"push_port": 1, "push_token": f"ctwing={TOKEN},other={TOKEN}"},
])  # fmt: skip
def test_a_door_without_proper_tokens_is_not_opened(settings, storage):
    """Settings say what a token must look like, and don't show the one that was given."""
    del storage
    with pytest.raises(ValueError, match=r"GANZHI_PUSH_TOKEN|must look like ctwing=TOKEN") as refused:
        Settings(**settings)
    assert "short" not in str(refused.value)
    assert TOKEN not in str(refused.value)


@asynccontextmanager
async def door(pushes, **settings):
    """The port of a door whose pushes nobody takes."""
    settings = Settings(push_port=1, push_token=f"ctwing={TOKEN}", **settings)
    made = push.Door(settings, pushes, lambda: True, time.time).application()
    server = serving.server(made, settings, anybody=True)
    with service.listen("127.0.0.1", 0) as listening:
        running = asyncio.create_task(server.serve([listening]))
        yield listening.getsockname()[1]
        server.should_exit = True
        await running


def lines(*headers):
    """A request's head."""
    head = f"POST /{PATH} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", *headers, "", ""
    return "\r\n".join(head).encode()


@pytest.mark.parametrize(("sent", "status"), [
    (lines("Content-Length: 10") + b"{", b"HTTP/1.1 408"),
    (lines("Content-Length: 2") + b"{}", b"HTTP/1.1 503"),
    (lines()[:40], b""),
], ids=["body", "commit", "head"])  # fmt: skip
async def test_nobody_waits_for_ever(sent, status, storage, monkeypatch):
    """A body or a commit that does not come in time is answered, a head that does not come closes the connection."""
    del storage
    monkeypatch.setitem(push.ANSWER_SECONDS, "ctwing", 0.1)
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.1)
    async with door(Pushes()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(30):
            assert (await reader.readline())[:12] == status
        writer.close()


@pytest.mark.parametrize("then", [b"POST", lines("Content-Length: 9").replace(b"token", b"wrong") + b"{"])
async def test_a_connection_is_not_held_after_an_answer(then, storage, monkeypatch):
    """Half a head behind an answer, or a body that trickles behind a refusal, ends the connection all the same."""
    del storage
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    async with door(Pushes()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline())[:12] == b"HTTP/1.1 404"
        writer.write(then)
        async with asyncio.timeout(30):
            await reader.read()  # to its end
        writer.close()


async def test_a_full_window_takes_nothing_more(storage):
    """Beyond the weight of what waits a push is answered 503 and not kept; there is room again after the commit."""
    del storage
    pushes = Pushes()
    waiting = Push("t", bytes(WINDOW_BYTES), 0.0)
    pushes.put(waiting)
    async with door(pushes) as port:
        status, _ = await asyncio.to_thread(Client(port).post, report())
        assert status == 503
    assert await pushes.receive(10) == [waiting]
    pushes.acknowledge([waiting])
    assert pushes.open
    assert waiting.settled.done()


class Made:
    """A source of made-up messages."""

    def __init__(self, *messages):
        self.queue = asyncio.Queue()
        self.acknowledged = []
        for message in messages:
            self.queue.put_nowait(message)

    async def receive(self, limit):
        del limit
        return await self.queue.get()

    def waiting_since(self):
        return 2.0

    def acknowledge(self, messages):
        self.acknowledged += messages


async def test_two_sources_are_one(storage):
    """Nothing is lost when a receive is given up, each gets its own back, and the end is that of both."""
    del storage
    pushes, published = Pushes(), Message("t", b"", 0.0, connection=7)
    transport = Made()
    sources = Sources(transport, pushes)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await sources.receive(10)
    transport.queue.put_nowait([published])
    assert await sources.receive(10) == [published]
    pushed = Push("t", b"", 1.0)
    assert sources.waiting_since() == 2.0
    pushes.put(pushed)
    assert sources.waiting_since() == 1.0
    assert await sources.receive(10) == [pushed]
    assert pushed.connection == 7
    sources.acknowledge([published, pushed])
    assert transport.acknowledged == [published]
    assert pushed.settled.done()
    transport.queue.put_nowait([])
    pushes.stop_receiving()
    assert await sources.receive(10) == []
