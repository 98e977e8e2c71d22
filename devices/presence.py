"""Who was heard when: numpy columns by terminal id, from which every state and every cell's counts follow.

The rules are in `states`. Assumes dense ids (a row of columns is 15 bytes, 4.5 GB for 300 million), and one
caller at a time. What is heard is taken by maximum, an offline notice too, so that order and repetition change
nothing. A notice of the second in which the terminal was heard counts as the later one. What names and
divisions stand behind the numbers of cells and gateways is the caller's.

The pass over the columns goes in blocks that stay in the cache. It packs what the counts need to know of a
terminal into one byte, which `tally` counts.
"""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from devices.notices import Ids, Notices
from devices.states import (
    EPOCH_SECONDS,
    NO_DAY,
    STATES,
    Blind,
    Bools,
    Codes,
    Days,
    Kind,
    Life,
    Moment,
    Numbers,
    Seconds,
    codes,
    moment,
    state_of,
)
from devices.tally import Block, Cells, Counts, Gateways, Tally

BLOCK = 1 << 18
"""Rows looked at together: temporary columns stay in the cache, and threads meet seldom (half of it: 1.2 as long)."""
THREADS = 2
"""Of a pass; numpy lets the interpreter go for most of it (measured: 0.6 of the time of one)."""


class Facts(NamedTuple):
    """Registry rows as columns of one length; `installed_day` is in days since 2020-01-01 or `NO_DAY`."""

    ids: Ids
    cell: Cells
    kind: npt.NDArray[np.int16]
    life: npt.NDArray[np.uint8]
    installed_day: Days
    gateway: Gateways


