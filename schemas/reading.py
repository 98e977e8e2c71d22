"""Readings as columns, events, and the part of a message that counts once.

A name is what a sender calls a series: a SenML name in one string, resolved (bn + n), or a
pair (terminal code, metric) where the format keeps them apart. It is the key of the registry's
cache, so both forms stay as they came.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.message import Message
from schemas.rejection import Refusal
from schemas.sparkplug_births import Birth

Name = str | tuple[str, str]

RELATIVE_BELOW = float(2**28)
"""Times below this are relative to the arrival (RFC 8428, section 4.5.3); 0 is the arrival itself."""


@dataclass(frozen=True, slots=True)
class Event:
    """A non-numeric observation. `body` is JSON-ready, `time` as in `Part.times`.

    Not `heard`: the platform's word about the terminal, such as a command without an answer, not the terminal's own.
    """

    name: Name
    time: float
    body: Any
    index: int
    heard: bool = True


class Units(Sequence[str | None]):
    """The units of a pack, of which it has few."""

    __slots__ = ("numbers", "spellings")

    def __init__(self, spellings: list[str | None], numbers: npt.NDArray[np.integer[Any]]) -> None:
        """`numbers`: for each reading, which of the spellings is its unit."""
        self.spellings, self.numbers = spellings, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, i: int) -> str | None: ...
    @overload
    def __getitem__(self, i: slice) -> list[str | None]: ...
    def __getitem__(self, i: int | slice) -> str | list[str | None] | None:
        if isinstance(i, slice):
            return [self.spellings[n] for n in self.numbers[i].tolist()]
        return self.spellings[int(self.numbers[i])]


class Part(msgspec.Struct):
    """The readings, events and refusals of a message that are stored, or known already, together.

    The four columns have equal length, one entry a reading. `units` holds None where none was
    said; `times` holds Unix seconds, or seconds relative to the arrival below `RELATIVE_BELOW`.
    `indexes` are the readings' places in the message, for refusals. `identity` tells the part
    from others in any envelope; None means topic and payload. `identities`: each reading counts by itself, known by
    its own; such a part is absolute and holds readings alone. `absolute`: some reading or event
    has a time of its own, so that the same bytes again are the same data. `aliases` maps codes that
    a platform has for its terminals to their canonical ones ("ctwing:ID" -> "imei:N"), where it says both.
    `births` are Sparkplug births and deaths, kept in the transaction that stores the part. `hashes` are those of
    the names where the decoder has them; then the columns are arrays, `newest` the largest of `times`, and names and
    units made where they are asked for.

    A struct, because many platforms' pushes make a part of each element: it is made in a third of a dataclass's time.
    """

    names: list[Name] = []
    units: list[str | None] = []
    values: list[float] = []
    times: list[float] = []
    indexes: Sequence[int] = ()
    events: list[Event] = []
    refusals: list[Refusal] = []
    identity: bytes | None = None
    identities: Sequence[bytes] = ()
    absolute: bool = True
    aliases: dict[str, str] = {}
    births: list[Birth] = []
    hashes: npt.NDArray[np.int64] | None = None
    newest: float | None = None


Decoder = Callable[[Message], list[Part]]
"""Bytes in, parts out; pure, and never raises on input: what it can't read is a refusal."""
