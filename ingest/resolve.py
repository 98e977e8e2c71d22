"""From the names in a batch to terminals and metrics: one look-up a reading, one query for all that is new."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import structlog

from devices.code import canonical, gb28181
from devices.division import PROVINCE, cell_division, city, today
from devices.index import MISSING, HashIndex, Rows, hashes
from devices.registry import Gateway, Metric, Registry, Terminal
from devices.store import Known, NewTerminal
from ingest.batch import Batch
from ingest.sealed import Targets
from ingest.settings import OnUnknown
from schemas.catalogue import METRICS, metric_of, unit_of
from schemas.name import InvalidName, split
from schemas.payload import shown, storable
from schemas.reading import Name
from schemas.rejection import Reason, Refusal
from schemas.routes import Place
from schemas.units import canonical as canonical_unit
from schemas.units import conversion

log = structlog.get_logger()
UNIT_CHARACTERS = 32
METRICS_REGISTERED_MAX = 10_000
"""Metrics that senders may bring beside the catalogue's (contract, section 2)."""

ALIASES_MAX = 2_000_000
"""Aliases that a worker remembers to have dealt with, 24 bytes each; beyond that it begins anew."""

TERMINALS_MAX = 2**31 - 1
"""Their ids are int4."""

Wanted = tuple[Name, str | None]


class _Series(NamedTuple):
    """A name that this worker does not know yet, taken apart; `metric` None marks an event."""

    code: str
    scheme: str
    metric: str
    unit: str
    place: Place


class Directory(Protocol):
    """What the resolver asks for what it does not know: `devices.store`, or a made-up one without a database."""

    def find_terminals(self, codes: Collection[str]) -> dict[str, Known]: ...
    def register_terminals(self, new: Iterable[NewTerminal], hourly: int) -> dict[str, Known]: ...
    def put_gateways(self, heard: Mapping[int, str]) -> None: ...
    def put_aliases(self, aliases: Mapping[str, str]) -> dict[str, str]: ...
    def metrics(self) -> list[Metric]: ...
    def register_metrics(self, new: dict[str, str]) -> None: ...
    def cells(self) -> dict[tuple[int, str], int]: ...
    def gateways(self) -> dict[str, Gateway]: ...


