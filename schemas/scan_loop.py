"""The compiled part of `schemas.scan`: one pass over a SenML JSON pack, numba's subset of Python.

Imported by `schemas.scan` alone, when a large pack has come: importing it costs 0.5 s and 150 MB. The GIL is free
meanwhile. Nobody checks the bounds of arrays here, at a third of the time. So the text ends with `PADDING`, zeros,
at which everything stops that reads: no position moves on but behind a byte that was looked for, and no more is
loaded from there than the padding has. What is written is checked where its room may end. NUMBA_BOUNDSCHECK=1 has
it checked. Bytes are read by eight where they can be: three fifths of the time of one by one, measured.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, njit, types, uint64
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32] | npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Word = Any
"""An unsigned integer of 64 bits."""

PADDED = 8
"""Length of `schemas.scan.PADDING`; not taken from there, as what is compiled is kept until this file changes."""
NOT_THIS = -1
"""Instead of a position or a count: the general reader takes the pack."""
POWERS = 10.0 ** np.arange(23)
"""Those that a double holds exactly."""
EXACT_BELOW = 2**53
"""Mantissas below this times or over a power of `POWERS` are rounded once, hence as `float` does it."""
DIGITS_MAX = 19
"""More may not fit into 64 bits."""
QUOTE, BACKSLASH, COMMA, COLON, POINT, MINUS, PLUS = b'"\\,:.-+'
OPEN, CLOSE, BEGIN, END = b"[]{}"
ZERO, NINE, SMALL_E, LARGE_E = b"09eE"
SPACE, TAB, LINE, RETURN = b" \t\n\r"
ALL, ONES, TOPS = np.uint64(2**64 - 1), np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
QUOTES, BACKSLASHES, SPACES, ZEROS = (
    np.uint64(byte * 0x0101010101010101) for byte in (QUOTE, BACKSLASH, SPACE, ZERO)
)
NO_DIGITS = np.uint64((128 - 10) * 0x0101010101010101)
"""Added to digits without their zero, it sets the top of each byte that is none."""
TENS = np.array([10**n for n in range(9)], np.uint64)
CHECKED = bool(config.BOUNDSCHECK)  # type: ignore[attr-defined]  # made as it is imported
LABEL_B, LABEL_N, LABEL_U, LABEL_V, LABEL_T = b"bnuvt"
NAME, UNIT, VALUE, TIME = 1, 2, 4, 8
"""Fields of a record, by bit."""
BASE = 4
"""So many bits higher stand the base fields."""


def compiled(function: F) -> F:
    """The function in machine code, kept beside the source or in the user's cache where one may write there."""
    try:
        made: Any = njit(function, cache=not CHECKED, nogil=True)  # the cache does not know CHECKED apart
    except RuntimeError:  # nowhere to keep it: compiled anew in each process
        made = njit(function, nogil=True)
    return cast("F", made)


def inlined(function: F) -> F:
    """The function, put where it is called: measured, four fifths of the time of calls."""
    made: Any = njit(function, inline="always")
    return cast("F", made)


