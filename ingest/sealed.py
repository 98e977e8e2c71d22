"""What a batch comes to: rows ready for COPY, events, refusals; and what its names stand for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from devices.index import Rows as RegistryRows
from devices.registry import Terminal
from ingest.copy import Rows
from schemas.reading import Name
from schemas.rejection import Refusal

SUSPECT, FROM_ARRIVAL, CONVERTED, REPAIRED, LATE = 1, 2, 4, 8, 16
FLAGS = {"suspect": SUSPECT, "arrival_time": FROM_ARRIVAL, "unit_converted": CONVERTED,
         "clock_repaired": REPAIRED, "late": LATE}  # fmt: skip

Refusals = dict[int, list[Refusal]]
"""By number of the part."""
Mask = npt.NDArray[np.bool_]
ARRIVAL = np.dtype([("part", "i4"), ("terminal", "i4")])


class SealedEvent(NamedTuple):
    """An event that is ready to be written; `observed_at` in Unix seconds.

    `heard`: it shows its terminal alive, neither late nor the platform's word alone. `cell`: it came as a reading of
    this cell, and counts as one in the books.
    """

    part: int
    observed_at: float
    terminal_id: int
    name: str
    body: Any
    heard: bool
    cell: int | None = None


@dataclass(slots=True)
class Sealed:
    """What a batch came to: rows ready for COPY with the part of each, events, refusals by part."""

    rows: Rows
    part_of_row: npt.NDArray[np.int32]
    events: list[SealedEvent]
    refusals: Refusals
    refused: npt.NDArray[np.void] = field(default_factory=lambda: np.empty(0, ARRIVAL))
    """Of refused readings those that show their terminal alive: known, neither late nor an offline notice."""
    moves: list[SealedEvent] = field(default_factory=list)
    """One for each terminal that came through a gateway that this worker has not met it at."""
    generation: int = 0
    """Of the registry that its ids are from."""

    def without(self, known: Mask) -> "Sealed":
        """What is left without the parts that are known already."""
        if not known.any():
            return self
        new = ~known[self.part_of_row]
        return Sealed(
            self.rows[new],
            self.part_of_row[new],
            [event for event in self.events if not known[event.part]],
            {part: refusals for part, refusals in self.refusals.items() if not known[part]},
            self.refused[~known[self.refused["part"]]],
            [move for move in self.moves if not known[move.part]],
        )


class Targets(NamedTuple):
    """What names stand for: registry rows of the readings, terminals and names of the events, refusals.

    `behind`: ids of the terminals that refused names belong to, where they are known.
    """

    rows: RegistryRows
    events: Mapping[Name, tuple[Terminal, str]]
    refused: Mapping[tuple[Name, str | None], Refusal]
    behind: Mapping[tuple[Name, str | None], int]
