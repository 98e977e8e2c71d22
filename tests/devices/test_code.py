"""Terminal codes: one canonical form each, and no way to fall out of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.code import Code, Gb28181, canonical, gb28181

BID = "efJgt44mNDewKK1VEN454R17cjso3mSG"
PREFIX = st.sampled_from(
    ["", "imei:", "urn:imei:", "gb28181:", "handle:", "88.1.2/", "did:bid:", "bid:", "spb:", "iotda:"]
)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("urn:imei:860000000000009", Code("imei:860000000000009", "imei", suspect=False)),
        ("imei:860000000000009", Code("imei:860000000000009", "imei", suspect=False)),
        ("860000000000009", Code("imei:860000000000009", "imei", suspect=False)),
        ("URN:IMEI:860000000000009", Code("imei:860000000000009", "imei", suspect=False)),
        ("860000000000008", Code("imei:860000000000008", "imei", suspect=True)),
        ("490154203237518", Code("imei:490154203237518", "imei", suspect=False)),
        ("8600000000000091", Code("8600000000000091", "other", suspect=False)),
        ("imei:86000000000000", Code("imei:86000000000000", "other", suspect=False)),
        ("urn:860000000000009", Code("urn:860000000000009", "other", suspect=False)),
        ("８６００００００００００００９", Code("８６００００００００００００９", "other", suspect=False)),
        ("37020000001320000001", Code("gb28181:37020000001320000001", "gb28181", suspect=False)),
        ("gb28181:37020000001320000001", Code("gb28181:37020000001320000001", "gb28181", suspect=False)),
        ("gb28181:3702", Code("gb28181:3702", "other", suspect=False)),
        ("88.118.1200/WM.001", Code("handle:88.118.1200/WM.001", "handle", suspect=False)),
        ("handle:88.118.1200/WM.001", Code("handle:88.118.1200/WM.001", "handle", suspect=False)),
        ("MA.156.430121.1006/10", Code("MA.156.430121.1006/10", "other", suspect=False)),
        ("88.118.1200", Code("88.118.1200", "other", suspect=False)),
        (f"did:bid:{BID}", Code(f"bid:{BID}", "bid", suspect=False)),
        (f"bid:{BID}", Code(f"bid:{BID}", "bid", suspect=False)),
        ("did:bid:", Code("did:bid:", "other", suspect=False)),
        ("spb:plant/edge/device 1", Code("spb:plant/edge/device 1", "spb", suspect=False)),
        ("ctwing:0123abcd", Code("ctwing:0123abcd", "ctwing", suspect=False)),
        ("onenet:1343759", Code("onenet:1343759", "onenet", suspect=False)),
        ("iotda:6a44f104_x", Code("iotda:6a44f104_x", "iotda", suspect=False)),
        ("spb:", Code("spb:", "other", suspect=False)),
        ("urn:dev:ow:10e2073a01080063", Code("urn:dev:ow:10e2073a01080063", "other", suspect=False)),
        ("设备一", Code("设备一", "other", suspect=False)),
    ],
)
def test_canonical(code, expected):
    """Every way to write an identity has one canonical form and scheme; the rest stays as it is."""
    assert canonical(code) == expected


@given(PREFIX, st.text(max_size=30) | st.text("0123456789", min_size=14, max_size=20))
def test_canonical_is_idempotent(prefix, text):
    """A canonical code is its own canonical code."""
    found = canonical(prefix + text)
    assert canonical(found.code) == found


@given(st.integers(0, 14), st.integers(1, 9))
def test_one_wrong_digit_is_seen(at, add):
    """Any one digit of an IMEI that is changed makes it suspect."""
    good = "860000000000009"
    bad = good[:at] + str((int(good[at]) + add) % 10) + good[at + 1 :]
    assert canonical(bad).suspect


@pytest.mark.parametrize("code", ["37010200001320000001", "gb28181:37010200001320000001"])
def test_parts_of_a_video_id(code):
    """A GB/T 28181 id says its division, industry, type and network."""
    assert gb28181(code) == Gb28181(division=370102, industry=0, type=132, network=0)


@pytest.mark.parametrize("code", ["", "imei:860000000000009", "3701020000132000000", "370102000013200000012"])
def test_other_codes_have_no_parts(code):
    """Only a GB/T 28181 id has such parts."""
    assert gb28181(code) is None
