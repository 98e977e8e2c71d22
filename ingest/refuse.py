"""Why readings are refused: reasons of all of a batch at once, words for the first stretches of each message. Pure.

A gateway gone wrong brings packs of nothing else, and words cost 2 us until they are stored: neighbours of a part that
are refused alike are one `Refusal` with a count and the words of the first.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from devices.day import SHANDONG_SECONDS
from devices.index import MISSING
from ingest.batch import Batch
from ingest.columns import Floats
from ingest.sealed import Mask, Refusals, Targets
from schemas.rejection import Reason, Refusal

WORDED = 3
"""Stretches of a message that are told in words: what is wrong shows in the first few. Beyond them neighbours that are
refused for the same reason are one, whatever would be said of them."""
DAY_SECONDS = 86_400
REASONS = tuple(Reason)
CODES = {reason: code for code, reason in enumerate(REASONS)}
FUTURE_HINTS = (
    "",
    "about 8 h ahead: local time written as UTC (Z)? Send UTC, or register the gateway's utc_offset",
    "milliseconds where seconds belong? SenML times are in seconds",
)
Whole = npt.NDArray[np.int64]


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
    places = _places(bad, batch)
    parted = _steps(codes) | _steps(bad.part) | _steps(places - np.arange(len(codes)))
    first = np.flatnonzero(parted | _other_words(bad, codes, of_names))
    message = np.array(batch.message_of)[bad.part[first]]
    nth = np.arange(len(first)) - _begins(message)
    kept = parted[first] | (nth <= WORDED)
    first, nth = first[kept], nth[kept]
    columns = (np.diff(first, append=len(codes)), nth, codes[first], bad.part[first], places[first],
               bad.ahead_seconds[first], bad.value[first], *bad.limits[:, first])  # fmt: skip
    stretches = zip(first.tolist(), *(column.tolist() for column in columns), strict=True)
    for n, count, worded, code, part, place, *measured in stretches:
        reason, detail, hint = REASONS[code], "", ""
        if worded < WORDED:
            of_name = of_names.get(n)
            detail, hint = (of_name.detail, of_name.hint) if of_name else _words(reason, *measured)
        refusals.setdefault(part, []).append(Refusal(place, reason, detail, hint, count=count))


def _places(bad: Bad, batch: Batch) -> Whole:
    """The place in its message of each reading."""
    places = np.empty(len(bad.reading), np.int64)
    begins = np.append(np.flatnonzero(_steps(bad.part)), len(places)).tolist()
    for begin, end in pairwise(begins):
        first = int(bad.reading[begin])
        there = batch.places_of(first, int(bad.reading[end - 1]) - first + 1)
        if isinstance(there, range):
            places[begin:end] = there.start + (bad.reading[begin:end] - first) * there.step
        else:
            places[begin:end] = np.array(there)[bad.reading[begin:end] - first]
    return places


def _codes(bad: Bad) -> npt.NDArray[np.int8]:
    """What is wrong with each reading, its name apart, as a place in `REASONS`; what is looked at first stands last."""
    codes = np.full(len(bad.reading), CODES[Reason.OUT_OF_RANGE], np.int8)
    codes[~np.isfinite(bad.value)] = CODES[Reason.NOT_A_NUMBER]
    codes[bad.old] = CODES[Reason.TIME_TOO_OLD]
    codes[bad.future] = CODES[Reason.TIME_IN_FUTURE]
    return codes


def _other_words(bad: Bad, codes: npt.NDArray[np.int8], of_names: dict[int, Refusal]) -> Mask:
    """Where what is to be said differs by more than its numbers: another name, other limits, another hint."""
    numbers: dict[tuple[str, str], int] = {}
    said: Whole = np.where(codes == CODES[Reason.TIME_IN_FUTURE], _future_hint(bad.ahead_seconds), 0)
    said[list(of_names)] = [numbers.setdefault((r.detail, r.hint), len(numbers)) for r in of_names.values()]
    limits = (codes == CODES[Reason.OUT_OF_RANGE]) & (_steps(bad.limits[0]) | _steps(bad.limits[1]))
    differ: Mask = limits | _steps(said)
    return differ


def _steps(column: npt.NDArray[np.number[Any]]) -> Mask:
    """Where a value is another than the one before it."""
    steps = np.ones(len(column), np.bool_)
    np.not_equal(column[1:], column[:-1], out=steps[1:])
    return steps


def _begins(column: npt.NDArray[np.integer[Any]]) -> Whole:
    """Where the run of equal values begins that each entry stands in."""
    begins = np.flatnonzero(_steps(column))
    return np.repeat(begins, np.diff(begins, append=len(column)))


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
    detail = f"{ahead_seconds:.0f} s after its arrival, 300 are allowed"
    return detail, FUTURE_HINTS[int(_future_hint(ahead_seconds))]


def _future_hint(ahead_seconds: Any) -> Any:
    """Which of `FUTURE_HINTS` it is, for a number or an array of them."""
    zone = abs(ahead_seconds - SHANDONG_SECONDS) < SHANDONG_SECONDS / 16
    return zone + 2 * (ahead_seconds > 1e11)


def too_old(age_seconds: float) -> tuple[str, str]:
    """Detail and hint for something observed so long before its arrival."""
    hint = "correct the clock, or raise GANZHI_MAX_AGE_DAYS"
    return f"{age_seconds / DAY_SECONDS:.1f} days old", hint
