"""The report as one HTML page, which is the observer's page too: nothing in it asks for another file.

Everything that comes from outside is escaped by the template. Numbers and words: `report_words`.
"""

import base64
import hashlib
from datetime import date
from functools import cache
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from devices import report
from devices.coverage import GOAL_TERMINALS, Ratio, ratio
from devices.day import day_of
from devices.division import PROVINCE
from devices.report import ALARMS, GAPS_SHOWN, KindCount, Plan, Summary
from ingest import report_charts as charts
from ingest.report_map import WIDTH, outlines
from ingest.report_words import Words, definitions

FILES = ("report.html", "sections.html", "page.css", "page.js")
OTHERS = (
    "goal_progress_ratio", "goal_declared_ratio", "counties_covered_ratio", "nodes_progress_ratio",
    "networking_daily_ratio", "networking_ratio", "buildout_ratio", "coverage_ratio", "video_smart_ratio",
    "video_smart_unknown_ratio", "video_networking_ratio", "identifier_nodes_secondary", "quality_ratio",
)  # fmt: skip
"""Rows of the table of indicators; the counts stand above it."""
GAPS_PRINTED = 40
"""A page of A4; the report's CSV and JSON have all that were read."""
CARDS = ("verified", "installed", "active", "live")


def html(
    summary: Summary | None, language: str, *, refresh_seconds: float | None = None, stale: bool = False
) -> str:
    """The page; None: nothing is counted yet.

    With `refresh_seconds` it is the observer's: it renews itself, and links to the other language.
    """
    words = Words(language)
    return _environment().get_template("report.html").render(
        s=summary, w=words, language=language, refresh_seconds=refresh_seconds, stale=stale, cards=CARDS,
        others_=[d for d in definitions() if d.key in OTHERS], definitions=definitions(), charts=charts,
        names=words.indicators(), before=summary and report.before(summary.period),
        outline=outlines(), map_width=WIDTH, province=PROVINCE,
        gaps_shown=GAPS_SHOWN if refresh_seconds else GAPS_PRINTED,
        share=summary and _share(summary), forecast_on=summary and forecast_on(summary),
        trend_chart=summary and trend(summary, words), path_chart=summary and path(summary, words),
        planned=summary and report.planned_on(summary.plan, summary.now.day or summary.period.until),
        open_by_kind=summary and {kind: summary.gap_kinds.get(kind, KindCount()).open for kind in ALARMS},
        beside=summary and list(report.beside(summary)), place_of=report.place_of,
    )  # fmt: skip


def script_hash() -> str:
    """What a Content-Security-Policy allows: the page's script, and no other."""
    digest = hashlib.sha256(_text("page.js").encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def forecast_on(summary: Summary) -> date | None:
    """The day on which the goal is met, of the province alone."""
    seconds = summary.now.value("goal_forecast_timestamp_seconds", summary.division)
    return None if seconds is None else day_of(seconds)


def trend(summary: Summary, words: Words) -> Markup:
    """Installed, verified and active by day, over the period and the one before."""
    drawn = [charts.Line(name, summary.trend.get(f"terminals_{name}", ())) for name in CARDS[:3]]
    return charts.lines(drawn, words.short, words("trend"))


def path(summary: Summary, words: Words) -> Markup:
    """Verified terminals, the plan's steps, and for the province the forecast and the goal, up to its day."""
    verified = summary.trend.get("terminals_verified", ())
    if not verified:
        return Markup()
    first, last = verified[0][0], verified[-1]
    whole = summary.division == PROVINCE
    drawn = [
        charts.Line("plan", _steps(summary.plan, first, last[0], summary.goal_due)),
        charts.Line("verified", verified),
    ]
    met_on = forecast_on(summary)
    if met_on and whole:
        drawn.append(charts.Line("verified", _on_the_way(last, met_on, summary.goal_due), "dashed"))
    return charts.lines(drawn, words.short, words("path"), level=GOAL_TERMINALS if whole else None)


def _on_the_way(last: tuple[date, float], met_on: date, due: date) -> charts.Points:
    """The straight line to the goal, as far as the day that it is due."""
    day, verified = last
    if met_on <= due or due <= day:
        return [last, (met_on, float(GOAL_TERMINALS))] if met_on > day and due > day else [last]
    share = (due - day).days / (met_on - day).days
    return [last, (due, verified + (GOAL_TERMINALS - verified) * share)]


def _steps(plan: Plan | None, first: date, last: date, until: date) -> charts.Points:
    """What the plan wants, as stairs from the first day on; after its last step it wants that for good."""
    if plan is None:
        return []
    wanted = float(report.planned_on(plan, first) or 0)
    points = [(first, wanted)]
    for day, total in plan.steps:
        if first < day <= until:
            points += [(day, points[-1][1]), (day, float(total))]
    if points[-1][0] < last:
        points.append((last, points[-1][1]))
    return points


def _share(summary: Summary) -> Ratio | None:
    """How far we are: of the goal, or for a part of the province of its target."""
    verified = summary.now.value("terminals_verified", summary.division)
    if verified is None:
        return None
    if summary.division == PROVINCE:
        return Ratio(verified, GOAL_TERMINALS)
    return ratio(verified, summary.now.value("terminals_target", summary.division) or 0)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=DictLoader({name: _text(name) for name in FILES}), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["css"] = Markup(_text("page.css"))  # noqa: S704  files of ours
    environment.globals["script"] = Markup(_text("page.js"))  # noqa: S704
    return environment


def _text(name: str) -> str:
    return files("ingest").joinpath("templates", name).read_text(encoding="utf-8")
