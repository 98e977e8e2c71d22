"""A gateway that publishes at QoS 1, MQTT 5 on a plain socket: no client of ours is tested against itself."""

import itertools
import socket
from typing import Self

import mqtt5

NUMBERS = itertools.count(1)
WINDOW = 500
"""Messages on their way at once."""


class Gateway:
    """A connected publisher; a context manager. `properties` are those of `mqtt5.PublishPacket`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._rest = b""
        self._packet_id = 0
        self._unacknowledged = 0
        self._socket.sendall(
            mqtt5.ConnectPacket(f"gateway-{next(NUMBERS)}", clean_start=True, keep_alive=600).write()
        )
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def publish(self, topic: str, *payloads: bytes, **properties: object) -> None:
        """Publish each payload and wait until the broker has taken all."""
        for payload in payloads:
            self._packet_id = self._packet_id % 0xFFFF + 1
            packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._packet_id,
                                         **properties)  # fmt: skip
            self._socket.sendall(packet.write())
            self._unacknowledged += 1
            if self._unacknowledged >= WINDOW:
                self._wait()
        self._wait()

    def _wait(self) -> None:
        while self._unacknowledged:
            packet = self._read()
            assert isinstance(packet, mqtt5.PubAckPacket), packet
            assert packet.reason_code.value < 0x10, f"the broker did not take a message: {packet.reason_code}"
            self._unacknowledged -= 1

    def _read(self) -> mqtt5.Packet:
        while True:
            try:
                packet, size = mqtt5.read(memoryview(self._rest))
            except IndexError:
                more = self._socket.recv(65_536)
                assert more, "the broker closed the publisher's connection"
                self._rest += more
            else:
                self._rest = self._rest[size:]
                return packet
