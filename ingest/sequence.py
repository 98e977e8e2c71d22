"""Holes in the numbering of a source: messages that never came, as opposed to those that we lost. Pure.

Assumes that a source's messages come in order, as one MQTT connection brings them, and all to this worker:
a member of a share group sees its share only, and must not ask. So a number of those that wrap (Sparkplug's)
is ahead by the way forward to it, a hole of 200 of 256 too; only the last few before the expected one are late,
since a broker keeps the order of each topic, not between a node's topics.
"""

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

    def again(self, source: str, number: int) -> None:
        """A message that is redelivered: nothing is missing before it, and what follows it is expected next."""
        step = number - self._expected.get(source, number)
        if (step % self._modulo < self._modulo // 2) if self._modulo else step >= 0:
            self.begin(source, number)

    def missing(self, source: str, number: int) -> int:
        """How many are missing before `number`."""
        step = self.ahead(source, number)
        return step if 0 < step <= HOLE_MAX else 0
