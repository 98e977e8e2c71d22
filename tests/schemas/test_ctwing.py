"""CTWing pushes: copies that count once, hooks of transparent payloads, and whatever bytes come."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import Batch
from ingest.decode import decoders
from ingest.settings import Settings
from schemas.message import Message
from schemas.nbiot import ctwing
from schemas.routes import Place

GOLDEN = Path(__file__).parent.parent / "golden" / "ctwing"
DECODE = ctwing.decoder({})
DATA = {
    "messageType": "dataReport",
    "timestamp": 1763712000277,
    "productId": "15000000",
    "deviceId": "0123456789abcdef0123456789abcdef",
    "payload": {"temperature": 21.5, "humidity": 40},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = {
    "messageType": st.sampled_from([*ctwing._READERS, "x", None, 1, []]),
    "timestamp": JSON | st.sampled_from([1763712000277, "1763712000277", 0]),
    "deviceId": JSON | st.sampled_from(["1501708501", "15000000860000000000009"]),
    "IMEI": JSON | st.sampled_from(["860000000000009", "undefined"]),
    "payload": JSON
    | st.dictionaries(st.sampled_from(["serviceData", "RSRP", "IMEI", "a"]), JSON)
    | st.fixed_dictionaries({"APPdata": JSON | st.sampled_from(["AAEC", "AAE"])}),
    "eventType": JSON | st.sampled_from([0, 1, "1"]),
    "eventContent": JSON,
    "result": JSON,
}


def decoded(push):
    [part] = DECODE(Message("t", json.dumps(push).encode(), 1763712000.0))
    return part


FRAME = """
[[ctwing.15000000]]
offset = 1
length = 2
type = "int"
metric = "temperature"
unit = "Cel"
scale = 0.1

[[ctwing.15000000]]
offset = 3
length = 4
type = "float"
order = "little"
metric = "flow"
"""


def with_frame(tmp_path, text=FRAME):
    """The service's decoder with a routes file."""
    file = tmp_path / "routes.toml"
    file.write_text(text)
    return decoders(Settings(routes=file))["ctwing"]


@pytest.mark.parametrize(
    ("data", "read", "reasons"),
    [
        (b"\x68\xff\x9c\x00\x00\x20\x40\x16", [("temperature", "Cel", -10.0), ("flow", None, 2.5)], []),
        (b"\x68\x00\xd7", [], ["malformed_payload"]),
        (b"\x68\x00\xd7\x00\x00\x80\x7f", [("temperature", "Cel", 21.5)], ["not_a_number"]),
    ],
)
def test_transparent_bytes_by_the_routes_file(tmp_path, data, read, reasons):
    """Fields of a product's frame are readings; a frame that is too short is refused, bad numbers cost themselves."""
    push = DATA | {"payload": {"APPdata": base64.b64encode(data).decode()}}
    [part] = with_frame(tmp_path)(Message("t", json.dumps(push).encode(), 1763712000.0))
    columns = zip((name for _, name in part.names), part.units, part.values, strict=True)
    assert list(columns) == [(name, unit, pytest.approx(value)) for name, unit, value in read]
    assert [refusal.reason for refusal in part.refusals] == reasons


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (FRAME.replace("length = 4", "length = 3"), "product '15000000': flow: a float has 4 or 8 bytes"),
        (FRAME.replace("length = 2", "length = 9"), "<= 8"),
        ("[ctwing]\nx = []", "'x': no field"),
        ("", "nothing would be subscribed"),
    ],
)
def test_a_frame_that_can_not_work_is_refused_at_the_start(tmp_path, text, why):
    """The text says which product and field."""
    with pytest.raises(ValueError, match=why):
        with_frame(tmp_path, text)


def test_the_union_copy_is_the_same_part():
    """A dataReport and its dataReportTupUnion have one key in the ledger, whatever else they carry."""
    first, copy = (
        (GOLDEN / case / "payload").read_bytes() for case in ("smoke_service_data", "smoke_union_copy")
    )
    batch = Batch()
    for payload in (first, copy):
        message = Message("nbiot/ctwing/g", payload, 1763712000.0)
        batch.add(message, Place(None, "g"), DECODE(message))
    assert first != copy
    assert batch.digests[0] == batch.digests[1]


