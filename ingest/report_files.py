"""The report as JSON and CSV, for machines and for Excel. Pure.

Both hold what the page shows, with the names of table `indicator`; days and numbers as they are, nothing rounded.
"""

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from devices.coverage import GOAL_NODES, GOAL_TERMINALS, Figures, Ratio
from devices.day import SHANDONG
from devices.division import DIVISIONS
from devices.gap import Gap
from devices.report import Period, Summary, before, beside
from ingest.report_words import Words, definitions

BOM = "\ufeff"
"""Without it Excel takes UTF-8 for the system's own encoding."""
COLUMNS = ("section", "name", "title", "division", "place", "domain", "value", "numerator", "denominator", "before",
           "change", "day", "plan_version", "source")  # fmt: skip
STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")
COUNTS = ("target", "planned", "installed", "verified", "active", "live", "overdue", "lost", "never_heard", "retired",
          "discovered")  # fmt: skip
RATIOS = ("buildout", "networking", "coverage")


def as_dict(s: Summary) -> dict[str, Any]:
    """Everything, as JSON has it."""
    place = DIVISIONS[s.division]
    return {
        "division": {"code": s.division, "name_zh": place.name_zh, "name_en": place.name_en},
        "period": _period(s.period),
        "before": _period(before(s.period)),
        "day": s.now.day and s.now.day.isoformat(),
        "day_before": s.then.day and s.then.day.isoformat(),
        "live": s.live,
        "counted_at": _iso(s.counted_at),
        "goal": {"terminals": GOAL_TERMINALS, "nodes": GOAL_NODES, "due": s.goal_due.isoformat()},
        "plan": s.plan and {"version": s.plan.version, "sources": s.plan.sources,
                            "steps": [[day.isoformat(), total] for day, total in s.plan.steps]},
        "indicators": [_indicator(s, name, division) for name, division in sorted(s.now.rows)],
        "cells": [{"division": code, "domain": domain, **_figures(f)} for (code, domain), f in sorted(s.cells.items())],
        "trend": {name: [[day.isoformat(), value] for day, value in points] for name, points in s.trend.items()},
        "gaps": {"open": s.gaps_open, "kinds": {kind: n._asdict() for kind, n in sorted(s.gap_kinds.items())},
                 "list": [_gap(gap) for gap in s.gaps]},
        "quality": _ratio(s.quality),
        "quality_before": _ratio(s.quality_before),
        "declared": [{**d._asdict(), "as_of": d.as_of.isoformat(), "measured": measured} for d, measured in beside(s)],
        "definitions": [d._asdict() for d in definitions()],
    }  # fmt: skip


def as_json(s: Summary) -> str:
    """The report as JSON text (UTF-8)."""
    return json.dumps(as_dict(s), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def as_csv(s: Summary, language: str) -> str:
    """One table (RFC 4180) that Excel opens as it is: indicators, cells, days, gaps, declared figures, definitions.

    `section` says which; titles are in this language, `name` is not.
    """
    text = io.StringIO()
    text.write(BOM)
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    words = Words(language)
    titles = words.indicators()
    for row in _rows(s, words):
        named = {"title": titles.get(row["name"])}
        if "division" in row:
            named["place"] = words.division(row["division"])
        writer.writerow({column: _safe(value) for column, value in (named | row).items()})
    return text.getvalue()


def _rows(s: Summary, words: Words) -> Iterator[dict[str, Any]]:
    against = {"plan_version": s.plan.version if s.plan else None}
    if s.counted_at:
        yield {"section": "report", "name": "counted_at", "division": s.division, "day": _iso(s.counted_at)}
    for name, division in sorted(s.now.rows):
        yield {"section": "indicator", "day": s.now.day, **_indicator(s, name, division), **against}
    yield from _cells(s, words, against)
    for name, points in s.trend.items():
        for day, value in points:
            yield {"section": "trend", "name": name, "division": s.division, "day": day, "value": value}
    yield from _gaps(s, words)
    for d in s.declared:
        yield {"section": "declared", "name": d.indicator, "division": d.division, "value": d.value, "day": d.as_of,
               "source": d.source}  # fmt: skip
    for definition in definitions():
        text = "; ".join(words.pick(part) for part in definition[2:5])
        yield {"section": "definition", "name": definition.key, "source": text}


def _cells(s: Summary, words: Words, against: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for (code, domain), figures in sorted(s.cells.items()):
        cell = {
            "section": "cell",
            "division": code,
            "place": words.city(code),
            "domain": domain,
            "day": s.now.day,
        }
        for count in COUNTS:
            if count != "target" or figures.target:
                yield {**cell, "name": f"terminals_{count}", "value": getattr(figures, count), **against}
        for name in RATIOS:
            yield {**cell, "name": f"{name}_ratio", **(_ratio(getattr(figures, name)) or {}), **against}


def _gaps(s: Summary, words: Words) -> Iterator[dict[str, Any]]:
    for kind, n in sorted(s.gap_kinds.items()):
        for what in ("opened", "closed"):
            yield {"section": "gaps", "name": f"{kind}_{what}", "title": words.kind(kind), "division": s.division,
                   "value": getattr(n, what), "before": getattr(n, f"{what}_before")}  # fmt: skip
    for gap in s.gaps:
        yield {"section": "open gap", "name": gap.kind, "title": words.kind(gap.kind), "division": gap.division,
               "domain": gap.domain, "value": gap.expected - gap.live,
               "numerator": gap.live, "denominator": gap.expected, "day": words.time(gap.opened_seconds),
               "source": gap.gateway}  # fmt: skip


def _indicator(s: Summary, name: str, division: int) -> dict[str, Any]:
    row = s.now.rows[name, division]
    return {**row._asdict(), "before": s.then.value(name, division), "change": s.change(name, division)}


def _figures(figures: Figures) -> dict[str, Any]:
    counts = {name: getattr(figures, name) for name in COUNTS}
    return (
        counts
        | {"target": figures.target or None}
        | {name: _ratio(getattr(figures, name)) for name in RATIOS}
    )


def _ratio(ratio: Ratio | None) -> dict[str, float] | None:
    return None if ratio is None else {**ratio._asdict(), "value": ratio.value}


def _gap(gap: Gap) -> dict[str, Any]:
    return {"id": gap.id, "kind": gap.kind, "division": gap.division, "domain": gap.domain, "gateway": gap.gateway,
            "opened_at": _iso(gap.opened_seconds), "expected": gap.expected, "live": gap.live}  # fmt: skip


def _iso(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, SHANDONG).isoformat(timespec="seconds")
    )


def _period(period: Period) -> dict[str, str]:
    return {"from": period.since.isoformat(), "to": period.until.isoformat()}


def _safe(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula is a text there (OWASP, CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(STARTS_FORMULA) else value
