"""Every metric of the service, and the books: each number changes in one step with those it must balance.

Names are public (contract, section 6). All of it is touched from the event loop's thread only, also by
the scrape, so that every scrape balances: received = committed + duplicate + rejected + in flight.
"""

from collections.abc import Iterable
from importlib.metadata import version
from platform import python_version

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from devices.division import DOMAINS
from ingest.outcome import Outcome
from ingest.sealed import FLAGS
from schemas.rejection import Reason

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
AGE_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400)
BATCH_READINGS = (1, 10, 100, 1_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 100_000)


disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each counter that nobody reads


class ColumnHistogram(Collector):
    """A histogram that takes a whole column at once: prometheus_client's own takes 1 us a value."""

    def __init__(self, name: str, help_: str, bounds: tuple[float, ...], registry: CollectorRegistry) -> None:
        self._name, self._help = name, help_
        self._bounds = np.array(bounds, np.float64)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe(self, values: npt.ArrayLike) -> None:
        """Count values; one that equals a bound falls under it."""
        column = np.atleast_1d(np.asarray(values, np.float64))
        self._counts += np.bincount(np.searchsorted(self._bounds, column), minlength=len(self._counts))
        self._sum += float(column.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The histogram as Prometheus reads it, cumulative."""
        bounds = [*(f"{b:g}" for b in self._bounds), "+Inf"]
        buckets = list(zip(bounds, np.cumsum(self._counts).astype(float).tolist(), strict=True))
        family = HistogramMetricFamily(self._name, self._help)
        family.add_metric([], buckets, self._sum)
        yield family


class Metrics:
    """The service's metrics in a registry of their own, and the steps that change them."""

    def __init__(self, routes: Iterable[str]) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, bounds: tuple[float, ...]) -> ColumnHistogram:
            return ColumnHistogram(name, text, bounds, registry)

        self.received = counter("ganzhi_messages_received_total", "Messages taken from the broker", "route")
        self.committed = counter("ganzhi_messages_committed_total", "Messages of which something was stored")
        self.duplicate = counter(
            "ganzhi_messages_duplicate_total", "Messages known from the ledger, or retained"
        )
        self.rejected = counter(
            "ganzhi_messages_rejected_total", "Messages of which nothing could be stored", "reason"
        )
        self.in_flight = gauge("ganzhi_messages_in_flight", "Messages received and not yet committed")
        self.readings_received = counter("ganzhi_readings_received_total", "Readings in received messages")
        self.readings_committed = counter("ganzhi_readings_committed_total", "Readings stored", "domain")
        self.readings_duplicate = counter(
            "ganzhi_readings_duplicate_total", "Readings in duplicate messages or parts"
        )
        self.readings_rejected = counter("ganzhi_readings_rejected_total", "Readings refused", "reason")
        self.readings_in_flight = gauge(
            "ganzhi_readings_in_flight", "Readings received and not yet committed"
        )
        self.flagged = counter("ganzhi_readings_flagged_total", "Readings stored with a quality flag", "flag")
        self.events = counter("ganzhi_events_committed_total", "Events stored")
        self.unstored = counter(
            "ganzhi_rejections_unstored_total", "Garbage counted without a row, beyond the rate"
        )
        self.batch_readings = histogram("ganzhi_batch_readings", "Readings in a batch", BATCH_READINGS)
        self.commit_seconds = histogram("ganzhi_commit_seconds", "Time of a batch's write", SECONDS)
        self.lag_seconds = histogram(
            "ganzhi_ingest_lag_seconds", "Arrival of a message to its commit", SECONDS
        )
        self.age_seconds = histogram("ganzhi_observation_age_seconds", "Device time of a reading to its commit",
                                     AGE_SECONDS)  # fmt: skip
        self.oldest = gauge(
            "ganzhi_oldest_unacknowledged_seconds", "Age of the oldest message not yet committed"
        )
        self.last_commit = gauge("ganzhi_last_commit_timestamp_seconds", "When a batch was last committed")
        self.broker_connected = gauge("ganzhi_broker_connected", "1 while the broker's session is up")
        self.database_up = gauge("ganzhi_database_up", "1 while the database takes writes")
        self.sessions_lost = counter(
            "ganzhi_sessions_lost_total", "Connects at which the broker had lost the session"
        )
        self.direct_compress = gauge(
            "ganzhi_direct_compress", "1 when the last COPY was compressed on the way in"
        )
        self.sequence_gaps = counter(
            "ganzhi_sequence_gaps_total", "Messages missing in a source's numbering", "source"
        )
        self.sequence_resets = counter(
            "ganzhi_sequence_resets_total", "Messages under a number that their gateway had used for another"
        )
        self.certificate_expiry = gauge("ganzhi_certificate_expiry_timestamp_seconds",
                                        "When a certificate in use expires", "which")  # fmt: skip
        build = gauge("ganzhi_build_info", "Version of the service", "version", "python")
        build.labels(version("ganzhi"), python_version()).set(1)
        self._sessions_lost = 0
        self._show_from_the_start(routes)

    def _show_from_the_start(self, routes: Iterable[str]) -> None:
        """Series of closed sets exist at 0 before their first event, so that rates see it."""
        for route in routes:
            self.received.labels(route)
        for reason in Reason:
            self.rejected.labels(reason)
            self.readings_rejected.labels(reason)
        for domain in DOMAINS:
            self.readings_committed.labels(domain)
        for flag in FLAGS:
            self.flagged.labels(flag)
        for source in ("sparkplug", "gateway"):
            self.sequence_gaps.labels(source)

    def receive(self, messages: dict[str, int], readings: int) -> None:
        """Messages by route, and their readings, enter the books."""
        for route, n in messages.items():
            self.received.labels(route).inc(n)
        self.in_flight.inc(sum(messages.values()))
        self.readings_received.inc(readings)
        self.readings_in_flight.inc(readings)

    def observe(
        self, *, oldest_seconds: float, broker_connected: bool, database_up: bool, sessions_lost: int
    ) -> None:
        """What is so now, taken before a scrape."""
        self.oldest.set(oldest_seconds)
        self.broker_connected.set(broker_connected)
        self.database_up.set(database_up)
        self.sessions_lost.inc(sessions_lost - self._sessions_lost)
        self._sessions_lost = sessions_lost

    def commit(self, outcome: Outcome, messages: int, readings: int) -> None:
        """A committed batch leaves flight, every message and reading to its account."""
        self.in_flight.dec(messages)
        self.readings_in_flight.dec(readings)
        self.committed.inc(outcome.messages_committed)
        self.duplicate.inc(outcome.messages_duplicate)
        self.readings_duplicate.inc(outcome.readings_duplicate)
        self.events.inc(outcome.events_committed)
        self.unstored.inc(outcome.rejections_unstored)
        self.sequence_resets.inc(outcome.sequence_resets.total())
        for account, numbers in ((self.rejected, outcome.messages_rejected),
                                 (self.readings_rejected, outcome.readings_rejected),
                                 (self.readings_committed, outcome.readings_committed),
                                 (self.flagged, outcome.readings_flagged)):  # fmt: skip
            for label, n in numbers.items():
                account.labels(label).inc(n)
        self.direct_compress.set(outcome.direct_compress)

    def time(
        self, outcome: Outcome, received_at: npt.NDArray[np.float64], now: float, seconds: float
    ) -> None:
        """How long a committed batch took; `received_at` of its messages and `now` in Unix seconds."""
        self.commit_seconds.observe(seconds)
        self.lag_seconds.observe(now - received_at)
        self.age_seconds.observe(now - outcome.observed_at)
        self.batch_readings.observe(len(outcome.observed_at))
        self.last_commit.set(now)
