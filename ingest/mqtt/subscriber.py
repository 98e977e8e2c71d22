"""What both transports do alike: the life of a subscription around its connections.

Connecting again for ever, subscribing anew on every connect, the messages waiting to be handed out, and the limit on
what is unacknowledged. Assumes one event loop and one reader of `receive`; knows no MQTT library.
"""

import asyncio
import math
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import structlog

from ingest.certificate import CertificateError, Stamp
from ingest.mqtt import tls
from ingest.mqtt.backoff import Backoff, Patience
from ingest.mqtt.inbox import Inbox
from ingest.mqtt.lost import ADVICE, BrokerLostError
from ingest.settings import Settings
from schemas.message import Message
from schemas.topic import shared

PATIENCE = Patience()


class RenewedError(Exception):
    """The connection was left because its certificates were renewed."""


class Subscriber(ABC):
    """The life of a transport around its connections; the two transports add how one connection goes."""

    def __init__(
        self,
        settings: Settings,
        filters: Sequence[str],
        client_id: str,
        clock: Callable[[], float] = time.time,
        patience: Patience = PATIENCE,
        *,
        leaving: bool = False,
        retained: bool = False,
        sender: Callable[[str], str] = str,
    ) -> None:
        """`leaving`: unsubscribe instead, to empty the session of a worker that will not come back.

        `retained`: ask for retained messages with every connect; MQTT 3.1.1 brings them always.
        `sender`: whose messages a topic holds; senders are served by turns, the order of each is kept.
        """
        self.connected = False
        self.sessions_lost = 0
        self.had_session = False
        self.certificate_end: float | None = None
        self._settings = settings
        self._filters = [
            shared(name, settings.share_group) if settings.share_group else name for name in filters
        ]
        self._client_id = client_id
        self._leaving_for_good = leaving
        self._retained = retained
        self._clock = clock
        self._patience = patience
        self._inbox = Inbox(sender=sender)
        self._greeted_at = math.inf
        """On the loop's clock; infinite until the broker took us in."""
        self._log = structlog.get_logger().bind(client_id=client_id)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._stay_connected(), name=f"mqtt {self._client_id}")
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def receive(self, limit: int) -> list[Message]:
        return await self._inbox.take(limit)

    def waiting_since(self) -> float | None:
        return self._inbox.waiting_since()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        if ids := self._inbox.finish(messages):
            self._send_acknowledgements(ids)
        if self._inbox.slack and not self._inbox.closed:
            self._resume()

    async def round_trip(self, seconds: float) -> bool:
        if not self.connected:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._ping()
        except (TimeoutError, BrokerLostError):
            return False
        return True

    def stop_receiving(self) -> None:
        self._inbox.close()
        if not self._pause():
            self._task.cancel()

    @abstractmethod
    async def _connect(self) -> None:
        """Connect, subscribe and stay until the connection is over; raises `BrokerLostError` or OSError."""

    @abstractmethod
    def _send_acknowledgements(self, packet_ids: list[int]) -> None:
        """Send a PUBACK for each, in order, on the current connection if there is one."""

    @abstractmethod
    def publish(self, topic: str, payload: bytes) -> None:
        """See `Transport`."""

    @abstractmethod
    async def _ping(self) -> None:
        """Return when the broker answered a ping; raises `BrokerLostError`."""

    @abstractmethod
    def _pause(self) -> bool:
        """Stop reading the socket; False when there is no connection."""

    @abstractmethod
    def _resume(self) -> None:
        """Read the socket again, if it was paused."""

    async def _stay_connected(self) -> None:
        backoff = Backoff(self._patience)
        clock = asyncio.get_running_loop().time
        while not self._inbox.closed:
            self._greeted_at = math.inf
            try:
                await self._connect_until_renewed()
            except RenewedError:
                self._log.info("certificates_renewed", which="broker")
                continue
            except BrokerLostError as error:
                lost = error
            except OSError as error:
                advice = tls.ADVICE if isinstance(error, ssl.SSLError | CertificateError) else ""
                lost = BrokerLostError(str(error) or type(error).__name__, advice, event="broker_unreachable")
            finally:
                self.connected = False
                self._inbox.forget()
            backoff.worked(clock() - self._greeted_at)
            await self._wait_after(lost, backoff.pause_seconds())

    async def _connect_until_renewed(self) -> None:
        """One connection, left when the files it was made of change: the next one is made of the new ones.

        What is unacknowledged comes again on it. Raises `RenewedError`, and what `_connect` raises.
        """
        if not self._settings.mqtt_tls:
            await self._connect()
            return
        seen = tls.stamp(self._settings)
        try:
            async with asyncio.timeout(None) as renewed:
                looking = asyncio.create_task(self._look_at_files(renewed, seen), name="certificates")
                try:
                    await self._connect()
                finally:
                    looking.cancel()
        except TimeoutError:
            if not renewed.expired():
                raise
            raise RenewedError from None

    async def _look_at_files(self, renewed: asyncio.Timeout, seen: Stamp) -> None:
        """End the connection when they changed and can be used; files that can't are no reason to leave it."""
        while not self._inbox.closed:
            await asyncio.sleep(self._patience.look_seconds)
            before, seen = seen, tls.stamp(self._settings)
            if seen == before:
                continue
            try:
                tls.tls_context(self._settings)
            except OSError as error:
                self._log.error(
                    "certificates_unusable",
                    which="broker",
                    reason=str(error),
                    advice="the connection stays as it is; correct the files, the next one needs them",
                )
            else:
                renewed.reschedule(asyncio.get_running_loop().time())
                return

    async def _wait_after(self, lost: BrokerLostError, pause_seconds: float) -> None:
        host, port = self._settings.mqtt_host_port()
        if lost.taken_over:
            pause_seconds += self._patience.taken_over_seconds
        self._log.warning(lost.event, broker=f"{host}:{port}", reason=str(lost), advice=lost.advice,
                          retry_in_seconds=round(pause_seconds, 1))  # fmt: skip
        if not self._inbox.closed:
            await asyncio.sleep(pause_seconds)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()):
            self._inbox.fail(fault)

    def _greeted(self, *, session_present: bool, certificate: Mapping[str, Any] | None) -> None:
        """The broker took us in: say so, and count a session that it no longer has."""
        self.certificate_end = tls.end_of(certificate)
        host, port = self._settings.mqtt_host_port()
        self._log.info("broker_connected", broker=f"{host}:{port}", session_present=session_present)
        self._greeted_at = asyncio.get_running_loop().time()
        if self.had_session and not session_present:
            self.sessions_lost += 1
            self._log.error(
                "session_lost",
                reason="the broker has no session of this name although we had one",
                advice="what was published meanwhile is gone: look at the broker's persistence, "
                "its session expiry and its disk",
            )
        self.had_session = True

    async def _subscribe(
        self, send: Callable[[list[str]], Awaitable[Iterable[int]]], over: asyncio.Future[None]
    ) -> None:
        """Subscribe to every filter; the refused ones again and again, until granted or the connection ends.

        `send` returns one reason code for each filter; `over` is done when the connection is.
        """
        backoff = Backoff(self._patience)
        wanted = self._filters
        while wanted and not over.done():
            codes = list(await send(wanted))
            refused = [(name, code) for name, code in zip(wanted, codes, strict=True) if code >= 0x80]
            wanted = [name for name, _ in refused]
            pause = backoff.pause_seconds()
            for name, code in refused:
                advice = ADVICE.get(code, ADVICE[0x80])
                self._log.error("subscription_refused", filter=name, code=f"0x{code:02X}", advice=advice,
                                retry_in_seconds=round(pause, 1))  # fmt: skip
            if wanted:
                await asyncio.wait([over], timeout=pause)
        self.connected = not over.done()
