"""A memory for functions of names that senders bring: bounded in number and in bytes."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

NAMES_MAX = 4_096
CHARACTERS_MAX = 128
"""As long as a metric's name may be; one that is longer is refused, and may be as long as a payload: 4 GB of them."""

T = TypeVar("T")


def remembering(function: Callable[[str], T]) -> Callable[[str], T]:
    """The function, which keeps what it answered to the last names that were not too long."""
    remembered = lru_cache(NAMES_MAX)(function)

    @wraps(function)
    def answer(name: str) -> T:
        return remembered(name) if len(name) <= CHARACTERS_MAX else function(name)

    return answer
