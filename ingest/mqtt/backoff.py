"""How long a connection to the broker waits: for answers, between tries, between looks at its certificates."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a transport waits, in seconds; shorter in tests."""

    answer_seconds: float = 10
    """For TCP, TLS and CONNACK together: some brokers accept and then never answer."""
    keep_alive_seconds: int = 30
    """Never 0: a half-open connection would never be noticed."""
    first_retry_seconds: float = 0.2
    longest_retry_seconds: float = 15
    """With the wait for an answer below the 30 s in which a reading is to be visible once the broker is back."""
    taken_over_seconds: float = 5
    """Two clients of one name throw each other out; without a pause they do nothing else."""
    goodbye_seconds: float = 2
    """For the broker to close after DISCONNECT."""
    look_seconds: float = 60
    """Between looks whether the files of our certificates changed: they are renewed days before they end."""


class Backoff:
    """Pauses between tries: full jitter below a ceiling that doubles."""

    def __init__(self, patience: Patience) -> None:
        self._first = patience.first_retry_seconds
        self._longest = patience.longest_retry_seconds
        self.ceiling_seconds = self._first

    def worked(self, seconds: float) -> None:
        """After a connection of so many seconds: begin anew when it lasted longer than the next pause may.

        One that breaks now and then is made again at once; of two clients under one name the one with the longer
        pauses never gets there, so that they do not loop.
        """
        if seconds > self.ceiling_seconds:
            self.ceiling_seconds = self._first

    def pause_seconds(self) -> float:
        """The next pause."""
        pause = random.uniform(0, self.ceiling_seconds)  # noqa: S311  spreads clients out, keeps no secret
        self.ceiling_seconds = min(self._longest, 2 * self.ceiling_seconds)
        return pause
