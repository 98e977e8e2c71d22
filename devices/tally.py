"""Terminals by cell and by gateway: the sums of a pass over the columns of a fleet, and what they say.

Pure. A pass goes in blocks of rows. Most of a terminal is in its code (`states.codes`), and pairs of cell and code are
counted; looked at closer are only the few that are silent or watch a street.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from devices.states import (
    ANSWERS,
    CAMERA_CLASSES,
    CAMERA_MEANINGS,
    CLASS_MEANINGS,
    CLASS_OF,
    CLASSES,
    STATES,
    Bools,
    Codes,
    Kind,
    Kinds,
    Moment,
    Numbers,
    Seconds,
    groups,
    limit,
)

NAMED = 2
"""In `gateway_down`: its gap is open, so that what is silent behind it surely has a cause."""
Cells = npt.NDArray[np.int16]
Gateways = npt.NDArray[np.int32]


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


class Block(NamedTuple):
    """Rows that are counted together; all but `notices` are columns of one length."""

    cell: Cells
    gateway: Gateways
    kind: Kinds
    heard: Seconds
    codes: Codes
    notices: tuple[Numbers, Seconds]
    """Places among the rows with a notice of being offline that holds, and when it came."""


class Tally:
    """Sums over blocks, and what they are compared with."""

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

    def count(self, block: Block) -> None:
        """Count these rows."""
        installed, live, silent = groups(block.codes)
        self.by_class += np.bincount(_pairs(block.cell, block.codes), minlength=len(self.by_class))
        reach = _reach(block.gateway, installed, live)
        self.by_reach += np.bincount(reach, minlength=len(self.by_reach))
        self._count_silent(block, np.flatnonzero(silent))
        if self.video.any():
            self._count_cameras(block, installed, live)

    def _count_silent(self, block: Block, places: Kinds) -> None:
        """Look closer at who is overdue or lost: who left `live` just now, who stands behind a dead gateway."""
        cell, gateway, kind = block.cell[places], block.gateway[places], block.kind[places]
        left = block.heard[places] >= limit(self.at.left, kind)
        noted, said = block.notices
        old = noted[said < limit(self.at.notice, block.kind[noted])]
        left &= ~np.isin(places, old, assume_unique=True)
        unproven = ~self.at.judged.take(kind)
        if unproven.any():
            unproven &= ~np.isin(places, noted, assume_unique=True)  # a notice is a word, not silence
            left &= ~unproven
        np.add.at(self.left, cell[left], 1)
        np.add.at(self.gateway_left, gateway[left], 1)
        if self.down is not None:
            blame = self.down.take(gateway)
            np.add.at(self.left_explained, cell[(blame > 0) & left], 1)
            np.add.at(self.silent_named, cell[blame == NAMED], 1)
            unproven |= blame > 0
        np.add.at(self.silent_explained, cell[unproven], 1)

    def _count_cameras(self, block: Block, installed: Bools, live: Bools) -> None:
        cameras = np.flatnonzero(installed & self.video.take(block.kind))
        keys = block.cell[cameras].astype(np.int64) * CAMERA_CLASSES
        keys += self.camera_class.take(block.kind[cameras]) * 2 + live[cameras]
        self.cameras += np.bincount(keys, minlength=len(self.cameras))

    def add(self, other: "Tally") -> None:
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


def _pairs(cell: Cells, packed: Codes) -> npt.NDArray[np.int32]:
    """Cell and class in one number. Narrow until the end: 8 bytes a row would take four times as long."""
    pairs = cell.astype(np.int32)
    pairs *= CLASSES
    pairs += CLASS_OF.take(packed, mode="wrap").astype(np.int32)
    return pairs


def _reach(gateway: Gateways, installed: Bools, live: Bools) -> npt.NDArray[np.int32]:
    """Gateway and whether live in one number; 0 for who is not installed."""
    reach = gateway * np.int32(2)
    reach += live.astype(np.int32)
    reach *= installed.astype(np.int32)
    return reach
