"""`python -m tests.reference`: writes the pages of docs/ that are made from the code.

Settings from their model, metrics from their registry, tables from the catalogue of a migrated database.
"""

import re
from pathlib import Path

import psycopg
from prometheus_client import Metric

from ingest import migrate
from ingest.connection import connect
from ingest.metrics import Metrics
from ingest.observer_metrics import GAUGES, REMOVED
from ingest.settings import Settings
from ingest.settings_sources import PREFIX
from tests.postgres import Postgres, program_folders

DOCS = Path(__file__).parents[1] / "docs"
HEAD = "# {title}\n\n{text}\n\nMade by `make docs`; what is wrong here is wrong in {source}.\n\n"
LIMITS = (("exclusiveMinimum", ">"), ("minimum", ">="), ("exclusiveMaximum", "<"), ("maximum", "<="))
OBSERVED = (
    "At `/metrics` on `GANZHI_OBSERVER_HTTP_PORT`, as of its last look; beside them "
    "`ganzhi_goal_due_timestamp_seconds`, `ganzhi_broker_connected`, and `ganzhi_division_info` with the names of all "
    "divisions (`code`, `name_zh`, `name_en`). `city` and `county` are division codes, `370000` where only the "
    "province is known. What is not known has no series: a ratio without a denominator, a city without a target."
)
TABLES = """
SELECT c.relname, CASE WHEN c.relkind = 'v' THEN 'view' ELSE 'table' END, obj_description(c.oid, 'pg_class'),
       a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(c.oid, a.attnum)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname, a.attnum
"""


def settings_page() -> str:
    """Every setting, in the order of the model."""
    schema = Settings.model_json_schema()
    text = (
        "Set in the environment, or in a TOML file (`--config`) in lower case without the prefix; the environment "
        "wins. `NAME_FILE` reads a value from a file, for secrets. They are checked together before anything "
        "connects; a name that is not here is refused (exit code 2)."
    )
    rows = [("name", "type", "default", "what it does")]
    for name, field in Settings.model_fields.items():
        kind = _kind(schema["properties"][name], schema.get("$defs", {}))
        does = " ".join((field.description or "").split())
        rows.append((f"`{PREFIX}{name.upper()}`", kind, _default(field.default), does))
    return HEAD.format(title="Settings", text=text, source="`ingest/settings.py`") + _table(rows)


def _kind(schema: dict, definitions: dict) -> str:
    """The type of a setting in words, with its limits."""
    if options := schema.get("anyOf"):
        return _kind(next(option for option in options if option.get("type") != "null"), definitions)
    if reference := schema.get("$ref") or (schema.get("allOf") or [{}])[0].get("$ref"):
        return " or ".join(f"`{value}`" for value in definitions[reference.rpartition("/")[2]]["enum"])
    limits = [f"{sign} {schema[key]:,}" for key, sign in LIMITS if key in schema]
    words = {"string": "text", "integer": "whole number", "number": "number", "array": "list",
             "boolean": "`true` or `false`"}  # fmt: skip
    kind = {"path": "path", "date": "date", "password": "secret"}.get(
        schema.get("format"), words[schema["type"]]
    )
    return " ".join([kind, ", ".join(limits)]).strip()


def _default(value: object) -> str:
    text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    if isinstance(text, tuple):
        text = ",".join(text)
    if isinstance(text, bool):
        text = str(text).lower()
    return f"`{text}`" if text not in {None, ""} else ""


def metrics_page() -> str:
    """Every metric, in the order of its definition."""
    registry = Metrics([]).registry
    families = {family.name: family for family in registry.collect()}
    labels = {c._name: getattr(c, "_labelnames", ()) for c in registry._collector_to_names}
    text = (
        "Of each worker, at `/metrics` on `GANZHI_HTTP_PORT` + its number. In every scrape received = committed + "
        "duplicate + rejected + in flight, for messages and for readings. Names, types and labels are public."
    )
    rows = [("name", "type", "labels", "what it says")]
    for name, family in families.items():
        shown = ", ".join(f"`{label}`" for label in labels[name])
        rows.append((f"`{_name(family)}`", family.type, shown, family.documentation))
    observed = [rows[0]]
    for family in GAUGES:
        labels_ = ", ".join(f"`{label}`" for label in family.labels)
        observed.append((f"`{family.name}`", "gauge", labels_, family.text))
    observed.append((f"`{REMOVED.name}_total`", "counter", "", REMOVED.text))
    return (
        HEAD.format(title="Metrics", text=text, source="`ingest/metrics.py` or `ingest/observer_metrics.py`")
        + _table(rows) + "\n## Of the observer\n\n" + OBSERVED + "\n\n" + _table(observed)
    )  # fmt: skip


def _name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def tables_page(conn: psycopg.Connection) -> str:
    """Every table and view of a migrated database, alike on both storages."""
    text = (
        "The tables and views of schema `public`, the same on both storages. Times are `timestamptz`; the server "
        "keeps them in UTC. Partitions and chunks are left out."
    )
    page = HEAD.format(title="Tables", text=text, source="a migration under `schemas/sql/migrations/`")
    before, rows = "", []
    for table, kind, about, column, type_, required, comment in conn.execute(TABLES):
        if table != before:
            page += _table(rows) + f"\n## {table}\n\n{about or ''}{' (view)' if kind == 'view' else ''}\n\n"
            before, rows = table, [("column", "type", "", "what it holds")]
        must = "not null" if required and kind == "table" else ""
        rows.append(
            (f"`{column}`", type_.replace("timestamp with time zone", "timestamptz"), must, comment or "")
        )
    return re.sub(r"\n{3,}", "\n\n", page + _table(rows))


def _table(rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    head, *body = rows
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines]) + "\n"


def pages() -> dict[str, str]:
    """File name in docs/ to its text. Starts a PostgreSQL of its own, without TimescaleDB."""
    with (
        Postgres(program_folders()[-1], timescale=False) as postgres,
        postgres.database() as url,
        connect(url) as conn,
    ):
        migrate.migrate(conn)
        tables = tables_page(conn)
    return {"settings.md": settings_page(), "metrics.md": metrics_page(), "tables.md": tables}


if __name__ == "__main__":
    for file, page in pages().items():
        (DOCS / file).write_text(page, encoding="utf-8")
