"""docker-compose.yml without containers: the same programs, commands, environment and files, started on this machine.

What differs is what has to: service names become 127.0.0.1, ports are free ones, paths lie in the test's folder, and
Prometheus and the observer look every second. The database server is the tests' own, which asks for no password.
Grafana is not started; its part is tests/deploy/test_dashboards.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.brokers import free_port, needs_mosquitto
from tests.deploy.test_mosquitto import Deployed
from tests.postgres import timescale_programs
from tests.worker import PATIENCE_SECONDS

pytestmark = needs_mosquitto

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
TOPIC = "ganzhi/v1/370202/gw-native/telemetry"
READING = b'[{"bn":"imei:860000000000009/","n":"temperature","u":"Cel","v":21.5}]'
PROGRAMS = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}
"""Debian's names. The images' entry points are the same programs."""
PORTS = {"timescaledb": 5432, "ingest": 9108, "observe": 9107, "prometheus": 9090, "alertmanager": 9093}
"""What each listens on in its container."""
STORED = (
    "SELECT terminal, metric, value, division FROM reading_detail WHERE terminal = 'imei:860000000000009'"
)


class Machine:
    """The services of docker-compose.yml as processes; ends them all when it is left."""

    def __init__(self, folder, database_url):
        self.folder = folder
        self.broker = Deployed(folder)
        self.ports = {name: free_port() for name in PORTS}
        self.ports["timescaledb"] = urllib.parse.urlsplit(database_url).port
        self._database = urllib.parse.urlsplit(database_url).path
        self._stack = ExitStack()
        for file in self.broker.secrets.glob("*_url"):
            file.chmod(0o600)
            file.write_text(self.here(file.read_text()))

    def __enter__(self):
        self._stack.enter_context(self.broker)
        return self

    def __exit__(self, *_):
        self._stack.close()

    def here(self, text):
        """A text of the compose file, or of a file that it mounts, as it is on this machine."""
        text = text.replace("mosquitto:1883", f"127.0.0.1:{self.broker.port}").replace(
            "5432/ganzhi", f"5432{self._database}"
        )
        for name, port in PORTS.items():
            text = re.sub(rf"\b(?:{name}|127\.0\.0\.1):{port}\b", f"127.0.0.1:{self.ports[name]}", text)
        return text.replace("/run/secrets", str(self.broker.secrets)).replace(
            "/etc/ganzhi", str(self.folder / "etc")
        )

    def environment(self, name):
        """Of a service of ours: what the compose file sets, and the ports of this machine."""
        said = {key: self.here(value) for key, value in SERVICES[name].get("environment", {}).items()}
        here = {
            "GANZHI_HTTP_PORT": self.ports["ingest"], "GANZHI_OBSERVER_HTTP_PORT": self.ports["observe"],
            "GANZHI_OBSERVE_SECONDS": 1,
        }  # fmt: skip
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GANZHI_")}
        return inherited | said | {key: str(value) for key, value in here.items()}

    def command(self, name):
        """What the service runs, with `ganzhi` as this Python has it."""
        program = (
            [sys.executable, "-m", "ingest.cli"]
            if "build" in SERVICES[name]
            else [shutil.which(PROGRAMS[name])]
        )
        return program + [self.here(word) for word in SERVICES[name]["command"]]

    def run(self, name, words=None):
        """A service that ends by itself, or after the first words of its command."""
        done = subprocess.run(self.command(name)[:words], env=self.environment(name), capture_output=True, text=True,
                              check=False, timeout=PATIENCE_SECONDS)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name, *options):
        """A service that goes on; `--name=value` in place of what the compose file says."""
        replaced = {option.partition("=")[0] for option in options}
        words = [word for word in self.command(name) if word.partition("=")[0] not in replaced]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([*words, *options], env=self.environment(name), stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def mount(self, name, path):
        """A folder or file that a service mounts, as text on this machine; its place."""
        source = next(
            ROOT / volume.split(":")[0]
            for volume in SERVICES[name]["volumes"]
            if volume.split(":")[1] == path
        )
        place = (
            Path(self.here(path)) if path.startswith("/etc/ganzhi") else self.folder / "etc" / Path(path).name
        )
        for file in [source] if source.is_file() else source.glob("*.yml"):
            to = place if source.is_file() else place / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            text = self.here(file.read_text()).replace("_interval: 15s", "_interval: 1s")
            to.write_text(text)
        return place

    def healthy(self, name):
        """Whether the service's own health check says so."""
        test = SERVICES[name]["healthcheck"]["test"][1:]
        words = [sys.executable if word == "python" else self.here(word) for word in test]
        if not shutil.which(words[0]):
            pytest.skip(f"needs {words[0]}, which the health check of {name} calls")
        return subprocess.run(words, capture_output=True, check=False, timeout=30).returncode == 0

    def ask(self, name, path, **parameters):
        """JSON from the API of Prometheus or Alertmanager."""
        url = f"http://127.0.0.1:{self.ports[name]}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def metric(self, expression):
        """The value of an expression in Prometheus; None where there is none."""
        found = self.ask("prometheus", "/api/v1/query", query=expression)["data"]["result"]
        return float(found[0]["value"][1]) if found else None


