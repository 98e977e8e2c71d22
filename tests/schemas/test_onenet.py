"""OneNET pushes: signatures and encryption, data that comes again in another envelope, and whatever bytes come."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.settings import SettingsError, load
from schemas.message import Message
from schemas.nbiot import onenet
from schemas.nbiot.onenet_envelope import signed
from tests.onenet import KEY, NONCE, TOKEN, encrypted, signature
from tests.schemas.parts import taken_apart

POINT = {"at": 1763712000407, "imei": "860000000000009", "type": 1, "ds_id": "3303_0_5700", "value": 21.5,
         "dev_id": 523444202}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TIME = JSON | st.sampled_from([1763712000407, "1763712000407", 0])
ITEM = st.fixed_dictionaries({}, optional={
    "type": st.sampled_from([1, 2, 7, "1", 3, True, None]),
    "messageType": st.sampled_from(["notify", "lifeCycle", "reply", "x", 1]),
    "notifyType": st.sampled_from(["property", "event", [], None]),
    "at": TIME, "value": JSON, "status": JSON | st.just(1),
    "ds_id": JSON | st.sampled_from(["3303_0_5700", "3200_0_5750"]),
    "dev_id": JSON | st.just(523444202), "imei": JSON | st.just("860000000000009"),
    "pid": JSON, "dev_name": JSON,
    "data": JSON | st.fixed_dictionaries({"params": st.dictionaries(
        st.text(max_size=3), JSON | st.fixed_dictionaries({"value": JSON, "time": TIME}), max_size=3)}),
})  # fmt: skip


def parts_of(push, decode=onenet.decoder()):  # noqa: B008 - pure
    payload = push if isinstance(push, bytes) else json.dumps(push).encode()
    return taken_apart(decode(Message("t", payload, 1763712000.0)))


def test_the_signature_of_an_address_check():
    """A signature whose + came as a blank through the query is the right one; one letter less is not."""
    text = next(str(n) for n in range(99) if "+" in signature(str(n)))
    assert signed(TOKEN, NONCE, text, signature(text).replace("+", " "))
    assert not signed(TOKEN, NONCE, text, signature(text)[1:])
    assert not signed("", NONCE, text, signature(text))


def test_an_object_is_checked_as_it_was_sent():
    """The signature is over the bytes of msg: blanks, order and escapes of the sender count."""
    for text in (
        '{"type":2, "status" : 1,"dev_id":5}',
        '{"dev_id":5,"a":"\\u6d4e","b":"/","type":2,"status":1}',
    ):
        push = f'{{"nonce":"{NONCE}","msg": {text} ,"msg_signature":"{signature(text)}"}}'.encode()
        [part] = parts_of(push, onenet.decoder(TOKEN))
        assert (part.refusals, part.values) == ([], [1.0])
        [part] = parts_of(push.replace(b'"dev_id":5', b'"dev_id":6'), onenet.decoder(TOKEN))
        assert [refusal.reason for refusal in part.refusals] == ["not_authorized"]


def test_an_encrypted_push_opens_with_its_key():
    """What the platform encrypts is read as if it had come plain, and its signature is over the ciphertext."""
    sealed = encrypted(json.dumps(POINT | {"value": "阀门"}, ensure_ascii=False))
    push = {"enc_msg": sealed, "nonce": NONCE, "msg_signature": signature(sealed)}
    [part] = parts_of(push, onenet.decoder(TOKEN, KEY))
    assert part.refusals == []
    assert [event.body for event in part.events] == [{"vs": "阀门"}]
    [part] = parts_of(push | {"nonce": "C1z3?giS"}, onenet.decoder(TOKEN, KEY))
    assert [refusal.reason for refusal in part.refusals] == ["not_authorized"]


def test_an_encrypted_push_of_another_implementation():
    """What `openssl enc -aes-256-cbc` made of a point opens."""
    pytest.importorskip("cryptography")
    sealed = (
        "734H5rOppjjhWnfkswouTNRHEhZaXWHlsCHHkVO3dgYm5ByLtmDpW6PdPbeCaI+RoCO8UaXTsqlkPYhTSBin"
        "/cCqL5TUx3Gdk6JsxTIbgbqPV8RbsJwRAUZ2nWi+Bpn3"
    )
    [part] = parts_of({"enc_msg": sealed}, onenet.decoder("", KEY))
    assert (part.names, part.values, part.times) == ([("onenet:5", "3303/0/5700")], [21.5], [1763712000.407])


def test_an_encrypted_push_and_the_wrong_key():
    """With another key the push is refused, and no byte of it is taken for data."""
    push = {"enc_msg": encrypted(json.dumps(POINT))}
    [part] = parts_of(push, onenet.decoder("", KEY[::-1].replace("W", "A", 1)))
    assert [refusal.reason for refusal in part.refusals] == ["not_authorized"]
    assert not part.values


def test_secrets_come_from_settings(monkeypatch, tmp_path):
    """Token and key are secrets that may come from files; a key of the wrong length is said at the start."""
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("GANZHI_ONENET_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("GANZHI_ONENET_AES_KEY", KEY)
    values = load()
    assert values.onenet_token.get_secret_value() == TOKEN
    assert KEY not in repr(values)
    monkeypatch.setenv("GANZHI_ONENET_AES_KEY", KEY[1:])
    with pytest.raises(SettingsError, match="GANZHI_ONENET_AES_KEY: must be the 43 characters"):
        load()


def test_the_same_point_in_an_array_is_the_same_part():
    """A point pushed again, alone or among others, signed anew, has the identity that it first had."""
    [alone] = parts_of({"msg": POINT, "nonce": "12345678", "msg_signature": "x"})
    first, second = parts_of(
        {"msg": [POINT | {"value": 22}, POINT], "nonce": "87654321", "msg_signature": "y"}
    )
    assert alone.identity == second.identity != first.identity


def test_a_property_with_its_own_time_is_known_in_a_later_push():
    """A push that is repeated later has a new time and nonce around the same data, and the same identity."""
    data = {"params": {"a": {"value": 1, "time": 1763712000527}, "b": {"value": "x", "time": 1763712000527}}}
    text = json.dumps({"messageType": "notify", "productId": "p", "deviceName": "d", "data": data})
    [first] = parts_of({"msg": text, "time": 1763712000600, "nonce": "a"})
    [again] = parts_of({"msg": text, "time": 1763712005600, "nonce": "b"})
    assert first.identity == again.identity
    assert first.absolute


def test_both_forms_end_at_one_terminal():
    """The old suite and the current platform name one terminal where both say its IMEI."""
    current = {"messageType": "lifeCycle", "productId": "p", "deviceName": "d", "imei": "860000000000009",
               "data": {"status": "online"}}  # fmt: skip
    [old] = parts_of({"msg": POINT})
    [new] = parts_of({"msg": json.dumps(current)})
    assert old.names[0][0] == new.names[0][0] == "imei:860000000000009"
    assert (old.aliases, new.aliases) == (
        {"onenet:523444202": "imei:860000000000009"},
        {"onenet:p/d": "imei:860000000000009"},
    )


def test_ten_thousand_points_in_one_push():
    """An array is read in whole, with places that count through the message."""
    points = [
        POINT | {"at": POINT["at"] + n, "value": n if n % 100 else {"deep": float("inf")}}
        for n in range(10_000)
    ]
    parts = parts_of({"msg": points})
    assert [index for part in parts for index in part.indexes] == [n for n in range(10_000) if n % 100]
    assert [r.index for part in parts for r in part.refusals] == list(range(0, 10_000, 100))


NEAR_A_POINT = st.fixed_dictionaries({}, optional={
    "type": st.sampled_from(["1", True, 1.0, 2]),
    "messageType": st.just("notify"),
    "at": st.sampled_from([0, "1763712000407", 1763712000, 10**15, 1763712000407.0, True, None]),
    "imei": st.sampled_from(["0" * 15, 860000000000009, "86000000000000", "\u0663" * 15, "\xb2" * 15, "", None]),
    "dev_id": st.sampled_from(["523444202", 0, -1, 10**18, 10**140, True, "", None]),
    "ds_id": st.sampled_from(["", "rsrp", "imei", "temperature", "3200_0_5750", "\ud800", 5]),
    "value": st.sampled_from([44.0, 100.0, 156.0, 1e308, math.nan, math.inf, 7, True, "21.5", "ab", "", None, {}]),
})  # fmt: skip
"""What turns a data point as documented into one that is not quite so."""


@settings(max_examples=300, deadline=None)
@given(change=NEAR_A_POINT, missing=st.none() | st.sampled_from(sorted(POINT)))
def test_a_point_in_an_array_reads_as_it_does_alone(change, missing):
    """Whether a data point is alone or in an array, as documented or not: its part is the same."""
    point = {name: value for name, value in (POINT | change).items() if name != missing}
    [alone], [among] = parts_of({"msg": point}), parts_of({"msg": [point]})
    refused = [[refusal.detail for refusal in part.refusals] for part in (alone, among)]
    assert refused[0] == refused[1]
    if alone.names or alone.events:
        assert alone == among


DEVICES = {1: "860000000000009", 2: "860000000000017", 3: ""}
POINTS = st.lists(
    st.fixed_dictionaries({
        "ds_id": st.sampled_from(["3303_0_5700", "temperature", "rsrp", "\ud800"]),
        "dev_id": st.sampled_from([*DEVICES]),
        "value": st.sampled_from([1.5, 7, 2**60, 100.0, True, "21.5", "text", ""]),
        "at": st.sampled_from([1763712000407, 1763712060407]),
    }), min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(changes=POINTS)
def test_points_of_an_array_count_by_themselves(changes):
    """Points in one array are the parts that they are alone, each at its place, whichever are put together."""
    points = [POINT | change | {"imei": DEVICES[change["dev_id"]]} for change in changes]
    alone = [parts_of({"msg": point})[0] for point in points]
    for place, part in enumerate(alone):
        part.indexes = [place for _ in part.indexes]
        part.events = [replace(event, index=place) for event in part.events]
    among = parts_of({"msg": points})
    assert sorted(among, key=repr) == sorted(alone, key=repr)


@pytest.mark.parametrize("kinds", ["po", "op", "ppo", "opp", "popp", "opo"])
def test_elements_keep_their_order(kinds):
    """Of a point (p) and an offline notice (o) of one terminal the last says whether it is there."""
    elements = {
        "p": POINT,
        "o": {"type": 2, "status": 0, "at": POINT["at"], "imei": POINT["imei"], "dev_id": POINT["dev_id"]},
    }
    said = taken_apart(parts_of({"msg": [elements[kind] for kind in kinds]}))
    assert [part.names[0][1] == "online" for part in said] == [kind == "o" for kind in kinds]
    assert [part.indexes[0] for part in said] == list(range(len(kinds)))


def test_points_as_documented_are_one_part():
    """An array of points as documented is one part, in which each reading has its own identity."""
    payload = json.dumps({"msg": [POINT, POINT | {"value": 22}]}).encode()
    [part] = onenet.decoder()(Message("t", payload, 1763712000.0))
    assert len(set(part.identities)) == len(part.values) == 2


@settings(max_examples=300, deadline=None)
@given(msg=ITEM | st.lists(ITEM, max_size=3) | JSON, as_text=st.booleans(), time=TIME)
def test_any_push_is_read_or_refused(msg, as_text, time):
    """Whatever the fields hold, the outcome is parts with columns of one length, and events can be kept."""
    for part in parts_of({"msg": json.dumps(msg) if as_text else msg, "time": time}):
        assert len(part.names) == len(part.units) == len(part.values) == len(part.times) == len(part.indexes)
        assert part.names or part.events or part.refusals or part.identity
        assert "\\u0000" not in json.dumps([event.body for event in part.events], allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(max_size=40), token=st.sampled_from(["", TOKEN]))
def test_any_bytes_are_refused(payload, token):
    """Bytes that are no push are one refusal of the whole message."""
    [part] = parts_of(payload, onenet.decoder(token, KEY))
    assert [refusal.index for refusal in part.refusals] == [None]


@settings(max_examples=200, deadline=None)
@given(push=st.fixed_dictionaries({"msg": ITEM | st.text()}, optional={
    "enc_msg": JSON, "nonce": JSON, "signature": JSON, "msg_signature": JSON}))  # fmt: skip
def test_nothing_unsigned_gets_in(push):
    """With a token set, a push without the right signature gives no reading and no event."""
    for part in parts_of(push, onenet.decoder(TOKEN)):
        assert part.refusals
        assert not part.names
        assert not part.events


@pytest.mark.parametrize(
    "field", ["type", "at", "ds_id", "value", "dev_id", "imei", "pid", "data", "messageType"]
)
@pytest.mark.parametrize(
    "odd", ["[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, '"\\ud800"', "1" * 5000, "[" * 10**5]
)
def test_odd_json_in_any_field(field, odd):
    """Deep nesting, halves of surrogate pairs and endless numbers cost their push or value and raise nothing."""
    for kind in (1, 2, 7):
        push = {"msg": [POINT | {"type": kind, "status": 1, field: "ODD"}, POINT]}
        parts = parts_of(json.dumps(push).replace('"ODD"', odd).encode())
        assert all(refusal.detail.isascii() for part in parts for refusal in part.refusals)
        assert len(parts) == 1 + (odd != "[" * 10**5)


def test_refused_elements_of_a_push_with_a_time_are_known_when_they_come_again():
    """The refusals of an array are absolute where an element or the push says a time, and only there."""
    for msg, time, known in [([POINT, 1], None, True), ([1], 1763712000407, True), ([1], None, False),
                             ([POINT | {"ds_id": ""}], None, True)]:  # fmt: skip
        part = parts_of({"msg": msg, "time": time})[-1]
        assert part.refusals
        assert part.absolute == known
        again = parts_of({"msg": msg, "time": time and time + 5000, "nonce": "other"})[-1]
        assert again.identity == part.identity
        assert part.identity


NOTIFY = {"messageType": "notify", "productId": "p", "deviceName": "d",
          "data": {"params": {"a": {"value": 1, "time": POINT["at"]}}}}  # fmt: skip


@pytest.mark.parametrize(
    ("msg", "known"),
    [
        (POINT, True),
        ([1, POINT], True),
        (json.dumps(NOTIFY), True),
        (json.dumps(NOTIFY | {"data": {"time": POINT["at"]}, "messageType": "lifeCycle"}), True),
        ({"type": 2, "status": 1, "dev_id": 5}, False),
        ("{", False),
    ],
)
def test_a_refused_push_that_is_signed_anew_is_known(msg, known):
    """Under another nonce, signature and time of the envelope the same msg is one refusal, where it says a time."""
    decode = onenet.decoder(TOKEN)
    [one] = parts_of({"msg": msg, "nonce": "1", "signature": "x"}, decode)
    [two] = parts_of({"msg": msg, "nonce": "2", "signature": "y", "id": "9"}, decode)
    assert [refusal.reason for refusal in one.refusals] == ["not_authorized"]
    assert (one.identity, one.absolute) == (two.identity, two.absolute)
    assert one.absolute == known
    [timed] = parts_of({"msg": msg, "nonce": "2", "signature": "y", "time": POINT["at"]}, decode)
    assert (timed.identity, timed.absolute) == (one.identity, True)
    [other] = parts_of({"msg": [msg], "nonce": "1", "signature": "x"}, decode)
    assert other.identity != one.identity


def test_a_refusal_is_known_by_its_reason_too():
    """What was refused for its signature and then is read, and refused for what it says, is a second refusal."""
    odd = {"msg": json.dumps(POINT | {"type": 99}), "nonce": NONCE}
    [unsigned] = parts_of(odd, onenet.decoder(TOKEN))
    [unsupported] = parts_of(odd)
    assert unsupported.refusals[0].reason == "unsupported"
    assert unsigned.identity != unsupported.identity


def test_a_device_named_as_its_imei_is_one_terminal():
    """Product and name are an alias of the IMEI's terminal, also where the name is the IMEI."""
    point = {"type": 2, "status": 1, "pid": 1, "dev_name": "990000862471854"}
    [named], [known] = parts_of({"msg": point}), parts_of({"msg": point | {"imei": "990000862471854"}})
    assert known.aliases == {named.names[0][0]: "imei:990000862471854"}


@pytest.mark.parametrize("path", ["4_0_8", "4_0_9", "4_0_10", "3412_0_21", "3412_0_22", "3412_0_24"])
def test_identities_are_no_readings(path):
    """A cell, a network or a card that comes as a number is an event with its digits."""
    for value in (460, "460"):
        [part] = parts_of({"msg": POINT | {"ds_id": path, "value": value}})
        assert [event.body for event in part.events] == [{"vs": "460"}]
        assert not part.values
