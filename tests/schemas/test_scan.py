"""Large packs are scanned as the reader reads them, within the bounds of every array."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import scan, senml
from schemas.name import MAX_NAME_CHARACTERS
from schemas.payload import Unreadable, load_json

RECORD = {"n": "a:x", "u": "Cel", "v": 1.5, "t": 1763712000}
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = (
    FINITE
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, -0.0, 1e308, 2**28, 1763712000.1234567, 5e-324])
)
TEXTS = st.text(max_size=9) | st.sampled_from(
    ["", "a:", "x", "imei:860000000000009/temperature", "}", "\\", "℃"]
)
PLAIN = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), min_size=1, max_size=40
)
UNITS = st.sampled_from(["Cel", "%RH", "kPa", "/", ""])
BASES = {"bn": TEXTS, "bt": NUMBERS, "bu": TEXTS}
ODD = st.none() | st.booleans() | TEXTS | NUMBERS | st.just([1]) | st.just({"v": 1})
RECORDS = st.fixed_dictionaries(
    {"v": NUMBERS}, optional={"n": TEXTS, "u": TEXTS, "t": NUMBERS, "s": ODD, "vs": ODD, "x": ODD, **BASES}
)
USUAL = st.fixed_dictionaries({"n": PLAIN, "v": FINITE}, optional={"u": UNITS, "t": st.floats(0, 4e9)})
JUNK = st.sampled_from(
    [b"", b"}", b"{", b",", b"]", b'"', b"0", b"\\", b"\xff", b"\n", b"\0", b"e", b"]]", b"-", b"."]
)


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    scan.prepare()
    yield
    scan._loop = None  # other tests want lists


def assert_read_alike(payload):
    """Whatever is scanned reads as the reader reads it; answers whether it was."""
    part = scan.columns(payload)
    if part is None:
        return False
    try:
        reference = senml.read(load_json(payload))
    except Unreadable as fault:
        raise AssertionError(f"{payload!r}: {fault}") from None
    assert not reference.refusals
    assert (list(part.names), list(part.units)) == (reference.names, reference.units)
    assert (part.values.tolist(), part.times.tolist()) == (reference.values, reference.times)
    assert part.hashes.tolist() == [hash(name) for name in reference.names]
    assert (part.absolute, list(part.indexes)) == (reference.absolute, reference.indexes)
    return True


@settings(max_examples=400, deadline=None)
@given(pack=st.lists(RECORDS, max_size=6), indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
@example(pack=[{"v": 1, "bn": "a:x"}, {"v": 2, "bn": "b:x"}], indent=None, ascii_only=True)
@example(pack=[{"u": "Cel", "bu": "%RH", "n": "a", "v": 1}, {"n": "b", "v": 2}], indent=None, ascii_only=True)
@example(pack=[{"v": 1, "n": "a:x", "bt": 1.7e308, "t": 1.7e308}], indent=None, ascii_only=True)
def test_what_is_scanned_reads_as_the_reader_reads_it(pack, indent, ascii_only):
    """Any pack: the same names, units, values and times, or no answer."""
    assert_read_alike(json.dumps(pack, indent=indent, ensure_ascii=ascii_only).encode())


@settings(max_examples=400, deadline=None)
@given(data=st.data(), pack=st.lists(USUAL, min_size=1, max_size=4))
def test_damaged_packs_read_as_the_reader_reads_them(data, pack):
    """Of damaged bytes only what the reader takes is taken."""
    payload = bytearray(json.dumps(pack).encode())
    at = data.draw(st.integers(0, len(payload)))
    payload[at : at + data.draw(st.integers(0, 2))] = data.draw(JUNK)
    assert_read_alike(bytes(payload))


@settings(max_examples=200, deadline=None)
@given(
    first=st.fixed_dictionaries({}, optional={"bn": PLAIN, "bt": st.floats(-1e9, 4e9), "bu": UNITS}),
    rest=st.lists(USUAL, min_size=1, max_size=30),
    separators=st.sampled_from([None, (",", ":"), (" ,\n", "\t: ")]),
)
def test_usual_packs_are_scanned(first, rest, separators):
    """Base fields in front, plain ASCII names, finite numbers: no pack of that is left to the reader."""
    pack = [first | rest[0], *rest[1:]]
    assert assert_read_alike(json.dumps(pack, separators=separators).encode())


@settings(max_examples=300, deadline=None)
@given(text=st.from_regex(r"\A-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z"))
def test_numbers_are_rounded_as_python_rounds_them(text):
    """Of however many digits: the nearest double, or no answer beyond the largest."""
    part = scan.columns(b'[{"n":"a","v":%s}]' % text.encode())
    value = float(text)
    assert part.values.tolist() == [value] if abs(value) < float("inf") else part is None


@pytest.mark.parametrize(
    ("pack", "scanned"),
    [
        ([RECORD | {"u": str(n)} for n in range(scan.UNITS_MAX)], True),
        ([RECORD | {"u": str(n)} for n in range(scan.UNITS_MAX + 1)], False),
        ([RECORD] * 10_000, True),
        ([{"n": "x", "v": 1}] * scan.RECORDS_MAX, True),
        ([{"n": "x", "v": 1}] * (scan.RECORDS_MAX + 1), False),
        ([{"bn": "b" * (MAX_NAME_CHARACTERS - 1), "v": 1}, {"n": "x", "v": 1}], True),
        ([{"bn": "b" * (MAX_NAME_CHARACTERS - 1), "v": 1}, {"n": "xy", "v": 1}], False),
        ([{"n": "b" * MAX_NAME_CHARACTERS, "v": 1}] * 3, True),
        ([{"n": "b" * (MAX_NAME_CHARACTERS + 1), "v": 1}] * 3, False),
    ],
)
def test_room_is_known(pack, scanned):
    """What is larger than the room is left to the reader, and costs nothing else."""
    assert (scan.columns(json.dumps(pack).encode()) is not None) == scanned
    assert assert_read_alike(json.dumps([RECORD]).encode())


IN_BOUNDS = """
import random, sys
from schemas import scan
scan.prepare()
dice = random.Random(1)
pack = b'[{"bn":"a:","bt":1.7e9,"bu":"Cel","n":"x","v":-21.5,"u":"%RH","t":0.25}, {"n":"y","v":1763712000.1234567}]'
pieces = [b'[', b'{', b'"', b'b', b'n', b'v', b't', b'u', b':', b',', b'}', b']', b'-', b'1', b'.', b'e', b' ', b'\\0']
for end in range(len(pack) + 1):
    scan.columns(pack[:end])