def wait(done, what):
    """Until `done` answers with something; what it answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := done()):
        assert time.monotonic() < deadline, f"not {what}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def machine(servers, tmp_path_factory):
    """Broker, database, migrations, worker, observer, and of Prometheus and Alertmanager what is installed."""
    server = servers("timescale" if timescale_programs() else "postgres")
    with server.database() as url, Machine(tmp_path_factory.mktemp("machine"), url) as machine:
        machine.migrated = machine.run("migrate")
        for name in ("ingest", "observe"):
            machine.start(name)
        if shutil.which(PROGRAMS["alertmanager"]):
            file = machine.mount("alertmanager", "/etc/alertmanager/alertmanager.yml")
            # Debian 12 has Alertmanager 0.25, which reads URLs from no file.
            file.write_text(re.sub(r"url_file: [^,}]+", "url: http://127.0.0.1:9/", file.read_text()))
            machine.start("alertmanager", f"--config.file={file}", f"--storage.path={machine.folder / 'alerts'}",
                          f"--web.listen-address=127.0.0.1:{machine.ports['alertmanager']}")  # fmt: skip
        if shutil.which(PROGRAMS["prometheus"]):
            for path in ("/etc/ganzhi/deploy/prometheus/prometheus.yml", "/etc/ganzhi/grafana/alerts"):
                machine.mount("prometheus", path)
            machine.start("prometheus", f"--storage.tsdb.path={machine.folder / 'tsdb'}",
                          f"--web.listen-address=127.0.0.1:{machine.ports['prometheus']}")  # fmt: skip
        yield machine


def needs(name):
    return pytest.mark.skipif(
        not shutil.which(PROGRAMS[name]), reason=f"needs {PROGRAMS[name]}: apt install it"
    )


def test_a_reading_goes_all_the_way(machine):
    """What a client publishes with its password is committed by the worker, as its role, and read as the reader's."""
    for name in ("ingest", "observe"):
        wait(lambda name=name: machine.healthy(name), f"{name} healthy")
    with machine.broker.client("simulator") as gateway:
        assert gateway.publish(TOPIC, READING).value == 0
    password = (machine.broker.secrets / "ganzhi_reader").read_text().strip()
    url = machine.here(f"postgresql://ganzhi_reader:{password}@timescaledb:5432/ganzhi")
    with psycopg.connect(url, autocommit=True) as reader:
        (row,) = wait(lambda: reader.execute(STORED).fetchall(), "a reading stored")
    assert row == ("imei:860000000000009", "temperature", 21.5, 370202)
    assert "ganzhi_writer" in machine.migrated


def test_the_simulated_fleet_reports(machine):
    """The profile `simulate` publishes with its own password, and its readings land."""
    url = machine.here("postgresql://postgres@timescaledb:5432/ganzhi")
    fleet = machine.start("simulate")
    with psycopg.connect(url, autocommit=True) as conn:
        count = "SELECT count(*) FROM (SELECT FROM reading LIMIT 100) AS first"
        wait(lambda: conn.execute(count).fetchone() == (100,), "a fleet's readings stored")
    assert fleet.poll() is None


def test_maintenance_runs_as_the_owner(machine):
    """One run of what `maintain` runs every hour works with the role that it logs in as."""
    assert SERVICES["maintain"]["command"][-2:] == ["--every", "1"]
    machine.run("maintain", -2)


def test_nobody_reads_metrics_without_the_token(machine):
    """Both services listen beyond this machine, so they answer 401 to who does not show the token."""
    for name in ("ingest", "observe"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{machine.ports[name]}/metrics", timeout=10)


@needs("prometheus")
def test_prometheus_sees_it(machine):
    """Prometheus scrapes worker and observer with the token, evaluates every rule, and has the reading."""
    wait(lambda: machine.healthy("prometheus"), "Prometheus healthy")
    wait(lambda: machine.metric("sum(ganzhi_readings_committed_total)"), "a reading counted")
    wait(
        lambda: machine.metric('sum(ganzhi_terminals{city="370200", state="discovered"})'),
        "a terminal counted",
    )
    assert machine.metric('count(up{job=~"ingest|observe"} == 1)') == 2
    groups = wait(lambda: rules(machine), "all rules evaluated")
    files = {path.name for path in (ROOT / "grafana/alerts").glob("*.yml")}
    assert {Path(group["file"]).name for group in groups} == files


def rules(machine):
    """Groups of rules, once each with the usual interval has been evaluated without an error."""
    groups = machine.ask("prometheus", "/api/v1/rules")["data"]["groups"]
    health = {rule["health"] for group in groups if group["interval"] == 1 for rule in group["rules"]}
    assert "err" not in health
    return groups if health == {"ok"} else None


@needs("alertmanager")
@needs("prometheus")
def test_prometheus_reaches_alertmanager(machine):
    """Alertmanager takes its configuration, and Prometheus knows where it is."""
    wait(lambda: machine.healthy("alertmanager"), "Alertmanager healthy")
    url = f"http://127.0.0.1:{machine.ports['alertmanager']}/api/v2/alerts"
    found = wait(
        lambda: machine.ask("prometheus", "/api/v1/alertmanagers")["data"]["activeAlertmanagers"], "found"
    )
    assert [one["url"] for one in found] == [url]
