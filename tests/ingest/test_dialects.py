"""What other dialects bring, in the database: the same data counts once, the same terminal is one."""

import json
import time
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest

from ingest.batch import Batch
from ingest.decode import Decode
from ingest.settings import Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes

VENDORS = Path(str(files("schemas"))) / "data" / "vendors.toml"
NOW = time.time()
AT = datetime.fromtimestamp(int(NOW) - 60, UTC).strftime("%Y%m%dT%H%M%SZ")
IMEI = "860000000000009"
pytestmark = pytest.mark.parametrize("storage", ["postgres"])


@pytest.fixture
def write(database):
    """Writes messages, given as topic and JSON, as one batch."""
    settings = Settings(database_url=database.url, routes=VENDORS)
    writer = Writer(settings, "desk-0", lambda _: False, time.time)
    decode = Decode(Routes.load(settings.routes), 100_000, writer.registry)

    def batch_of(*messages):
        batch = Batch()
        for number, (topic, value) in enumerate(messages, 1):
            message = Message(topic, json.dumps(value).encode(), NOW, packet_id=number)
            way, parts = decode(message)
            batch.add(message, way.place, parts)
        writer.write(batch)

    yield batch_of
    writer.close()


def service(name, value):
    return {"serviceId": name, "data": {"temperature": value}, "eventTime": AT}


def test_the_same_data_in_two_envelopes_counts_once(write, database):
    """One deviceDatasChanged and the deviceDataChanged of its services, in any order and batch, are stored once."""
    one, two = service("a", 20.5), service("b", 21.5)
    several = {"notifyType": "deviceDatasChanged", "deviceId": "d1", "services": [one, two]}
    single = [{"notifyType": "deviceDataChanged", "deviceId": "d1", "service": s} for s in (one, two)]
    write(("nbiot/iotda/b1", single[0]), ("nbiot/iotda/b1", several))
    write(("nbiot/iotda/b2", single[1]), ("nbiot/iotda/b1", several))
    rows = database.rows("SELECT value FROM reading_detail WHERE terminal = 'iotda:d1' ORDER BY value")
    assert [value for (value,) in rows] == [20.5, 21.5]


def test_one_terminal_whatever_it_comes_through(write, database):
    """An IMEI that comes through IoTDA, Alibaba Link, ThingsBoard, JetLinks and LwM2M is one terminal."""
    header = {"device_id": f"p_{IMEI}", "node_id": IMEI}
    push = {"services": [{"service_id": "s", "properties": {"temp": 1}, "event_time": AT}]}
    write(
        ("nbiot/iotda/b", {"resource": "device.property", "notify_data": {"header": header, "body": push}}),
        (f"/sys/pk/{IMEI}/thing/event/property/post", {"params": {"temperature": {"value": 2, "time": NOW}}}),
        ("thingsboard/gw/v1/gateway/telemetry", {IMEI: [{"ts": NOW * 1000, "values": {"Temperature": 3}}]}),
        (f"/product/{IMEI}/properties/report", {"properties": {"温度": 4}, "timestamp": int(NOW)}),
        (f"lwm2m/urn:imei:{IMEI}/up/notify",
         {"msgType": "notify", "data": {"content": [{"path": "/3303/0/5700", "value": 5}]}}),
    )  # fmt: skip
    rows = database.rows("SELECT terminal, metric, value FROM reading_detail ORDER BY value")
    assert rows == [(f"imei:{IMEI}", "temperature", float(value)) for value in range(1, 6)]
