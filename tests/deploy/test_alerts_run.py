"""Alerts on their way: Prometheus and Alertmanager run with the deployed files, and a web hook notes what comes."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.brokers import free_port
from tests.worker import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
needs_both = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER),
    reason="needs prometheus and alertmanager: apt install prometheus prometheus-alertmanager",
)
METRICS = """\
ganzhi_division_info{code="370100",name_zh="济南市",name_en="Jinan"} 1
ganzhi_division_info{code="370200",name_zh="青岛市",name_en="Qingdao"} 1
ganzhi_terminals{city="370100",domain="municipal",state="live"} 10
ganzhi_terminals{city="370200",domain="municipal",state="live"} 9000
ganzhi_coverage_gap_info{gap="1",city="370100",domain="municipal",kind="dark",gateway=""} 3000
ganzhi_coverage_gap_info{gap="2",city="370200",domain="energy",kind="outage",gateway=""} 2000
"""
"""Most of Jinan is gone; in Qingdao one cell has an outage that wakes somebody."""


class Hooks(ThreadingHTTPServer):
    """Serves the observer's metrics, and takes posts: what each receiver was told, by its path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.told = {}

    @property
    def address(self):
        return "{}:{}".format(*self.server_address)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(METRICS.encode())

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.setdefault(self.path.strip("/"), []).extend(said["alerts"])
        self.answer(b"")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def program(folder, name, *arguments):
    """A server that ends with the test."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([*arguments], cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def alertmanager_config(hooks):
    """The deployed file, with our hooks for its files of URLs, and a second to wait for what has one cause."""
    text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    text = re.sub(r"url_file: /run/secrets/alerts/(\w+)", rf'url: "http://{hooks.address}/\1"', text)
    return text.replace("group_wait: 30s", "group_wait: 1s")


def prometheus_config(hooks, alertmanager):
    """The deployed file with the addresses of this test, without tokens, fifteen times as fast."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ROOT / "grafana/alerts/*.yml")]
    config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager}"]}]
    (observe,) = (job for job in config["scrape_configs"] if job["job_name"] == "observe")
    del observe["authorization"]
    observe["static_configs"] = [{"targets": [hooks.address]}]
    config["scrape_configs"] = [observe]
    return yaml.safe_dump(config)


@pytest.fixture
def running(tmp_path):
    """The hooks, and Alertmanager's port."""
    hooks, alertmanager, prometheus = Hooks(), free_port(), free_port()
    thread = threading.Thread(target=hooks.serve_forever, args=(0.05,))
    thread.start()
    (tmp_path / "alertmanager.yml").write_text(alertmanager_config(hooks))
    (tmp_path / "prometheus.yml").write_text(prometheus_config(hooks, alertmanager))
    with ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(hooks.server_close)
        stack.callback(hooks.shutdown)
        stack.enter_context(
            program(tmp_path, "alertmanager", ALERTMANAGER, "--config.file=alertmanager.yml", "--storage.path=alerts",
                    f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address=")
        )  # fmt: skip
        stack.enter_context(
            program(tmp_path, "prometheus", PROMETHEUS, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
                    f"--web.listen-address=127.0.0.1:{prometheus}", "--rules.alert.resend-delay=1s")
        )  # fmt: skip
        yield hooks, alertmanager


def suppressed(port):
    """Names and cities of alerts that Alertmanager knows and an inhibition keeps back."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=5) as answer:
            alerts = json.load(answer)
    except OSError:
        return set()
    return {
        (one["labels"]["alertname"], one["labels"].get("city"))
        for one in alerts
        if one["status"]["inhibitedBy"]
    }


def post(port, *names):
    """Give Alertmanager critical alerts of the service, as Prometheus does."""
    alerts = [{"labels": {"alertname": name, "severity": "critical", "job": "ingest"}} for name in names]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v2/alerts",
        json.dumps(alerts).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=5).close()


def names(told, receiver):
    return {(one["labels"]["alertname"], one["labels"].get("city")) for one in told.get(receiver, [])}


@needs_both
def test_alerts_reach_their_receivers_and_causes_silence_consequences(running):
    """A city that is gone is one alert to who is on duty, a large gap goes to its domain too, warnings of both stay.

    One worker that is down, or lacks broker or database, changes none of it; while nothing is received no gap is told.
    """
    hooks, port = running
    kept_back = {("GanzhiGapLarge", "370100"), ("GanzhiGapDark", "370100"), ("GanzhiGapOutage", "370200")}
    awaited = {
        "watchdog": {("Watchdog", None)},
        "duty": {("GanzhiCityOutage", "370100"), ("GanzhiGapLarge", "370200")},
        "energy": {("GanzhiGapLarge", "370200")},
    }
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (
        any(not names(hooks.told, who) >= what for who, what in awaited.items())
        or suppressed(port) != kept_back
    ):
        assert time.monotonic() < deadline, (
            {who: names(hooks.told, who) for who in hooks.told},
            suppressed(port),
        )
        time.sleep(0.1)
    assert {who: names(hooks.told, who) for who in hooks.told} == awaited
    (city,) = (one for one in hooks.told["duty"] if one["labels"]["alertname"] == "GanzhiCityOutage")
    assert city["annotations"]["dashboard_url"] == "http://127.0.0.1:3000/d/ganzhi-city?var-city=370100"
    assert city["annotations"]["summary"].startswith("济南市：全市大面积失联，3000 个终端 / Jinan")
    assert "grafana" not in city["labels"]
    one_worker = {"GanzhiWorkerDown", "GanzhiBrokerDown", "GanzhiDatabaseDown"}
    post(port, *one_worker)
    while not names(hooks.told, "duty") >= {(name, None) for name in one_worker}:
        assert time.monotonic() < deadline, names(hooks.told, "duty")
        time.sleep(0.1)
    assert suppressed(port) == kept_back
    post(port, "GanzhiIngestDown")
    everywhere = kept_back | {("GanzhiGapLarge", "370200"), ("GanzhiCityOutage", "370100")}
    while suppressed(port) != everywhere:
        assert time.monotonic() < deadline, suppressed(port)
        time.sleep(0.1)
