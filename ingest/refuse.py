"""Why readings are refused: reasons of all of a batch at once, words for the first of each stretch. Pure.

A gateway gone wrong brings packs of nothing else, and words cost 2 us until they are stored: neighbours of a part that
are refused alike are one `Refusal` with a count and the words of the first, and only the first stretches of a message
have words at all.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from devices.index import MISSING
from ingest.batch import Batch
from ingest.columns import Floats
from ingest.sealed import Mask, Refusals, Targets
from schemas.rejection import Reason, Refusal

WORDED = 3
"""Stretches of a message that are told in words: what is wrong shows in the first few. Its first readings are each a
stretch of its own where other words are due: for another name, or another metric's limits."""
ZONE_SECONDS = 8 * 3600
"""Shandong is UTC+8: local time written as UTC is this far ahead."""
DAY_SECONDS = 86_400
REASONS = tuple(Reason)
CODES = {reason: code for code, reason in enumerate(REASONS)}


class Bad(NamedTuple):
    """Refused readings in order, as columns of equal length; limits are two rows."""

    reading: npt.NDArray[np.int64]
    """Its number in the batch."""
    part: npt.NDArray[np.int32]
    ahead_seconds: Floats
    """Of its arrival."""
    future: Mask
    old: Mask
    value: Floats
    limits: Floats


def refuse(bad: Bad, batch: Batch, targets: Targets, refusals: Refusals) -> None:
    """Add to the refusals of each part those of its readings, each for the first thing that is wrong with it."""
    missing = np.flatnonzero(targets.rows[bad.reading] == MISSING).tolist()
    of_names = {n: targets.refused[batch.columns.name(int(bad.reading[n]))] for n in missing}
    codes = _codes(bad)
    codes[missing] = [CODES[refusal.reason] for refusal in of_names.values()]
    message = np.array(batch.message_of)[bad.part]
    rank = np.arange(len(codes)) - _bounds(message)[0]
    begins = _steps(codes) | _steps(bad.part) | _steps(bad.reading - np.arange(len(codes)))
    begins |= (rank <= WORDED) & _other_words(bad, of_names)
    first = np.flatnonzero(begins)
    nth = np.arange(len(first)) - _bounds(message[first])[0]
    spans = bad.reading[_bounds(bad.part)[1][first] - 1] - bad.reading[first] + 1
    columns = (np.diff(first, append=len(codes)), nth, codes[first], bad.part[first], bad.reading[first],
               spans, bad.ahead_seconds[first], bad.value[first], *bad.limits[:, first])  # fmt: skip
    runs = zip(first.tolist(), *(column.tolist() for column in columns), strict=True)
    last_part = -1
    for n, count, nth, code, part, reading, span, *measured in runs:
        if part != last_part:
            last_part, begin, places = part, reading, batch.places_of(reading, span)
            found = refusals.setdefault(part, [])
        at, reason = reading - begin, REASONS[code]
        detail = hint = ""
        if nth < WORDED:
            of_name = of_names.get(n)
            detail, hint = (of_name.detail, of_name.hint) if of_name else _words(reason, *measured)
        for place, length in _stretches(places[at : at + count]):
            found.append(Refusal(place, reason, detail, hint, count=length))
            detail = hint = ""


def _codes(bad: Bad) -> npt.NDArray[np.int8]:
    """What is wrong with each reading, its name apart, as a place in `REASONS`; what is looked at first stands last."""
    codes = np.full(len(bad.reading), CODES[Reason.OUT_OF_RANGE], np.int8)
    codes[~np.isfinite(bad.value)] = CODES[Reason.NOT_A_NUMBER]
    codes[bad.old] = CODES[Reason.TIME_TOO_OLD]
    codes[bad.future] = CODES[Reason.TIME_IN_FUTURE]
    return codes


def _other_words(bad: Bad, of_names: dict[int, Refusal]) -> Mask:
    """Where what would be said in words differs by more than its numbers: another name, other limits."""
    names = np.zeros(len(bad.reading), np.int64)
    names[list(of_names)] = [id(refusal) for refusal in of_names.values()]
    return _steps(names) | _steps(bad.limits[0]) | _steps(bad.limits[1])


def _steps(column: npt.NDArray[np.number[Any]]) -> Mask:
    """Where a value is another than the one before it."""
    steps = np.ones(len(column), np.bool_)
    np.not_equal(column[1:], column[:-1], out=steps[1:])
    return steps


def _bounds(column: npt.NDArray[np.integer[Any]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Begin and end of the run of equal values that each entry stands in."""
    bounds = np.append(np.flatnonzero(_steps(column)), len(column))
    counts = np.diff(bounds)
    return np.repeat(bounds[:-1], counts), np.repeat(bounds[1:], counts)


def _stretches(places: Sequence[int]) -> list[tuple[int, int]]:
    """First place and length of each stretch of places without a hole."""
    if isinstance(places, range) and places.step == 1:
        return [(places[0], len(places))]
    begins = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    return [(places[a], b - a) for a, b in pairwise(begins)]


def _words(reason: Reason, ahead_seconds: float, value: float, low: float, high: float) -> tuple[str, str]:
    """Detail and hint of a reading's refusal."""
    if reason is Reason.OUT_OF_RANGE:
        return "%g is not within %g to %g" % (value, low, high), ""  # noqa: UP031  half an f-string's time
    if reason is Reason.TIME_IN_FUTURE:
        return in_future(ahead_seconds)
    if reason is Reason.TIME_TOO_OLD:
        return too_old(-ahead_seconds)
    return f"{value} after the conversion of its unit", ""


def in_future(ahead_seconds: float) -> tuple[str, str]:
    """Detail and hint for something observed so long after its arrival."""
    hint = ""
    if abs(ahead_seconds - ZONE_SECONDS) < ZONE_SECONDS / 16:
        hint = (
            "about 8 h ahead: local time written as UTC (Z)? Send UTC, or register the gateway's utc_offset"
        )
    elif ahead_seconds > 1e11:
        hint = "milliseconds where seconds belong? SenML times are in seconds"
    return f"{ahead_seconds:.0f} s after its arrival, 300 are allowed", hint


def too_old(age_seconds: float) -> tuple[str, str]:
    """Detail and hint for something observed so long before its arrival."""
    hint = "correct the clock, or raise GANZHI_MAX_AGE_DAYS"
    return f"{age_seconds / DAY_SECONDS:.1f} days old", hint
