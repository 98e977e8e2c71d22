"""Who was heard when: numpy columns by terminal id, from which every state and every cell's counts follow.

The rules are in `states`. Assumes dense ids (a row of columns is 15 bytes, 4.5 GB for 300 million), and one
caller at a time. What is heard is taken by maximum, an offline notice too, so that order and repetition change
nothing. A notice of the second in which the terminal was heard counts as the later one. What names and
divisions stand behind the numbers of cells and gateways is the caller's.

The pass over the columns goes in blocks that stay in the cache. It packs what the counts need to know of a
terminal into one byte, counts the pairs of cell and byte, and looks closer only at the few that are silent or
watch a street.
"""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from devices.states import (
    ANSWERS,
    CAMERA_CLASSES,
    CAMERA_MEANINGS,
    CLASS_MEANINGS,
    CLASS_OF,
    CLASSES,
    EPOCH_SECONDS,
    NEW_DAYS,
    NO_DAY,
    SHANDONG_SECONDS,
    STATES,
    Blind,
    Bools,
    Codes,
    Days,
    Kind,
    Kinds,
    Life,
    Moment,
    Numbers,
    Seconds,
    codes,
    groups,
    limit,
    moment,
    state_of,
)

__all__ = [
    "BLOCK",
    "EPOCH_SECONDS",
    "NEW_DAYS",
    "NO_DAY",
    "SHANDONG_SECONDS",
    "STATES",
    "Counts",
    "Facts",
    "Fleet",
    "Kind",
    "Life",
    "Numbers",
]

BLOCK = 1 << 18
"""Rows looked at together: temporary columns stay in the cache, and threads meet seldom (half of it: 1.2 as long)."""
NAMED = 2
"""In `gateway_down`: its gap is open, so that what is silent behind it surely has a cause."""
THREADS = 2
"""Of a pass; numpy lets the interpreter go for most of it (measured: 0.6 of the time of one)."""

Ids = npt.NDArray[np.uint32]


class Facts(NamedTuple):
    """Registry rows as columns of one length; `installed_day` is in days since 2020-01-01 or `NO_DAY`."""

    ids: Ids
    cell: npt.NDArray[np.int16]
    kind: npt.NDArray[np.int16]
    life: npt.NDArray[np.uint8]
    installed_day: Days
    gateway: npt.NDArray[np.int32]


