"""The readings of a batch as columns: gathered in lists, or in arrays as they came from a decoder that makes such.

Pure.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.index import Hashes, hashes
from schemas.reading import Name, Part, Units

Floats = npt.NDArray[np.float64]


class Columns:
    """Names, units, values and times of all parts, one entry a reading."""

    def __init__(self) -> None:
        self._runs: list[Part] = []
        """Parts as they came, where they are arrays; others are put together."""
        self._starts: list[int] = []
        self._lists: Part | None = None
        """The run that more lists go to."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, part: Part) -> None:
        """Add a part's readings."""
        if part.hashes is not None:
            self._begin(part)
            self._lists = None
        else:
            lists = self._lists or self._begin(Part())
            lists.names += part.names
            lists.units += part.units
            lists.values += part.values
            lists.times += part.times
            self._lists = lists
        self._count += len(part.values)

    def _begin(self, run: Part) -> Part:
        self._runs.append(run)
        self._starts.append(self._count)
        return run

    def name(self, i: int) -> tuple[Name, str | None]:
        """Name and unit of a reading."""
        run = bisect_right(self._starts, i) - 1
        there = self._runs[run], i - self._starts[run]
        return there[0].names[there[1]], there[0].units[there[1]]

    def hashes(self) -> Hashes:
        """Of the names."""
        return np.concatenate([
            hashes(run.names, len(run.names)) if run.hashes is None else run.hashes for run in self._runs
        ] or [np.empty(0, np.int64)])  # fmt: skip

    def units(self, number: Callable[[str | None], int]) -> npt.NDArray[np.int16]:
        """As sent, each spelling by its number."""
        spellings: list[str | None] = []
        columns: list[npt.NDArray[np.integer[Any]]] = [np.empty(0, np.int8)]
        begins: list[int] = []
        for run in self._runs:
            units = run.units if isinstance(run.units, Units) else _units(run.units)
            columns.append(units.numbers)
            begins.append(len(spellings))
            spellings += units.spellings
        places = np.concatenate(columns) + np.repeat(
            np.array(begins, np.int64), [len(column) for column in columns[1:]]
        )
        numbers = np.fromiter(map(number, spellings), np.int16, len(spellings))
        sent: npt.NDArray[np.int16] = numbers[places]
        return sent

    def values(self) -> Floats:
        """As sent."""
        return _joined([run.values for run in self._runs])

    def times(self) -> Floats:
        """As in `Part.times`."""
        return _joined([run.times for run in self._runs])


def _units(sent: Sequence[str | None]) -> Units:
    numbers = {spelling: number for number, spelling in enumerate(set(sent))}
    return Units(list(numbers), np.fromiter(map(numbers.__getitem__, sent), np.int32, len(sent)))


def _joined(columns: list[list[float]]) -> Floats:
    return np.concatenate([np.asarray(column, np.float64) for column in columns] or [np.empty(0)])
