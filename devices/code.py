"""Terminal codes: one canonical form for every way that one identity is written.

A code is what the field calls a terminal. Canonical codes carry their scheme as a prefix, except
scheme `other`, which stays as it came. A doubtful code is flagged, never refused.
"""

import re
from typing import NamedTuple

_IMEI = re.compile(r"(?:(?i:urn:)?(?i:imei:))?([0-9]{15})")
_GB28181 = re.compile(r"(?:gb28181:)?([0-9]{6})[0-9]{2}([0-9]{2})([0-9]{3})([0-9])[0-9]{6}")
"""GB/T 28181, annex on the unified code: division 6, unit 2, industry 2, type 3, network 1, serial 6."""
_HANDLE = re.compile(r"(?:handle:)?(88(?:\.[0-9A-Za-z]{1,32}){1,3}/[\x21-\x7E]{1,200})")
"""Country 88, secondary node, enterprise, then the suffix; digit counts are not standardised openly."""
_BID = re.compile(r"(?:did:)?bid:([\x21-\x7E]{1,100})")
_PREFIXES = ("spb", "ctwing", "onenet", "iotda")
FORGOTTEN = "forgotten:"
"""Stands before the id as the code of a terminal that was forgotten: the row keeps its id from being used again."""
_PLAIN = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
"""What a digit adds to a Luhn sum, as it stands and doubled: a tenth of the time of arithmetic digit by digit."""


class Code(NamedTuple):
    """A canonical code and its scheme; `suspect` when an IMEI's check digit is wrong."""

    code: str
    scheme: str
    suspect: bool


class Gb28181(NamedTuple):
    """What a GB/T 28181 id says of its device, as the standard's code numbers."""

    division: int
    industry: int
    type: int
    network: int


def canonical(code: str) -> Code:
    """The canonical form of a code as sent: `urn:imei:N`, `imei:N` and bare N are all `imei:N`.

    Canonical codes stay themselves. An IMEISV (16 digits) is not an IMEI, its software version
    changes; it is `other`.
    """
    if imei := _IMEI.fullmatch(code):
        return Code(f"imei:{imei[1]}", "imei", suspect=not _luhn(imei[1]))
    if _GB28181.fullmatch(code):
        return Code(f"gb28181:{code.removeprefix('gb28181:')}", "gb28181", suspect=False)
    if handle := _HANDLE.fullmatch(code):
        return Code(f"handle:{handle[1]}", "handle", suspect=False)
    if bid := _BID.fullmatch(code):
        return Code(f"bid:{bid[1]}", "bid", suspect=False)
    scheme, separator, rest = code.partition(":")
    known = separator and rest and scheme in _PREFIXES
    return Code(code, scheme if known else "other", suspect=False)


def gb28181(code: str) -> Gb28181 | None:
    """The parts of a GB/T 28181 id, canonical or bare; None for any other code.

    Its division is as written: it may be abolished or not exist.
    """
    found = _GB28181.fullmatch(code)
    return Gb28181(*map(int, found.groups())) if found else None


def _luhn(digits: str) -> bool:
    """Whether the last of 15 digits checks the others (3GPP TS 23.003, annex B)."""
    text = digits.encode()
    return (sum(text[::2].translate(_PLAIN)) + sum(text[1::2].translate(_DOUBLED))) % 10 == 0