@pytest.mark.parametrize("change", [
    {"timestamp": 1763712000278},
    {"deviceId": "0123456789abcdef0123456789abcdee"},
    {"payload": {"temperature": 21.6, "humidity": 40}},
    {"payload": {"temperature": 21.5, "humidity": 40, "state": "on"}},
    {"payload": {"temperature": 21.5, "humidity": 1e999}},
    {"messageType": "deviceOnlineOfflineReport", "eventType": 1},
])  # fmt: skip
def test_other_data_is_another_part(change):
    """Another time, device, value or kind is another identity."""
    assert decoded(DATA).identity != decoded(DATA | change).identity


def test_the_order_of_values_tells_nothing_apart():
    """A copy whose values come in another order is the same part."""
    turned = DATA | {"payload": {"humidity": 40, "temperature": 21.5}}
    assert decoded(DATA).identity == decoded(turned).identity


def water_pressure(data):
    """A product's frame: pressure in kPa and battery, big-endian."""
    return [("pressure", "kPa", int.from_bytes(data[:2], "big") / 10), ("battery", None, data[2])]


def test_a_hook_reads_its_products_bytes():
    """The product's hook makes readings with units of transparent bytes; another product's stay an event."""
    push = DATA | {"payload": {"APPdata": base64.b64encode(b"\x0b\xb8\x5f").decode()}}
    decode = ctwing.decoder({"15000000": water_pressure})
    [part] = decode(Message("t", json.dumps(push).encode(), 0.0))
    assert [name[1] for name in part.names] == ["pressure", "battery"]
    assert (part.units, part.values, part.indexes) == (["kPa", None], [300.0, 95.0], [0, 1])
    [other] = decode(Message("t", json.dumps(push | {"productId": "15000001"}).encode(), 0.0))
    assert [event.body for event in other.events] == [{"hex": "0bb85f"}]


def test_a_hook_that_fails_costs_its_bytes():
    """A frame that the hook can't read is refused with the hook's fault, never raised."""
    push = DATA | {"payload": {"APPdata": "AA=="}}
    [part] = ctwing.decoder({"15000000": water_pressure})(Message("t", json.dumps(push).encode(), 0.0))
    assert [(r.index, r.reason) for r in part.refusals] == [(0, "malformed_payload")]
    assert "IndexError" in part.refusals[0].detail


@settings(max_examples=300, deadline=None)
@given(push=st.fixed_dictionaries({}, optional=FIELDS))
def test_any_push_is_read_or_refused(push):
    """Whatever the fields hold, the outcome is one part with columns of one length, and an event can be kept."""
    part = decoded(push)
    assert len(part.names) == len(part.units) == len(part.values) == len(part.times) == len(part.indexes)
    assert "\\u0000" not in json.dumps([event.body for event in part.events], allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(max_size=40))
def test_any_bytes_are_refused(payload):
    """Bytes that are no push are one refusal of the whole message."""
    [part] = DECODE(Message("t", payload, 0.0))
    assert [refusal.index for refusal in part.refusals] == [None]


