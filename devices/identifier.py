"""What industrial identifiers say of their owner: handles (88.a.b/suffix) and Xinghuo BIDs. Pure.

`devices.code` takes whatever looks like one, for a doubtful code is no reason to refuse a terminal; here the
forms are strict, and what does not keep to them is None.
"""

import re
from typing import NamedTuple

_HANDLE = re.compile(r"(?:handle:)?(88\.[0-9A-Za-z]{1,32})(?:(\.[0-9A-Za-z]{1,32}))?/([\x21-\x7E]{1,200})")
"""Country 88, secondary node, enterprise, suffix. How many digits each has is not published."""
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BID = re.compile(
    rf"(?:did:)?bid:(?:([a-z0-9]{{4}}):)?([ezs])(?:f([{_BASE58}]{{22,31}})|s[A-Za-z0-9+/_=-]{{32}}|t[a-z0-9]{{42}})"
)
"""BID specification (bif-doc): chain code, kind of key (e Ed25519, z SM2, s secp256k1), encoding, hash of the key."""
KEY_HASH_BYTES = 22


class Handle(NamedTuple):
    """An industrial identifier: `88.a`, `88.a.b` (None where a secondary node names things itself), the rest."""

    node: str
    enterprise: str | None
    suffix: str


class Bid(NamedTuple):
    """A Xinghuo BID: the sub-chain's code (None: the main chain), and the kind of key, e, z or s."""

    chain: str | None
    key: str


def handle(code: str) -> Handle | None:
    """The parts of a handle, canonical or bare; None for any other code, and for a prefix of another depth."""
    found = _HANDLE.fullmatch(code)
    if not found:
        return None
    node, enterprise, suffix = found.groups()
    return Handle(node, node + enterprise if enterprise else None, suffix)


def bid(code: str) -> Bid | None:
    """The parts of a BID, canonical or as a DID; None for any other code, and for a key hash of another length."""
    found = _BID.fullmatch(code)
    if not found or (found[3] and _base58_bytes(found[3]) != KEY_HASH_BYTES):
        return None
    return Bid(found[1], found[2])


def _base58_bytes(text: str) -> int:
    """How many bytes a Base58 text stands for; each leading 1 is a zero byte."""
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    return (number.bit_length() + 7) // 8 + len(text) - len(text.lstrip("1"))
