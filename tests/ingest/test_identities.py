"""Numbers that name things (devices, cards, cells) are events in the database, whatever format they come in."""

import json
import time

import pytest

from ingest.batch import Batch
from ingest.decode import Decode
from ingest.settings import Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes
from tests.sparkplug import metric, payload

pytestmark = pytest.mark.parametrize("storage", ["postgres"])
NOW = int(time.time())
URN = "urn:imei:860000000000009"
EVENTS = "SELECT name, body ->> 'vs' FROM event ORDER BY name, body ->> 'vs'"


@pytest.fixture
def write(database):
    """Writes messages, given as topic and payload, as one batch; answers batch and outcome."""
    writer = Writer(Settings(database_url=database.url), "desk-0", lambda _: False, time.time)
    decode = Decode(Routes.default(), 100_000, writer.registry)

    def written(*messages):
        batch = Batch()
        for number, (topic, value) in enumerate(messages, 1):
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            message = Message(topic, data, float(NOW), packet_id=number)
            way, parts = decode(message)
            batch.add(message, way.place, [] if topic.startswith("spB") else parts)
        decoded = writer.decode(batch).batch
        return decoded, writer.write(decoded)

    yield written
    writer.close()


def test_identities_of_every_format_are_events(write, database):
    """As SenML, plain, Sparkplug or a push, as a number or as text: an event with its digits, and no reading."""
    telemetry = "ganzhi/v1/370102/gw1/telemetry"
    senml = [{"bn": f"{URN}/", "bt": NOW, "n": "4/0/8", "v": 38848339}, {"n": "4/0/9", "v": 11},
             {"n": "4/0/10", "v": 460}, {"n": "3412/0/21", "v": 460113012467340},
             {"n": "3303/0/5700", "v": 21.5}]  # fmt: skip
    values = {
        "iccid": "89860012345678901234",
        "serialNumber": 71,
        "IMEI": 860000000000009,
        "temp": 20.5,
        "mnc": "2",
    }
    birth = payload(metric(name="IMSI", datatype=4, long=460113012467340), at_ms=NOW * 1000, seq=1)
    push = {"messageType": "dataReport", "deviceId": "d", "timestamp": NOW * 1000,
            "payload": {"Cell_ID": 7.0, "pci": 8}}  # fmt: skip
    batch, outcome = write(
        (telemetry, senml), (telemetry, {"id": "a", "t": NOW, "values": values}),
        ("spBv1.0/g/DBIRTH/e/d", birth), ("nbiot/ctwing/b", push),
    )  # fmt: skip
    assert database.rows(EVENTS) == [
        ("cell_id", "38848339"), ("cell_id", "7"), ("iccid", "89860012345678901234"), ("imei", "860000000000009"),
        ("imsi", "460113012467340"), ("imsi", "460113012467340"), ("mobile_country_code", "460"),
        ("mobile_network_code", "11"), ("mobile_network_code", "2"), ("physical_cell_id", "8"), ("serial_number", "71"),
    ]  # fmt: skip
    stored = database.rows("SELECT metric, value FROM reading_detail ORDER BY value")
    assert stored == [("online", 1.0), ("temperature", 20.5), ("temperature", 21.5)]
    assert database.rows("SELECT reason FROM rejection") == []
    assert (batch.readings, outcome.events_committed) == (outcome.readings_committed.total(), 11)


def test_an_identity_that_lost_its_digits_is_refused(write, database):
    """A card number of 20 digits is none as a number; what is refused is no event, nor is a known part again."""
    pack = [{"bn": f"{URN}/", "bt": NOW, "n": "3412/0/24", "v": 89860012345678901234}, {"n": "4/0/8", "v": 5}]
    for _ in range(2):
        write(("ganzhi/v1/370102/gw1/telemetry", pack))
    assert database.rows("SELECT reason, rejected, total FROM rejection") == [("out_of_range", 1, 2)]
    assert database.rows(EVENTS) == [("cell_id", "5")]
