"""Industrial identifiers: who issued them, read strictly."""

import pytest

from devices.identifier import Bid, Handle, bid, handle


@pytest.mark.parametrize(("code", "parts"), [
    ("handle:88.118.1200/WM.001", Handle("88.118", "88.118.1200", "WM.001")),
    ("88.118.1200/a/b", Handle("88.118", "88.118.1200", "a/b")),
    ("88.118/WM.001", Handle("88.118", None, "WM.001")),
    ("88.118.1200.7/WM.001", None),
    ("88/WM.001", None),
    ("89.118.1200/WM.001", None),
    ("88..1200/WM.001", None),
    ("88.118.1200/", None),
    ("imei:860000000000009", None),
])  # fmt: skip
def test_a_handle_names_its_nodes(code, parts):
    """Secondary node and enterprise are the second and third segment; another depth is no handle of ours."""
    assert handle(code) == parts


@pytest.mark.parametrize(("code", "parts"), [
    ("did:bid:efJgt44mNDewKK1VEN454R17cjso3mSG", Bid(None, "e")),
    ("bid:efJgt44mNDewKK1VEN454R17cjso3mSG", Bid(None, "e")),
    ("did:bid:byo1:efJgt44mNDewKK1VEN454R17cjso3mSG", Bid("byo1", "e")),
    ("did:bid:zs" + "a" * 32, Bid(None, "z")),
    ("did:bid:st" + "a" * 42, Bid(None, "s")),
    ("did:bid:efJgt44mNDewKK1VEN454R17cjs", None),  # a shorter hash
    ("did:bid:efJgt44mNDewKK1VEN454R17cjso3m0G", None),  # 0 is no Base58
    ("did:bid:1234:as3e5tg56hhy6", None),
    ("did:bid:byo1", None),
    ("did:bid:", None),
])  # fmt: skip
def test_a_bid_is_read_strictly(code, parts):
    """Chain code and kind of key; a key hash of another length is no BID."""
    assert bid(code) == parts
