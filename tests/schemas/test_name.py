"""Names taken apart: those of RFC 8428's examples, those that devices send, and those that none may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.name import InvalidName, split

OW = "urn:dev:ow:10e2073a01080063"
IMEI = "urn:imei:860000000000009"
BID = "did:bid:efJgt44mNDewKK1VEN454R17cjso3mSG"
UUID = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        # RFC 8428, section 5.1
        (OW, "Cel", (OW, "temperature")),
        (f"{OW}:voltage", "V", (OW, "voltage")),
        (f"{OW}:current", "A", (OW, "current")),
        ("urn:dev:ow:10e2073a0108006:current", "A", ("urn:dev:ow:10e2073a0108006", "current")),
        (OW, "%RH", (OW, "humidity")),
        (OW, "lon", (OW, "longitude")),
        (OW, "lat", (OW, "latitude")),
        (OW, "%EL", (OW, "battery")),
        ("2001:db8::2/temperature", "Cel", ("2001:db8::2", "temperature")),
        ("2001:db8::1/humidity", "%RH", ("2001:db8::1", "humidity")),
        (f"{OW}:temp", "Cel", (OW, "temp")),
        (f"{OW}:label", None, (OW, "label")),
        (f"{OW}:nfv-reader", None, (OW, "nfv-reader")),
        (f"{OW}:heat", "/", (OW, "heat")),
        (f"{OW}:fan", "/", (OW, "fan")),
        (f"{OW}:open", None, (OW, "open")),
        ("urn:dev:ow:10e2073a0108006:voltage", "V", ("urn:dev:ow:10e2073a0108006", "voltage")),
        ("2001:db8::2/humidity", "%RH", ("2001:db8::2", "humidity")),
        ("2001:db8::1/temperature", "Cel", ("2001:db8::1", "temperature")),
        # RFC 9039
        ("urn:dev:mac:0024befffe804ff1", "Cel", ("urn:dev:mac:0024befffe804ff1", "temperature")),
        ("urn:dev:mac:acde48234567019f", None, ("urn:dev:mac:acde48234567019f", "value")),
        ("URN:DEV:mac:acde48234567019f", None, ("URN:DEV:mac:acde48234567019f", "value")),
        (
            "urn:dev:ops:32473-Refrigerator-5002",
            "Cel",
            ("urn:dev:ops:32473-Refrigerator-5002", "temperature"),
        ),
        ("urn:dev:org:32473-foo", None, ("urn:dev:org:32473-foo", "value")),
        ("urn:dev:os:32473-abc", "/", ("urn:dev:os:32473-abc", "ratio")),
        (f"{OW}_sensor-1", "Cel", (f"{OW}_sensor-1", "temperature")),
        (f"{OW}_sensor-1:humidity", "%RH", (f"{OW}_sensor-1", "humidity")),
        ("urn:dev:other:abc:temp", None, ("urn:dev:other:abc", "temp")),
        # other devices as a whole
        (IMEI, None, (IMEI, "value")),
        (IMEI, "V", (IMEI, "value")),
        (UUID, "Cel", (UUID, "temperature")),
        (BID, "Cel", (BID, "temperature")),
        (f"{BID}:temp", "Cel", (BID, "temp")),
        ("imei:860000000000009", "Cel", ("imei:860000000000009", "temperature")),
        ("37020000001320000001", None, ("37020000001320000001", "value")),
        ("2001:db8::3", "Cel", ("2001:db8::3", "temperature")),
        ("sensor1", "Cel", ("sensor1", "temperature")),
        # separators and paths
        (f"{IMEI}/3303/0/5700", None, (IMEI, "3303/0/5700")),
        (f"{IMEI}:3303/0/5700", None, (IMEI, "3303/0/5700")),
        ("site/12/3303/0/5700", None, ("site/12", "3303/0/5700")),
        (f"{IMEI}/3303/0", "Cel", (f"{IMEI}/3303/0", "temperature")),
        ("2001:db8::1/0/1", None, ("2001:db8::1/0/1", "value")),
        ("88.118.12/abc.1/temperature", "Cel", ("88.118.12/abc.1", "temperature")),
        ("a:b/c", None, ("a:b", "c")),
        ("a/b:c", None, ("a/b", "c")),
        ("a:1c", None, ("a:1c", "value")),
        ("a:_c", None, ("a:_c", "value")),
        # pairs pass as they are
        (("设备一", "Supply Voltage/A"), None, ("设备一", "Supply Voltage/A")),
        (("handle:88.1.2/a b", "x y"), "V", ("handle:88.1.2/a b", "x y")),
        (("a", "1"), None, ("a", "1")),
    ],
)
def test_split(name, unit, expected):
    """A name becomes its terminal code and its metric, or the metric that its unit stands for."""
    assert split(name, unit) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "empty"),
        ("/3303/0/5700", "without its terminal"),
        ("/3303/0", "without its terminal"),
        ("3303/0/5700", "without its terminal"),
        (f"{OW}:", "separator"),
        ("a/", "separator"),
        (":a", "RFC 8428"),
        ("_a:b", "RFC 8428"),
        ("a b:c", "RFC 8428"),
        ("设备:temp", "RFC 8428"),
        ("a:temp\n", "RFC 8428"),
        ("a\x00:temp", "RFC 8428"),
        ("a\ud800:temp", "RFC 8428"),
        ("a" * 257 + ":temp", "257 characters"),
        ("a:" + "m" * 129, "129 characters"),
        (("", "m"), "terminal code is empty"),
        (("a", " "), "metric is empty"),
        (("a\x00", "m"), "U\\+0000"),
        (("a", "m\x1f"), "U\\+001F"),
        (("a", "\udc00"), "U\\+DC00"),
        (("a\u200b", "m"), "U\\+200B"),
        (("a" * 257, "m"), "257 characters"),
    ],
)
def test_invalid(name, said):
    """A name that can't be used is refused, saying what is wrong and what to do, in printable ASCII."""
    with pytest.raises(InvalidName, match=said) as caught:
        split(name, None)
    assert caught.value.hint
    assert caught.value.detail.isascii() and caught.value.detail.isprintable()


TEXT = st.text(st.characters(), max_size=30)


@given(st.one_of(TEXT, st.tuples(TEXT, TEXT), st.text("abu1:/._-", max_size=20)), st.none() | TEXT)
def test_whatever_comes(name, unit):
    """Any name either splits into two texts that the database can hold or is invalid."""
    try:
        code, metric = split(name, unit)
    except InvalidName:
        return
    for part in (code, metric):
        assert part.strip()
        assert "\x00" not in part
        assert part.encode()


@given(
    st.from_regex(r"[a-z]{1,8}(:[a-z0-9]{1,8}){0,3}", fullmatch=True),
    st.from_regex(r"[a-z]\w{0,8}", fullmatch=True),
)
def test_code_and_metric_come_back(code, metric):
    """What was joined by a separator comes apart at it."""
    if metric.isascii():
        assert split(f"{code}/{metric}", None) == (code, metric)
