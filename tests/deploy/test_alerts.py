"""Alert rules, their tests and runbooks, and who Alertmanager tells: files that agree with each other and the code."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
import typer
import yaml

from devices.division import DOMAINS
from devices.gap import KINDS
from ingest.cli import app
from ingest.observer_metrics import GAPS_SHOWN

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "grafana/alerts").glob("*.yml"))
TESTS = sorted((ROOT / "grafana/alerts/tests").glob("*.yml"))
RULES = [
    rule for path in FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
NAMES = {rule["alert"] for rule in ALERTS}
RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
ALERTMANAGER = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
RECEIVERS = {"nobody", "watchdog", "duty", "operations", *DOMAINS}
URL_FILE = re.compile(r"url_file: /run/secrets/alerts/(\w+)")
HAN = re.compile("[\u4e00-\u9fff]")
LATIN = re.compile("[A-Za-z]{2}")
COMMAND = re.compile(r"`(?:docker compose exec \w+ )?ganzhi ([^`]+)`")
ALWAYS = {"Watchdog"}
"""Has no silent case."""
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool: apt install prometheus, which holds it"
)
needs_amtool = pytest.mark.skipif(
    not shutil.which("amtool"), reason="needs amtool: apt install prometheus-alertmanager, which holds it"
)


def run(*command):
    """Output of a tool, which must succeed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_and_where_to_read_on(rule):
    """An alert has a severity, a text in both languages, a dashboard, and a runbook of its name with four headings."""
    assert rule["labels"]["severity"] in {"critical", "warning", "info", "none"}
    notes = rule["annotations"]
    for text in (notes["summary"], notes["description"]):
        chinese, english = text.split(" / ", 1)
        assert HAN.search(chinese) and LATIN.search(english)
    assert notes["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    board = re.fullmatch(
        r"\{\{ \$externalLabels\.grafana \}\}/d/ganzhi-(\w+)(\?var-city=.*)?", notes["dashboard_url"]
    )
    assert board and (ROOT / f"grafana/dashboards/{board[1]}.json").is_file()


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_has_an_alert_and_its_parts(path):
    """A runbook is of an alert, begins with a line in both languages, and names files that exist."""
    text = path.read_text()
    title, _, line = text.split("\n")[:3]
    assert path.stem in NAMES and title == f"# {path.stem}"
    assert HAN.search(line.split(" / ")[0]) and LATIN.search(line.split(" / ")[1])
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert set(re.findall(r"\bGanzhi[A-Z]\w+", text)) <= NAMES, "it leads to a runbook that is not there"
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (path.parent / link).is_file()
    for named in re.findall(r"\b(?:docs|deploy|grafana)/[\w./-]+\.\w+", text):
        assert (ROOT / named).is_file(), named


