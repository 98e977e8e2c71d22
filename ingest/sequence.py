"""Numbers of messages: holes, which never came as opposed to what we lost, and what came before. Pure.

`Numbering` assumes that a source's messages come in order, as one MQTT connection brings them, and all to this worker:
a member of a share group sees its share only, and must not ask. So a number of those that wrap (Sparkplug's)
is ahead by the way forward to it, a hole of 200 of 256 too; only the last few before the expected one are late,
since a broker keeps the order of each topic, not between a node's topics.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple

from ingest.batch import Batch

SOURCES_MAX = 100_000
"""Sources remembered; what is forgotten begins anew."""
HOLE_MAX = 100_000
"""A wider jump is a source that numbers in another way, not a hole."""

LATE_MAX = 16
"""Of numbers that wrap, so many before the expected one are late. Holes of nearly all the way round are not seen."""


class Numbering:
    """The last number of each source; with `modulo` numbers begin at 0 again."""

    def __init__(self, modulo: int = 0) -> None:
        self._modulo = modulo
        self._expected: dict[str, int] = {}

    def begin(self, source: str, number: int) -> None:
        """Count from this number on."""
        if len(self._expected) >= SOURCES_MAX:
            self._expected.clear()
        self._expected[source] = (number + 1) % self._modulo if self._modulo else number + 1

    def ahead(self, source: str, number: int) -> int:
        """How far `number` is ahead of what was expected: so many are missing.

        Below 0 the source began anew; with `modulo` the number is late, and the same is expected as before.
        """
        step = number - self._expected.get(source, number)
        if self._modulo:
            step %= self._modulo
            if step >= self._modulo - LATE_MAX:
                return step - self._modulo
        self.begin(source, number)
        return step

    def behind(self, source: str, number: int) -> bool:
        """Whether a number of those that don't wrap was expected before: late or again, of one that never goes back."""
        return number < self._expected.get(source, number)

    def again(self, source: str, number: int) -> None:
        """A message that is redelivered: nothing is missing before it, and what follows it is expected next."""
        step = number - self._expected.get(source, number)
        if (step % self._modulo < self._modulo // 2) if self._modulo else step >= 0:
            self.begin(source, number)

    def missing(self, source: str, number: int) -> int:
        """How many are missing before `number`."""
        step = self.ahead(source, number)
        return step if 0 < step <= HOLE_MAX else 0


# what came before


BLOCK = 64
"""Numbers that share a row of `gateway_sequence`: half a kilobyte, and a message costs it 10 bytes."""


class Block(NamedTuple):
    """Numbers `block * BLOCK` and following of one of a gateway's numberings."""

    gateway: str
    epoch: int
    block: int


class Number(NamedTuple):
    """A message's number: its block, and its entry there, int64: a hash of the content above the number's place."""

    block: Block
    entry: int

    @property
    def place(self) -> int:
        """In the block, from 0."""
        return self.entry % BLOCK


Seen = dict[Block, dict[int, int]]
"""Entries by place."""


def numbers(batch: Batch) -> dict[int, Number]:
    """By its place in the batch, the number of each message whose gateway says both `epoch` and `seq`."""
    found = {}
    for n, message in enumerate(batch.messages):
        gateway = batch.places[n].gateway
        if message.epoch is not None and message.sequence is not None and gateway and not message.retain:
            block, place = divmod(message.sequence, BLOCK)
            found[n] = Number(
                Block(gateway, message.epoch, block), _content(batch, n) // BLOCK * BLOCK + place
            )
    return found


def _content(batch: Batch, number: int) -> int:
    """64 bits of a hash of what a message says, by the identities of its parts."""
    digests = batch.digests[batch.first_part[number] : batch.end_of(number)]
    whole = digests[0] if len(digests) == 1 else sha256(b"".join(digests)).digest()
    return int.from_bytes(whole[-8:], "big", signed=True)


def seen(rows: Iterable[tuple[str, int, int, list[int]]]) -> Seen:
    """Rows of `gateway_sequence` by block and place."""
    return {
        Block(gateway, epoch, block): {entry % BLOCK: entry for entry in there}
        for gateway, epoch, block, there in rows
    }


def known(numbered: Mapping[int, Number], before: Seen) -> set[int]:
    """Messages that came before under their number, also earlier in the batch.

    The same number with another content is another message: a gateway that began anew without raising its epoch must
    lose nothing.
    """
    found: set[int] = set()
    now: set[Number] = set()
    for n, number in numbered.items():
        if number in now or before.get(number.block, {}).get(number.place) == number.entry:
            found.add(n)
        now.add(number)
    return found


def reused(numbered: Iterable[Number], before: Seen) -> list[str]:
    """The gateway of each message whose number brought something else last."""
    last = {(block, place): entry for block, places in before.items() for place, entry in places.items()}
    found = []
    for number in numbered:
        key = number.block, number.place
        if last.get(key, number.entry) != number.entry:
            found.append(number.block.gateway)
        last[key] = number.entry
    return found


def entries(numbered: Iterable[Number]) -> list[Number]:
    """What to keep: one entry a number, of several the last."""
    return list({(number.block, number.place): number for number in numbered}.values())