class Resolver:
    """Fills the registry's cache with what batches bring. One thread at a time."""

    def __init__(
        self,
        registry: Registry,
        on_terminal: OnUnknown,
        on_metric: OnUnknown,
        hourly: int = TERMINALS_MAX,
    ) -> None:
        """`hourly`: so many unknown terminals may a gateway bring within an hour."""
        self.registry = registry
        self._on_terminal = on_terminal
        self._on_metric = on_metric
        self._hourly = hourly
        self._forget_aliases()

    def load(self, directory: Directory) -> None:
        """Metrics, cells and gateways, as after a start or a change."""
        self._refused_aliases.clear()
        self.registry.cells = directory.cells()
        self.registry.domain_of_cell = {id_: domain for (_, domain), id_ in self.registry.cells.items()}
        self.registry.city_of_cell = {id_: city(place) for (place, _), id_ in self.registry.cells.items()}
        self.registry.gateways = directory.gateways()
        for metric in directory.metrics():
            self.registry.add_metric(metric)

    def __call__(self, directory: Directory, batch: Batch) -> Targets:
        """Registry rows and refusals for every reading and event of a batch; registers what is new."""
        if self.registry.full:
            self.registry.clear()
            self.load(directory)
        targets = self._targets(directory, batch)
        if aliases := self._new_aliases(batch.aliases):
            self._put_aliases(directory, aliases)
        return targets

    def known(self, batch: Batch) -> Targets | None:
        """The same without the database, where this worker knows all of the batch."""
        rows = self._find(batch)
        events = {event.name: self.registry.event(event.name) for _, event in batch.events}
        if (rows == MISSING).any() or not all(events.values()) or self._new_aliases(batch.aliases):
            return None
        return Targets(rows, {name: found for name, found in events.items() if found}, {}, {})

    def _find(self, batch: Batch) -> Rows:
        columns = batch.columns
        return self.registry.find(columns.hashes(), columns.units(self.registry.unit_number), columns.name)

    def _new_aliases(self, aliases: dict[str, str]) -> dict[str, str]:
        """Those that this worker has not dealt with yet."""
        rows = self._aliases.find(hashes(aliases.items(), len(aliases))).tolist()
        return {alias: code for (alias, code), row in zip(aliases.items(), rows, strict=True)
                if row == MISSING and alias not in self._refused_aliases and _is_alias(alias)}  # fmt: skip

    def _put_aliases(self, directory: Directory, new: dict[str, str]) -> None:
        refused = directory.put_aliases(new)
        for alias, reason in refused.items():
            log.warning("alias_refused", alias=alias, terminal=new[alias], reason=reason,
                        advice="compare both with ganzhi terminals show")  # fmt: skip
        if self._alias_count + len(self._refused_aliases) > ALIASES_MAX:
            self._forget_aliases()
        self._refused_aliases.update(refused)
        for pair in new.items() - ((alias, new[alias]) for alias in refused):
            self._aliases.add(hash(pair), 0)
            self._alias_count += 1

    def _forget_aliases(self) -> None:
        self._aliases, self._alias_count = HashIndex(), 0
        self._refused_aliases: set[str] = set()

    def _targets(self, directory: Directory, batch: Batch) -> Targets:
        rows = self._find(batch)
        missing = np.flatnonzero(rows == MISSING).tolist()
        events = {event.name: self.registry.event(event.name) for _, event in batch.events}
        if not missing and all(events.values()):
            return Targets(rows, {name: found for name, found in events.items() if found}, {}, {})
        refused: dict[Wanted, Refusal] = {}
        behind: dict[Wanted, int] = {}
        readings = self._take_apart(_places(batch, missing), refused)
        occasions = self._take_apart(_event_places(batch, events), refused)
        terminals = self._terminals(directory, {s.code: s for s in (*readings.values(), *occasions.values())})
        metrics = self._metrics(directory, readings)
        for wanted, series in readings.items():
            if refusal := self._add_series(wanted, series, terminals, metrics):
                refused[wanted] = refusal
                if series.code in terminals and series.metric != "online":  # which may be an offline notice
                    behind[wanted] = terminals[series.code].id
        for (name, _), series in occasions.items():
            if terminal := terminals.get(series.code):
                self.registry.add_event(name, terminal, series.metric)
            else:
                refused[name, None] = self._unknown_terminal(series)
        if missing:
            rows = self._find(batch)
        return Targets(rows, {n: e for n in events if (e := self.registry.event(n))}, refused, behind)

    @staticmethod
    def _take_apart(wanted: dict[Wanted, Place], refused: dict[Wanted, Refusal]) -> dict[Wanted, _Series]:
        found = {}
        for (name, unit), place in wanted.items():
            try:
                code, metric = split(name, unit)
            except InvalidName as error:
                refused[name, unit] = Refusal(None, Reason.INVALID_NAME, error.detail, error.hint)
                continue
            if unit and (len(unit) > UNIT_CHARACTERS or not storable(unit)):
                refused[name, unit] = Refusal(None, Reason.UNIT_MISMATCH, f"{shown(unit)} is no unit",
                                              f"at most {UNIT_CHARACTERS} characters of text")  # fmt: skip
                continue
            known = canonical(code)
            found[name, unit] = _Series(
                known.code, known.scheme, metric_of(metric) or metric, unit or unit_of(metric) or "", place
            )
        return found

    def _terminals(self, directory: Directory, series: dict[str, _Series]) -> dict[str, Terminal]:
        if not series:
            return {}
        found = directory.find_terminals(series)
        new = [s for code, s in series.items() if code not in found]
        if new and self._on_terminal is OnUnknown.REGISTER:
            found |= directory.register_terminals(
                [NewTerminal(s.code, s.scheme, self._division(s), s.place.gateway) for s in new], self._hourly
            )
        heard = {known.id: gateway for code, known in found.items()
                 if known.gateway is None and (gateway := series[code].place.gateway)}  # fmt: skip
        if heard:
            directory.put_gateways(heard)
        return {code: self._terminal(known, heard.get(known.id)) for code, known in found.items()}

    def _terminal(self, known: Known, heard: str | None) -> Terminal:
        discovered = known.state == "discovered"
        domain = "other" if discovered else known.domain
        cell = self.registry.cells[cell_division(known.division), domain]
        gateway = self.registry.paths.number(known.gateway or heard)
        return Terminal(known.id, -cell if discovered else cell, gateway)

    def _division(self, series: _Series) -> int:
        """The division of a newly discovered terminal: the message's, else the one in its code, else 370000."""
        if (division := self.registry.division_of(series.place)) is not None:
            return division
        parts = gb28181(series.code)
        return (parts and today(parts.division)) or PROVINCE

    def _metrics(self, directory: Directory, series: dict[Wanted, _Series]) -> dict[str, Metric]:
        known = self.registry.metrics
        new: dict[str, str] = {}
        for one in series.values():
            if one.metric not in known:
                new.setdefault(one.metric, canonical_unit(one.unit))
        if new and self._on_metric is OnUnknown.REGISTER:
            directory.register_metrics(dict(list(new.items())[: self._room()]))
            for metric in directory.metrics():
                self.registry.add_metric(metric)
        return known

    def _room(self) -> int:
        return max(0, METRICS_REGISTERED_MAX + len(METRICS) - len(self.registry.metrics))

    def _add_series(
        self, wanted: Wanted, series: _Series, terminals: dict[str, Terminal], metrics: dict[str, Metric]
    ) -> Refusal | None:
        name, unit = wanted
        terminal, metric = terminals.get(series.code), metrics.get(series.metric)
        if terminal is None:
            return self._unknown_terminal(series)
        if metric is None:
            return Refusal(None, Reason.UNKNOWN_METRIC, f"{series.metric!r} is not in the catalogue",
                           "add it to the catalogue, or set GANZHI_UNKNOWN_METRICS=register")  # fmt: skip
        factors = (
            conversion(canonical_unit(series.unit), metric.unit)
            if series.unit and metric.unit
            else (1.0, 0.0)
        )
        if factors is None:
            return Refusal(None, Reason.UNIT_MISMATCH, f"{shown(series.unit)} can't become {metric.unit!r}",
                           f"send {metric.name} in {metric.unit}")  # fmt: skip
        same = factors == (1.0, 0.0) and (not unit or canonical_unit(unit) == metric.unit != "")
        if unit and same:
            same = self.registry.add_spelling(unit, metric.unit)
        base = split(name, None)[1]
        usual = same and (metric_of(base) or base) == metric.name
        self.registry.add_series(name, unit, terminal, metric, *factors, usual=usual)
        return None

    def _unknown_terminal(self, series: _Series) -> Refusal:
        detail = f"{series.code!r} is not registered"
        if self._on_terminal is OnUnknown.REJECT:
            return Refusal(None, Reason.UNKNOWN_TERMINAL, detail,
                           "import it, or set GANZHI_UNKNOWN_TERMINALS=register")  # fmt: skip
        who = f"gateway {series.place.gateway}" if series.place.gateway else "topics without a gateway"
        return Refusal(None, Reason.UNKNOWN_TERMINAL, f"{detail}, and {who} brought {self._hourly} new ones this hour",
                       "does it invent codes? Else import its terminals, or raise "
                       "GANZHI_REGISTRATIONS_PER_GATEWAY_HOUR; then ganzhi rejections replay")  # fmt: skip


def _places(batch: Batch, missing: list[int]) -> dict[Wanted, Place]:
    """The distinct series at these readings, each with the place of the first message that brings it."""
    ends = np.cumsum(batch.counts)
    parts = np.searchsorted(ends, missing, side="right").tolist()
    found: dict[Wanted, Place] = {}
    for i, part in zip(missing, parts, strict=True):
        found.setdefault(batch.columns.name(i), batch.places[batch.message_of[part]])
    return found


def _event_places(batch: Batch, known: dict[Name, Any]) -> dict[Wanted, Place]:
    return {(event.name, None): batch.places[batch.message_of[part]]
            for part, event in batch.events if not known[event.name]}  # fmt: skip


def _is_alias(alias: str) -> bool:
    """Whether it has a scheme, and nothing that no code may have."""
    try:
        split((alias, "value"), None)
    except InvalidName:
        return False
    return canonical(alias).scheme != "other"