@dataclass
class Counts:
    """Terminals by cell id, and by gateway number, at one moment; all int64.

    `left` and what is explained are of installed terminals; explained is what stands behind a gateway
    that is down. Gateway 0 is none, so its row stays 0.
    """

    at: float
    states: Numbers
    """[cells, 7], as STATES."""
    active: Numbers
    """Heard in the last 30 days, or three reporting intervals."""
    due: Numbers
    """Installed for more than `NEW_DAYS`."""
    heard_today: Numbers
    """Of `due`, heard within 24 h, on NB-IoT within 49 h."""
    ripe: Numbers
    """Installed for more than `NEW_DAYS` and three reporting intervals."""
    ripe_never: Numbers
    left: Numbers
    """Left `live` within the last 15 min, or half a reporting interval, or while nobody looked."""
    left_explained: Numbers
    silent_explained: Numbers
    """Overdue or lost, and explained, or of a silence that proves nothing."""
    video: Numbers
    """[cells, 6]: in key areas: installed, live, smart, not known whether smart; not known whether in one; all."""
    gateway: Numbers
    """[gateways, 3]: installed, live, left."""
    invalid: Numbers
    """Installed or discovered, and every reading refused when last heard."""
    silent_named: Numbers | None = None
    """Of `silent_explained`, behind a gateway that has a gap; None: of none."""


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
        self.offline_ids: Ids = np.empty(0, np.uint32)
        """Terminals with a notice of being offline, ascending; it holds unless they were heard since."""
        self.offline_at: Seconds = np.empty(0, np.int32)
        """When their newest notice came."""
        self._newest_notice = 0
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
        self._keep_notices(~np.isin(self.offline_ids, ids))
        self._mend(ids)

    def hear(self, ids: Ids, at_seconds: float) -> Ids:
        """Note that terminals were heard at this Unix time; answers those never heard before.

        Ids may come before their registry rows: they count once `put` has brought those.
        """
        self._cover(ids)
        at, before = _column_seconds(at_seconds), self.heard[ids]
        self.heard[ids] = np.maximum(before, at + self._said_at(ids, at))
        if self.invalid:
            self._mend(ids[before <= at])
        first: Ids = ids[before == 0]
        return first

    def _said_at(self, ids: Ids, at: int) -> npt.NDArray[np.int32] | int:
        """1 for terminals whose notice is of this very second: what comes after it counts as the next one's."""
        if at > self._newest_notice:
            return 0
        noted = self.offline_ids[self.offline_at == at]
        return np.isin(ids, noted).astype(np.int32) if len(noted) else 0

    def say_offline(self, ids: Ids, at_seconds: float) -> Ids:
        """Note that terminals were said to be offline at this Unix time; answers those not known offline before.

        The newest notice stays; one older than the terminal was heard changes nothing.
        """
        self._cover(ids)
        ids, at = np.unique(ids), _column_seconds(at_seconds)
        self._newest_notice = max(self._newest_notice, at)
        ids = ids[self.heard[ids] <= at]
        places = np.searchsorted(self.offline_ids, ids)
        noted = np.isin(ids, self.offline_ids)
        again, new = places[noted], places[~noted]
        known = noted.copy()
        known[noted] = self.offline_at[again] >= self.heard[ids[noted]]
        self.offline_at[again] = np.maximum(self.offline_at[again], at)
        self.offline_ids = np.insert(self.offline_ids, new, ids[~noted])
        self.offline_at = np.insert(self.offline_at, new, at)
        return ids[~known]

    def put_notices(self, ids: Ids, at: Seconds) -> None:
        """Take all notices at once, one a terminal, `at` as in the column: one after the other would sort each in."""
        order = np.argsort(ids)
        self.offline_ids, self.offline_at = ids[order], at[order]
        self._newest_notice = int(at.max(initial=0))

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
        packed = self._codes(rows, self.kind[rows].astype(np.intp), moment(self.kinds, now_seconds))
        number = state_of(int(packed[0]))
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
        self._keep_notices(self.offline_at >= self.heard[self.offline_ids])
        at = moment(self.kinds, now_seconds, blind)
        tallies = [_Tally(at, self.kinds, gateway_down, cells, gateways) for _ in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._add_part, tallies, range(THREADS)))
        for other in tallies[1:]:
            tallies[0].add(other)
        return tallies[0].counts(now_seconds, self._count_invalid(at, cells))

    def _add_part(self, tally: "_Tally", number: int) -> None:
        """Count every so many blocks, from this number on."""
        for start in range(number * BLOCK, self.size, THREADS * BLOCK):
            self._add(slice(start, min(start + BLOCK, self.size)), tally)

    def _add(self, rows: slice, tally: "_Tally") -> None:
        """Count these rows."""
        kind = self.kind[rows].astype(np.intp)
        packed = self._codes(rows, kind, tally.at)
        installed, live, silent = groups(packed)
        tally.by_class += np.bincount(_pairs(self.cell[rows], packed), minlength=len(tally.by_class))
        reach = _reach(self.gateway[rows], installed, live)
        tally.by_reach += np.bincount(reach, minlength=len(tally.by_reach))
        self._add_silent(rows, kind, silent, tally)
        self._add_cameras(rows, kind, installed, live, tally)

    def _add_silent(self, rows: slice, kind: Kinds, silent: Bools, tally: "_Tally") -> None:
        """Look closer at who is overdue or lost: who left `live` just now, who stands behind a dead gateway."""
        places = np.flatnonzero(silent)
        cell, gateway = self.cell[rows][places], self.gateway[rows][places]
        left = self.heard[rows][places] >= limit(tally.at.left, kind[places])
        ids, notices = self.notices(rows)
        old = ids[notices < limit(tally.at.notice, kind[ids])]
        left &= ~np.isin(places, old, assume_unique=True)
        unproven = ~tally.at.judged.take(kind[places])
        if unproven.any():
            unproven &= ~np.isin(places, ids, assume_unique=True)  # a notice is a word, not silence
            left &= ~unproven
        np.add.at(tally.left, cell[left], 1)
        np.add.at(tally.gateway_left, gateway[left], 1)
        if tally.down is not None:
            blame = tally.down.take(gateway)
            np.add.at(tally.left_explained, cell[(blame > 0) & left], 1)
            np.add.at(tally.silent_named, cell[blame == NAMED], 1)
            unproven |= blame > 0
        np.add.at(tally.silent_explained, cell[unproven], 1)

    def _add_cameras(self, rows: slice, kind: Kinds, installed: Bools, live: Bools, tally: "_Tally") -> None:
        if not tally.video.any():
            return
        cameras = np.flatnonzero(installed & tally.video.take(kind))
        keys = self.cell[rows][cameras].astype(np.int64) * CAMERA_CLASSES
        keys += tally.camera_class.take(kind[cameras]) * 2 + live[cameras]
        tally.cameras += np.bincount(keys, minlength=len(tally.cameras))

    def _codes(self, rows: slice, kind: Kinds, at: Moment) -> Codes:
        return codes(
            self.heard[rows], self.installed_day[rows], self.life[rows], kind, self.notices(rows), at
        )

    def notices(self, rows: slice) -> tuple[Numbers, Seconds]:
        """Places among the rows with a notice that holds, and when it came."""
        first, last = np.searchsorted(self.offline_ids, (rows.start, rows.stop))
        places = self.offline_ids[first:last].astype(np.int64) - rows.start
        holds = self.offline_at[first:last] >= self.heard[rows][places]
        return places[holds], self.offline_at[first:last][holds]

    def _count_invalid(self, at: Moment, cells: int) -> Numbers:
        ids = np.array(self.invalid.to_array(), np.int64)
        ids = ids[ids < self.size]
        life, days = self.life[ids], self.installed_day[ids]
        counted = (life == Life.DISCOVERED) | ((life == Life.REGISTERED) & (days <= at.today))
        return np.bincount(self.cell[ids[counted]], minlength=cells)

    def _keep_notices(self, keep: Bools) -> None:
        if not keep.all():
            self.offline_ids, self.offline_at = self.offline_ids[keep], self.offline_at[keep]

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


