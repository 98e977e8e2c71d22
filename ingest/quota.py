"""How many rows and bytes of garbage a minute may bring. Pure: the clock is an argument."""

from collections.abc import Callable
from math import inf


class PerMinute:
    """At most `limit` takes in a minute, counted from the first, and none once they have come to so many bytes."""

    def __init__(self, limit: int, clock: Callable[[], float], limit_bytes: float = inf) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._began = float("-inf")
        self._taken = self._taken_bytes = 0

    def take(self, size_bytes: int = 0) -> bool:
        """Whether one more of this size fits into this minute; what does not fit takes nothing."""
        now = self._clock()
        if now - self._began >= 60:
            self._began, self._taken, self._taken_bytes = now, 0, 0
        fits = self._taken < self._limit and self._taken_bytes < self._limit_bytes
        if fits:
            self._taken += 1
            self._taken_bytes += size_bytes
        return fits
