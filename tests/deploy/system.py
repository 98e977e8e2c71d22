"""A small province that runs: a worker and an observer on each storage, a simulated fleet, a Prometheus that scrapes.

For tests of what dashboards and alerts ask. One broker serves both storages. The fleet misbehaves in each way that a
panel shows: what is refused, late, flagged, missing or offline is there.
"""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from rich.console import Console

from devices.datum import Datum
from ingest import roles
from ingest.connection import connect
from ingest.settings import load
from ingest.simulate import gateways_of, load_scenario, simulate, write_gateways, write_registry
from ingest.terminals import import_gateways, import_terminals
from tests.brokers import Mosquitto, free_port
from tests.gateway import Gateway
from tests.sparkplug import metric, payload
from tests.worker import PATIENCE_SECONDS, Worker

ROOT = Path(__file__).parents[2]
PROMETHEUS = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(not PROMETHEUS, reason="needs prometheus: apt install prometheus")
CITY, COUNTY = 370200, 370202
SHOWN = "imei:860000000000009"
"""The terminal with something in each panel of its dashboard."""
SECONDS = 5
"""How long the fleet reports: Prometheus scrapes every second, and rates need a few samples."""
SCENARIO = """
time_scale = 43200
fastest_seconds = 2
bad_share = 0.05
duplicate_share = 0.05

[[fleet]]
profile = "water_meter"
terminals = 272
gateways = 136
network = "nbiot"

[[fleet]]
profile = "smoke_detector"
terminals = 60
gateways = 2
divisions = [370200]
sleepers = 0.5

[[fleet]]
profile = "video"
terminals = 32
gateways = 16

[[fleet]]
profile = "machine"
terminals = 20
gateways = 2
divisions = [370200]
unregistered = 0.2
"""
SEED = f"""
INSERT INTO terminal (id, code, scheme, division, domain, profile, gateway, state, installed_on, report_every)
SELECT (SELECT coalesce(max(id), 0) FROM terminal) + row_number() OVER (), code, split_part(code, ':', 1), {COUNTY},
       'municipal', 'water_meter', 'gw-shown', 'installed', current_date - 100, interval '1 day'
FROM unnest(ARRAY['{SHOWN}', 'imei:860000000000017', 'handle:88.101.5/a', 'handle:88.102.6/b']) AS code;
INSERT INTO alias (scheme, value, terminal_id) SELECT 'ctwing', 'shown', id FROM terminal WHERE code = '{SHOWN}';
INSERT INTO gateway (name, division, kind, owner, contact, utc_offset)
VALUES ('gw-shown', {COUNTY}, 'edge', '青岛水务', '0532-12345', NULL),
       ('gw-local', {COUNTY}, 'edge', NULL, NULL, '8 hours');
UPDATE terminal SET key_area = true WHERE profile = 'video';
-- A plan by county that is due, part of it out of reach; and what came before: a night's recount, and growth that is
-- steep enough for a forecast that a date can say.
INSERT INTO plan (version, division, domain, target, due_on, source)
SELECT 2, division, domain, CASE WHEN level = 'city' THEN 100 ELSE 1 + code % 2 END, current_date - 1, 'declared'
FROM cell JOIN division ON code = division WHERE level IN ('city', 'county') AND domain IN ('municipal', 'security');
INSERT INTO indicator (day, name, division, value)
SELECT current_date - n, 'terminals_verified', 370000, 500 * (10 - n) FROM generate_series(1, 10) AS n
UNION ALL SELECT current_date - 1, 'recount_difference', 370000, 0;
INSERT INTO quality (hour, division, unflagged, received)
VALUES (date_trunc('hour', now()) - interval '1 hour', {CITY}, 90, 100);
"""


class System(NamedTuple):
    """What runs: databases by storage, and a Prometheus with some seconds of scrapes of them all."""

    databases: dict[str, str]
    """URL as superuser."""
    prometheus: int
    """Port."""
    began: float

    def ask(self, expression: str, *, instant: bool) -> list[dict[str, object]]:
        """Series of an expression, now or since the beginning, those with nothing but NaN left out."""
        now = time.time()
        span = {"time": now} if instant else {"start": self.began, "end": now, "step": 1}
        query = urllib.parse.urlencode({"query": expression} | span)
        path = "query" if instant else "query_range"
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        return [one for one in found if any(v != "NaN" for _, v in one.get("values") or [one["value"]])]


@contextmanager
def running(databases: dict[str, str], folder: Path) -> Iterator[System]:
    """Run everything on these migrated databases, URLs by storage, until each part has been through it all."""
    scenario = folder / "scenario.toml"
    scenario.write_text(SCENARIO)
    for url in databases.values():
        _register(url, folder)
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(None, free_port(), folder))
        workers = [_worker(stack, folder, "ingest", name, url, broker) for name, url in databases.items()]
        observers = [_worker(stack, folder, "observe", name, url, broker) for name, url in databases.items()]
        began = time.time()
        port = stack.enter_context(_prometheus(folder, workers, observers))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait_ready()
        settings = load(mqtt_url=f"mqtt://127.0.0.1:{broker.port}")
        with Gateway(broker.port) as gateway:
            misbehave(gateway)
            simulate(settings, load_scenario(scenario, seconds=SECONDS), console=Console(quiet=True))
            misbehave(gateway)
            for worker in workers:
                worker.wait(lambda m: m("messages_in_flight") == 0, "done")
            for observer in observers:
                observer.start()
            for observer in observers:
                observer.wait(lambda m: m("broker_connected") == 1, "subscribed")
            gateway.publish(f"ganzhi/v1/{COUNTY}/gw-shown/status", b'{"online": false}')
        for observer in observers:
            observer.wait(
                lambda m: m("coverage_gaps", str(CITY), "", "gateway_offline") == 1, "aware of gaps"
            )
        system = System(databases, port, began)
        _wait_for_scrapes(system, len(observers))
        yield system