def _pairs(cell: npt.NDArray[np.int16], packed: Codes) -> npt.NDArray[np.int32]:
    """Cell and class in one number. Narrow until the end: 8 bytes a row would take four times as long."""
    pairs = cell.astype(np.int32)
    pairs *= CLASSES
    pairs += CLASS_OF.take(packed, mode="wrap").astype(np.int32)
    return pairs


def _reach(gateway: npt.NDArray[np.int32], installed: Bools, live: Bools) -> npt.NDArray[np.int32]:
    """Gateway and whether live in one number; 0 for who is not installed."""
    reach = gateway * np.int32(2)
    reach += live.astype(np.int32)
    reach *= installed.astype(np.int32)
    return reach


class _Tally:
    """Sums over the blocks of one pass, and what they are compared with."""

    def __init__(
        self, at: Moment, kinds: list[Kind], down: Bools | Codes | None, cells: int, gateways: int
    ) -> None:
        self.at = at
        self.down = down.astype(np.uint8) if down is not None and down.any() else None
        self.video = np.array([kind.video for kind in kinds], np.bool_)
        self.camera_class = np.array([ANSWERS[kind.key_area] * 3 + ANSWERS[kind.smart] for kind in kinds])
        self.by_class = np.zeros(cells * CLASSES, np.int64)
        self.by_reach = np.zeros(gateways * 2, np.int64)
        self.left, self.left_explained = np.zeros((2, cells), np.int64)
        self.silent_explained, self.silent_named = np.zeros((2, cells), np.int64)
        self.gateway_left = np.zeros(gateways, np.int64)
        self.cameras = np.zeros(cells * CAMERA_CLASSES, np.int64)

    def add(self, other: "_Tally") -> None:
        """Take another's sums in."""
        for name in (
            "by_class",
            "by_reach",
            "left",
            "left_explained",
            "silent_explained",
            "silent_named",
            "gateway_left",
            "cameras",
        ):
            getattr(self, name).__iadd__(getattr(other, name))

    def counts(self, now_seconds: float, invalid: Numbers) -> Counts:
        """What the sums say."""
        table = self.by_class.reshape(-1, CLASSES) @ CLASS_MEANINGS
        silent, live = self.by_reach.reshape(-1, 2).T
        gateway = np.stack((silent + live, live, self.gateway_left), axis=1)
        gateway[0] = 0
        active, due, heard_today, ripe, ripe_never = table[:, len(STATES) :].T
        return Counts(
            at=now_seconds,
            states=table[:, : len(STATES)],
            active=active,
            due=due,
            heard_today=heard_today,
            ripe=ripe,
            ripe_never=ripe_never,
            left=self.left,
            left_explained=self.left_explained,
            silent_explained=self.silent_explained,
            silent_named=self.silent_named,
            video=self.cameras.reshape(-1, CAMERA_CLASSES) @ CAMERA_MEANINGS,
            gateway=gateway,
            invalid=invalid,
        )


def _column_seconds(at_seconds: float) -> int:
    """As it stands in a column: never 0, which is never."""
    return max(1, math.floor(at_seconds) - EPOCH_SECONDS)
