"""One MQTT 5 connection: bytes in, messages into the inbox; packets out.

An asyncio protocol without a task, a queue or a callback per message. Knows when the connection is over and why;
who connects again is the transport.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, TypeVar, cast

import mqtt5

from ingest.mqtt import tls
from ingest.mqtt.inbox import Inbox
from ingest.mqtt.lost import ADVICE, CLOSED_ADVICE, BrokerLostError
from ingest.mqtt.packets import Packets

PINGREQ = mqtt5.PingReqPacket().write()
SILENT_TICKS = 3
"""Half keep-alives without a byte from the broker after which it is dead: 1.5 keep-alives."""
T = TypeVar("T")


class Link(asyncio.BufferedProtocol):
    """A connection from its making to its end. Raises `BrokerLostError` through `over`."""

    def __init__(self, inbox: Inbox, clock: Callable[[], float]) -> None:
        loop = asyncio.get_running_loop()
        self.connack: asyncio.Future[mqtt5.ConnAckPacket] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        """Raises `BrokerLostError` once the connection is of no more use."""
        self.over.add_done_callback(asyncio.Future.exception)  # nobody may read it any more when we leave
        self._closed: asyncio.Future[None] = loop.create_future()
        self._suback: asyncio.Future[list[mqtt5.SubAckReasonCode]] = loop.create_future()
        self._unsuback: asyncio.Future[None] = loop.create_future()
        self._pong: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._inbox = inbox
        self._packets = Packets(clock)
        self._subscribe_id = 0
        self._paused = False
        self._leaving = False
        self._silent_ticks = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> dict[str, Any] | None:
        """The certificate that the broker showed, None without TLS."""
        return self._transport.get_extra_info("peercert") if self._transport else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f"the connection broke: {exc}" if exc else "the broker closed the connection"
        self._end(BrokerLostError(reason, tls.ADVICE if isinstance(exc, ssl.SSLError) else CLOSED_ADVICE))
        if self._timer:
            self._timer.cancel()
        self._closed.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  of the protocol
        """Where the next bytes go."""
        return self._packets.space()

    def buffer_updated(self, nbytes: int) -> None:
        """So many more bytes are in the buffer."""
        self._silent_ticks = 0
        if self._leaving or self.over.done():
            return
        try:
            if messages := self._packets.read(nbytes, self._inbox.connection, self._control):
                self._inbox.put(messages)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  the codec panics, outside Exception, at text not UTF-8
            self._fail(f"malformed packet from the broker: {error}")
        if self._inbox.full:
            self.pause()

    def _control(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.ConnAckPacket() if not self.connack.done():
                self.connack.set_result(packet)
            case mqtt5.SubAckPacket() if packet.packet_id == self._subscribe_id and not self._suback.done():
                self._suback.set_result(packet.reason_codes)
            case mqtt5.UnsubAckPacket() if (
                packet.packet_id == self._subscribe_id and not self._unsuback.done()
            ):
                self._unsuback.set_result(None)
            case mqtt5.PingRespPacket():
                if not self._pong.done():
                    self._pong.set_result(None)
            case mqtt5.DisconnectPacket():
                self._dismissed(packet)
            case _:
                self._fail(f"unexpected {type(packet).__name__} from the broker")

    def _dismissed(self, packet: mqtt5.DisconnectPacket) -> None:
        reason = in_words("DISCONNECT", packet)
        if packet.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER:
            advice = "another client connects under this name: give each worker its own GANZHI_CLIENT_ID"
            self._end(BrokerLostError(reason, advice, taken_over=True))
        else:
            self._end(BrokerLostError(reason, ADVICE.get(packet.reason_code.value, "")))

    def _fail(self, reason: str) -> None:
        self._end(BrokerLostError(reason, "look at the broker: what it sent is not MQTT 5"))

    def _end(self, lost: BrokerLostError) -> None:
        if not self.over.done():
            self.over.set_exception(lost)

    async def first(self, answer: asyncio.Future[T]) -> T:
        """The broker's answer; raises `BrokerLostError` when the connection ends before it."""
        either: tuple[asyncio.Future[Any], ...] = (answer, self.over)
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self.over.result()
        return answer.result()

    async def subscribe(self, filters: list[str], *, retained: bool) -> list[int]:
        """SUBSCRIBE at QoS 1, with retained messages or without; the reason code of each filter.

        Without a time limit: messages come first after a resume, and reading may be paused.
        """
        self._subscribe_id = self._subscribe_id % 0xFFFF + 1
        self._suback = asyncio.get_running_loop().create_future()
        handling = mqtt5.RetainHandling.SEND_ALWAYS if retained else mqtt5.RetainHandling.SEND_NEVER
        wanted = [
            mqtt5.TopicFilter(
                name,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_as_published=False,
                retain_handling=handling,
            )
            for name in filters
        ]
        self.send(mqtt5.SubscribePacket(self._subscribe_id, wanted).write())
        return [code.value for code in await self.first(self._suback)]

    async def unsubscribe(self, filters: list[str]) -> None:
        """UNSUBSCRIBE; a filter that was not subscribed is no fault."""
        self._subscribe_id = self._subscribe_id % 0xFFFF + 1
        self.send(mqtt5.UnsubscribePacket(self._subscribe_id, filters).write())
        await self.first(self._unsuback)

    async def ping(self) -> None:
        """Return with the next PINGRESP; at once while reading is paused, when none could be seen."""
        if self._paused:
            return
        if self._pong.done():
            self._pong = asyncio.get_running_loop().create_future()
        self.send(PINGREQ)
        await self.first(self._pong)

    def send(self, data: bytes) -> None:
        """Write, unless the connection is over: then the acknowledgement belongs to the next delivery."""
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def watch(self, tick_seconds: float) -> None:
        """From now on ping every tick, and end the connection after `SILENT_TICKS` without a byte.

        Pinging also when messages flow spares the question whether the broker heard from us. Ticks are
        counted, not seconds: a process that was stopped does not blame the broker.
        """
        self._timer = asyncio.get_running_loop().call_later(tick_seconds, self.watch, tick_seconds)
        if self._silent_ticks >= SILENT_TICKS:
            self._end(BrokerLostError(f"nothing from the broker for {SILENT_TICKS * tick_seconds} s"))
        if not self._paused:
            self._silent_ticks += 1
        self.send(PINGREQ)

    def pause(self) -> None:
        """Leave what comes in the socket, so that the broker waits."""
        if self._transport and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on; the broker's silence counts from now."""
        if self._transport and self._paused:
            self._paused = False
            self._silent_ticks = 0
            self._transport.resume_reading()

    async def close(self, goodbye_seconds: float) -> None:
        """DISCONNECT if there is anybody to hear it, wait for the broker to close, else close."""
        if not self._transport:
            return
        if self.connack.done() and not self.over.done():
            self._leaving = True
            self.send(mqtt5.DisconnectPacket().write())
            # Closing with unread bytes resets TCP, and takes unsent acknowledgements along: read them off.
            self.resume()
            await asyncio.wait([self._closed], timeout=goodbye_seconds)
        self._transport.abort()
        await self._closed


def in_words(kind: str, packet: mqtt5.ConnAckPacket | mqtt5.DisconnectPacket) -> str:
    """The packet's reason in words; the codec's enumerations are no ints, whatever its stub says."""
    code = packet.reason_code
    return f"{kind} 0x{code.value:02X} {code.name.lower()} {packet.reason_str or ''}".rstrip()
