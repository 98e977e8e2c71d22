"""Holes in the numbering of a source: messages that never came, as opposed to those that we lost. Pure.

Assumes that a source's messages come in order, as one MQTT connection brings them, and all to this worker:
a member of a share group sees its share only, and must not ask.
"""

SOURCES_MAX = 100_000
"""Sources remembered; what is forgotten begins anew."""
HOLE_MAX = 100_000
"""A wider jump is a source that numbers in another way, not a hole."""


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
        """How far `number` is ahead of what was expected: so many are missing; below 0 it began anew."""
        step = number - self._expected.get(source, number)
        self.begin(source, number)
        half = self._modulo // 2
        return (step + half) % self._modulo - half if self._modulo else step

    def missing(self, source: str, number: int) -> int:
        """How many are missing before `number`."""
        step = self.ahead(source, number)
        return step if 0 < step <= HOLE_MAX else 0
