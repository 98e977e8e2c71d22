"""Large SenML JSON packs of numbers to columns without an object a record, by a loop that numba compiles. Pure.

Measured in one run, packs of 100 records: 150 ns a record, of objects 370, and the GIL is free in the loop. The arrays
come with the hashes of the names, as Python hashes them, so that nothing is hashed again to look them up. What it
can't read (escapes, other labels, base fields in the middle, anything wrong) is for `senml`; where it answers,
both answer the same. Compiling takes 3 s once on a machine and 0.5 s from the cache: a service does so when a large
pack has come (`wanted`); until then, and where it can't be, there is no answer. For one thread at a time.
"""

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from schemas.name import MAX_NAME_CHARACTERS
from schemas.payload import READINGS_MAX
from schemas.reading import RELATIVE_BELOW, Part, Units


class Loop(NamedTuple):
    """The compiled functions of `scan_loop`."""

    scan: Callable[..., tuple[int, int, int]]
    moved: Callable[..., tuple[float, bool]]


LARGE_BYTES = 1_000
"""From here on a pack is scanned: a call costs 5 us, which objects for 10 records cost too."""
RECORDS_MAX = READINGS_MAX
UNITS_MAX = 8
"""Different units in one pack."""
PADDING = bytes(8)
"""What the loop stops at: `schemas.scan_loop.PADDED` zeros."""
TEXT_BYTES = 64 * 1024
"""Packs up to here, 700 records, are read where the one before was: new memory costs a tenth of reading one."""

wanted = False
"""A large pack came, and nothing is compiled."""
_loop: Loop | None = None
_secret = np.zeros(2, np.uint64)


class Names(Sequence[str]):
    """The names of a pack, made where one is asked for."""

    __slots__ = ("_base", "_spans", "_text")

    def __init__(self, text: bytes, base: bytes, spans: npt.NDArray[np.int32]) -> None:
        """`base` stands before each; `spans`: begin and end in the text."""
        self._text, self._base, self._spans = text, base, spans

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[n] for n in range(*i.indices(len(self)))]
        begin, end = self._spans[i]
        return (self._base + self._text[begin:end]).decode()


def columns(payload: bytes) -> Part | None:
    """The part of a pack; None: ask `senml`."""
    global wanted  # noqa: PLW0603  once a process
    if _loop is None:
        wanted = True
        return None
    return _read(_loop, payload)


class _Scratch:
    """What the loop writes into, kept for the next pack: new memory for each costs as much as reading it.

    Pages that no pack was large enough for take no memory.
    """

    def __init__(self) -> None:
        self.text = np.zeros(TEXT_BYTES + len(PADDING), np.uint8)
        self.bytes = memoryview(self.text)  # type: ignore[arg-type]  # an array is a buffer
        self.whole_name = np.empty(MAX_NAME_CHARACTERS + len(PADDING), np.uint8)
        self.names = np.empty((RECORDS_MAX + 1, 2), np.int32)
        self.hashes = np.empty(RECORDS_MAX, np.int64)
        self.units = np.zeros((UNITS_MAX, 2), np.int32)
        self.unit_of = np.empty(RECORDS_MAX, np.int8)
        self.numbers = np.empty((2, RECORDS_MAX + 1))
        self.loose = np.empty((2 * RECORDS_MAX + 2, 4), np.int32)  # with base time, and a field said twice


_scratch = _Scratch()


def _read(loop: Loop, payload: bytes) -> Part | None:
    to = _scratch
    text = _padded(payload, to)
    count, unit_count, loose_count = loop.scan(
        text, _secret, to.whole_name, to.names, to.hashes, to.units, to.unit_of, to.numbers, to.loose
    )
    if count <= 0:
        return None
    for row, column, begin, end in to.loose[:loose_count].tolist():
        to.numbers[row, column] = float(payload[begin:end]) + 0.0  # no -0
    newest, finite = loop.moved(to.numbers, count)
    if not finite:
        return None
    values, times = to.numbers[:, :count].copy()
    spellings = [payload[b:e].decode() if b else None for b, e in to.units[:unit_count].tolist()]
    units = Units(spellings, to.unit_of[:count].copy())
    base_begin, base_end = to.names[-1]
    return Part(
        Names(payload, payload[base_begin:base_end], to.names[:count].copy()),  # type: ignore[arg-type]  # columns may be arrays
        units, values, times, range(count),  # type: ignore[arg-type]  # and others made late
        absolute=newest >= RELATIVE_BELOW, hashes=to.hashes[:count].copy(), newest=newest,
    )  # fmt: skip


def _padded(payload: bytes, to: _Scratch) -> npt.NDArray[np.uint8]:
    """The text with its padding, to be written: what is read-only costs numba 9 us a call."""
    size = len(payload)
    if size > TEXT_BYTES:
        return np.frombuffer(bytearray(payload + PADDING), np.uint8)
    to.bytes[:size], to.bytes[size : size + len(PADDING)] = payload, PADDING
    return to.text[: size + len(PADDING)]


def prepare() -> None:
    """Compile, for seconds. Raises what `_compiled` raises."""
    global _loop  # noqa: PLW0603  once a process
    _loop = _loop or _compiled()


def _compiled() -> Loop:
    """The loop, compiled, tried. Raises RuntimeError where Python hashes in another way, and what numba raises."""
    from schemas import scan_loop

    _secret[:] = (ctypes.c_uint64 * 2).in_dll(ctypes.pythonapi, "_Py_HashSecret")
    for size in range(1, 18):
        text = "x" * size
        padded = np.frombuffer(bytearray(text.encode() + PADDING), np.uint8)
        if scan_loop.hashed(padded, 0, size, _secret) != hash(text):
            raise RuntimeError(
                f"this Python hashes by {sys.hash_info.algorithm}, not by siphash13 and its secret"
            )
    loop = Loop(scan_loop.scan, scan_loop.moved)
    _read(loop, b'[{"n":"a","v":1}]')
    return loop
