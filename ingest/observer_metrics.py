"""The observer's metrics, made anew from each look. Names are public (contract, section 6).

Labels come from closed sets: divisions, domains, states, kinds; only the 200 largest open gaps name a
gateway. Where there is no figure there is no series: a ratio without a denominator, a city without a target.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from devices.coverage import GOAL_NODES, GOAL_TERMINALS, VIDEO_KINDS, Figures, Ratio
from devices.day import midnight_seconds
from devices.division import DIVISIONS, PROVINCE, city
from devices.gap import Gap
from devices.states import STATES
from ingest.round import Seen
from ingest.settings import Settings

GAPS_SHOWN = 200
"""Largest open gaps with a series of their own."""

Values = Iterable[tuple[tuple[str, ...], float]]
"""Label values and the figure."""


class Family(NamedTuple):
    """A metric: what it is called, what it says, its labels, and its series of a look."""

    name: str
    text: str
    labels: tuple[str, ...]
    values: Callable[[Seen], Values]


def _one(figure: Callable[[Seen], float | Ratio | None]) -> Callable[[Seen], Values]:
    return lambda seen: _known([((), figure(seen))])


def _cities(figure: Callable[[Figures], float | Ratio | None]) -> Callable[[Seen], Values]:
    return lambda seen: _known(((str(code),), figure(f)) for code, f in seen.report.cities.items())


def _cells(figure: Callable[[Figures], float | Ratio | None]) -> Callable[[Seen], Values]:
    return lambda seen: _known(
        ((str(code), domain), figure(f)) for (code, domain), f in seen.report.domains.items()
    )


def _known(
    found: Iterable[tuple[tuple[str, ...], float | Ratio | None]],
) -> Iterator[tuple[tuple[str, ...], float]]:
    for labels, figure in found:
        if figure is not None:
            yield labels, figure.value if isinstance(figure, Ratio) else figure


def _states(seen: Seen) -> Values:
    for (code, domain), figures in seen.report.domains.items():
        for state in STATES:
            yield (str(code), domain, state), getattr(figures, state)


def _video(seen: Seen) -> Values:
    for code, figures in seen.report.cities.items():
        for kind in VIDEO_KINDS:
            yield (str(code), kind), getattr(figures, f"video_{kind}")


def _video_ratio(name: str) -> Callable[[Seen], Values]:
    """The province's without a city's label, each city's with it."""

    def values(seen: Seen) -> Values:
        report = seen.report
        cities = {str(code): f for code, f in report.cities.items() if code != PROVINCE}
        return _known(((place,), getattr(f, name)) for place, f in {"": report.province, **cities}.items())

    return values


def _gap_counts(seen: Seen) -> Values:
    counted = Counter((str(_city(gap)), gap.domain or "", gap.kind) for gap in seen.gaps)
    return counted.items()


def _largest_gaps(seen: Seen) -> Values:
    """Alerts are made of these: what is being worked on, or looked after, calls nobody."""
    loud = [gap for gap in seen.gaps if "maintenance" not in gap.evidence and not gap.acknowledged]
    largest = sorted(loud, key=lambda gap: (gap.live - gap.expected, gap.id))[:GAPS_SHOWN]
    for gap in largest:
        labels = (str(gap.id), str(_city(gap)), gap.domain or "", gap.kind, gap.gateway or "")
        yield labels, gap.expected - gap.live


def _city(gap: Gap) -> int:
    return city(gap.division) if gap.division in DIVISIONS else PROVINCE


def _quality(seen: Seen) -> Values:
    return [((str(code),), good / received) for code, (good, received) in seen.quality.items() if received]


