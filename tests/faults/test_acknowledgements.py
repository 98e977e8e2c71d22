"""What the judgement knows of acknowledgements: their order, whatever pieces they come in."""

import mqtt5
import pytest

from tests.faults.acknowledgements import Deliveries


def _publish(packet_id: int, *, duplicate: bool = False, payload: bytes = b"x" * 200) -> bytes:
    packet = mqtt5.PublishPacket("a/b", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id,
                                 duplicate=duplicate)  # fmt: skip
    return packet.write()


DELIVERED = (
    mqtt5.ConnAckPacket().write()
    + _publish(1)
    + mqtt5.PublishPacket("a/b", b"of QoS 0").write()
    + mqtt5.PingRespPacket().write()
    + _publish(2, duplicate=True, payload=b"x" * 20_000)
    + _publish(3)
)


@pytest.mark.parametrize(
    ("acknowledged", "faults"),
    [
        ([1, 2, 3], []),
        ([1], []),
        ([2, 1], ["acknowledgement of message 2, expected is that of 1",
                  "acknowledgement of message 1, expected is that of 2"]),
        ([1, 1], ["acknowledgement of message 1, expected is that of 2"]),
        ([1, 2, 3, 4], ["acknowledgement of message 4, expected is that of None"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("piece_bytes", [1, 100, 100_000])
def test_order(acknowledged: list[int], faults: list[str], piece_bytes: int) -> None:
    """An acknowledgement out of order, repeated or of nothing is told; QoS 0 needs none."""
    deliveries = Deliveries()
    note = deliveries.watch()
    sent = mqtt5.PingReqPacket().write() + b"".join(mqtt5.PubAckPacket(n).write() for n in acknowledged)
    for sender, stream in (("server", DELIVERED), ("client", sent)):
        for begin in range(0, len(stream), piece_bytes):
            note(sender, stream[begin : begin + piece_bytes])
    assert deliveries.faults == faults
    assert (deliveries.repeated, deliveries.acknowledged) == (1, len(acknowledged))
