"""What passes between the broker and a worker: each acknowledgement belongs to a delivery, in order of arrival.

MQTT 5, section 4.6: PUBACK in the order of the PUBLISH packets. Knows as much of MQTT as that takes, the same in 3.1.1
and 5: the fixed header (2.1), and where PUBLISH and PUBACK have their packet id (3.3.2, 3.4.2).
"""

from collections import deque
from collections.abc import Callable, Iterator

PUBLISH, PUBACK = 0x30, 0x40
DUPLICATE, QOS = 0x08, 0x06
NAMED = 10
"""Faults that are kept in words."""


class Deliveries:
    """Of all connections to the broker through a proxy: what was delivered again, and what is wrong."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.acknowledged = 0
        self.repeated = 0
        """Delivered with DUP."""
        self.connections = 0

    def watch(self) -> Callable[[str, bytes], None]:
        """For one connection; see `tests.proxy.Proxy`."""
        self.connections += 1
        streams = {"server": bytearray(), "client": bytearray()}
        waiting: deque[int] = deque()

        def note(sender: str, data: bytes) -> None:
            stream = streams[sender]
            stream += data
            for first, body in packets(stream):
                if sender == "server" and first & 0xF0 == PUBLISH and first & QOS:
                    self.repeated += bool(first & DUPLICATE)
                    waiting.append(_packet_id(body, 2 + int.from_bytes(body[:2], "big")))
                elif sender == "client" and first & 0xF0 == PUBACK:
                    self._take(_packet_id(body, 0), waiting)

        return note

    def _take(self, packet_id: int, waiting: deque[int]) -> None:
        self.acknowledged += 1
        expected = waiting.popleft() if waiting else None
        if packet_id != expected and len(self.faults) < NAMED:
            self.faults.append(f"acknowledgement of message {packet_id}, expected is that of {expected}")


def packets(stream: bytearray) -> Iterator[tuple[int, bytes]]:
    """First byte and body of each packet that is there as a whole; takes them off the stream."""
    at = 0
    while (end := _end(stream, at)) is not None:
        begin, until = end
        yield stream[at], bytes(stream[begin:until])
        at = until
    del stream[:at]


def _end(stream: bytearray, at: int) -> tuple[int, int] | None:
    """Where the body of the packet begins and ends; None while it is not all there."""
    length = 0
    for place, byte in enumerate(stream[at + 1 : at + 5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            begin = at + 2 + place
            return (begin, begin + length) if begin + length <= len(stream) else None
    return None


def _packet_id(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 2], "big")
