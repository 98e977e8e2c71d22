"""The contract's section 6, name by name: what dashboards and alert rules are written against."""

from collections import Counter
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from devices import coverage
from devices.coverage import Grid, Target
from devices.division import DIVISIONS, DOMAINS
from devices.gap import Gap
from devices.presence import Facts, Fleet
from devices.states import Kind, Life
from ingest.metrics import Metrics
from ingest.observer_metrics import ObserverMetrics
from ingest.round import Seen
from ingest.settings import Settings

NOW = 1_763_712_000.0
LIXIA, PLACES = 370102, [code for code, division in DIVISIONS.items() if division.level != "zone"]
GRID = Grid(dict(enumerate(((place, domain) for place in PLACES for domain in DOMAINS), 1)))
OBSERVER = """
ganzhi_terminals{city,domain,state} ganzhi_terminals_target{city,domain} ganzhi_terminals_goal
ganzhi_terminals_installed ganzhi_terminals_verified ganzhi_terminals_active ganzhi_terminals_invalid{city}
ganzhi_goal_progress_ratio ganzhi_goal_declared_ratio ganzhi_goal_due_timestamp_seconds
ganzhi_goal_forecast_timestamp_seconds ganzhi_nodes_goal ganzhi_nodes_verified ganzhi_buildout_ratio{city,domain}
ganzhi_networking_ratio{city,domain} ganzhi_networking_daily_ratio{city} ganzhi_coverage_ratio{city,domain}
ganzhi_county_coverage_ratio{county} ganzhi_counties_covered_ratio ganzhi_video_terminals{city,kind}
ganzhi_video_smart_ratio{city} ganzhi_video_networking_ratio{city} ganzhi_identifier_nodes{level}
ganzhi_quality_ratio{city} ganzhi_coverage_gaps{city,domain,kind}
ganzhi_coverage_gap_info{gap,city,domain,kind,gateway} ganzhi_gateways{city,state} ganzhi_recount_difference
ganzhi_duplicate_readings_removed_total ganzhi_ledger_rows ganzhi_database_bytes
ganzhi_observer_last_run_timestamp_seconds ganzhi_division_info{code,name_zh,name_en}
"""
SERVICE = """
ganzhi_messages_received_total{route} ganzhi_messages_committed_total ganzhi_messages_duplicate_total
ganzhi_messages_rejected_total{reason} ganzhi_messages_in_flight ganzhi_readings_received_total
ganzhi_readings_committed_total{domain} ganzhi_readings_duplicate_total ganzhi_readings_rejected_total{reason}
ganzhi_readings_in_flight ganzhi_readings_flagged_total{flag} ganzhi_events_committed_total
ganzhi_rejections_unstored_total ganzhi_batch_readings ganzhi_commit_seconds ganzhi_ingest_lag_seconds
ganzhi_observation_age_seconds ganzhi_oldest_unacknowledged_seconds ganzhi_last_commit_timestamp_seconds
ganzhi_broker_connected ganzhi_database_up ganzhi_sessions_lost_total ganzhi_direct_compress
ganzhi_sequence_gaps_total{source} ganzhi_certificate_expiry_timestamp_seconds{which}
ganzhi_build_info{python,version}
"""


def named(text):
    """Metric -> its labels, in order of the alphabet."""
    split = (item.partition("{") for item in text.split())
    return {name: tuple(sorted(labels.strip("}").split(","))) if labels else () for name, _, labels in split}


def collected(registry):
    """The same of what a scrape would hold: samples, not families that have none."""
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            name = family.name if family.type == "histogram" else sample.name
            labels = set(sample.labels) - ({"le"} if family.type == "histogram" else set())
            assert found.setdefault(name, tuple(sorted(labels))) == tuple(sorted(labels)), name
    return found


@pytest.fixture
def seen():
    """A look at three terminals in one county, one of them a camera, of which all figures can be had."""
    fleet, day = Fleet(8), 100
    meter = fleet.kind_of(Kind(86_400, nbiot=True, video=False, smart=None, key_area=None))
    camera = fleet.kind_of(Kind(60, nbiot=False, video=True, smart=True, key_area=True))
    cells = [GRID.id[LIXIA, "municipal"]] * 2 + [GRID.id[LIXIA, "security"]]
    fleet.put(
        Facts(
            ids=np.arange(1, 4, dtype=np.uint32),
            cell=np.array(cells, np.int16),
            kind=np.array([meter, meter, camera], np.int16),
            life=np.full(3, Life.REGISTERED, np.uint8),
            installed_day=np.full(3, day, np.int16),
            gateway=np.zeros(3, np.int32),
        )
    )
    fleet.hear(np.array([1, 3], np.uint32), NOW)
    plan = [Target(370100, "municipal", 100, date(2025, 1, 1), "declared"),
            Target(LIXIA, "municipal", 10, date(2025, 1, 1), "declared")]  # fmt: skip
    targets = coverage.targets_on(plan, date(2025, 11, 21))
    report = coverage.report(fleet.count(NOW, None, GRID.size, 1), GRID, targets, ("municipal",))
    gap = Gap("outage", LIXIA, "municipal", "gw1", expected=10, live=1, evidence={}, id=1, opened_seconds=NOW)
    return Seen(
        report=report,
        gaps=[gap],
        gateways=Counter({(370100, "online"): 1}),
        quality={370100: (9, 10)},
        identifier_nodes={"secondary": 1, "enterprise": 2},
        ledger_rows=1,
        database_bytes=1,
        duplicates_removed=1,
        forecast_on=date(2027, 1, 1),
        recount_difference=0,
    )


def test_the_observer_has_every_metric_of_the_contract(seen):
    """Each has its labels, and a series as soon as there is a figure."""
    metrics = ObserverMetrics(Settings(), lambda: True)
    metrics.seen = seen
    found, wanted = collected(metrics.registry), named(OBSERVER)
    assert {name: found.get(name) for name in wanted} == wanted


def test_a_worker_has_every_metric_of_the_contract():
    """Each has its labels; those of closed sets have a series before their first event."""
    metrics = Metrics(["native"])
    metrics.certificate_expiry.labels("client").set(NOW)
    found, wanted = collected(metrics.registry), named(SERVICE)
    assert {name: found.get(name) for name in wanted} == wanted


def test_a_gap_that_is_looked_after_alerts_nobody(seen):
    """It is counted among the open ones, and is none of those that alerts are made of."""
    metrics = ObserverMetrics(Settings(), lambda: True)
    labels = {"gap": "1", "city": "370100", "domain": "municipal", "kind": "outage", "gateway": "gw1"}
    for change, missing in (
        ({}, 9),
        ({"evidence": {"maintenance": 3}}, None),
        ({"acknowledged": True}, None),
    ):
        metrics.seen = replace(seen, gaps=[replace(seen.gaps[0], **change)])
        assert metrics.registry.get_sample_value("ganzhi_coverage_gap_info", labels) == missing
        counted = {name: labels[name] for name in ("city", "domain", "kind")}
        assert metrics.registry.get_sample_value("ganzhi_coverage_gaps", counted) == 1
