"""What can't be read of a message: all of it, or elements of an array, of which a megabyte holds half a million."""

from collections.abc import Sequence
from typing import Any

from schemas.nbiot.identity import identity_of_refused
from schemas.payload import Unreadable
from schemas.reading import RELATIVE_BELOW, Part
from schemas.rejection import Reason, Refusal

BROKEN_MAX = 100
"""Refused elements of a message that are told one by one, the others are counted."""


def refused(fault: Unreadable, time: float = 0.0, content: Any = None) -> Part:
    """The part of a message that can't be read; where it says its `time`, the same again is a retry.

    The same is the same `content` in whatever envelope; without one, topic and bytes.
    """
    identity = identity_of_refused(fault.reason, content)
    return Part(refusals=[fault.refusal(None)], absolute=time >= RELATIVE_BELOW, identity=identity)


class Broken:
    """The elements of a message that can't be read: one part, known by the message as a whole."""

    def __init__(self) -> None:
        self.timed = False
        """Whether the message says a time anywhere, so that the same bytes again are a retry."""
        self._refusals: list[Refusal] = []
        self._runs: list[tuple[Reason, int, int]] = []
        """Of elements that are only counted, one after the other: reason, first place and the one behind the last."""

    @property
    def full(self) -> bool:
        """Whether further elements are only counted."""
        return len(self._refusals) >= BROKEN_MAX

    def add(self, fault: Unreadable, index: int) -> None:
        """Take the refusal of the element at `index`."""
        if self.full:
            self.count(index, fault.reason)
        else:
            self._refusals.append(fault.refusal(index))

    def count(self, index: int, reason: Reason = Reason.MALFORMED_PAYLOAD) -> None:
        """Take the element at `index`, once it is `full`."""
        if self._runs and self._runs[-1][::2] == (reason, index):
            self._runs[-1] = (reason, self._runs[-1][1], index + 1)
        else:
            self._runs.append((reason, index, index + 1))

    def parts(self, good: Sequence[Part] = (), content: Any = None) -> list[Part]:
        """The part, if anything is broken; `good`: the parts of what could be read, `content` as in `refused`."""
        if not self._refusals:
            return []
        more = [Refusal(first, reason, count=end - first) for reason, first, end in self._runs]
        timed = self.timed or any(part.absolute for part in good)
        identity = identity_of_refused("some", content)
        return [Part(refusals=self._refusals + more, absolute=timed, identity=identity)]