@pytest.mark.parametrize("field", [*FIELDS, "productId"])
@pytest.mark.parametrize(
    "odd", ["[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, '"\\ud800"', "1" * 5000, "[" * 10**5]
)
def test_odd_json_in_any_field(field, odd):
    """Deep nesting, halves of surrogate pairs and endless numbers cost their push or value and raise nothing."""
    for kind in ctwing._READERS:
        push = {"productId": "1"} | DATA | {"IMEI": "860000000000009", "messageType": kind, field: "ODD"}
        [part] = DECODE(Message("t", json.dumps(push).replace('"ODD"', odd).encode(), 0.0))
        assert all(refusal.detail.isascii() for refusal in part.refusals)
        json.dumps([event.body for event in part.events], allow_nan=False)


def keys(*pushes):
    """What the ledger tells these pushes by: None for a part that is new each time."""
    whole = Batch()
    for push in pushes:
        message = Message("nbiot/ctwing/g", json.dumps(push).encode(), 1763712000.0)
        whole.add(message, Place(None, "g"), ctwing.decoder({"15000000": water_pressure})(message))
    return [None if number in whole.nonces else digest for number, digest in enumerate(whole.digests)]


@pytest.mark.parametrize(
    "change",
    [
        {"payload": {"APPdata": "AAE"}},
        {"payload": {"APPdata": "AA=="}},
        {"messageType": "x"},
        {"payload": {"humidity": 1e999}},
        {"deviceId": None},
    ],
)
def test_a_refused_push_with_a_time_is_known_when_it_comes_again(change):
    """What a decoder or hook refuses counts once where the push says its time, and each time where it doesn't."""
    first, again, later = keys(DATA | change, DATA | change, DATA | change | {"timestamp": 1763712000278})
    assert first == again != later
    assert None not in {first, later}
    assert keys(DATA | change | {"timestamp": None}) == [None]


def test_refused_values_are_told_apart_by_what_they_are():
    """Bad values of one millisecond that differ beyond what a refusal quotes are two pushes; each again is known."""
    long = "x" * 40
    texts = [{"note": f"{long}\0a"}, {"note": f"{long}\0b"}]
    deep = [{"note": json.loads("[" * 20 + end + "]" * 20)} for end in "12"]
    for one, other in (texts, deep):
        first, again, different = keys(*(DATA | {"payload": payload} for payload in (one, one, other)))
        assert first == again != different
        assert None not in {first, different}


def test_a_hook_s_refusal_is_told_apart_by_the_bytes():
    """Other bytes of equal length that a hook can't read are another push."""
    one, other = keys(*(DATA | {"payload": {"APPdata": text}} for text in ("AA==", "AQ==")))
    assert one != other


def test_a_command_s_answer_without_a_time_counts_once():
    """The number of the task tells an answer without a timestamp from others; without one it is new each time."""
    answer = {"messageType": "commandResponse", "deviceId": "d", "result": {"resultCode": "SUCCESSFUL"}}
    first, again, other = keys(answer | {"taskId": 7}, answer | {"taskId": 7}, answer | {"taskId": 8})
    assert first == again != other
    assert None not in {first, other}
    assert keys(answer) == [None]


def test_the_platform_s_id_is_an_alias_also_where_it_ends_in_the_imei():
    """A device id that ends in any IMEI leads to the IMEI's terminal in pushes that leave the field out."""
    known = DATA | {"deviceId": "15000000990000862471854"}
    connection = {k: v for k, v in known.items() if k != "IMEI"} | {
        "messageType": "deviceOnlineOfflineReport",
        "eventType": 1,
    }
    [(code, _)] = decoded(connection).names
    assert decoded(known | {"IMEI": "990000862471854"}).aliases == {code: "imei:990000862471854"}


def test_an_imei_of_equal_digits_is_none():
    """000000000000000 is what a module says that was never given an IMEI: the device id stays the terminal's."""
    part = decoded(DATA | {"IMEI": "000000000000000"})
    assert {code for code, _ in part.names} == {"ctwing:0123456789abcdef0123456789abcdef"}


@pytest.mark.parametrize("device", ["", "undefined", "null", None])
def test_terminals_without_a_device_id_are_told_apart(device):
    """Of two terminals that only their IMEIs name the same word at the same time is two, in any envelope."""
    push = {"messageType": "deviceOnlineOfflineReport", "timestamp": 1763712000277, "eventType": 1}
    one, two = (push | {"deviceId": device, "IMEI": f"86000000000000{n}"} for n in (1, 2))
    assert decoded(one).identity != decoded(two).identity
    assert decoded(one).identity == decoded(push | {"IMEI": one["IMEI"]}).identity
