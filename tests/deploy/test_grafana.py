"""Dashboards, and what they and the alert rules name: all of it exists."""

import json
import re
from pathlib import Path

import pytest
import yaml

from devices.division import DIVISIONS, PROVINCE
from grafana import folder, render
from ingest.metrics import Metrics
from ingest.observer_metrics import GAUGES, REMOVED

ROOT = Path(__file__).parents[2]
BOARDS = {
    path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))
}
ALERTS = sorted((ROOT / "grafana/alerts").glob("*.yml"))
RULES = [
    rule for path in ALERTS for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
HAN = re.compile("[\u4e00-\u9fff]")
LATIN = re.compile("[A-Za-z]{2}")
SELECTOR = re.compile(r"\b(?:ganzhi_\w+|up)(\{[^}]*\})?")
CITY = DIVISIONS[370100]
OWN = {
    path: json.loads(text)
    for path, text in folder.files(CITY, 2, "db:5432").items()
    if path.endswith(".json")
}
"""What a city's own readers get."""


def _metrics():
    """Names and labels that workers and the observer export."""
    registry = Metrics(routes=["telemetry"]).registry
    families = list(registry.collect())
    names = {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}
    labels = {label for c in registry._collector_to_names for label in getattr(c, "_labelnames", ())}
    names |= {family.name for family in GAUGES} | {f"{REMOVED.name}_total"}
    names |= {"ganzhi_goal_due_timestamp_seconds", "ganzhi_division_info"}
    labels |= {label for family in GAUGES for label in family.labels} | {"name_zh", "name_en", "code"}
    return names, labels | {"le", "instance", "job", "alertname", "severity", "shown"}


METRICS, LABELS = _metrics()


def _panels(board):
    """Every panel, those of folded rows too."""
    for panel in board["panels"]:
        yield from panel.get("panels", []) if panel["type"] == "row" else [panel]


def _asking(board):
    return [panel for panel in _panels(board) if panel["type"] != "text"]


def _expressions():
    for name, board in BOARDS.items():
        for panel in _asking(board):
            for target in panel["targets"]:
                if "expr" in target:
                    yield pytest.param(target["expr"], id=f"{name}-{panel['id']}{target['refId']}")


def test_files_are_what_the_code_makes():
    """Each committed dashboard, and the points of the maps, are byte for byte what grafana/render.py writes."""
    made = {f"dashboards/{name}": text for name, text in render.render().items()}
    made["maps/divisions.json"] = render.points()
    stale = [name for name, text in made.items() if (ROOT / "grafana" / name).read_text() != text]
    assert not stale, "run make docs"
    assert {f"{name}.json" for name in BOARDS} == set(render.DASHBOARDS)


@pytest.mark.parametrize(
    "expression", [*_expressions(), *(pytest.param(rule["expr"], id=rule.get("alert")) for rule in RULES)]
)
def test_expressions_name_metrics_and_labels_that_exist(expression):
    """Every metric and every label that a panel or a rule groups by is one that workers or the observer export."""
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    assert set(re.findall(r"ganzhi_[\w:]+", expression)) <= METRICS | recorded
    for group in re.findall(r"\b(?:by|on|group_left|without) ?\(([^)]*)\)", expression):
        assert set(filter(None, group.split(", "))) <= LABELS


@pytest.mark.parametrize("expression", list(_expressions()))
def test_panels_follow_the_choice_of_job(expression):
    """Every series of ours is chosen by job; rates are over Grafana's interval, counters only in rates or increases."""
    for found in SELECTOR.finditer(expression):
        assert 'job=~"$job"' in (found[1] or ""), expression
    assert set(re.findall(r"rate\([^\[]*\[([^\]]*)\]", expression)) <= {"$__rate_interval"}


@pytest.mark.parametrize("expression", list(_expressions()))
def test_no_zero_stands_for_a_service_that_is_gone(expression):
    """0 in place of no series is said of alerts, which Prometheus makes itself, and of no metric of ours."""
    assert "vector(" not in expression or "ganzhi_" not in expression


def test_every_panel_of_ingest_follows_the_choice_of_worker():
    """Workers are chosen by instance; what only the observer knows is not theirs."""
    observed = {family.name for family in GAUGES}
    for parameter in _expressions():
        if str(parameter.id).startswith("ingest-"):
            (expression,) = parameter.values
            for found in SELECTOR.finditer(expression):
                name = found[0].partition("{")[0]
                assert name in observed or 'instance=~"$instance"' in found[0]


@pytest.mark.parametrize("board", [*BOARDS.values(), *OWN.values()], ids=[*BOARDS, *OWN])
class TestDashboard:
    def test_identity(self, board):
        """Its title speaks both languages, it links to the others with variables and time, nobody edits it."""
        assert HAN.search(board["title"]) and LATIN.search(board["title"])
        assert board["editable"] is False
        (link,) = board["links"]
        assert (link["tags"], link["includeVars"], link["keepTime"]) == (board["tags"], True, True)
        assert "placement" not in link

    def test_data_sources_are_variables(self, board):
        """Data sources are chosen at the top, every panel follows the choice, and every variable is used."""
        variables = {variable["name"]: variable for variable in board.get("templating", {}).get("list", [])}
        sources = {f"${{{name}}}" for name, variable in variables.items() if variable["type"] == "datasource"}
        assert {panel["datasource"]["uid"] for panel in _asking(board)} == sources
        text = json.dumps(board)
        for name, variable in variables.items():
            assert HAN.search(variable["label"]) and LATIN.search(variable["label"])
            assert f"${name}" in text or f"${{{name}" in text
            if variable["type"] == "query":
                assert variable["refresh"] == 2, "a new series is found when the time range changes"

    def test_panels_explain_themselves(self, board):
        """Every panel has a title and a description in Chinese and English, and a unit; a number has limits."""
        for panel in _panels(board):
            for text in (panel["title"], panel["description"]):
                assert HAN.search(text) and LATIN.search(text), text
        for panel in _asking(board):
            assert panel["fieldConfig"]["defaults"]["unit"]
            if panel["type"] == "stat":
                assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]

    def test_ids_are_unique(self, board):
        """Panels have distinct ids, and a panel's queries distinct letters."""
        ids = [panel["id"] for panel in [*board["panels"], *_panels(board)] if panel["type"] == "row"]
        ids += [panel["id"] for panel in _panels(board)]
        assert len(set(ids)) == len(ids)
        for panel in _asking(board):
            letters = [target["refId"] for target in panel["targets"]]
            assert len(set(letters)) == len(letters) > 0

    def test_panels_do_not_overlap(self, board):
        """No grid cell belongs to two panels, and none lies beyond the 24 columns."""
        cells = [
            (x, y)
            for panel in board["panels"]
            for grid in [panel["gridPos"]]
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24

    def test_links_lead_to_dashboards_that_exist(self, board):
        """A link inside Grafana names the uid of a dashboard of the same organisation."""
        known = {other["uid"] for other in (BOARDS if board in BOARDS.values() else OWN).values()}
        assert set(re.findall(r"/d/([\w-]+)", json.dumps(board))) <= known

    def test_nothing_is_fetched_from_the_internet(self, board):
        """Maps draw on what Grafana serves itself, and no panel names a host."""
        assert "http" not in json.dumps([panel.get("options") for panel in _asking(board)])
        for panel in _asking(board):
            if panel["type"] == "geomap":
                assert panel["options"]["basemap"]["type"] == "geojson"


def test_uids_follow_from_files():
    """A dashboard's uid is its file's name, so that links survive."""
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        name: f"ganzhi-{name}" for name in BOARDS
    }


