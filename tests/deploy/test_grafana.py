"""Dashboards and alert rules: what they name exists, and promtool takes what Prometheus will read."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ingest.metrics import Metrics

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "grafana/dashboards").glob("*.json"))
ALERTS = sorted((ROOT / "grafana/alerts").glob("*.yml"))
RULES = [
    rule for path in ALERTS for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
HAN = re.compile("[\u4e00-\u9fff]")
LATIN = re.compile("[A-Za-z]{2}")
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool: apt install prometheus, which holds it"
)


def _metrics():
    families = list(Metrics(routes=["telemetry"]).registry.collect())
    names = {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    return names, labels | {"le", "instance"}


METRICS, LABELS = _metrics()


def _load(path):
    return json.loads(path.read_text())


def _panels(path):
    return [panel for panel in _load(path)["panels"] if panel["type"] != "row"]


def _expressions():
    for path in DASHBOARDS:
        for panel in _panels(path):
            yield from (
                pytest.param(t["expr"], id=f"{path.stem}-{panel['id']}{t['refId']}") for t in panel["targets"]
            )
    yield from (pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES)


# The SDK prefers the second form of a dashboard; what Grafana provisions from files is the first.
@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
def test_files_are_what_the_code_makes():
    """Each committed dashboard is, byte for byte, what grafana/dashboards.py writes."""
    rendered = runpy.run_path(str(ROOT / "grafana/dashboards.py"))["render"]()
    assert rendered == {path.name: path.read_text() for path in DASHBOARDS}


@pytest.mark.parametrize("expression", list(_expressions()))
def test_expressions_name_metrics_and_labels_that_exist(expression):
    """Every metric and every label that a panel or an alert groups by is one that the service exports."""
    named = set(re.findall(r"ganzhi_\w+", expression))
    assert named
    assert named <= METRICS
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(group.split(", ")) <= LABELS


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
class TestDashboard:
    def test_identity(self, path):
        """Its uid follows from its file, its title speaks both languages, nobody edits it in the browser."""
        board = _load(path)
        assert board["uid"] == f"ganzhi-{path.stem}"
        assert HAN.search(board["title"]) and LATIN.search(board["title"])
        assert board["editable"] is False

    def test_data_source_is_a_variable(self, path):
        """The data source is chosen at the top, and every panel follows the choice."""
        (variable,) = _load(path)["templating"]["list"]
        assert (variable["name"], variable["type"], variable["query"]) == (
            "datasource",
            "datasource",
            "prometheus",
        )
        assert {panel["datasource"]["uid"] for panel in _panels(path)} == {"${datasource}"}

    def test_panels_explain_themselves(self, path):
        """Every panel has a unit, and a title and a description in Chinese and English."""
        for panel in _panels(path):
            assert panel["fieldConfig"]["defaults"]["unit"]
            for text in (panel["title"], panel["description"]):
                assert HAN.search(text) and LATIN.search(text), text

    def test_ids_are_unique(self, path):
        """Panels have distinct ids, and a panel's queries distinct letters."""
        ids = [panel["id"] for panel in _load(path)["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in _panels(path):
            letters = [target["refId"] for target in panel["targets"]]
            assert len(set(letters)) == len(letters) > 0

    def test_panels_do_not_overlap(self, path):
        """No grid cell belongs to two panels, and none lies beyond the 24 columns."""
        cells = [
            (x, y)
            for panel in _load(path)["panels"]
            for grid in [panel["gridPos"]]
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_and_where_to_read_on(rule):
    """An alert has a severity, a text in both languages, and a runbook of its name with the four headings."""
    assert rule["labels"]["severity"] in {"page", "ticket"}
    for text in (rule["annotations"]["summary"], rule["annotations"]["description"]):
        assert HAN.search(text) and LATIN.search(text)
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    runbook = (ROOT / rule["annotations"]["runbook_url"]).read_text()
    assert runbook.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"^## (.+)$", runbook, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_every_alert_file_has_a_test():
    """grafana/alerts/X.yml is tested by grafana/alerts/tests/X_test.yml, alert by alert."""
    for path in ALERTS:
        tests = yaml.safe_load((path.parent / "tests" / f"{path.stem}_test.yml").read_text())
        cases = [case for test in tests["tests"] for case in test["alert_rule_test"]]
        groups = yaml.safe_load(path.read_text())["groups"]
        for name in [rule["alert"] for group in groups for rule in group["rules"]]:
            outcomes = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == name}
            assert outcomes == {True, False}, f"{name} needs a firing and a silent case"


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["check", "rules", "--lint-fatal", *(str(path.relative_to(ROOT)) for path in ALERTS)],
        [
            "test",
            "rules",
            *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("grafana/alerts/tests/*.yml"))),
        ],
    ],
    ids=lambda arguments: "-".join(arguments[:2]),
)
def test_promtool_agrees(arguments):
    """Promtool accepts the configuration, its rules, and the rules' own tests."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panel_queries_are_promql(path, tmp_path):
    """Every panel's query parses, as a recording rule with Grafana's variable filled in."""
    queries = [
        t["expr"].replace("$__rate_interval", "1m") for panel in _panels(path) for t in panel["targets"]
    ]
    rules = [{"record": f"panel:query:{n}", "expr": query} for n, query in enumerate(queries)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": path.stem, "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_provisioning_finds_the_dashboards_and_the_data_source():
    """Grafana's provisioning files name the folder and the host that docker-compose.yml gives it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    provisioning = ROOT / "grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/ganzhi.yml").read_text())["providers"]
    assert (
        f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
    )
    assert provider["allowUiUpdates"] is False
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
