"""What panels ask: PromQL of the service's metrics, SQL from the files of grafana/sql/.

Data sources are variables: Prometheus `$datasource`, PostgreSQL `$postgres_datasource`. Series are chosen by `$job`,
those of workers by `$instance` too.
"""

import re
from pathlib import Path

from grafana_foundation_sdk.models.dashboard import DataSourceRef

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")
POSTGRES = DataSourceRef(type_val="grafana-postgresql-datasource", uid="${postgres_datasource}")
SQL = Path(__file__).parent / "sql"
INCLUDE = re.compile(r"(?<!\$)\{([a-z]+)\}")
JOB = 'job=~"$job"'
WORKER = JOB + ', instance=~"$instance"'
"""What selects the series of the chosen jobs, and of the chosen workers."""


class Sql:
    """A query to PostgreSQL, which the SDK has no builder for; `series` for curves, else a table."""

    def __init__(self, text: str, *, series: bool = False) -> None:
        self._text = text.strip()
        self._format = "time_series" if series else "table"

    def build(self) -> "Sql":
        """Itself: it is its own model."""
        return self

    def to_json(self) -> dict[str, object]:
        """The target as Grafana stores it."""
        return {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": self._format,
            "rawQuery": True,
            "rawSql": self._text,
            "refId": "A",
        }


def sql(name: str, **given: str) -> dict[str, str]:
    """The blocks of grafana/sql/, by name; `{x}` in one stands for block x, or for what is `given`."""
    blocks = re.split(r"^-- name: (\w+)$", (SQL / f"{name}.sql").read_text("utf-8"), flags=re.MULTILINE)[1:]
    known = dict(zip(blocks[::2], blocks[1::2], strict=True)) | given

    def filled(text: str) -> str:
        return INCLUDE.sub(lambda found: filled(known[found[1]]), text).strip()

    return {block: filled(text) for block, text in known.items()}


def of_worker(metric: str) -> str:
    """The series of the chosen workers."""
    return f"{metric}{{{WORKER}}}"


def of_observer(metric: str, matchers: str = "") -> str:
    """The observer's series that `matchers` select."""
    return f"{metric}{{{JOB}{', ' if matchers else ''}{matchers}}}"


def or_zero(expr: str) -> str:
    """`expr`, whose series exist only while there is something to count; else 0, and without an observer nothing."""
    return f"{expr} or 0 * max({of_observer('ganzhi_observer_last_run_timestamp_seconds')})"


def rate(counter: str, by: str = "", matchers: str = WORKER) -> str:
    """Per second over all workers, one curve per value of the label `by`."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({counter}{{{matchers}}}[$__rate_interval]))"


def quantiles(histogram: str) -> dict[str, str]:
    """Median and tails of a histogram, by legend."""
    buckets = rate(f"{histogram}_bucket", "le")
    return {f"p{q * 100:g}": f"histogram_quantile({q}, {buckets})" for q in (0.5, 0.95, 0.99)}


def named(expr: str, label: str = "city") -> str:
    """`expr`, whose series have a division's code in `label`, with the division's names."""
    info = f'label_replace(ganzhi_division_info{{{JOB}}}, "{label}", "$1", "code", "(.*)")'
    names = f"max by ({label}, name_zh, name_en) ({info})"
    return f"({expr}) * on ({label}) group_left (name_zh, name_en) {names}"
