"""MQTT 3.1.1 on aiomqtt and paho, for brokers that speak no MQTT 5. Rate is not its job.

What 3.1.1 lacks: a Receive Maximum (the broker's own limit rules), a session expiry (the broker's), Retain
Handling (retained messages come again with every connect), the content type and the reason of a goodbye.
aiomqtt hides what is needed here, so paho's client inside it is used: assumes aiomqtt 2.5 on paho 2.
"""

# ruff: noqa: SLF001  aiomqtt has no public way to acknowledge by hand, and none to pause

import asyncio
import contextlib
import math
import os
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.mqtt import tls
from ingest.mqtt.lost import ADVICE, CLOSED_ADVICE, BrokerLostError
from ingest.mqtt.subscriber import Subscriber
from schemas.message import Message


class _TlsSocket(ssl.SSLSocket):
    """Closes when the handshake fails; paho leaves it open, one more with every try."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


class PahoTransport(Subscriber):
    """MQTT 3.1.1 with manual acknowledgement; see `Transport`."""

    _client: aiomqtt.Client | None = None
    _session_present = False
    _leaving = False
    _paused: asyncio.Task[None] | None = None
    _unanswered = 0
    """Pings without an answer yet; one that was sent while paused is answered by bytes that nobody has read."""

    async def _connect(self) -> None:
        self._client = client = self._new_client()  # messages come in one read with CONNACK
        self._leaving = False
        try:
            await _enter(client)
            sock = client._client.socket()
            peer = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
            self._greeted(session_present=self._session_present, certificate=peer)
            await self._stay(client)
        except MqttConnectError as error:
            raise _refused(error) from None
        except aiomqtt.MqttError as error:
            event = "broker_lost" if client._connected.done() else "broker_unreachable"
            advice = tls.ADVICE if self._settings.mqtt_tls else ""
            raise BrokerLostError(str(error), advice, event=event) from None
        finally:
            self._client = None
            self._end_pause()
            client._client._sock_close()  # aiomqtt leaves it open when no CONNACK came

    async def _stay(self, client: aiomqtt.Client) -> None:
        try:
            if self._leaving_for_good:
                for name in self._filters:
                    await client.unsubscribe(name)
                self.connected = True
            else:
                await self._subscribe(lambda filters: _subscribe(client, filters), client._disconnected)
            await asyncio.wait([client._disconnected])
        except asyncio.CancelledError:
            await self._say_goodbye(client)
            raise
        raise BrokerLostError(str(client._disconnected.exception()), CLOSED_ADVICE)

    async def _say_goodbye(self, client: aiomqtt.Client) -> None:
        """Disconnect once the broker has read our acknowledgements: it answers a ping sent behind them.

        paho closes with unread bytes, which resets TCP and takes along what the broker has not read.
        """
        self._leaving = True
        self._resume()
        with contextlib.suppress(TimeoutError, BrokerLostError):
            async with asyncio.timeout(self._patience.goodbye_seconds):
                await self._ping()
        await client.__aexit__(None, None, None)

    def publish(self, topic: str, payload: bytes) -> None:
        if self._client and self._client._connected.done():
            self._client._client.publish(topic, payload)

    async def _ping(self) -> None:
        if (client := self._client) is None:
            return
        client._client._send_pingreq()
        while self._unanswered:  # the last answer is that to the last ping; paho tells nobody when it comes
            if client._disconnected.done():
                raise BrokerLostError("the connection ended before the answer to a ping")
            await asyncio.sleep(0.01)

    def _new_client(self) -> aiomqtt.Client:
        host, port = self._settings.mqtt_host_port()
        user, password = self._settings.mqtt_credentials()
        if context := tls.tls_context(self._settings):
            context.sslsocket_class = _TlsSocket
        client = aiomqtt.Client(
            host,
            port,
            username=user,
            password=password,
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=False,
            keepalive=self._patience.keep_alive_seconds,
            timeout=self._patience.answer_seconds,
            tls_context=context,
        )
        client._disconnected.add_done_callback(asyncio.Future.exception)  # nobody may read it when we leave
        client._client.manual_ack_set(on=True)
        client._client.on_message = self._arrived  # aiomqtt's Message has no DUP, and its queue a limit
        client._client.on_connect = self._connack_of(client)
        self._count_pings(client._client)
        _see_errors(client._client)
        return client

    def _count_pings(self, client: paho.Client) -> None:
        """Count what paho keeps one mark for."""
        send, answered = client._send_pingreq, client._handle_pingresp
        self._unanswered = 0

        def count_ping() -> MQTTErrorCode:
            self._unanswered += 1
            return send()

        def count_answer() -> MQTTErrorCode:
            self._unanswered -= 1
            return answered()

        client._send_pingreq, client._handle_pingresp = count_ping, count_answer  # type: ignore[method-assign]

    def _connack_of(self, client: aiomqtt.Client) -> paho.CallbackOnConnect_v2:
        def on_connect(
            inner: paho.Client,
            userdata: object,
            flags: paho.ConnectFlags,
            reason: ReasonCode,
            properties: Properties | None,
        ) -> None:
            self._session_present = flags.session_present  # aiomqtt drops it
            client._on_connect(inner, userdata, flags, reason, properties)

        return on_connect

    def _arrived(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        if self._leaving:
            return
        self._inbox.put([
            Message(
                topic=message.topic,
                payload=bytes(message.payload),
                received_at=self._clock(),
                packet_id=message.mid if message.qos else None,
                duplicate=message.dup,
                retain=message.retain,
                connection=self._inbox.connection,
            )
        ])  # fmt: skip
        if self._inbox.full:
            self._pause()

    def _send_acknowledgements(self, packet_ids: list[int]) -> None:
        if self._client:
            for packet_id in packet_ids:
                self._client._client.ack(packet_id, 1)

    def _pause(self) -> bool:
        client = self._client
        if not client or not client._connected.done():
            return False
        if not self._paused and (sock := client._client.socket()):
            client._on_socket_close(client._client, None, sock)  # reads no more, and judges no silence
            seconds = self._patience.keep_alive_seconds / 2
            self._paused = asyncio.create_task(_keep_alive(client._client, seconds), name="mqtt keep-alive")
        return True

    def _resume(self) -> None:
        client = self._client
        if self._end_pause() and client and (sock := client._client.socket()):
            client._on_socket_open(client._client, None, sock)

    def _end_pause(self) -> bool:
        paused, self._paused = self._paused, None
        if paused:
            paused.cancel()
        return paused is not None


async def _enter(client: aiomqtt.Client) -> None:
    """Connect and await CONNACK; when cancelled, wait for aiomqtt's thread, or its socket would stay open."""
    entering = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        client.timeout = 0  # for CONNACK
        await asyncio.wait([entering])
        entering.exception()
        raise


