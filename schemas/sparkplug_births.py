"""What Sparkplug edge nodes and their devices said at birth: which alias is which metric, of which type and unit.

Data messages carry little more than aliases, so nothing can be read without the births before them. A birth
counts until its node or device dies, a device's also until its node is born anew: by the times that the node
itself gives, as births may reach two workers in either order. Only births that came further apart than workers
mix them up go by their arrival, or a clock that is set back would hide all new ones.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

SKEW_MS = 10_000
"""Births that came this close to each other may have been mixed up on their way: workers' clocks differ by less."""


class Declared(NamedTuple):
    """A metric as its birth declares it; None where it doesn't say."""

    name: str
    datatype: int | None
    alias: int | None
    unit: str | None


@dataclass(frozen=True, slots=True)
class Birth:
    """The last birth of a node (`device` is empty) or a device; not `alive` once its death came."""

    edge: str
    """group/edge."""
    device: str
    born_ms: int
    received_ms: int
    bd_seq: int | None
    alive: bool
    metrics: tuple[Declared, ...]

    def replaces(self, other: "Birth") -> bool:
        """Whether it stands in place of another of the same device; a death ends only the birth that it means."""
        if not self.alive:
            return self.born_ms == other.born_ms
        if abs(self.received_ms - other.received_ms) <= SKEW_MS:
            return self.born_ms >= other.born_ms
        return self.received_ms > other.received_ms


class Node:
    """An edge node's births, its own and its devices'."""

    def __init__(self, births: Iterable[Birth] = ()) -> None:
        self._births: dict[str, Birth] = {}
        self._names: dict[str, dict[str, Declared]] = {}
        self._aliases: dict[str, dict[int, Declared]] = {}
        for birth in births:
            self.put(birth)

    @property
    def own(self) -> Birth | None:
        """The node's own birth."""
        return self._births.get("")

    def put(self, birth: Birth) -> None:
        """Take in a birth, or a death, in place of the one before, unless that is the later one."""
        before = self._births.get(birth.device)
        if before and not birth.replaces(before):
            return
        self._births[birth.device] = birth
        self._names[birth.device] = {metric.name: metric for metric in birth.metrics}
        self._aliases[birth.device] = {m.alias: m for m in birth.metrics if m.alias is not None}

    def birth(self, device: str) -> Birth | None:
        """The birth of a device, or of the node (empty), if it counts."""
        own, birth = self._births.get(""), self._births.get(device)
        if birth is None or not birth.alive:
            return None
        if own is not None and (not own.alive or birth.born_ms < own.born_ms):
            return None
        return birth

    def last(self, device: str) -> Birth | None:
        """The last birth of a device, whether it counts or not."""
        return self._births.get(device)

    def repeats(self, birth: Birth) -> bool:
        """Whether it has the time of the birth before it, which has ended: the node's clock stands."""
        before, own = self._births.get(birth.device), self.own
        if before is None or before.born_ms != birth.born_ms:
            return False
        reborn = own is not None and own.received_ms > before.received_ms + SKEW_MS
        return reborn or self.birth(birth.device) is None

    def living(self) -> Iterator[Birth]:
        """The births that count, the node's own included."""
        return filter(None, map(self.birth, self._births))

    def names(self, device: str) -> dict[str, Declared]:
        """A device's metrics by name, none where its birth doesn't count."""
        return self._names[device] if self.birth(device) else {}

    def aliases(self, device: str) -> dict[int, Declared]:
        """A device's metrics by alias, none where its birth doesn't count."""
        return self._aliases[device] if self.birth(device) else {}
