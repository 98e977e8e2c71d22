"""MQTT 5 on the Rust codec `mqtt5`: the transport of the telemetry stream.

Assumes a broker without QoS 2 for us: we subscribe at 1. A connection is a `Link`.
"""

import asyncio
from functools import partial

import mqtt5
import numpy as np

from ingest.mqtt import tls
from ingest.mqtt.link import Link, in_words
from ingest.mqtt.lost import ADVICE, BrokerLostError
from ingest.mqtt.subscriber import Subscriber

PUBACK = 0x4002
"""PUBACK, two bytes to follow: without a reason code it means success (MQTT 5, section 3.4.2.1)."""


class CodecTransport(Subscriber):
    """MQTT 5 with an explicit Receive Maximum; see `Transport`."""

    _link: Link | None = None

    async def _connect(self) -> None:
        self._link = link = Link(self._inbox, self._clock)  # messages come in one read with CONNACK
        try:
            connack = await self._shake_hands(link)
            self._greeted(session_present=connack.session_present, certificate=link.peer)
            link.watch((connack.server_keep_alive or self._patience.keep_alive_seconds) / 2)
            if self._leaving_for_good:
                await link.unsubscribe(self._filters)
                self.connected = True
            else:
                await self._subscribe(partial(link.subscribe, retained=self._retained), link.over)
            await asyncio.wait([link.over])
            link.over.result()
        finally:
            self._link = None
            await link.close(self._patience.goodbye_seconds)

    async def _shake_hands(self, link: Link) -> mqtt5.ConnAckPacket:
        host, port = self._settings.mqtt_host_port()
        try:
            async with asyncio.timeout(self._patience.answer_seconds):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: link, host, port, ssl=tls.tls_context(self._settings))
                link.send(self._hello())
                connack = await link.first(link.connack)
        except TimeoutError:
            raise BrokerLostError(
                f"no CONNACK within {self._patience.answer_seconds} s",
                "is this an MQTT broker, and is it healthy? Restart it if it accepts and never answers",
                event="broker_unreachable",
            ) from None
        if (code := connack.reason_code.value) >= 0x80:
            advice = ADVICE.get(code, ADVICE[0x80])
            raise BrokerLostError(in_words("CONNACK", connack), advice, event="broker_refused")
        return connack

    def _hello(self) -> bytes:
        user, password = self._settings.mqtt_credentials()
        return mqtt5.ConnectPacket(
            self._client_id,
            username=user,
            password=None if password is None else password.encode(),
            clean_start=False,
            keep_alive=self._patience.keep_alive_seconds,
            session_expiry_interval=int(self._settings.session_hours * 3600),
            receive_max=self._settings.receive_maximum,
            topic_alias_max=0,
        ).write()

    def _send_acknowledgements(self, packet_ids: list[int]) -> None:
        if self._link:
            pubacks = np.full((len(packet_ids), 2), PUBACK, ">u2")
            pubacks[:, 1] = packet_ids
            self._link.send(pubacks.tobytes())

    def publish(self, topic: str, payload: bytes) -> None:
        if self._link and self._link.connack.done():
            self._link.send(mqtt5.PublishPacket(topic, payload).write())

    async def _ping(self) -> None:
        if self._link:
            await self._link.ping()

    def _pause(self) -> bool:
        if not self._link or not self._link.connack.done():
            return False
        self._link.pause()
        return True

    def _resume(self) -> None:
        if self._link:
            self._link.resume()