@pytest.mark.parametrize("name", [name for name in BOARDS if name not in {"terminal", "runbooks"}])
def test_the_top_row_says_whether_it_is_ok(name):
    """The first row is numbers that are coloured by their state, and leads to the runbooks."""
    first, *rest = BOARDS[name]["panels"]
    assert first["title"] == "是否正常 / Is it OK?"
    top = [panel for panel in rest if panel["gridPos"]["y"] == 1]
    assert len(top) == 8
    for panel in top:
        colours = {step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]}
        assert "green" in colours and colours & {"red", "yellow"}
        assert [link["url"] for link in panel["links"]] == ["/d/ganzhi-runbooks"]


def test_a_citys_own_board_says_whether_it_is_ok():
    """Its readers have no runbooks, and are told by the same colours."""
    first, *rest = OWN[f"cities/{CITY.code}/city.json"]["panels"]
    assert first["title"] == "是否正常 / Is it OK?"
    top = [
        panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        for panel in rest
        if panel["gridPos"]["y"] == 1
    ]
    assert [{"green", "red"} <= {step["color"] for step in steps} for steps in top] == [True] * 4


def test_every_runbook_is_in_grafana():
    """Whoever is called at night finds each runbook under its alert's name, without links that lead nowhere."""
    rows = {row["title"]: row["panels"][0]["options"]["content"] for row in BOARDS["runbooks"]["panels"]}
    assert list(rows) == sorted(path.stem for path in (ROOT / "docs/runbooks").glob("*.md"))
    for content in rows.values():
        assert set(re.findall(r"\]\(([^)]*)\)", content)) <= {f"/d/ganzhi-{name}" for name in BOARDS}


