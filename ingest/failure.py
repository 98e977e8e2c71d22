"""The two kinds of failure of a write, named by what to do about them. Pure: SQLSTATEs in, a kind out."""

from enum import Enum, auto

REFUSED_CLASSES = ("22", "54")
"""Data exceptions and program limits (a document too large for jsonb): the same bytes fail again."""
REFUSED_STATES = frozenset({"23502", "23514"})
"""NOT NULL and CHECK violations. 23505 (unique) is a race with another worker, it passes."""


class Failure(Enum):
    """What a failed write means for its batch."""

    UNAVAILABLE = auto()
    """Keep the batch, back off, acknowledge nothing. Also everything unknown."""
    REFUSED = auto()
    """A fault of the data: halve the batch until the bad message is alone, and reject that."""


def classify(sqlstate: str | None, *, data_error: bool) -> Failure:
    """The kind of a database error. `data_error`: the driver itself refused the data, without a server's word."""
    if sqlstate is None:
        return Failure.REFUSED if data_error else Failure.UNAVAILABLE
    if sqlstate.startswith(REFUSED_CLASSES) or sqlstate in REFUSED_STATES:
        return Failure.REFUSED
    return Failure.UNAVAILABLE