def _load(_context: Any, text: Any, i: Any) -> Any:
    """A load that needs no alignment, which numba has not."""

    def load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.load(builder.bitcast(first, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(text, i), load


def _low_zeros(_context: Any, word: Any) -> Any:
    """How many bits are 0 below the lowest that is 1; 64 of 0."""

    def count(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(word), count


loaded: Any = intrinsic(_load)
low_zeros: Any = intrinsic(_low_zeros)


@inlined
def eight(text: Bytes, i: int) -> Word:
    """The eight bytes from here on as a little-endian number; where bounds are checked, those of the last one."""
    if CHECKED:
        return loaded(text, i) | uint64(text[i + 7]) << uint64(56)
    return loaded(text, i)


@inlined
def space(text: Bytes, i: int) -> int:
    """The next position that is no blank."""
    byte = text[i]
    while byte in (SPACE, LINE, RETURN, TAB):
        i += 1
        byte = text[i]
    return i


@inlined
def ends(word: Word) -> Word:
    """Of eight bytes those that end a plain ASCII string: the lowest top bit is the first."""
    quotes, backslashes = word ^ QUOTES, word ^ BACKSLASHES
    found = ((quotes - ONES) & ~quotes) | ((backslashes - ONES) & ~backslashes)
    return (found | ((word - SPACES) & ~word) | (word + ONES) | word) & TOPS


@inlined
def string(text: Bytes, i: int) -> int:
    """The end of the plain ASCII string that begins here; `NOT_THIS` for any other."""
    found = ends(eight(text, i))
    while found == uint64(0):
        i += 8
        found = ends(eight(text, i))
    i += low_zeros(found) >> 3
    return i if text[i] == QUOTE else NOT_THIS


@inlined
def digits(text: Bytes, i: int, mantissa: Word) -> tuple[int, Word]:
    """Behind the digits that stand here, and the mantissa with them."""
    count = 8
    while count == 8:
        word = eight(text, i) ^ ZEROS
        count = low_zeros(((word + NO_DIGITS) | word) & TOPS) >> 3
        if count:
            word = word << uint64(64 - 8 * count)
            word = (word * uint64(2561)) >> uint64(8)
            word = ((word & uint64(0x00FF00FF00FF00FF)) * uint64(6553601)) >> uint64(16)
            word = ((word & uint64(0x0000FFFF0000FFFF)) * uint64(42949672960001)) >> uint64(32)
            mantissa = mantissa * TENS[count] + word
            i += count
    return i, mantissa


@inlined
def power(text: Bytes, i: int) -> tuple[int, int]:
    """Behind an exponent that may stand here, and its value, cut at 9999."""
    value = 0
    if text[i] == SMALL_E or text[i] == LARGE_E:
        negative = text[i + 1] == MINUS
        i += 2 if negative or text[i + 1] == PLUS else 1
        begin = i
        while ZERO <= text[i] <= NINE:
            value = min(value * 10 + int(text[i]) - ZERO, 9999)
            i += 1
        if i == begin:
            return NOT_THIS, 0
        value = -value if negative else value
    return i, value


@inlined
def number(text: Bytes, i: int) -> tuple[float, bool, int]:
    """The value of a JSON number, whether it is exact, and its end; `NOT_THIS` where none begins here."""
    negative = text[i] == MINUS
    first = i + 1 if negative else i
    i, mantissa = digits(text, first, uint64(0))
    count = i - first
    if count == 0 or (count > 1 and text[first] == ZERO):
        return 0.0, False, NOT_THIS
    exponent = 0
    if text[i] == POINT:
        point = i
        i, mantissa = digits(text, i + 1, mantissa)
        exponent = point + 1 - i
        count -= exponent
        if exponent == 0:
            return 0.0, False, NOT_THIS
    i, more = power(text, i)
    exponent += more
    exact = count <= DIGITS_MAX and mantissa < uint64(EXACT_BELOW) and -len(POWERS) < exponent < len(POWERS)
    value = 0.0
    if exact:
        value = float(mantissa)
        value = value * POWERS[exponent] if exponent >= 0 else value / POWERS[-exponent]
    return (-value if negative else value) + 0.0, exact, i  # no -0


@inlined
def rotated(x: Word, bits: int) -> Word:
    return (x << uint64(bits)) | (x >> uint64(64 - bits))


@inlined
def mixed(a: Word, b: Word, c: Word, d: Word) -> tuple[Word, Word, Word, Word]:
    """A round of SipHash."""
    a, c = a + b, c + d
    b, d = rotated(b, 13) ^ a, rotated(d, 16) ^ c
    a = rotated(a, 32)
    c, a = c + b, a + d
    b, d = rotated(b, 17) ^ c, rotated(d, 21) ^ a
    return a, b, rotated(c, 32), d


@inlined
def siphash(text: Bytes, begin: int, end: int, secret: npt.NDArray[np.uint64]) -> Word:
    """SipHash-1-3 (Aumasson, Bernstein), as CPython hashes ASCII strings (Python/pyhash.c)."""
    a, b = secret[0] ^ uint64(0x736F6D6570736575), secret[1] ^ uint64(0x646F72616E646F6D)
    c, d = secret[0] ^ uint64(0x6C7967656E657261), secret[1] ^ uint64(0x7465646279746573)
    size, i = end - begin, begin
    while i + 8 <= end:
        word = eight(text, i)
        a, b, c, d = mixed(a, b, c, d ^ word)
        a ^= word
        i += 8
    last = (eight(text, i) & ~(ALL << uint64(8 * (end - i)))) | uint64(size) << uint64(56)
    a, b, c, d = mixed(a, b, c, d ^ last)
    a, c = a ^ last, c ^ uint64(0xFF)
    for _ in range(3):
        a, b, c, d = mixed(a, b, c, d)
    return a ^ b ^ c ^ d


@compiled
def hashed(text: Bytes, begin: int, end: int, secret: npt.NDArray[np.uint64]) -> int:
    """What `hash` answers for the string, behind which there is padding: -1 means a fault in CPython."""
    found: int = np.int64(siphash(text, begin, end, secret))  # type: ignore[assignment]  # as numba has it
    return -2 if found == -1 else found


@inlined
def copied(text: Bytes, begin: int, end: int, name: Bytes, at: int) -> int:
    """Copy a piece of a name; where the next one goes."""
    for i in range(begin, end):
        name[at] = text[i]
        at += 1
    return at


@inlined
def unit_number(text: Bytes, begin: int, end: int, units: Ints, count: int) -> int:
    """The number of this spelling among the units so far, or the next."""
    for n in range(count):
        if units[n, 1] - units[n, 0] == end - begin:
            same = (units[n, 0] == 0) == (begin == 0)
            for j in range(end - begin):
                same = same and text[units[n, 0] + j] == text[begin + j]
            if same:
                return n
    return count


@compiled
def scan(  # noqa: C901, PLR0911, PLR0912, PLR0915  measured: a third faster than in functions with arrays of fields
    text: Bytes, secret: npt.NDArray[np.uint64], whole_name: Bytes, names: Ints, hashes: npt.NDArray[np.int64],
    units: Ints, unit_of: npt.NDArray[np.int8], numbers: Floats, loose: Ints,
) -> tuple[int, int, int]:  # fmt: skip
    """Read a pack; how many records, units and loose numbers it has. `NOT_THIS`: none of it.

    Out: `names` (begin and end in the text; the base name's last), the `hashes` of names behind the base name,
    `units` (begin and end in the text, 0 and 0: none) and the number of each record's, `numbers` (values, times; the
    base time last), and `loose`: row and column in `numbers`, begin and end in the text of what is not exact.
    """
    base_name, base_name_end, base_unit, base_unit_end = 0, 0, 0, 0
    count, unit_count, loose_count, at, last = 0, 0, 0, 0, numbers.shape[1] - 1
    numbers[1, last], names[last, 0], names[last, 1] = 0.0, 0, 0
    i = space(text, 0)
    more = text[i] == OPEN
    while more:
        i = space(text, i + 1)
        seen, name, name_end, unit, unit_end = 0, 0, 0, 0, 0
        numbers[1, count] = 0.0
        more = text[i] == BEGIN and count < last
        while more:
            i = space(text, i + 1)
            base = text[i + 1] == LABEL_B
            label_at = i + 2 if base else i + 1
            label, colon = text[label_at], space(text, label_at + 2)
            begin = space(text, colon + 1)
            if text[i] != QUOTE or text[label_at + 1] != QUOTE or text[colon] != COLON or (base and count):
                return NOT_THIS, 0, 0
            if label == LABEL_N or label == LABEL_U:  # noqa: PLR1714, SIM109
                end = string(text, begin + 1) if text[begin] == QUOTE else NOT_THIS
                i = end + 1
                if label == LABEL_N:
                    bit = NAME
                    if base:
                        base_name, base_name_end = begin + 1, end
                    else:
                        name, name_end = begin + 1, end
                else:
                    bit = UNIT
                    if base:
                        base_unit, base_unit_end = begin + 1, end
                    else:
                        unit, unit_end = begin + 1, end
            else:
                value, exact, end = number(text, begin)
                i = end
                bit = VALUE if label == LABEL_V else TIME
                column = last if base else count
                if (bit == VALUE and base) or (bit == TIME and label != LABEL_T):
                    return NOT_THIS, 0, 0
                numbers[0 if bit == VALUE else 1, column] = value
                if not exact:
                    loose[loose_count, 0], loose[loose_count, 1] = 0 if bit == VALUE else 1, column
                    loose[loose_count, 2], loose[loose_count, 3] = begin, end
                    loose_count += 1
            bit = bit << BASE if base else bit
            if end == NOT_THIS or seen & bit:
                return NOT_THIS, 0, 0
            seen |= bit
            i = space(text, i)
            more = text[i] == COMMA
        if text[i] != END or not seen & VALUE:
            return NOT_THIS, 0, 0
        if not seen & UNIT:
            unit, unit_end = base_unit, base_unit_end
        if base_name_end - base_name + name_end - name > len(whole_name) - PADDED:
            return NOT_THIS, 0, 0
        if base_name == base_name_end:
            hash_of = hashed(text, name, name_end, secret)
        else:
            if count == 0:
                at = copied(text, base_name, base_name_end, whole_name, 0)
                names[last, 0], names[last, 1] = base_name, base_name_end
            hash_of = hashed(whole_name, 0, copied(text, name, name_end, whole_name, at), secret)
        this_unit = unit_number(text, unit, unit_end, units, unit_count)
        if at + name_end == name or this_unit == len(units):  # no name, or a unit too many
            return NOT_THIS, 0, 0
        if this_unit == unit_count:
            units[this_unit, 0], units[this_unit, 1] = unit, unit_end
            unit_count += 1
        names[count, 0], names[count, 1] = name, name_end
        hashes[count], unit_of[count] = hash_of, this_unit
        count += 1
        i = space(text, i + 1)
        more = text[i] == COMMA
    for j in range(i + 1, len(text) - PADDED):
        if text[j] not in (SPACE, LINE, RETURN, TAB):
            return NOT_THIS, 0, 0
    return count if text[i] == CLOSE else NOT_THIS, unit_count, loose_count


@compiled
def moved(numbers: Floats, count: int) -> tuple[float, bool]:
    """Add the base time to the times of so many records; the largest, and whether all is finite."""
    base, newest, finite = numbers[1, numbers.shape[1] - 1], -np.inf, True
    for n in range(count):
        time = numbers[1, n] + base
        numbers[1, n] = time
        newest = max(newest, time)
        finite = finite and np.isfinite(time) and np.isfinite(numbers[0, n])
    return newest, finite
