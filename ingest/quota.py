"""How many rows of garbage a minute may bring. Pure: the clock is an argument."""

from collections.abc import Callable


class PerMinute:
    """At most `limit` takes in a minute, counted from the first."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._began = float("-inf")
        self._taken = 0

    def take(self) -> bool:
        """Whether one more fits into this minute."""
        now = self._clock()
        if now - self._began >= 60:
            self._began, self._taken = now, 0
        self._taken += 1
        return self._taken <= self._limit