GAUGES = (
    Family("ganzhi_terminals", "Terminals by state", ("city", "domain", "state"), _states),
    Family("ganzhi_terminals_target", "Terminals that the plan wants by now", ("city", "domain"),
           _cells(lambda f: f.target or None)),
    Family("ganzhi_terminals_goal", "Terminals that the province is to have", (), _one(lambda _: GOAL_TERMINALS)),
    Family("ganzhi_terminals_installed", "Registered terminals in service, heard or not", (),
           _one(lambda s: s.report.province.installed)),
    Family("ganzhi_terminals_verified", "Installed terminals that were heard at least once", (),
           _one(lambda s: s.report.province.verified)),
    Family("ganzhi_terminals_active", "Installed terminals that were heard in the last 30 days", (),
           _one(lambda s: s.report.province.active)),
    Family("ganzhi_terminals_invalid", "Terminals whose readings were all refused when last heard", ("city",),
           _cities(lambda f: f.invalid)),
    Family("ganzhi_goal_progress_ratio", "Verified terminals / goal", (), _one(lambda s: s.report.progress)),
    Family("ganzhi_goal_declared_ratio", "Installed terminals / goal", (), _one(lambda s: s.report.declared_progress)),
    Family("ganzhi_goal_forecast_timestamp_seconds", "When the goal is met if growth goes on as in the last 90 days",
           (), _one(lambda s: midnight_seconds(s.forecast_on) if s.forecast_on else None)),
    Family("ganzhi_nodes_goal", "Sensing nodes that the province is to have", (), _one(lambda _: GOAL_NODES)),
    Family("ganzhi_nodes_verified", "Verified terminals in the domains whose terminals are nodes", (),
           _one(lambda s: s.report.province.nodes)),
    Family("ganzhi_buildout_ratio", "Installed / target", ("city", "domain"), _cells(lambda f: f.buildout)),
    Family("ganzhi_networking_ratio", "Live / installed, now", ("city", "domain"), _cells(lambda f: f.networking)),
    Family("ganzhi_networking_daily_ratio", "Heard within a day / installed for more than 7 days", ("city",),
           _cities(lambda f: f.networking_daily)),
    Family("ganzhi_coverage_ratio", "Live terminals that fill a target / target", ("city", "domain"),
           _cells(lambda f: f.coverage)),
    Family("ganzhi_county_coverage_ratio", "Live terminals that fill a target / target", ("county",),
           lambda s: _known(((str(code),), f.coverage) for code, f in s.report.counties.items())),
    Family("ganzhi_counties_covered_ratio", "Counties with a coverage of 0.9 or more / counties", (),
           _one(lambda s: s.report.counties_covered)),
    Family("ganzhi_video_terminals", "Cameras: in key public areas, and of those live, smart, not known whether smart; "
           "not known whether in a key area; all", ("city", "kind"), _video),
    Family("ganzhi_video_smart_ratio", "Smart cameras / cameras in key public areas; without a city: the province",
           ("city",), _video_ratio("video_smart_ratio")),
    Family("ganzhi_video_networking_ratio", "Live cameras / cameras in key public areas; without a city: the province",
           ("city",), _video_ratio("video_networking_ratio")),
    Family("ganzhi_identifier_nodes", "Distinct nodes of industrial identifiers in the registry", ("level",),
           lambda s: [((level,), n) for level, n in s.identifier_nodes.items()]),
    Family("ganzhi_quality_ratio", "Readings without a flag / readings received, in 24 h", ("city",), _quality),
    Family("ganzhi_coverage_gaps", "Open gaps", ("city", "domain", "kind"), _gap_counts),
    Family("ganzhi_coverage_gap_info", "Terminals missing in each of the 200 largest open gaps, "
           "none acknowledged or under maintenance",
           ("gap", "city", "domain", "kind", "gateway"), _largest_gaps),
    Family("ganzhi_gateways", "Gateways by state", ("city", "state"),
           lambda s: [((str(place), state), n) for (place, state), n in s.gateways.items()]),
    Family("ganzhi_recount_difference", "How far the running counts were off at the last nightly recount", (),
           _one(lambda s: s.recount_difference)),
    Family("ganzhi_ledger_rows", "Messages remembered, about", (), _one(lambda s: s.ledger_rows)),
    Family("ganzhi_database_bytes", "Size of the database", (), _one(lambda s: s.database_bytes)),
    Family("ganzhi_observer_last_run_timestamp_seconds", "When terminals were last counted", (),
           _one(lambda s: s.report.at)),
)  # fmt: skip
REMOVED = Family("ganzhi_duplicate_readings_removed", "Equal readings that maintenance removed", (),
                 _one(lambda s: s.duplicates_removed))  # fmt: skip


class ObserverMetrics(Collector):
    """What the last look saw, as Prometheus reads it; before the first one only what is always so."""

    def __init__(self, settings: Settings, broker_connected: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        self.seen: Seen | None = None
        self._broker_connected = broker_connected
        self._due_seconds = midnight_seconds(settings.goal_due)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Every family; in the thread of the scrape."""
        yield _gauge(
            "ganzhi_goal_due_timestamp_seconds", "When the goal is due", (), [((), self._due_seconds)]
        )
        yield _gauge(
            "ganzhi_broker_connected", "1 while gateways' statuses come", (), [((), self._broker_connected())]
        )
        names = [((str(d.code), d.name_zh, d.name_en), 1.0) for d in DIVISIONS.values()]
        yield _gauge("ganzhi_division_info", "Names of divisions", ("code", "name_zh", "name_en"), names)
        if (seen := self.seen) is None:
            return
        for family in GAUGES:
            yield _gauge(family.name, family.text, family.labels, family.values(seen))
        removed = CounterMetricFamily(REMOVED.name, REMOVED.text)
        for _, value in REMOVED.values(seen):
            removed.add_metric([], value)
        yield removed


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Values) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        gauge.add_metric(label_values, value)
    return gauge
