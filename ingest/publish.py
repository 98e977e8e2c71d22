"""Publishing at QoS 1 for simulate and replay: a bounded window, and nothing forgotten.

Built on paho's network thread, which reconnects with backoff and sends again what was not
acknowledged: 9,000 to 13,000 messages/s of 200 bytes to Mosquitto, 75 to 120 us each. What is on its
way lives in this process: it survives the broker, not the publisher.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.mqtt import tls
from ingest.settings import Settings

CONNECT_SECONDS = 10.0
"""How long a broker may take to answer the first CONNECT."""
STALLED_SECONDS = 30.0
"""Without an acknowledgement for this long at the end, the broker counts as out of reach."""
WINDOW = 100
"""Messages unacknowledged at once. Measured on Mosquitto: 20 11,200/s, 100 12,800/s, 500 7,800/s."""
LOOK_SECONDS = 0.2
"""How often a wait looks whether it was told to stop."""
NO_MATCHING_SUBSCRIBERS = 0x10


class BrokerOutOfReachError(ConnectionError):
    """The broker cannot be reached, refuses us or stopped answering; the text says which. Exit code 3."""


class Outgoing(NamedTuple):
    """One message to publish. `readings` is how many it carries, for the count."""

    topic: str
    payload: bytes
    content_type: str | None = None
    readings: int = 0
    retain: bool = False


class Publisher:
    """A connection to the broker of `settings` that publishes at QoS 1; a context manager.

    `published` messages were handed over, `acknowledged` ones the broker confirmed, among them
    `refused` (MQTT 5 reason codes from 0x80, `refusal` names the last) and `unheard` (nobody had
    subscribed). Acknowledgements are counted on paho's thread; publish from one thread only.
    Raises `BrokerOutOfReachError` on entry.
    """

    def __init__(self, settings: Settings, *, name: str, window: int = WINDOW) -> None:
        self._host, self._port = settings.mqtt_host_port()
        self._version_5 = settings.mqtt_version == "5"
        self._window = window
        self._client = _client(settings, f"{settings.client_id}-{name}-{os.getpid()}")
        self._client.max_inflight_messages_set(window)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._changed = threading.Condition()
        self._answer: ReasonCode | None = None
        self.connected = False
        self.published = self.acknowledged = self.refused = self.unheard = self._retained = 0
        self.refusal = ""

    def __enter__(self) -> Self:
        where = f"the broker at {self._host}:{self._port}"
        try:
            self._client.connect(self._host, self._port)
        except (OSError, ValueError) as error:
            self._close()
            raise BrokerOutOfReachError(
                f"{where} cannot be reached: {error}; check GANZHI_MQTT_URL"
            ) from error
        self._client.loop_start()
        with self._changed:
            answered = self._changed.wait_for(lambda: self._answer is not None, CONNECT_SECONDS)
        if not self.connected:
            self._close()
            why = (
                f"refuses the connection: {self._answer}"
                if answered
                else f"is silent for {CONNECT_SECONDS:.0f} s"
            )
            raise BrokerOutOfReachError(f"{where} {why}; check user, password and GANZHI_MQTT_VERSION")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._close()

    def room(self, timeout_seconds: float) -> bool:
        """Whether the window takes another message; waits that long for it."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.published - self.acknowledged < self._window, timeout_seconds
            )

    def publish(self, message: Outgoing) -> None:
        """Hand over a message; it is sent again until acknowledged. Call after `room`."""
        properties = None
        if message.content_type and self._version_5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = message.content_type
        self.published += 1
        self._retained += message.retain
        self._client.publish(
            message.topic, message.payload, qos=1, retain=message.retain, properties=properties
        )

    def wait(self) -> None:
        """Wait until everything is acknowledged.

        Raises `BrokerOutOfReachError` when `STALLED_SECONDS` pass without an acknowledgement.
        """
        while self.published > self.acknowledged:
            if not self._moved(self.acknowledged):
                raise BrokerOutOfReachError(
                    f"{self.published - self.acknowledged} messages are not acknowledged, nothing came for "
                    f"{STALLED_SECONDS:.0f} s; see whether the broker at {self._host}:{self._port} is well"
                )

    def complaints(self) -> list[str]:
        """What the broker had to say about what it acknowledged, a line each."""
        lines = []
        if self.refused:
            lines.append(
                f"{self.refused:,} messages were refused by the broker: {self.refusal}; see its access rules"
            )
        if (unheard := self.unheard - self._retained) > 0:  # what is retained waits for whoever comes
            lines.append(f"{unheard:,} messages had no subscriber and are gone; is the service running?")
        return lines

    def _close(self) -> None:
        """End paho's thread, and let go of our callbacks: a client in a cycle closes its sockets late."""
        self._client.loop_stop()
        self._client.on_connect = self._client.on_disconnect = self._client.on_publish = None

    def _moved(self, acknowledged: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.acknowledged > acknowledged, STALLED_SECONDS)

    def _on_connect(
        self,
        _client: Client,
        _data: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._changed:
            # The broker's own limit, which paho ignores (MQTT 5, section 3.2.2.3.3).
            self._window = min(self._window, getattr(properties, "ReceiveMaximum", self._window))
            self._answer = reason
            self.connected = not reason.is_failure
            self._changed.notify_all()

    def _on_disconnect(
        self,
        _client: Client,
        _data: Any,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.connected = False

    def _on_publish(
        self, _client: Client, _data: Any, _packet_id: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        with self._changed:
            self.acknowledged += 1
            self.unheard += reason.value == NO_MATCHING_SUBSCRIBERS
            if reason.is_failure:
                self.refused += 1
                self.refusal = str(reason)
            self._changed.notify_all()


def _client(settings: Settings, client_id: str) -> Client:
    version = MQTTProtocolVersion.MQTTv5 if settings.mqtt_version == "5" else MQTTProtocolVersion.MQTTv311
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=version)
    client.reconnect_delay_set(min_delay=1, max_delay=30)
    user, password = settings.mqtt_credentials()
    if user:
        client.username_pw_set(user, password)
    if context := tls.tls_context(settings):
        client.tls_set_context(context)
        client.on_pre_connect = lambda _client, _data: tls.reload(
            context, settings
        )  # they may be renewed by then
    return client


def end_session(settings: Settings, client_id: str) -> None:
    """End the durable session of this name: connect with a clean start, and leave. Raises OSError."""
    client = _client(settings, client_id)
    client.connect(*settings.mqtt_host_port())
    client.loop_start()
    deadline = time.monotonic() + CONNECT_SECONDS
    while not client.is_connected() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS / 10)
    client.disconnect()
    client.loop_stop()


def publish_all(
    publisher: Publisher,
    messages: Iterable[Outgoing],
    *,
    stop: threading.Event,
    per_second: float = 0,
    progress: Callable[[Outgoing], object] = lambda _message: None,
) -> None:
    """Publish `messages` at most `per_second` (0: as fast as they are acknowledged) until `stop`, then wait.

    `progress` is called with each message handed over. Raises `BrokerOutOfReachError` like `Publisher.wait`.
    """
    started = time.monotonic()
    for count, message in enumerate(messages):
        if per_second:
            stop.wait(max(0.0, started + count / per_second - time.monotonic()))
        while not stop.is_set() and not publisher.room(LOOK_SECONDS):
            pass
        if stop.is_set():
            break
        publisher.publish(message)
        progress(message)
    publisher.wait()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, once; a second one does what it did before. Main thread only."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def told(_number: int, _frame: object) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, told)
    try:
        yield stop
    finally:
        restore()
