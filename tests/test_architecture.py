"""What the code may not do, read from its syntax: directions, purity, one place for SQL and for metrics."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path for package in ("schemas", "devices", "ingest") for path in (ROOT / package).rglob("*.py")
)
MAY_IMPORT = {
    "schemas": {"schemas"},
    "devices": {"schemas", "devices"},
    "ingest": {"schemas", "devices", "ingest"},
}
OURS = {"schemas", "devices", "ingest"}
PURE_FILES = {
    *(
        f"devices/{name}.py"
        for name in (
            "code",
            "day",
            "division",
            "index",
            "registry",
            "importer",
            "spelling",
            "identifier",
            "datum",
            "presence",
            "notices",
            "tally",
            "states",
            "coverage",
            "gap",
            "gap_book",
            "gap_cells",
            "gap_gateways",
            "gap_units",
            "gaps",
            "plan",
            "plan_assumed",
            "plan_file",
            "declared",
            "indicator",
            "gateways",
            "rhythm",
            "paths",
            "report",
        )
    ),
    *(
        f"ingest/{name}.py"
        for name in (
            "failure",
            "batch",
            "columns",
            "seal",
            "refuse",
            "sealed",
            "scenario",
            "heard",
            "outcome",
            "sequence",
            "feedback",
        )
    ),
    *(f"ingest/report_{name}.py" for name in ("charts", "files", "html", "map", "words")),
}
IMPURE = {
    "asyncio", "psycopg", "mqtt5", "paho", "aiomqtt", "prometheus_client", "logging", "structlog", "socket",
    "threading", "time", "random", "secrets", "uuid",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}
"""Methods of datetime, date and time that read the clock."""
METRIC_CLASSES = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|COPY|TRUNCATE|WITH \w+ AS)\b")
OF_THE_SESSION = re.compile(r"SELECT (1|set_config\(.*)")
"""A sign of life and a parameter: no table, nothing a reader would look up in an .sql file."""
FORBIDDEN = tuple(re.escape(a + b) for a, b in (("pip con", "fig"), ("/wo", "rk/"), ("/ro", "ot/")))
"""Traces of one machine. Written in halves, for this file is looked at too."""


def name_of(path):
    return path.relative_to(ROOT).as_posix()


PURE = [p for p in MODULES if p.relative_to(ROOT).parts[0] == "schemas" or name_of(p) in PURE_FILES]


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path):
    """The full names that a module imports, wherever in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import hides its direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name):
    return name.partition(".")[0]


def test_there_is_something_to_look_at():
    """The modules are found, the pure ones among them."""
    assert ROOT / "schemas" / "topic.py" in MODULES
    assert ROOT / "devices" / "code.py" in PURE


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_direction(path):
    """Imports point schemas <- devices <- ingest."""
    package = path.relative_to(ROOT).parts[0]
    assert {top(name) for name in imports(path)} & OURS <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_modules_do_no_io_and_read_no_clock(path):
    """A pure module imports no I/O, log, metrics or clock, and calls none."""
    assert {top(name) for name in imports(path)} & IMPURE == set()
    calls = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    clocks = [
        f"{name_of(path)}:{f.lineno}: {ast.unparse(f)}"
        for f in calls
        if isinstance(f, ast.Attribute)
        and f.attr in CLOCKS
        and ast.unparse(f.value).split(".")[-1] in {"datetime", "date", "dt"}
    ]
    assert clocks == []


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p) != "ingest/metrics.py"], ids=name_of)
def test_metrics_are_defined_in_one_module(path):
    """No module but ingest/metrics.py imports a Prometheus metric class."""
    named = {name for name in imports(path) if top(name) == "prometheus_client"}
    assert {name.rpartition(".")[2] for name in named} & METRIC_CLASSES == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sql_lives_in_sql_files(path):
    """No string in a module is an SQL statement; statements that only concern the session may be."""
    found = [
        f"{name_of(path)}:{node.lineno}: {node.value[:60]!r}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value)
        if not OF_THE_SESSION.fullmatch(node.value)
    ]
    assert found == []


def test_no_traces_of_one_machine():
    """No committed file names a package index setting or a path of the machine it was written on."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: what is committed is not known")
    pattern = re.compile("|".join(FORBIDDEN).encode())
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert [name_of(path) for path in files if path.is_file() and pattern.search(path.read_bytes())] == []
