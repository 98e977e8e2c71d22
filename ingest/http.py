"""The HTTP side: `/metrics`, `/healthz` (the process), `/readyz` (broker and database), and any port's server.

Assumes that anybody may come: with a token set, who has none learns from `/healthz` and `/readyz` yes or no,
and nothing else. No fault is told outside, only the number under which the log has it.
"""

import asyncio
import hmac
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ingest import certificate
from ingest.settings import Settings

log = structlog.get_logger()

Ready = Callable[[], Awaitable[Mapping[str, str]]]
"""What is not ready and why, by part; empty when all is."""
HEAD_SECONDS = 10
"""From the connection, or the last answer, to the next request's whole head; uvicorn itself waits for ever once
a byte has come, also for the rest of a body that is answered already."""
ANSWER_SECONDS = 30
"""From there to the end of an answer, for who does not read it; a push has its own answer after 14 s."""
READY_FOR_SECONDS = 1.0
"""Looking whether all is ready takes a connection to the database: strangers get one look a second, together."""
LOOK_TICKS = 600
"""Of uvicorn's 0.1 s, between looks whether the certificate was renewed."""


class Protocol(H11Protocol):
    """Closes a connection that brings no whole request head in time."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give it some time from here on."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        super().connection_lost(exc)
        if self._patience:
            self._patience.cancel()

    def on_response_complete(self) -> None:
        """Give it as much again for the next request."""
        super().on_response_complete()
        self._wait_for_head()

    def _wait_for_head(self) -> None:
        if self._patience:
            self._patience.cancel()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._close_silent)

    def _close_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()  # waits for who does not read what was answered
        self._patience = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)


class Server(uvicorn.Server):
    """uvicorn inside our loop: signals are the service's to handle, renewed certificates are taken up."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._files = settings.http_cert, settings.http_key, settings.http_client_ca
        self._seen = certificate.stamp(*self._files)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Look at the certificate now and then."""
        if counter % LOOK_TICKS == LOOK_TICKS - 1:
            self.renew()
        return await super().on_tick(counter)

    def renew(self) -> None:
        """For the connections to come: show the certificate, trust the authority, as they are in their files now."""
        cert, key, authority = self._files
        before, self._seen = self._seen, certificate.stamp(*self._files)
        if not cert or not self.config.ssl or self._seen == before:
            return
        try:
            if authority and self.config.ssl.verify_mode is ssl.CERT_REQUIRED:
                certificate.load_authority(self.config.ssl, authority, "GANZHI_HTTP_CLIENT_CA")
            certificate.load_chain(self.config.ssl, cert, key, "GANZHI_HTTP_CERT")
        except OSError as error:
            log.error("certificates_unusable", which="http", reason=str(error),  # noqa: TRY400  it is said in words
                      advice="the old certificate is shown on; correct the files")  # fmt: skip
        else:
            log.info("certificates_renewed", which="http")


class Faults:
    """ASGI middleware: a fault of ours is answered 500 with a number, under which the log has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            number = secrets.token_hex(4)
            log.exception("http_fault", number=number, path=scope.get("path"))
            if not begun:
                await JSONResponse({"fault": number}, 500)(scope, receive, send)


class Lately:
    """What `ready` said, at most `READY_FOR_SECONDS` ago."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._said: Mapping[str, str] = {}
        self._until = float("-inf")
        self._lock = asyncio.Lock()

    async def __call__(self) -> Mapping[str, str]:
        async with self._lock:
            clock = asyncio.get_running_loop().time
            if clock() > self._until:
                self._said = await self._ready()
                self._until = clock() + READY_FOR_SECONDS
            return self._said


def bearer(request: Request) -> str:
    """The token of the request's Authorization header, empty without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def application(
    registry: CollectorRegistry, refresh: Callable[[], None], ready: Ready, token: str = "",
    beside: Callable[[], Mapping[str, str]] = dict,
) -> Starlette:  # fmt: skip
    """The three endpoints. `refresh` brings gauges up to date before a scrape, in the loop's thread.

    `beside` is what `/readyz` says after a look by `ready`, beside what is missing, to who may know.
    """
    lately = Lately(ready)

    def known(request: Request) -> bool:
        return not token or hmac.compare_digest(bearer(request).encode(errors="replace"), token.encode())

    async def metrics(request: Request) -> Response:
        if not known(request):
            return PlainTextResponse("send Authorization: Bearer TOKEN, the token of GANZHI_HTTP_TOKEN\n", 401,
                                     {"WWW-Authenticate": "Bearer"})  # fmt: skip
        refresh()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        told = known(request)
        missing = await (ready() if told else lately())
        said = {"ready": not missing} | ({"missing": dict(missing), **beside()} if told else {})
        return JSONResponse(said, 503 if missing else 200)

    return Starlette(
        routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)],
        middleware=[Middleware(Faults)],
    )


def server(app: Starlette, settings: Settings, connections: int = 64, *, anybody: bool = False) -> Server:
    """A server for the application. It keeps no idle connection long, so that slow clients hold nothing.

    `anybody`: no certificate is asked for, the application knows its clients otherwise. Raises `CertificateError`.
    """
    config = uvicorn.Config(app, http=Protocol, log_config=None, access_log=False, lifespan="off",
                            timeout_keep_alive=15, limit_concurrency=connections,
                            timeout_graceful_shutdown=2)  # fmt: skip
    config.load()
    config.ssl = _tls(settings, anybody=anybody)
    return Server(config, settings)


def _tls(settings: Settings, *, anybody: bool) -> ssl.SSLContext | None:
    if not settings.http_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate.load_chain(context, settings.http_cert, settings.http_key, "GANZHI_HTTP_CERT")
    if settings.http_client_ca and not anybody:
        certificate.load_authority(context, settings.http_client_ca, "GANZHI_HTTP_CLIENT_CA")
        context.verify_mode = ssl.CERT_REQUIRED
    return context
