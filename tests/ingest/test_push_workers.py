"""The HTTP door of several workers: real pushes of OneNET and Huawei, each repeated to the other worker."""

import json
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode

import pytest

from tests.brokers import free_port
from tests.onenet import KEY, NONCE, TOKEN, encrypted, signature
from tests.worker import Worker

pytestmark = pytest.mark.parametrize("storage", ["postgres"])
DOOR_TOKEN = "token-of-the-door"
NOW = int(time.time()) - 60
AT = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW))
IMEI = "860000000000009"
POINT = {"at": NOW * 1000, "imei": IMEI, "type": 1, "ds_id": "3303_0_5700", "value": 21.5, "dev_id": 5}
PARAMS = {"flow": {"value": 1.5, "time": NOW * 1000}, "state": {"value": "ok", "time": NOW * 1000}}
NOTIFY = {"productId": "p", "deviceName": "d1", "messageType": "notify", "notifyType": "property",
          "data": {"params": PARAMS}}  # fmt: skip
HEADER = {"device_id": "p_1", "node_id": "860000000000017", "product_id": "p"}


def signed(text, name="msg", nonce=NONCE, **more):
    """An envelope of OneNET around a text."""
    return {name: text, "nonce": nonce, "signature": signature(text, nonce), **more}


def v5(resource, body):
    """A push of IoTDA."""
    return {
        "resource": resource,
        "event": "report",
        "event_time": AT,
        "notify_data": {"header": HEADER, "body": body},
    }


def pushes():
    """Platform and body of what is pushed, each twice: the second time as the platform tries again."""
    sealed = encrypted(json.dumps(POINT | {"ds_id": "3304_0_5700", "value": 40}))
    text = json.dumps(NOTIFY)
    service = {"service_id": "Water", "properties": {"flow": 2.5, "level": 3}, "event_time": AT}
    property_ = v5("device.property", {"services": [service]})
    status = v5("device.status", {"status": "ONLINE"})
    batch = {"devices": [{"device_id": f"child-{n}", "services": [service]} for n in range(3)]}
    old = json.dumps(POINT)
    signed_old = '{"msg":%s,"nonce":"%s","msg_signature":"%s"}'
    return [
        ("onenet", *(signed_old % (old, nonce, signature(old, nonce)) for nonce in ("aaaaaaaa", "bbbbbbbb"))),
        ("onenet", signed(text, id="1"), signed(text, nonce="cccccccc", id="2")),
        ("onenet", signed(sealed, "enc_msg"), signed(sealed, "enc_msg", nonce="dddddddd")),
        ("iotda", property_, property_ | {"request_id": "again"}),
        ("iotda", status, status),
        ("iotda", batch, batch),
    ]


def ask(port, path, body=None):
    """Status and text of the answer."""
    data = body.encode() if isinstance(body, str) else body and json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {DOOR_TOKEN}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def workers(new_worker):
    """Two workers under one command: each one's metrics, and the port of each one's door."""
    door = free_port(2)
    service = new_worker("ingest --workers 2", share_group="g", push_port=door, onenet_token=TOKEN, onenet_aes_key=KEY,
                         push_token=f"onenet={DOOR_TOKEN},iotda={DOOR_TOKEN}")  # fmt: skip
    service.port = free_port(2)
    service._settings["http_port"] = service.port
    service.start()
    try:
        second = View(service)
        for worker in (service, second):
            worker.wait_ready()
        yield [(service, door), (second, door + 1)]
    finally:
        service.terminate()


class View(Worker):
    """The second worker of a command, as its metrics show it."""

    def __init__(self, first):
        super().__init__(first._log_file)
        self.port, self._process = first.port + 1, first._process

    def __exit__(self, *_):
        """The command ends it."""


def counts(database):
    return [
        database.one(f"SELECT count(*) FROM {table}")[0]
        for table in ("reading", "event", "terminal", "rejection")
    ]


def test_what_is_pushed_again_to_another_worker_counts_once(database, workers):
    """Signed, sealed and plain pushes are stored by either worker; repeated to the other they change nothing."""
    ports = [port for _, port in workers]
    check = {"msg": "hello", "nonce": NONCE, "signature": signature("hello")}
    for port in ports:
        assert ask(port, f"push/onenet/g?{urlencode(check)}") == (200, "hello")
        assert ask(port, f"push/onenet/g?{urlencode(check | {'msg': 'hallo'})}")[0] == 403
    for number, (platform, first, _) in enumerate(pushes()):
        assert ask(ports[number % 2], f"push/{platform}/g", first)[0] == 200
    stored = counts(database)
    assert stored == [1 + 1 + 1 + 2 + 1 + 6, 1, 6, 0]
    for number, (platform, _, again) in enumerate(pushes()):
        assert ask(ports[1 - number % 2], f"push/{platform}/g", again)[0] == 200
    assert counts(database) == stored
    forged = [
        signed(json.dumps(NOTIFY), nonce=nonce) | {"signature": "x"} for nonce in ("eeeeeeee", "ffffffff")
    ]
    answers = [ask(port, "push/onenet/g", push) for port, push in zip(ports, forged, strict=True)]
    assert [status for status, _ in answers] == [403, 200], "refused once, known then"
    assert database.rows("SELECT reason, topic FROM rejection") == [("not_authorized", "nbiot/onenet/g")]
    scrapes = [worker.metrics() for worker, _ in workers]
    for metrics in scrapes:
        metrics.assert_balanced()
        assert metrics("messages_committed_total") == 3
    assert sum(metrics("messages_duplicate_total") for metrics in scrapes) == 7
