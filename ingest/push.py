"""The HTTP door: `POST /push/{platform}/{gateway}` for platforms that can only push.

A push becomes a message of the topic `nbiot/{platform}/{gateway}`, goes the way of all messages, and is
answered after its commit: 200; 4xx when none of it could be stored, with the reason; 503 when it should
come again. One that was answered 503 and is committed all the same is a duplicate when it comes again.
Speaks TLS where `GANZHI_HTTP_CERT` is set; else assumes a proxy in front of it that does.
"""

import asyncio
import hmac
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ingest import http
from ingest.settings import Settings
from ingest.sources import Push, Pushes
from schemas.nbiot.onenet_envelope import signed
from schemas.rejection import Reason, Refusal
from schemas.topic import GATEWAY

ANSWER_SECONDS = {"ctwing": 4.5, "onenet": 4.5, "iotda": 14.0}
"""By platform, from the request's head to our answer. OneNET waits 5 s and Huawei 15 s; CTWing does not say."""
CONNECTIONS = 256
"""At once; each may hold a body of GANZHI_MAX_PAYLOAD_BYTES. Beyond them the server itself answers 503."""
STATUS = {
    Reason.MALFORMED_PAYLOAD: HTTPStatus.BAD_REQUEST,
    Reason.BAD_TOPIC: HTTPStatus.BAD_REQUEST,
    Reason.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Reason.NOT_AUTHORIZED: HTTPStatus.FORBIDDEN,
}
"""Of a push that is refused as a whole; 422 for every other reason."""
_GATEWAY = re.compile(GATEWAY)


class _Answered(Exception):  # noqa: N818  it is no error of ours
    """The request is answered here and now; nothing of it is kept."""

    def __init__(self, status: HTTPStatus, detail: str, hint: str = "", **headers: str) -> None:
        super().__init__(detail)
        self.response = JSONResponse({"detail": detail, "hint": hint}, status, headers)


class _Sender(NamedTuple):
    """Who pushes: platform and gateway of the path."""

    platform: str
    gateway: str


class Door:
    """Turns requests into pushes and their outcome into answers.

    `database_up` says whether a commit is to be expected; `clock` answers Unix seconds.
    """

    def __init__(
        self,
        settings: Settings,
        pushes: Pushes,
        database_up: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._tokens = settings.push_tokens()
        self._onenet_token = settings.onenet_token.get_secret_value() if settings.onenet_token else ""
        self._max_payload_bytes = settings.max_payload_bytes
        self._pushes = pushes
        self._database_up = database_up
        self._clock = clock

    def application(self) -> Starlette:
        """The door as an ASGI application."""
        path = "/push/{platform}/{gateway}"
        return Starlette(
            routes=[Route(path, self._post, methods=["POST"]), Route(path, self._check_url, methods=["GET"])],
            exception_handlers={_Answered: _answered},
            middleware=[Middleware(http.Faults)],
        )

    async def _post(self, request: Request) -> Response:
        sender = _sender(request)
        self._authenticate(request, self._token(sender))
        self._expect_commit()
        topic = f"nbiot/{sender.platform}/{sender.gateway}"
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS[sender.platform]
        push = Push(topic, await self._body(request, deadline), self._clock(),
                    content_type=request.headers.get("content-type"))  # fmt: skip
        self._expect_commit()
        self._pushes.put(push)
        try:
            async with asyncio.timeout_at(deadline):
                await push.settled
        except TimeoutError:
            raise _again("not committed yet; if it is later, it counts once all the same") from None
        return _refused(push.refusal) if push.refusal else JSONResponse({"committed": True})

    def _expect_commit(self) -> None:
        if not self._database_up():
            raise _again("the database is away")
        if not self._pushes.open:
            raise _again("the service is stopping, or too many pushes wait already")

    async def _body(self, request: Request, deadline: float) -> bytes:
        """The body, cut one byte above what is allowed: then it is refused, and kept, as too large."""
        body, most = bytearray(), self._max_payload_bytes + 1
        try:
            async with asyncio.timeout_at(deadline):
                # to its end: who is cut off while sending reads no answer
                async for chunk in request.stream():
                    body += chunk[: most - len(body)]
        except TimeoutError:
            late = "the body did not come in time"
            raise _Answered(HTTPStatus.REQUEST_TIMEOUT, late, Connection="close") from None
        except ClientDisconnect:
            raise _Answered(HTTPStatus.BAD_REQUEST, "the body broke off") from None
        return bytes(body)

    async def _check_url(self, request: Request) -> Response:
        """OneNET's check of a new URL: `msg` goes back when it is signed with the token of the push configuration."""
        sender = _sender(request)
        asked = [request.query_params.get(name, "") for name in ("msg", "nonce", "signature")]
        if sender.platform != "onenet" or not all(asked):
            raise _Answered(HTTPStatus.BAD_REQUEST, "only OneNET's URL check is a GET", "POST pushes here")
        message, nonce, signature = asked
        if not self._onenet_token:
            raise _Answered(HTTPStatus.FORBIDDEN, "no token to check by", "set GANZHI_ONENET_TOKEN")
        if not signed(self._onenet_token, nonce, message, signature):
            raise _Answered(HTTPStatus.FORBIDDEN, "the signature does not fit",
                            "GANZHI_ONENET_TOKEN must be the token of the platform's push configuration")  # fmt: skip
        return PlainTextResponse(message)

    def _token(self, sender: _Sender) -> str:
        if sender.platform not in self._tokens:
            raise _Answered(HTTPStatus.FORBIDDEN, f"no token is set for {sender.platform}",
                            f"add {sender.platform}=TOKEN to GANZHI_PUSH_TOKEN")  # fmt: skip
        return self._tokens[sender.platform]

    @staticmethod
    def _authenticate(request: Request, token: str) -> None:
        given = http.bearer(request) or request.query_params.get("token", "")
        if not given:
            raise _Answered(HTTPStatus.UNAUTHORIZED, "no token",
                            "send Authorization: Bearer TOKEN, or ?token=TOKEN",
                            **{"WWW-Authenticate": "Bearer"})  # fmt: skip
        if not hmac.compare_digest(given.encode(errors="replace"), token.encode()):
            hint = "each platform has its own in GANZHI_PUSH_TOKEN"
            raise _Answered(HTTPStatus.FORBIDDEN, "wrong token", hint)


def _sender(request: Request) -> _Sender:
    sender = _Sender(**request.path_params)
    if sender.platform not in ANSWER_SECONDS:
        raise _Answered(HTTPStatus.NOT_FOUND, "no such platform", f"one of {', '.join(ANSWER_SECONDS)}")
    if not _GATEWAY.fullmatch(sender.gateway):
        raise _Answered(
            HTTPStatus.BAD_REQUEST, "the gateway's name is not usable", "1 to 64 of A-Z a-z 0-9 _ . -"
        )
    return sender


def _again(detail: str) -> _Answered:
    return _Answered(HTTPStatus.SERVICE_UNAVAILABLE, detail, "push it again", **{"Retry-After": "5"})


def _refused(refusal: Refusal) -> Response:
    status = STATUS.get(refusal.reason, HTTPStatus.UNPROCESSABLE_ENTITY)
    return JSONResponse({"reason": refusal.reason, "detail": refusal.detail, "hint": refusal.hint}, status)


async def _answered(_: Request, answered: Exception) -> Response:
    assert isinstance(answered, _Answered)
    return answered.response
