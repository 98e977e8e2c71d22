"""A message: one MQTT PUBLISH or one HTTP push, as it arrived."""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.rejection import Refusal


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
    sequence: int | None = None
    """The gateway's number of this message (MQTT 5 user property `seq`), where it has one."""
    epoch: int | None = None
    """Which of the gateway's numberings that is (user property `epoch`), where it says so."""
    refusal: Refusal | None = None
    """Once it is committed: the first reason why none of it could be stored."""


def sequence_of(properties: Iterable[tuple[str, str]], name: str = "seq") -> int | None:
    """The whole number in user property `name`, up to 18 digits; anything else there is no number."""
    said = next((value for key, value in properties if key == name), "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 18 else None