class Fleet:
    """The columns, and what is sparse: notices of being offline, and terminals whose readings are refused.

    The columns are as long as what is reserved and may be read up to `size`.
    """

    def __init__(self, capacity: int = BLOCK) -> None:
        self.size = 0
        """One more than the highest id."""
        self.kinds: list[Kind] = []
        self.heard = np.zeros(capacity, np.int32)
        self.cell = np.zeros(capacity, np.int16)
        self.kind = np.zeros(capacity, np.int16)
        self.life = np.zeros(capacity, np.uint8)
        self.installed_day = np.zeros(capacity, np.int16)
        self.gateway = np.zeros(capacity, np.int32)
        self.invalid = BitMap()
        self._refused = np.zeros(capacity // 8 + 1, np.uint8)
        """The same, a bit each: to look 20,000 ids up takes a quarter of making a bitmap of them."""
        self.offline = Notices()
        self._numbers: dict[Kind, int] = {}
        self._last_cell = self._last_gateway = 0

    def reserve(self, capacity: int) -> None:
        """Make room for ids below `capacity`, one column after the other; room that is not used costs no memory."""
        for name in ("heard", "cell", "kind", "life", "installed_day", "gateway"):
            old = getattr(self, name)
            if capacity > len(old):
                new = np.zeros(capacity, old.dtype)
                new[: self.size] = old[: self.size]
                setattr(self, name, new)
        if len(self._refused) <= capacity // 8:
            self._refused = np.append(
                self._refused, np.zeros(capacity // 8 + 1 - len(self._refused), np.uint8)
            )

    def kind_of(self, kind: Kind) -> int:
        """The kind's number, a new one if need be. Raises ValueError beyond 32,767 of them."""
        if kind not in self._numbers:
            if len(self.kinds) == NO_DAY:
                raise ValueError("more than 32,767 kinds of terminals: round their reporting intervals")
            self._numbers[kind] = len(self.kinds)
            self.kinds.append(kind)
        return self._numbers[kind]

    def put(self, facts: Facts) -> None:
        """Take registry rows; who was heard when stays as it is."""
        self._cover(facts.ids)
        self.cell[facts.ids] = facts.cell
        self.kind[facts.ids] = facts.kind
        self.life[facts.ids] = facts.life
        self.installed_day[facts.ids] = facts.installed_day
        self.gateway[facts.ids] = facts.gateway
        self._last_cell = int(facts.cell.max(initial=self._last_cell))
        self._last_gateway = int(facts.gateway.max(initial=self._last_gateway))

    def remove(self, ids: Ids) -> None:
        """Forget terminals, and that they were ever heard."""
        ids = ids[ids < self.size]
        self.life[ids] = Life.ABSENT
        self.heard[ids] = 0
        self.offline.remove(ids)
        self._mend(ids)

    def hear(self, ids: Ids, at_seconds: float) -> Ids:
        """Note that terminals were heard at this Unix time; answers those never heard before.

        Ids may come before their registry rows: they count once `put` has brought those.
        """
        self._cover(ids)
        at, before = _column_seconds(at_seconds), self.heard[ids]
        self.heard[ids] = np.maximum(before, at + self.offline.said_at(ids, at))
        if self.invalid:
            self._mend(ids[before <= at])
        first: Ids = ids[before == 0]
        return first

    def say_offline(self, ids: Ids, at_seconds: float) -> Ids:
        """Note that terminals were said to be offline at this Unix time; answers those not known offline before.

        The newest notice stays; one older than the terminal was heard changes nothing.
        """
        self._cover(ids)
        return self.offline.add(ids, _column_seconds(at_seconds), self.heard)

    def refuse(self, ids: Iterable[int]) -> None:
        """Note that all these terminals' readings were refused when they were last heard, until they are again."""
        self.invalid |= (refused := BitMap(ids))
        found = np.array(refused.to_array(), np.uint32)
        self._cover(found)
        np.bitwise_or.at(self._refused, found >> 3, _bit(found))

    def _mend(self, ids: Ids) -> None:
        """These are invalid no more."""
        found = ids[(self._refused[ids >> 3] & _bit(ids)) != 0]
        if len(found):
            self.invalid -= BitMap(found)
            np.bitwise_and.at(self._refused, found >> 3, ~_bit(found))

    def state(self, terminal: int, now_seconds: float) -> str:
        """Its state, one of STATES. Raises KeyError where no registry row is known."""
        if not 0 <= terminal < self.size or self.life[terminal] == Life.ABSENT:
            raise KeyError(terminal)
        rows = slice(terminal, terminal + 1)
        number = state_of(int(self._block(rows, moment(self.kinds, now_seconds)).codes[0]))
        assert number is not None
        return STATES[number]

    def newest_seconds(self) -> float | None:
        """When anybody was last heard, as a Unix time; None where nobody ever was. 0.1 s for 300 million."""
        newest = int(self.heard[: self.size].max(initial=0))
        return float(EPOCH_SECONDS + newest) if newest else None

    def count(
        self, now_seconds: float, gateway_down: Bools | Codes | None, cells: int, gateways: int,
        blind: Blind | None = None,
    ) -> Counts:  # fmt: skip
        """Count every cell and gateway at a Unix time; `gateway_down` is by gateway number, None for none down.

        In it 1 explains silence, 2 is a gateway whose gap is open; `blind` is as in `states.moment`.

        Raises ValueError where a terminal's cell or gateway has a number beyond `cells` or `gateways`.
        """
        if self._last_cell >= cells or self._last_gateway >= gateways:
            raise ValueError(
                f"terminals are in cell {self._last_cell} and behind gateway {self._last_gateway}, "
                f"but {cells} cells and {gateways} gateways were to be counted: read them anew first"
            )
        self.offline.drop_old(self.heard)
        at = moment(self.kinds, now_seconds, blind)
        tallies = [Tally(at, self.kinds, gateway_down, cells, gateways) for _ in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._add_part, tallies, range(THREADS)))
        for other in tallies[1:]:
            tallies[0].add(other)
        return tallies[0].counts(now_seconds, self._count_invalid(at, cells))

    def _add_part(self, tally: Tally, number: int) -> None:
        """Count every so many blocks, from this number on."""
        for start in range(number * BLOCK, self.size, THREADS * BLOCK):
            tally.count(self._block(slice(start, min(start + BLOCK, self.size)), tally.at))

    def _block(self, rows: slice, at: Moment) -> Block:
        kind, notices = self.kind[rows].astype(np.intp), self.notices(rows)
        heard = self.heard[rows]
        packed = codes(heard, self.installed_day[rows], self.life[rows], kind, notices, at)
        return Block(self.cell[rows], self.gateway[rows], kind, heard, packed, notices)

    def notices(self, rows: slice) -> tuple[Numbers, Seconds]:
        """Places among the rows with a notice that holds, and when it came."""
        return self.offline.holding(rows, self.heard)

    def _count_invalid(self, at: Moment, cells: int) -> Numbers:
        ids = np.array(self.invalid.to_array(), np.int64)
        ids = ids[ids < self.size]
        life, days = self.life[ids], self.installed_day[ids]
        counted = (life == Life.DISCOVERED) | ((life == Life.REGISTERED) & (days <= at.today))
        return np.bincount(self.cell[ids[counted]], minlength=cells)

    def _cover(self, ids: Ids) -> None:
        """Grow so that the ids have rows, in steps of an eighth: doubling 4.5 GB would be needless."""
        if len(ids) and (last := int(ids.max())) >= self.size:
            if last >= len(self.heard):
                self.reserve(max(last + 1, len(self.heard) * 9 // 8))
            self.size = last + 1


def _bit(ids: Ids) -> Codes:
    """The bit of each id in its byte."""
    bit: Codes = np.left_shift(1, ids & 7).astype(np.uint8)
    return bit


def _column_seconds(at_seconds: float) -> int:
    """As it stands in a column: never 0, which is never."""
    return max(1, math.floor(at_seconds) - EPOCH_SECONDS)
