"""Huawei's pushes: one identity in every envelope, time limits of the decoder, and that no input raises.

Shapes and bad inputs are golden folders, tests/golden/iotda.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.message import Message
from schemas.nbiot.iotda import decoder
from schemas.reading import RELATIVE_BELOW

decode = decoder()
GOLDEN = sorted((Path(__file__).parent.parent / "golden" / "iotda").iterdir())
SERVICE = {"serviceId": "Water", "data": {"flow": 1.25, "level": 2}, "eventTime": "20251121T075900Z"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["resource", "notifyType", "notify_data", "header", "body", "services", "service", "devices", "device_id",
          "deviceId", "node_id", "properties", "data", "event_time", "eventTime", "event_time_ms"]  # fmt: skip


def push(value):
    return decode(Message("nbiot/iotda/b", json.dumps(value).encode(), 1763712000.0))


def changed(*services):
    return {"notifyType": "deviceDatasChanged", "deviceId": "d", "services": list(services)}


def v5(services, **header):
    header = {"device_id": "d", **header}
    return {"resource": "device.property", "notify_data": {"header": header, "body": {"services": services}}}


def test_the_same_data_twice_is_one_part():
    """A service's data has one identity in deviceDataChanged and in deviceDatasChanged."""
    [single] = push({"notifyType": "deviceDataChanged", "deviceId": "d", "service": SERVICE})
    several = push(changed({**SERVICE, "serviceId": "Other"}, SERVICE))
    assert [part.identity == single.identity for part in several] == [False, True]


def test_an_identity_knows_neither_envelope_nor_order_nor_the_imei():
    """The v5 push, with the properties in another order and the IMEI beside the device, is the same data."""
    [old] = push(changed(SERVICE))
    service = {
        "service_id": "Water",
        "event_time": "2025-11-21T07:59:00Z",
        "properties": {"level": 2, "flow": 1.25},
    }
    [new] = push(v5([service], node_id="860000000000009"))
    assert old.identity == new.identity
    assert (old.names[0][0], new.names[0][0]) == ("iotda:d", "imei:860000000000009")
    assert new.aliases == {"iotda:d": "imei:860000000000009"}


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"flow": 1.25, "level": 3}},
        {"data": {"flow": 1.25}},
        {"data": {"flow": 1.25, "depth": 2}},
        {"eventTime": "20251121T075901Z"},
        {"serviceId": "Fire"},
    ],
)
def test_other_data_has_another_identity(other):
    """A value, a metric, a time or a service that differs makes another part."""
    [one], [two] = push(changed(SERVICE)), push(changed({**SERVICE, **other}))
    assert one.identity != two.identity


def test_a_batch_of_100_children():
    """Each child of a gateway's batch is a part of its own, and places count on."""
    services = [{"service_id": "s", "properties": {"a": 1, "b": 2}, "event_time": "20251121T075900Z"}]
    parts = push({"devices": [{"device_id": f"child-{n}", "services": services} for n in range(100)]})
    assert len({part.identity for part in parts}) == 100
    assert [index for part in parts for index in part.indexes] == list(range(200))
    assert all(part.absolute for part in parts)


def test_an_odd_device_id_is_no_alias():
    """A device id outside the documented characters names no alias that a registry would have to keep."""
    [part] = push(
        v5([{"service_id": "s", "properties": {"a": 1}}], device_id="a\0b", node_id="860000000000009")
    )
    assert part.aliases == {}
    assert part.names == [("imei:860000000000009", "a")]


@settings(max_examples=150, deadline=None)
@given(
    JSON
    | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6)
    | st.builds(lambda s, t: v5([{"properties": s, "event_time": t}]), JSON, JSON)
    | st.builds(lambda d: {"devices": [{"device_id": "d", "services": [{"properties": d}]}]}, JSON)
    | st.builds(lambda s: v5([{"properties": {"status": s}}]) | {"resource": "device.status"}, JSON)
)
def test_any_json_gives_columns_of_equal_length(value):
    """No JSON raises; what comes out is well formed."""
    check(push(value))


@settings(max_examples=100, deadline=None)
@given(case=st.sampled_from(GOLDEN), at=st.integers(0, 2000), byte=st.binary(max_size=3))
def test_damaged_pushes_never_raise(case, at, byte):
    """A golden push with bytes replaced, anywhere, is read or refused."""
    payload = (case / "payload").read_bytes()
    check(decode(Message("t", payload[:at] + byte + payload[at + len(byte) :], 0.0)))


def check(parts):
    assert parts
    for part in parts:
        assert len(part.names) == len(part.units) == len(part.values) == len(part.times) == len(part.indexes)
        assert all(time == 0.0 or time >= RELATIVE_BELOW for time in part.times)
        json.dumps([event.body for event in part.events], allow_nan=False)


def test_one_property_of_two_services_is_two_metrics():
    """A property that another service of the device has too takes that service's name, and the identity stays."""
    fire = {**SERVICE, "serviceId": "Fire"}
    [_, second], [alone] = push(changed(SERVICE, fire)), push(changed(fire))
    assert [name for _, name in second.names] == ["flow.Fire", "level.Fire"]
    assert [name for _, name in alone.names] == ["flow", "level"]
    assert second.identity == alone.identity
    again = {**SERVICE, "eventTime": "20251121T080000Z"}
    assert [part.names for part in push(changed(SERVICE, again))] == [
        [("iotda:d", "flow"), ("iotda:d", "level")]
    ] * 2


def test_services_apart_are_named_alike_in_every_message():
    """A service that the routes file sets apart names its metrics with it, alone too, and its identity stays."""
    fire = {**SERVICE, "serviceId": "Fire"}
    apart = decoder(["Fire"])
    for services in ([fire], [fire, SERVICE], [SERVICE, fire]):
        parts = apart(Message("nbiot/iotda/b", json.dumps(changed(*services)).encode(), 0.0))
        names = {
            s["serviceId"]: [name for _, name in part.names] for s, part in zip(services, parts, strict=True)
        }
        assert names["Fire"] == ["flow.Fire", "level.Fire"]
        assert names.get("Water", ["flow", "level"]) == ["flow", "level"]
        assert {part.identity for part in parts} == {part.identity for part in push(changed(*services))}


def test_refused_services_with_a_time_are_known_when_they_come_again():
    """What is refused of a push is absolute where a service or the push says a time."""
    bad = {"serviceId": "Water", "data": 5}
    for services, known in [
        ([bad], False),
        ([bad, SERVICE], True),
        ([bad | {"eventTime": "20251121T075900Z"}], True),
    ]:
        part = push(changed(*services))[-1]
        assert part.refusals
        assert (part.identity, part.absolute) == (None, known)
