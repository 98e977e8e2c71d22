"""One short MQTT connection that asks a broker questions and waits for each answer.

On paho's network thread, without reconnecting; acknowledges only when told. Calls come from one thread.
"""

import threading
from collections.abc import Callable
from typing import Any, Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.mqtt.lost import ADVICE
from ingest.mqtt.tls import tls_context
from ingest.settings import Settings

ANSWER_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 30
WRONG_PASSWORD, NOT_AUTHORIZED = 0x86, 0x87
"""Mosquitto answers a wrong password with the second."""


class UnreachableError(Exception):
    """The broker can't be spoken to; says why, and in `advice` what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


class Probe:
    """A connection under `client_id`; a context manager. Raises `UnreachableError` on entry.

    With `keep` the session outlives it, and one that is there is taken up; else there is none before and
    after. `granted` is what CONNACK said, nothing on MQTT 3.1.1; `messages` what came.
    """

    def __init__(
        self, settings: Settings, client_id: str, *, expiry_seconds: int = 0, keep: bool = False
    ) -> None:
        self.granted: dict[str, Any] = {}
        self.messages: list[MQTTMessage] = []
        self._settings = settings
        self._keep = keep
        self._version_5 = settings.mqtt_version == "5"
        self._expiry_seconds = expiry_seconds
        self._changed = threading.Condition()
        self._connack: ReasonCode | None = None
        self._closed = False
        self._answers: dict[int | None, list[ReasonCode]] = {}
        self._client = self._new_client(client_id)

    def __enter__(self) -> Self:
        host, port = self._settings.mqtt_host_port()
        try:
            if context := tls_context(self._settings):
                self._client.tls_set_context(context)
            self._connect(host, port)
        except (OSError, ValueError) as error:
            advice = "check GANZHI_MQTT_URL, and that the broker runs and the network lets us through"
            raise UnreachableError(str(error) or type(error).__name__, advice) from None
        self._client.loop_start()
        self._wait(lambda: self._connack is not None)
        if self._connack is None or self._connack.is_failure:
            self._client.loop_stop()
            raise self._no_connection()
        return self

    def __exit__(self, *_: object) -> None:
        goodbye = None
        if self._version_5 and not self._keep:
            goodbye = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            goodbye.SessionExpiryInterval = 0
        self._client.disconnect(properties=goodbye)
        self._client.loop_stop()

    def subscribe(self, *filters: str) -> list[ReasonCode]:
        """The broker's answer for each filter, at QoS 1; none when it does not answer."""
        _, packet_id = self._client.subscribe([(name, 1) for name in filters])
        return self._answer(packet_id)

    def publish(self, topic: str, payload: bytes) -> ReasonCode | None:
        """The broker's answer to a message at QoS 1."""
        return next(iter(self._answer(self._client.publish(topic, payload, qos=1).mid)), None)

    def received(self, topic: str, timeout_seconds: float = ANSWER_SECONDS) -> bytes | None:
        """The payload of the first message on a topic, waiting for it."""

        def found() -> bytes | None:
            return next((bytes(m.payload) for m in self.messages if m.topic == topic), None)

        self._wait(lambda: found() is not None, timeout_seconds)
        return found()

    def quiet(self, seconds: float) -> int:
        """How many messages have come, once none came for so long."""
        seen = -1
        while seen < len(self.messages):
            seen = len(self.messages)
            self._wait(lambda: len(self.messages) > seen, seconds)  # noqa: B023  called at once
        return seen

    def drain(self, total: int, seconds: float) -> int:
        """How many messages have come when `total` are there or none came for so long, acknowledging each."""
        done = 0
        while self._wait(lambda: len(self.messages) > done, seconds) and done < total:  # noqa: B023  called at once
            for message in self.messages[done:]:
                self._client.ack(message.mid, message.qos)
                done += 1
        return done

    def _new_client(self, client_id: str) -> Client:
        version = MQTTProtocolVersion.MQTTv5 if self._version_5 else MQTTProtocolVersion.MQTTv311
        client = Client(
            CallbackAPIVersion.VERSION2, client_id, None if self._version_5 else not self._keep,
            protocol=version, reconnect_on_failure=False, manual_ack=True,
        )  # fmt: skip
        client.connect_timeout = ANSWER_SECONDS
        user, password = self._settings.mqtt_credentials()
        if user:
            client.username_pw_set(user, password)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _connect(self, host: str, port: int) -> None:
        if not self._version_5:
            self._client.connect(host, port, KEEP_ALIVE_SECONDS)
            return
        hello = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        hello.SessionExpiryInterval = self._expiry_seconds
        hello.ReceiveMaximum = self._settings.receive_maximum
        self._client.connect(host, port, KEEP_ALIVE_SECONDS, clean_start=not self._keep, properties=hello)

    def _no_connection(self) -> UnreachableError:
        if self._connack is not None:
            code = WRONG_PASSWORD if self._connack.value == NOT_AUTHORIZED else self._connack.value
            return UnreachableError(f"refused: {self._connack}", ADVICE.get(code, ADVICE[0x80]))
        if self._closed:
            advice = "see its log; it may want GANZHI_MQTT_VERSION=3.1.1, or a certificate (GANZHI_MQTT_CERT)"
            return UnreachableError("the broker closes the connection without an answer", advice)
        return UnreachableError(
            f"no CONNACK within {ANSWER_SECONDS:g} s", "is this an MQTT broker? restart it"
        )

    def _answer(self, packet_id: int | None) -> list[ReasonCode]:
        self._wait(lambda: packet_id in self._answers)
        return self._answers.pop(packet_id, [])

    def _wait(self, condition: Callable[[], bool], timeout_seconds: float = ANSWER_SECONDS) -> bool:
        """Whether the condition came about before the time was over, or the connection."""
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._closed, timeout_seconds)
            return condition()

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, said: Properties | None
    ) -> None:
        with self._changed:
            self.granted = said.json() if said else {}  # type: ignore[no-untyped-call]
            self._connack = reason
            self._changed.notify_all()

    def _on_disconnect(
        self,
        _client: Client,
        _data: Any,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _said: Properties | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _on_subscribe(
        self, _client: Client, _data: Any, packet_id: int, reasons: list[ReasonCode], _said: Properties | None
    ) -> None:
        with self._changed:
            self._answers[packet_id] = reasons
            self._changed.notify_all()

    def _on_publish(
        self, _client: Client, _data: Any, packet_id: int, reason: ReasonCode, _said: Properties | None
    ) -> None:
        with self._changed:
            self._answers[packet_id] = [reason]
            self._changed.notify_all()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()
