"""A message: one MQTT PUBLISH or one HTTP push, as it arrived."""

from dataclasses import dataclass


@dataclass(slots=True)
class Message:
    """What came, when, and what is needed to acknowledge it.

    `connection` numbers the transport's connections: packet ids are reused, so an
    acknowledgement belongs to the connection its message came on (MQTT 5, section 2.2.1).
    """

    topic: str
    payload: bytes
    received_at: float
    """Arrival at the service, Unix seconds."""
    content_type: str | None = None
    packet_id: int | None = None
    """None for QoS 0 and for HTTP pushes."""
    duplicate: bool = False
    """The DUP flag: the broker sends it again under the packet id it first came with."""
    retain: bool = False
    connection: int = 0
