"""The observer's page: `/` for people, `/coverage.json` for machines, both of its last look.

Drawn once a look and language, however many ask. With a token set a browser is asked for it as a password,
whatever the user's name (RFC 7617); without one in the settings everybody who reaches the port may read.
"""

import base64
import hmac
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from devices import indicator
from devices.day import day_of
from devices.division import PROVINCE
from devices.indicator import Given
from devices.report import KindCount, Snapshot, Summary, baseline, largest_first, last_days
from ingest import http
from ingest.report_files import as_json
from ingest.report_html import html, script_hash
from ingest.report_words import LANGUAGES, language_of
from ingest.round import Seen
from ingest.settings import Settings

REFRESH_SECONDS_MIN = 5
"""A page asks no more often, however often the observer looks."""
STALE_LOOKS, STALE_SECONDS = 3, 300
"""Figures older than so many looks and the night's recount are said to be old."""
WAITING_SECONDS = 2
OF_A_DAY = ("coverage_gaps_opened", "coverage_gaps_closed")
"""Indicators that only the day's row knows."""


def summary_of(seen: Seen, goal_due: date) -> Summary:
    """The last 30 days up to now: what a look counted, against what is kept of the days before."""
    today = day_of(seen.report.at)
    past = seen.past or Summary(PROVINCE, last_days(today), goal_due)
    verified = float(seen.report.province.verified)
    history = [
        *((day, n) for day, n in past.trend.get("terminals_verified", ()) if day < today),
        (today, verified),
    ]
    given = Given(identifier_nodes=seen.identifier_nodes, quality=seen.quality, history=history,
                  baseline=baseline(past.declared))  # fmt: skip
    rows = {
        (row.name, row.division): row
        for row in indicator.rows(seen.report, given)
        if row.name not in OF_A_DAY
    }
    opened = Counter(gap.kind for gap in seen.gaps)
    kinds = {kind: past.gap_kinds.get(kind, KindCount())._replace(open=opened[kind])
             for kind in {*past.gap_kinds, *opened}}  # fmt: skip
    trend = {name: [*(point for point in points if point[0] < today), *_today(rows, name, today)]
             for name, points in past.trend.items()}  # fmt: skip
    cells = {place: figures for place, figures in seen.report.domains.items() if any(figures)}
    return replace(
        past,
        goal_due=goal_due,
        now=Snapshot(today, rows),
        cells=cells,
        counted_at=seen.report.at,
        live=True,
        trend=trend,
        gaps=largest_first(seen.gaps),
        gap_kinds=kinds,
    )


def _today(rows: dict[tuple[str, int], indicator.Row], name: str, day: date) -> list[tuple[date, float]]:
    row = rows.get((name, PROVINCE))
    return [(day, row.value)] if row and row.value is not None else []


class Page:
    """The two routes; `seen` is asked for the last look at each request."""

    def __init__(
        self, settings: Settings, seen: Callable[[], Seen | None], clock: Callable[[], float] = time.time
    ) -> None:
        self._token = settings.http_token_text
        self._goal_due = settings.goal_due
        self._seconds = max(REFRESH_SECONDS_MIN, settings.observe_seconds)
        self._stale_seconds = STALE_LOOKS * settings.observe_seconds + STALE_SECONDS
        self._seen, self._clock = seen, clock
        self._looked: Seen | None = None
        self._summary: Summary | None = None
        self._drawn: dict[tuple[str, bool], str] = {}
        """By language, or `json`, and whether it says that it is old."""
        self._headers = {
            "cache-control": "no-store",
            "content-security-policy": (
                f"default-src 'none'; style-src 'unsafe-inline'; script-src {script_hash()}; connect-src 'self'; "
                "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
            ),
            "referrer-policy": "no-referrer",
            "vary": "Accept-Language",
            "x-content-type-options": "nosniff",
        }

    def routes(self) -> list[Route]:
        """For the observer's application."""
        return [Route("/", self._page), Route("/coverage.json", self._json)]

    async def _page(self, request: Request) -> Response:
        if not self._may(request):
            return _denied()
        asked = request.query_params.get("lang")
        language = asked if asked in LANGUAGES else language_of(request.headers.get("accept-language", ""))
        summary = self._newest()
        stale = summary is not None and self._clock() - (summary.counted_at or 0) > self._stale_seconds
        if (text := self._drawn.get((language, stale))) is None:
            seconds = self._seconds if summary else WAITING_SECONDS
            text = self._drawn[language, stale] = html(
                summary, language, refresh_seconds=seconds, stale=stale
            )
        status = 200 if summary else 503
        return Response(text, status, self._headers | {"content-language": language}, "text/html")

    async def _json(self, request: Request) -> Response:
        if not self._may(request):
            return _denied()
        summary = self._newest()
        if summary is None:
            return Response('{"error": "nothing is counted yet"}\n', 503, self._headers, "application/json")
        if (text := self._drawn.get(("json", False))) is None:
            text = self._drawn["json", False] = as_json(summary)
        return Response(text, 200, self._headers, "application/json")

    def _newest(self) -> Summary | None:
        """Of the last look; what was drawn of the one before is forgotten."""
        seen = self._seen()
        if seen is not self._looked:
            self._looked, self._drawn = seen, {}
            self._summary = summary_of(seen, self._goal_due) if seen else None
        return self._summary

    def _may(self, request: Request) -> bool:
        given = {http.bearer(request), _password(request)}
        return not self._token or any(
            hmac.compare_digest(said.encode(errors="replace"), self._token.encode()) for said in given
        )


def _password(request: Request) -> str:
    """Of HTTP's Basic authentication, empty without one."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace").partition(":")[2]
    except ValueError:  # no base64, or not even ASCII
        return ""


def _denied() -> Response:
    return Response("the password is the token of GANZHI_HTTP_TOKEN, the user's name is any\n", 401,
                    {"WWW-Authenticate": 'Basic realm="ganzhi", charset="UTF-8"'}, "text/plain")  # fmt: skip