for _ in range(20_000):
    cut = dice.randrange(len(pack))
    scan.columns(pack[:cut] + b''.join(dice.choices(pieces, k=dice.randrange(12))) + pack[cut + dice.randrange(9):])
    scan.columns(b''.join(dice.choices(pieces, k=dice.randrange(40))))
loose = b'{"v":1e23,"t":1e23}'
full = [b'{"bn":"a","bt":1e23,' + loose[1:]] + [loose] * (scan.RECORDS_MAX - 1)
for more in (loose, b'{"v":1e23,"t":1e23,"v":1e23}'):  # a record too many, and one that says a field twice
    assert scan.columns(b'[' + b','.join([*full, more]) + b']') is None
    assert scan.columns(b'[' + b','.join([*full[:-1], more]) + b']') is None or more is loose
try:
    scan._loop.scan(*(part[:3] for part in (scan.np.frombuffer(bytearray(pack), 'u1'), scan._secret)), *[
        getattr(scan._scratch, name)
        for name in ("whole_name", "names", "hashes", "units", "unit_of", "numbers", "loose")])
except IndexError:
    print("checked")
"""


def test_no_position_is_out_of_bounds(tmp_path):
    """With bounds checked no payload, cut or garbage, is read beyond its padding; without padding it shows."""
    env = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", IN_BOUNDS], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr[-3000:]
