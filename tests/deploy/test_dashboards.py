"""What dashboards and alerts ask is answered: PromQL by a Prometheus that scrapes, SQL by both storages, as readers."""

import json
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import yaml

from devices.division import DIVISIONS
from grafana.folder import files
from tests.brokers import needs_mosquitto
from tests.conftest import _migrated
from tests.deploy.system import CITY, SHOWN, needs_prometheus, running
from tests.postgres import timescale_programs

ROOT = Path(__file__).parents[2]
UNANSWERED = {
    "ganzhi_certificate_expiry_timestamp_seconds": "the system of the test speaks no TLS",
}
"""Metrics that have no series here, and why; whatever asks for one must only be understood."""
VARIABLES = {
    "$__rate_interval": "5s",
    "$job": ".+",
    "$instance": ".+",
    "$city": str(CITY),
    "${code:sqlstring}": f"'{SHOWN}'",
}
SELECTOR = re.compile(r"\bganzhi[\w:]+(?:\{[^}]*\})?")


def panels(board):
    """Every panel that asks, those of folded rows too."""
    for panel in board["panels"]:
        yield from panel.get("panels", []) if panel["type"] == "row" else [panel]


def filled(text):
    """The query as Grafana sends it: its variables and macros replaced."""
    since, until = (f"'{datetime.now(UTC) - timedelta(days=d):%Y-%m-%dT%H:%M:%SZ}'" for d in (7, -1))
    text = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {since} AND {until}", text)
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text.replace("$__timeFrom()", since).replace("$__timeTo()", until)


def targets(board):
    """Title, query and target of each query of a board."""
    for panel in panels(board):
        for target in panel.get("targets", []):
            yield panel["title"], filled(target.get("expr") or target["rawSql"]), target


def boards():
    return {
        path.stem: json.loads(path.read_text())
        for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))
    }


def own_boards():
    """What the city's own reader gets."""
    made = files(DIVISIONS[CITY], 2, "timescaledb:5432")
    return {Path(path).stem: json.loads(text) for path, text in made.items() if path.endswith(".json")}


def rules():
    for path in sorted((ROOT / "grafana/alerts").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def is_unanswered(expression):
    return any(metric in expression for metric in UNANSWERED)


def check_panels(system, subtests):
    for name, board in boards().items():
        for title, query, target in targets(board):
            if "expr" in target:
                with subtests.test(f"{name}: {title} {target['refId']}"):
                    found = system.ask(query, instant=bool(target.get("instant")))
                    assert found or is_unanswered(query), query


def check_variables(system, subtests):
    for name, board in boards().items():
        for variable in board["templating"].get("list", []):
            if variable["type"] == "query":
                with subtests.test(f"{name}: variable {variable['name']}"):
                    query = filled(variable["query"]["query"])
                    kind, inner = re.fullmatch(
                        r"(label_values|query_result)\((.*?)(?:, (?:job|instance))?\)", query
                    ).groups()
                    assert system.ask(inner, instant=True), (kind, query)


def check_rules(system, subtests):
    """A healthy system fires nothing: a rule must be understood, and what it compares must be there."""
    for rule in rules():
        with subtests.test(rule.get("alert") or rule["record"]):
            system.ask(rule["expr"], instant=True)
            for selector in set(SELECTOR.findall(rule["expr"])):
                assert is_unanswered(selector) or system.ask(selector, instant=False), selector


def check_misbehaviour(system, subtests):
    """What a good fleet does not do was done, so that panels that show it show more than 0."""
    expected = {
        "ganzhi_readings_flagged_total": {"suspect", "late", "arrival_time", "clock_repaired"},
        "ganzhi_readings_rejected_total": {"time_in_future", "time_too_old", "out_of_range"},
        "ganzhi_messages_rejected_total": {"malformed_payload", "bad_topic"},
        "ganzhi_messages_received_total": {"telemetry", "presence", "sparkplug"},
        "ganzhi_sequence_gaps_total": {"sparkplug"},
        "ganzhi_terminals": {"live", "never_heard", "discovered"},
        "ganzhi_gateways": {"online", "offline"},
        "ganzhi_coverage_gaps": {"gateway_offline", "never_heard", "under_target"},
    }
    for metric, labels in expected.items():
        with subtests.test(f"more than 0: {metric}"):
            found = {v for one in system.ask(f"{metric} > 0", instant=True) for v in one["metric"].values()}
            assert labels <= found


def check_sql(system, subtests):
    for storage, url in system.databases.items():
        for role, asked in (("ganzhi_reader", boards()), (f"ganzhi_reader_{CITY}", own_boards())):
            options = "-c statement_timeout=1s"
            with psycopg.connect(
                url.replace("postgres@", f"{role}@"), autocommit=True, options=options
            ) as conn:
                for name, board in asked.items():
                    for title, query, target in targets(board):
                        if "rawSql" in target:
                            with subtests.test(f"{storage}, {role}: {name}: {title}"):
                                assert conn.execute(query).fetchall(), query


@pytest.fixture
def system(servers, tmp_path):
    """The running system, on every storage that is here."""
    storages = ["postgres", *(["timescale"] if timescale_programs() else [])]
    with ExitStack() as stack:
        databases = {
            storage: stack.enter_context(servers(storage).database(_migrated(servers(storage), storage)))
            for storage in storages
        }
        yield stack.enter_context(running(databases, tmp_path))


@needs_prometheus
@pytest.mark.parametrize("_", [pytest.param(None, marks=needs_mosquitto, id="mosquitto")])
def test_every_query_is_answered(_, system, subtests):
    """Every query of every panel, variable and rule is understood and finds data, SQL within a second."""
    check_misbehaviour(system, subtests)
    check_panels(system, subtests)
    check_variables(system, subtests)
    check_rules(system, subtests)
    check_sql(system, subtests)
