"""Who is there, as a batch says it: terminals heard, said to be offline, refused; gateways that published. Pure.

Heard is an arrival, whatever the device's clock says: a reading or an event, refused ones of known terminals
included. Nothing late counts, no offline notice (`online` = 0), and no event that is a platform's word about a
terminal that said nothing (a command that expired). Takes what is new of a batch: what came
before says nothing.
"""

from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from devices.division import PROVINCE, city
from devices.registry import Registry
from ingest.batch import Batch, refused_readings
from ingest.sealed import LATE, Mask, Sealed
from schemas.rejection import Reason
from schemas.routes import Place

TELL_SECONDS = 30
"""A gateway counts as silent after minutes; that it published is told this often."""
TOLD_MAX = 100_000
"""Gateways remembered; a province has tens of thousands."""
UNTRUSTED = (Reason.BAD_TOPIC, Reason.NOT_AUTHORIZED)
"""A topic that is refused as a whole names no gateway."""


class Presence(NamedTuple):
    """Terminals by what the batch says of them; who is in the first two was heard and then said to be offline."""

    heard: BitMap
    offline: BitMap
    refused: BitMap
    """Heard, and nothing of theirs in the batch was stored."""


def presence(fresh: Sealed, online: int | None) -> Presence:
    """What the new part of a batch says; `online` is the id of that metric, None where there is none yet."""
    ids, timely = fresh.rows["terminal_id"], (fresh.rows["quality"] & LATE) == 0
    notice = timely & (fresh.rows["metric_id"] == (online or -1))
    notice[notice] = fresh.rows["value"][notice] == 0
    arrived = timely & ~notice
    heard = _bitmap(ids if arrived.all() else ids[arrived])
    heard.update(e.terminal_id for e in fresh.events if e.heard)
    refused = BitMap()
    if len(fresh.refused):
        refused = _bitmap(fresh.refused["terminal"])
        stored = _bitmap(ids[~arrived]) | BitMap(e.terminal_id for e in fresh.events)
        refused, heard = refused - heard - stored, heard | refused
    return Presence(heard, _offline(fresh, timely, notice, online), refused)


def _bitmap(ids: npt.NDArray[np.int32]) -> BitMap:
    """Sorted, and as an `array`: an eighth of the time that it takes as it is."""
    return BitMap(array("I", np.sort(ids.astype(np.uint32)).tobytes()))


def _offline(fresh: Sealed, timely: Mask, notice: Mask, online: int | None) -> BitMap:
    """Terminals whose last word is an offline notice; within one part it outweighs all but a later `online`."""
    if not notice.any():
        return BitMap()
    ids = fresh.rows["terminal_id"]
    rows = np.flatnonzero(timely & np.isin(ids, np.unique(ids[notice])))
    events = [e for e in fresh.events if e.heard]
    terminals = np.concatenate([ids[rows], fresh.refused["terminal"], _ints(e.terminal_id for e in events)])
    parts = np.concatenate([fresh.part_of_row[rows], fresh.refused["part"], _ints(e.part for e in events)])
    states, notices = np.zeros((2, len(terminals)), np.bool_)
    states[: len(rows)], notices[: len(rows)] = fresh.rows["metric_id"][rows] == online, notice[rows]
    order = np.lexsort((states, parts))  # stable: what is equal stays as it came
    distinct, places = np.unique(terminals, return_inverse=True)
    last = np.zeros(len(distinct), np.bool_)
    last[places[order]] = notices[order]  # of those at one place the last stays
    return BitMap(distinct[last].astype(np.uint32))


def quality(batch: Batch, fresh: Sealed, registry: Registry) -> dict[int, list[int]]:
    """Readings by city (370000 where only the province is known): without a flag, and received."""
    found: dict[int, list[int]] = {}
    received = np.bincount(fresh.rows["cell_id"])
    unflagged = np.bincount(fresh.rows["cell_id"][fresh.rows["quality"] == 0], minlength=len(received))
    for cell in np.flatnonzero(received).tolist():
        counted = found.setdefault(registry.city_of_cell[cell], [0, 0])
        counted[0] += int(unflagged[cell])
        counted[1] += int(received[cell])
    for part, refusals in fresh.refusals.items():
        place = registry.division_of(batch.places[batch.message_of[part]])
        if count := refused_readings(refusals):
            found.setdefault(city(place or PROVINCE), [0, 0])[1] += count
    return found


def _ints(numbers: Iterable[int]) -> npt.NDArray[np.int32]:
    return np.fromiter(numbers, np.int32)


class Publishers:
    """Which gateways published, each told once per `TELL_SECONDS`; remembers what was committed."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def news(self, batch: Batch, fresh: Sealed, known: Mask, now: float) -> dict[str, int | None]:
        """Gateways to tell of, with the division of their topic where it has one."""
        found: dict[str, int | None] = {}
        for division, gateway in _places(batch, fresh, known):
            if gateway is not None and abs(now - self._told.get(gateway, -TELL_SECONDS)) >= TELL_SECONDS:
                found[gateway] = division or found.get(gateway)
        return found

    def told(self, gateways: dict[str, int | None], now: float) -> None:
        """Remember that these were committed."""
        if len(self._told) + len(gateways) > TOLD_MAX:
            self._told.clear()
        self._told.update(dict.fromkeys(gateways, now))


def _places(batch: Batch, fresh: Sealed, known: Mask) -> Iterable[Place]:
    """Where the messages are from of which something is new and the topic was taken."""
    passed = known.copy()
    passed[[n for n, refusals in fresh.refusals.items() if refusals[0].reason in UNTRUSTED]] = True
    if not passed.any():
        return dict.fromkeys(batch.places)
    return dict.fromkeys(batch.places[n] for n in {batch.message_of[n] for n in np.flatnonzero(~passed)})
