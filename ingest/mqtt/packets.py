"""The bytes of a connection as MQTT 5 packets: PUBLISH as messages, all others to whom they concern.

No I/O. A read is parsed in one loop, and a payload copied once, out of the buffer. Assumes that the broker sends no
topic aliases and no QoS 2: we announce none and subscribe at 1.
"""

from collections.abc import Callable

import mqtt5

from schemas.message import Message, sequence_of

READ_BYTES = 256 * 1024
"""Read at once, at most: as uvloop does by itself."""
Control = Callable[[mqtt5.Packet], None]


class Packets:
    """What a connection brought and is not yet a packet."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buffer = bytearray(READ_BYTES)
        self._filled_bytes = 0
        """So much of the buffer begins a packet."""
        self._needed_bytes = 0
        """So much of it is to be there before it is looked at again."""

    def space(self) -> memoryview:
        """Where the next bytes go; what is full is for a large packet, and grows as that comes."""
        if self._filled_bytes == len(self._buffer):
            self._buffer = self._buffer + bytes(len(self._buffer))  # views of the old one may be about
        return memoryview(self._buffer)[self._filled_bytes :]

    def read(self, nbytes: int, connection: int, control: Control) -> list[Message]:
        """The messages that are whole with so many bytes more in `space`; `control` is called with other packets.

        Raises what the codec raises at bytes that are no packet, panics outside Exception too.
        """
        self._filled_bytes += nbytes
        if self._filled_bytes < self._needed_bytes:
            return []
        messages, read_bytes = self._parse(
            memoryview(self._buffer)[: self._filled_bytes], connection, control
        )
        self._keep(self._buffer[read_bytes : self._filled_bytes])
        return messages

    def _parse(self, data: memoryview, connection: int, control: Control) -> tuple[list[Message], int]:
        """The messages among the whole packets, and how many bytes all of them were."""
        read, publish = mqtt5.read, mqtt5.PublishPacket
        now = self._clock()
        messages: list[Message] = []
        at, end = 0, len(data)
        while at < end:
            try:
                packet, size = read(data[at:])
            except IndexError:
                break
            at += size
            if type(packet) is publish:
                message = Message(
                    packet.topic,
                    packet.payload,
                    now,
                    packet.content_type,
                    packet.packet_id,
                    packet.duplicate,
                    packet.retain,
                    connection,
                )
                if properties := packet.user_properties:
                    message.sequence = sequence_of(properties)
                    message.epoch = sequence_of(properties, "epoch")
                messages.append(message)
            else:
                control(packet)
        return messages, at

    def _keep(self, rest: bytearray) -> None:
        """Let what is read go; the rest begins the next packet."""
        if len(self._buffer) > READ_BYTES >= len(rest):
            self._buffer = bytearray(READ_BYTES)
        self._filled_bytes = len(rest)
        self._buffer[: len(rest)] = rest
        self._needed_bytes = _packet_bytes(rest)


def _packet_bytes(start: bytearray) -> int:
    """Length of the packet that begins here, as far as its fixed header says (MQTT 5, section 2.1.4)."""
    length = 0
    for place, byte in enumerate(start[1:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return 2 + place + length
    return len(start) + 1
