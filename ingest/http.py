"""The worker's HTTP side: `/metrics`, `/healthz` (the process), `/readyz` (broker and database)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

Ready = Callable[[], Awaitable[Mapping[str, str]]]
"""What is not ready and why, by part; empty when all is."""
HEAD_SECONDS = 10
"""From the connection, or the last answer, to the next request's whole head; uvicorn itself waits for ever once
a byte has come, also for the rest of a body that is answered already."""


class Protocol(H11Protocol):
    """Closes a connection that brings no whole request head in time."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give it some time from here on."""
        super().connection_made(transport)
        self._wait_for_head()

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
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn inside our loop: signals are the service's to handle."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def application(registry: CollectorRegistry, refresh: Callable[[], None], ready: Ready) -> Starlette:
    """The three endpoints. `refresh` brings gauges up to date before a scrape, in the loop's thread."""

    async def metrics(request: Request) -> Response:
        refresh()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        missing = await ready()
        return JSONResponse({"ready": not missing, "missing": dict(missing)}, 503 if missing else 200)

    return Starlette(
        routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
    )


def server(app: Starlette, connections: int = 64) -> Server:
    """A server for the application. It keeps no idle connection long, so that slow clients hold nothing."""
    return Server(uvicorn.Config(app, http=Protocol, log_config=None, access_log=False, lifespan="off",
                                 timeout_keep_alive=15, limit_concurrency=connections,
                                 timeout_graceful_shutdown=2))  # fmt: skip