async def _subscribe(client: aiomqtt.Client, filters: list[str]) -> Iterable[int]:
    """SUBSCRIBE at QoS 1; without a time limit, as messages come first and reading may be paused."""
    sending = asyncio.ensure_future(client.subscribe([(name, 1) for name in filters], timeout=math.inf))
    try:
        either: tuple[asyncio.Future[Any], ...] = (sending, client._disconnected)
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            client._disconnected.result()
        return [code if isinstance(code, int) else code.value for code in await sending]
    finally:
        sending.cancel()


def _see_errors(client: paho.Client) -> None:
    """See with the first read that the connection was reset, also when packets wait before the reset.

    uvloop 0.23 calls the reader once for a reset and never again, and paho reads one packet: without this
    only the keep-alive would notice, 60 s later.
    """
    read = client.loop_read

    def read_and_look(max_packets: int = 1) -> MQTTErrorCode:
        answer, sock = read(max_packets), client.socket()
        if isinstance(sock, socket.socket) and (error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            raise OSError(error, os.strerror(error))
        return answer

    client.loop_read = read_and_look  # type: ignore[method-assign]


async def _keep_alive(client: paho.Client, seconds: float) -> None:
    """Ping while nothing is read; paho must not take the unread answer for a dead broker."""
    while True:
        client._send_pingreq()
        client._ping_t = 0
        await asyncio.sleep(seconds)


def _refused(error: MqttConnectError) -> BrokerLostError:
    code = error.rc.value if isinstance(error.rc, ReasonCode) else error.rc or 0
    return BrokerLostError(f"CONNACK {error}", ADVICE.get(code, ADVICE[0x80]), event="broker_refused")
