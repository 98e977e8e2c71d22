"""What Sparkplug edge nodes and their devices said at birth: which alias is which metric, of which type and unit.

Data messages carry little more than aliases, so nothing can be read without the births before them. A birth
counts until its node or device dies, a device's also until its node is born anew: by the times that the node
itself gives, as births may reach two workers in either order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


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
    bd_seq: int | None
    alive: bool
    metrics: tuple[Declared, ...]


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
        """Take in a birth, or a death, in place of the one before."""
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

    def living(self) -> Iterator[Birth]:
        """The births that count, the node's own included."""
        return filter(None, map(self.birth, self._births))

    def names(self, device: str) -> dict[str, Declared]:
        """A device's metrics by name, none where its birth doesn't count."""
        return self._names[device] if self.birth(device) else {}

    def aliases(self, device: str) -> dict[int, Declared]:
        """A device's metrics by alias, none where its birth doesn't count."""
        return self._aliases[device] if self.birth(device) else {}