@pytest.mark.parametrize("path", [*RUNBOOKS, ROOT / "docs/alerts.md"], ids=lambda path: path.stem)
def test_commands_of_a_runbook_exist(path):
    """Whoever is woken types commands and options that the command line has."""
    root = typer.main.get_command(app)
    texts = [*COMMAND.findall(path.read_text())]
    texts += [one for rule in ALERTS if rule["alert"] == path.stem for one in _commands_of(rule)]
    for text in texts:
        command, words = root, text.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not getattr(command, "commands", {}), f"ganzhi {text}: no such command"
        known = {option for one in command.params for option in one.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= known, text


def _commands_of(rule):
    text = re.sub(r"\{\{[^}]*\}\}", "X", rule["annotations"]["description"])
    return re.findall(r"ganzhi ((?:gaps|rejections|plan|check|observe)\b(?: [\w-]+)*)", text)


def test_sql_of_runbooks_is_answered(database):
    """What a runbook asks the database is understood on each storage."""
    with psycopg.connect(database.url, autocommit=True) as conn:
        for path in RUNBOOKS:
            for block in re.findall(r"```sql\n(.*?)```", path.read_text(), re.DOTALL):
                conn.execute(block)


def test_each_alert_fires_and_is_silent_in_a_test():
    """Promtool's tests show each alert firing at each severity, and silent where its condition just isn't met."""
    cases = [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    expected = [case for test in cases for case in test.get("alert_rule_test", [])]
    silent = {case["alertname"] for case in expected if not case["exp_alerts"]}
    firing = {
        (case["alertname"], one["exp_labels"]["severity"]) for case in expected for one in case["exp_alerts"]
    }
    for test in cases:
        for case in test.get("promql_expr_test", []):
            for sample in case["exp_samples"]:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"]))
                firing.add((labels["alertname"], labels.get("severity")))
    assert {(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS} <= firing
    assert silent == NAMES - ALWAYS


def test_the_certificate_panel_and_its_alerts_have_the_same_days():
    """The panel turns colour on the days that the warning and the critical alert name."""
    rules = [rule["expr"] for rule in ALERTS if rule["alert"] == "GanzhiCertificateExpiring"]
    (panel,) = (
        panel
        for row in json.loads((ROOT / "grafana/dashboards/ingest.json").read_text())["panels"]
        for panel in [row, *row.get("panels", [])]
        if "Certificate expiry" in panel["title"]
    )
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    days = {int(found) for rule in rules for found in re.findall(r"< (\d+) \* 86400", rule)}
    assert {step["value"] for step in steps} == {None, *days}
    assert all(f"below {day}" in panel["description"] for day in days)


def test_recorded_series_are_used_and_named_by_level():
    """A recording rule is called level:metric:operation, and an alert or another one asks for it."""
    for rule in RULES:
        if "record" in rule:
            assert re.fullmatch(r"[a-z]+:[a-z_]+:[a-z0-9_]+", rule["record"])
            assert any(rule["record"] in other["expr"] for other in RULES if other is not rule)


def test_gaps_of_every_kind_have_an_alert():
    """Each kind of gap has a warning of its own, and what is beyond the series that the observer shows is told."""
    expressions = {rule["alert"]: rule["expr"] for rule in ALERTS}
    for kind in KINDS:
        name = "GanzhiGap" + kind.title().replace("_", "")
        assert expressions[name] == f'gap:missing_terminals:named{{kind="{kind}"}}'
    assert expressions["GanzhiGapsUnlisted"].endswith(f"> {GAPS_SHOWN}")


def test_the_page_of_alerts_is_complete():
    """docs/alerts.md has a row for each alert with its severities, and names each receiver."""
    page = (ROOT / "docs/alerts.md").read_text()
    rows = dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\w+\.md\) \| ([\w, ]+) \|", page, re.MULTILINE))
    severities = {
        name: [rule["labels"]["severity"] for rule in ALERTS if rule["alert"] == name] for name in NAMES
    }
    assert {name: text.split(", ") for name, text in rows.items()} == severities
    assert all(f"`{receiver}`" in page for receiver in RECEIVERS - set(DOMAINS))


@needs_promtool
def test_promtool_takes_configuration_and_rules():
    """Prometheus will load its configuration and the rules, and nothing in them is there twice."""
    # Syntax only: the secrets that it names are not here.
    run("promtool", "check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml")
    run("promtool", "check", "rules", "--lint-fatal", *map(str, FILES))


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_promtool_agrees_with_the_rules_tests(path):
    """The rules fire and stay silent as their own tests say."""
    run("promtool", "test", "rules", str(path))


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """Alertmanager's configuration with URLs in place of their files, which releases before 0.26 don't know."""
    path = tmp_path_factory.mktemp("alertmanager") / "alertmanager.yml"
    path.write_text(URL_FILE.sub(r'url: "http://127.0.0.1:9/\1"', ALERTMANAGER))
    return str(path)


@needs_amtool
def test_amtool_takes_the_configuration(configured):
    """Alertmanager will load its configuration."""
    assert "SUCCESS" in run("amtool", "check-config", configured)


def test_each_receiver_has_a_file_of_its_own():
    """Each receiver but the one that is nobody reads its URL from a file of its name; each domain has one."""
    receivers = yaml.safe_load(ALERTMANAGER)["receivers"]
    assert {one["name"] for one in receivers} == RECEIVERS
    for one in receivers:
        files = [hook["url_file"] for hook in one.get("webhook_configs", [])]
        assert files == ([] if one["name"] == "nobody" else [f"/run/secrets/alerts/{one['name']}"])


ROUTES = [
    ("watchdog", "alertname=Watchdog severity=none"),
    ("nobody", "severity=info domain=security"),
    ("duty", "severity=critical alertname=GanzhiWorkerDown"),
    ("operations", "severity=warning city=370100"),
    ("operations", "severity=unheard-of"),
    *((f"duty,{domain}", f"severity=critical domain={domain} city=370100") for domain in DOMAINS),
    *((domain, f"severity=warning domain={domain} city=370100") for domain in DOMAINS),
]


@needs_amtool
def test_alerts_find_their_receivers(configured, subtests):
    """Critical goes to who is on duty and to the domain, warnings to the domain, else to operations, info to nobody."""
    for receivers, labels in ROUTES:
        with subtests.test(labels):
            run("amtool", "config", "routes", "test", "--config.file", configured,
                f"--verify.receivers={receivers}", *labels.split())  # fmt: skip


def test_only_warnings_wait_for_the_day():
    """Every route that ends in a warning is active by day only, and no other is."""
    routes = yaml.safe_load(ALERTMANAGER)["route"]["routes"]
    leaves = [leaf for route in routes for leaf in [route, *route.get("routes", [])]]
    for leaf in leaves:
        assert ("active_time_intervals" in leaf) == (leaf.get("matchers") == ['severity="warning"'])
    assert [one for one in leaves if one.get("matchers") == ['severity="warning"']]


def test_silenced_alerts_exist():
    """Every alert that an inhibition names is one of ours."""
    for rule in yaml.safe_load(ALERTMANAGER)["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            if matcher.startswith("alertname"):
                pattern = matcher.partition('"')[2].rstrip('"')
                for branch in re.split(r"\|(?![^(]*\))", pattern):
                    assert any(re.fullmatch(branch, name) for name in NAMES), branch