def _worker(stack: ExitStack, folder: Path, command: str, name: str, url: str, broker: Mosquitto) -> Worker:
    broker_url = f"mqtt://127.0.0.1:{broker.port}"
    more = {"observe_seconds": 0.5} if command == "observe" else {}
    worker = Worker(folder / f"{command}-{name}.log", command, mqtt_url=broker_url, database_url=url,
                    client_id=f"ganzhi-{name}", **more)  # fmt: skip
    stack.callback(worker.__exit__)
    return worker


def _register(url: str, folder: Path) -> None:
    """The fleet's register, the terminals of `SEED`, and the readers of the province and of the city."""
    gateways = gateways_of(load_scenario(folder / "scenario.toml"))
    write_registry(folder / "terminals.csv", gateways)
    write_gateways(folder / "gateways.csv", gateways)
    with connect(url) as conn:
        import_gateways(conn, folder / "gateways.csv")
        import_terminals(conn, folder / "terminals.csv", Datum.WGS84, lambda _: None)
        conn.execute(SEED)
        roles.make(conn, None, [CITY])


def misbehave(gateway: Gateway) -> None:
    """Everything that a panel shows and a good fleet does not do, and what the shown terminal says."""
    now = datetime.now(UTC)
    shown, local = (f"ganzhi/v1/{COUNTY}/{name}/telemetry" for name in ("gw-shown", "gw-local"))

    def reading(name: str, value: object, at: datetime = now, code: str = SHOWN) -> dict[str, object]:
        return {"id": code, "t": at.isoformat(), "values": {name: value}}

    for said in (
        reading("water_volume", now.timestamp() % 1000),
        reading("temperature", 130),  # suspect
        reading("water_volume", 1, now - timedelta(days=2)),  # late
        reading("water_volume", 1, now + timedelta(hours=1)),  # time_in_future
        reading("water_volume", 1, now - timedelta(days=400)),  # time_too_old
        reading("humidity", 1e6),  # out_of_range
        reading("humidity", 1e6, code="imei:860000000000017"),  # a terminal all of whose readings are refused
        reading("valve", f"stuck at {now.timestamp()}"),  # an event
        {"id": SHOWN, "values": {"battery": now.timestamp() % 100}},  # without a time
    ):
        gateway.publish(shown, json.dumps([said]).encode())
    gateway.publish(shown, f"no JSON {now.timestamp()}".encode())
    gateway.publish(local, json.dumps([reading("tilt", 1, now + timedelta(hours=8))]).encode())
    gateway.publish("ganzhi/v1/999999/gw-nowhere/telemetry", json.dumps([reading("tilt", 1)]).encode())
    ms = round(now.timestamp() * 1000)
    level = metric(name="level", timestamp=ms, datatype=10, double=now.timestamp() % 100)
    born = payload(metric(name="bdSeq", datatype=8, long=0), level, at_ms=ms, seq=0)
    gateway.publish("spBv1.0/plant/NBIRTH/edge", born)
    for number in (1, 5):
        gateway.publish("spBv1.0/plant/NDATA/edge", payload(level, at_ms=ms + number, seq=number))


@contextmanager
def _prometheus(folder: Path, workers: list[Worker], observers: list[Worker]) -> Iterator[int]:
    """The port of a Prometheus with the jobs of deploy/prometheus and the rules of grafana/alerts."""
    assert PROMETHEUS
    deployed = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {"ingest": workers, "observe": observers}
    jobs = [job["job_name"] for job in deployed["scrape_configs"] if job["job_name"] in targets]
    assert jobs == list(targets)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "grafana/alerts/*.yml"), str(_always_firing(folder))],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{w.port}" for w in targets[job]]}]}
            for job in jobs
        ],
    }
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            [PROMETHEUS, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)  # fmt: skip
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _always_firing(folder: Path) -> Path:
    """An alert, since nothing else need fire here and panels show what does."""
    rule = {"alert": "GanzhiTestFires", "expr": "vector(1)", "labels": {"severity": "critical"}}
    file = folder / "firing.rules"
    file.write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": [rule]}]}))
    return file


def _wait_for_scrapes(system: System, observers: int) -> None:
    """Until Prometheus has two scrapes of all observers, and has evaluated the rules on them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    twice = "count(count_over_time(ganzhi_recount_difference[1m]) >= 3)"
    while not (found := system.ask(twice, instant=True)) or float(found[0]["value"][1]) < observers:
        assert time.monotonic() < deadline, "Prometheus does not scrape the observers"
        time.sleep(0.2)