class TestMaps:
    def test_outlines_are_of_the_sixteen_cities(self):
        """The outlines carry the codes of today's cities."""
        outlines = json.loads((ROOT / "grafana/maps/shandong_cities.geojson").read_text())
        codes = {int(feature["properties"]["code"]) for feature in outlines["features"]}
        assert codes == {code for code, division in DIVISIONS.items() if division.level == "city"}

    def test_every_city_and_county_has_a_point(self):
        """The gazetteer has a point within Shandong for each of 16 cities and 136 counties."""
        points = {
            place["key"]: place for place in json.loads((ROOT / "grafana/maps/divisions.json").read_text())
        }
        places = {str(code) for code, division in DIVISIONS.items() if division.level in {"city", "county"}}
        assert set(points) == places
        for place in points.values():
            assert 114 < place["longitude"] < 123 and 34 < place["latitude"] < 39

    def test_a_county_begins_with_its_citys_code(self):
        """The map of counties leads to the city by the first four digits."""
        for code, division in DIVISIONS.items():
            if division.level == "county":
                assert division.parent == code // 100 * 100 != PROVINCE


class TestCityFolder:
    def test_it_asks_the_citys_database_only(self):
        """A city's own dashboards ask as the city's reader alone: no Prometheus, no other data source or city."""
        for board in OWN.values():
            for variable in board["templating"]["list"]:
                if variable["type"] == "datasource":
                    assert variable["regex"] == f"/^Ganzhi {CITY.code}$/"
                elif variable["name"] == "city":
                    assert (variable["type"], variable["query"]) == ("constant", str(CITY.code))
            assert all("rawSql" in target for panel in _asking(board) for target in panel["targets"])

    def test_its_provisioning_logs_in_as_the_citys_reader(self):
        """Data source and folder are of the city's organisation, and the login is the role that --city-reader makes."""
        made = folder.files(CITY, 2, "db:5432")
        (source,) = yaml.safe_load(made["provisioning/datasources/ganzhi-370100.yml"])["datasources"]
        (provider,) = yaml.safe_load(made["provisioning/dashboards/ganzhi-370100.yml"])["providers"]
        assert (source["user"], source["name"]) == ("ganzhi_reader_370100", "Ganzhi 370100")
        assert source["orgId"] == provider["orgId"] == 2
        assert provider["options"]["path"] == "/etc/ganzhi/grafana/cities/370100"
        assert provider["allowUiUpdates"] is source["editable"] is False


def test_provisioning_finds_the_dashboards_and_the_data_source():
    """Grafana's provisioning files name the folder and the host that docker-compose.yml gives it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    provisioning = ROOT / "grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/ganzhi.yml").read_text())["providers"]
    mounted = compose["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounted
    assert "./grafana/maps:/usr/share/grafana/public/ganzhi:ro" in mounted
    assert provider["allowUiUpdates"] is False
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
