"""What the pipeline asks of a broker connection.

The broker is the buffer: what was not acknowledged on a connection comes again on the next.
"""

from collections.abc import Sequence
from typing import Protocol, Self

from schemas.message import Message


class Transport(Protocol):
    """A subscription that outlives its connections. Enter to start, leave to stop; the session stays."""

    connected: bool
    """The broker is connected and has granted every subscription."""
    sessions_lost: int
    """How often the broker had no session for us although we had one before."""
    had_session: bool
    """Whether the broker should have our session. Set it before entering, where an earlier process had one."""

    certificate_end: float | None
    """When the certificate ends that the broker showed last, Unix seconds; None without TLS."""

    async def __aenter__(self) -> Self:
        """Start connecting in the background; returns at once."""

    async def __aexit__(self, *_: object) -> None:
        """Disconnect, keeping session and subscriptions."""

    async def receive(self, limit: int) -> list[Message]:
        """Wait for at least one message, return up to `limit`, each sender's in arrival order; none once stopped."""

    def waiting_since(self) -> float | None:
        """Arrival of the oldest message that `receive` has not returned; None without any."""

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """These are committed, in any order. Every message received has to come back here, QoS 0 ones too.

        PUBACKs go out in order of arrival: each once everything before it is committed too.
        Messages of an earlier connection are not acknowledged, the broker sends them again.
        """

    def publish(self, topic: str, payload: bytes) -> None:
        """Send at QoS 0, not retained; nothing while the broker is away.

        For Sparkplug commands and `rejected`, nothing else.
        """

    async def round_trip(self, seconds: float) -> bool:
        """Whether the broker answers a ping within so many seconds."""

    def stop_receiving(self) -> None:
        """Read nothing more from the broker; acknowledgements still go out. Not to be undone."""
