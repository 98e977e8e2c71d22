"""`ganzhi decode`: what the service would make of a message, without a database or a broker."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import count

from rich.table import Table

from devices.day import SHANDONG
from devices.division import DIVISIONS, DOMAINS, PROVINCE
from devices.registry import Gateway, Metric, Registry
from devices.store import Known, NewTerminal
from ingest import copy
from ingest.batch import Batch
from ingest.decode import Decode, decoders
from ingest.resolve import Resolver
from ingest.seal import seal
from ingest.sealed import FLAGS, Sealed
from ingest.settings import OnUnknown, Settings
from schemas.catalogue import METRICS
from schemas.message import Message
from schemas.rejection import of_first, where
from schemas.routes import Routes


class Imagined:
    """A registry that has every terminal as soon as it is asked for: the catalogue without a database."""

    def __init__(self) -> None:
        self.codes: dict[int, str] = {}
        self._metrics = {
            name: Metric(id_, name, m.unit, m.hard_low, m.hard_high, m.soft_low, m.soft_high)
            for id_, (name, m) in enumerate(METRICS.items(), start=1)
        }

    def find_terminals(self, codes: Collection[str]) -> dict[str, Known]:
        found = {
            code: Known(id_, PROVINCE, "other", "discovered")
            for code, id_ in zip(codes, count(1), strict=False)
        }
        self.codes = {known.id: code for code, known in found.items()}
        return found

    def register_terminals(self, new: Iterable[NewTerminal], hourly: int) -> dict[str, Known]:
        del hourly
        return self.find_terminals([terminal.code for terminal in new])

    def put_gateways(self, heard: Mapping[int, str]) -> None:
        del heard

    def put_aliases(self, aliases: Mapping[str, str]) -> dict[str, str]:
        del aliases
        return {}

    def metrics(self) -> list[Metric]:
        return list(self._metrics.values())

    def register_metrics(self, new: dict[str, str]) -> None:
        inf = float("inf")
        for name, unit in new.items():
            self._metrics[name] = Metric(len(self._metrics) + 1, name, unit, -inf, inf, -inf, inf)

    def cells(self) -> dict[tuple[int, str], int]:
        places = [d.code for d in DIVISIONS.values() if d.level != "zone"]
        return {
            (place, domain): n
            for n, (place, domain) in enumerate(((p, d) for p in places for d in DOMAINS), 1)
        }

    def gateways(self) -> dict[str, Gateway]:
        return {}


def explain(message: Message, settings: Settings) -> tuple[list[Table], bool]:
    """Tables of the readings, events and refusals of a message; and whether anything was refused."""
    directory, registry, batch = Imagined(), Registry(), Batch()
    decode = Decode(
        Routes.load(settings.routes), settings.max_payload_bytes, registry, by_name=decoders(settings)
    )
    resolver = Resolver(registry, OnUnknown.REGISTER, OnUnknown.REGISTER)
    resolver.load(directory)
    way, parts = decode(message)
    batch.add(message, way.place, parts)
    sealed = seal(batch, resolver(directory, batch), registry, settings.max_age_seconds)
    tables = [_readings(sealed, directory), _events(sealed, directory), _refusals(sealed)]
    return [table for table in tables if table.row_count], bool(sealed.refusals)


def _readings(sealed: Sealed, directory: Imagined) -> Table:
    table = Table("terminal", "metric", "value", "unit", "observed at", "flags", title="读数 readings")
    metrics = {metric.id: metric for metric in directory.metrics()}
    for row in sealed.rows:
        metric = metrics[int(row["metric_id"])]
        flags = ", ".join(name for name, bit in FLAGS.items() if row["quality"] & bit)
        at = _time(row["observed_at"] / 1e6 + copy.POSTGRES_EPOCH)
        table.add_row(
            directory.codes[int(row["terminal_id"])],
            metric.name,
            f"{row['value']:.15g}",
            metric.unit,
            at,
            flags,
        )
    return table


def _events(sealed: Sealed, directory: Imagined) -> Table:
    table = Table("terminal", "event", "body", "observed at", title="事件 events")
    for event in sealed.events:
        table.add_row(
            directory.codes[event.terminal_id], event.name, str(event.body), _time(event.observed_at)
        )
    return table


def _refusals(sealed: Sealed) -> Table:
    table = Table("place", "reason", "detail", "hint", title="拒收 refusals", title_style="red")
    for refusal in (r for refusals in sealed.refusals.values() for r in refusals):
        detail = of_first(refusal.detail, refusal.count)
        table.add_row(where(refusal.index, refusal.count), refusal.reason, detail, refusal.hint)
    return table


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, SHANDONG).isoformat(" ", "milliseconds")
