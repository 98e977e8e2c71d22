"""What a state is: the contract's section 5 as limits at one moment, and as the byte a pass makes of a terminal.

A terminal is installed when it is registered and its day of installation has come, in Shandong's time; only
installed terminals are live, overdue, lost or never heard. r is the reporting interval of its kind.

A code packs how long ago a terminal was heard and installed, its life, and whether it was heard today and is
active. Codes that count alike are one class.
"""

import math
from collections.abc import Iterable
from enum import IntEnum
from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from devices.day import SHANDONG_SECONDS

EPOCH_SECONDS = 1_577_836_800
"""2020-01-01 UTC. Times in the columns are int32 seconds since then, until 2088; 0 is never."""
DAY_SECONDS = 86_400
STATES = ("planned", "never_heard", "live", "overdue", "lost", "retired", "discovered")
NO_DAY = 32_767
"""`installed_day` of a terminal whose day of installation nobody entered."""
RECOVERY_SECONDS = 900
"""For so long after the service was deaf silence proves nothing, or for the time that a terminal may be silent."""
UNSEEN_SECONDS = 30 * DAY_SECONDS
"""Whoever left before is no news, as `active` forgets."""
NEW_DAYS = 7
"""For so long after its installation a terminal is in no daily ratio and no never_heard gap."""
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Seconds = npt.NDArray[np.int32]
Days = npt.NDArray[np.int16]
Numbers = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.intp]


class Life(IntEnum):
    """What the registry says; REGISTERED is `planned` or `installed`, which of them follows from the day."""

    ABSENT = 0
    REGISTERED = 1
    RETIRED = 2
    DISCOVERED = 3


class Kind(NamedTuple):
    """What terminals have in common; None is unknown."""

    report_seconds: int
    nbiot: bool
    video: bool
    smart: bool | None
    key_area: bool | None


class Blind(NamedTuple):
    """A time of which silence proves nothing, or that nobody looked at: what left `live` in it counts afterwards."""

    since_seconds: float
    """Until then all was seen."""
    until_seconds: float
    """From then on it is again; infinite while it lasts."""
    deaf: bool
    """The service heard nobody; False: terminals were heard, only the observer was away."""

    def fair_seconds(self, quiet_seconds: Any) -> Any:
        """Since when silence proves something again, where this long a silence is needed; a number or an array.

        Whoever was not heard by a deaf service must have had the time to be heard.
        """
        return self.until_seconds + (np.maximum(RECOVERY_SECONDS, quiet_seconds) if self.deaf else 0)


class Moment(NamedTuple):
    """One moment as limits: the earliest second (or last day) that still counts, by kind where it depends."""

    today: int
    due_day: int
    ripe_day: Days
    live: Seconds
    overdue: Seconds
    day: Seconds
    active: Seconds
    left: Seconds
    notice: Seconds
    judged: Bools
    """By kind, whether silence proves something."""


def moment(kinds: Iterable[Kind], now_seconds: float, blind: Blind | None = None) -> Moment:
    """The limits of a moment; `blind`, a time before it, widens that in which terminals are known to have left."""
    r, nbiot = np.array([(kind.report_seconds, int(kind.nbiot)) for kind in kinds] or [(1, 0)], np.int64).T
    today = math.floor((now_seconds + SHANDONG_SECONDS - EPOCH_SECONDS) / DAY_SECONDS)
    live, window = 1.5 * r + 600, np.maximum(900, r / 2)
    judged = np.ones(len(r), np.bool_)
    if blind is not None:
        fair = blind.fair_seconds(live)
        judged = np.broadcast_to(now_seconds >= fair, len(r))
        unseen = min(now_seconds - blind.since_seconds, UNSEEN_SECONDS)
        window = np.where(now_seconds < fair + window, np.maximum(window, unseen), window)

    def since(age: npt.NDArray[np.float64] | Numbers) -> Seconds:
        return _shared(np.ceil(now_seconds - EPOCH_SECONDS - age).clip(1, 2**31 - 1).astype(np.int32))

    return Moment(
        today=today,
        due_day=today - NEW_DAYS - 1,
        ripe_day=_shared(
            (today - np.maximum(NEW_DAYS, 3 * r // DAY_SECONDS) - 1).clip(-(2**15)).astype(np.int16)
        ),
        live=since(live),
        overdue=since(3 * r + 1_800),
        day=since(np.where(nbiot, 49, 24) * 3_600),
        active=since(np.maximum(30 * DAY_SECONDS, 3 * r)),
        left=since(live + window),
        notice=since(window),
        judged=judged,
    )


_Limit = TypeVar("_Limit", Seconds, Days)


def _shared(limits: _Limit) -> _Limit:
    """A limit that all kinds share, as one number: it need not be looked up."""
    return limits[:1] if (limits == limits[0]).all() else limits


def limit(limits: _Limit, kind: Kinds) -> _Limit:
    """Each terminal's limit."""
    return limits if len(limits) == 1 else limits.take(kind)


# A code: how long ago it was heard, how long ago installed, its life, heard today, active.
_NEVER, _LOST, _OVERDUE, _LIVE = range(4)
_PLANNED, _NEW, _DUE, _RIPE = (stage << 2 for stage in range(4))
_LIFE_BITS = 4
_AGE, _STAGE, _LIFE, _TODAY, _ACTIVE = 0x03, 0x0C, 0x30, 0x40, 0x80


def state_of(code: int) -> int | None:
    """Number of the state, None for an absent terminal."""
    match Life(code >> _LIFE_BITS & 3):
        case Life.RETIRED:
            return STATES.index("retired")
        case Life.DISCOVERED:
            return STATES.index("discovered")
        case Life.REGISTERED if code & _STAGE == _PLANNED:
            return STATES.index("planned")
        case Life.REGISTERED:
            return STATES.index(("never_heard", "lost", "overdue", "live")[code & 3])
    return None


def _meanings() -> Numbers:
    """[256, 12]: in which columns of `Counts` a code counts: states, active, due, heard today, ripe, ripe never."""
    table = np.zeros((256, len(STATES) + 5), np.int64)
    for code in range(256):
        if (state := state_of(code)) is None:
            continue
        table[code, state] = 1
        if STATES[state] not in {"never_heard", "live", "overdue", "lost"}:
            continue
        stage = code & _STAGE
        due, ripe = stage >= _DUE, stage == _RIPE
        never = code & 3 == _NEVER
        table[code, len(STATES) :] = code & _ACTIVE > 0, due, due and code & _TODAY > 0, ripe, ripe and never
    return table


def _classes() -> tuple[Numbers, Codes]:
    """[64, 12] and [256]: the codes that count alike as one class, and the class of each code."""
    rows, class_of = np.unique(_meanings(), axis=0, return_inverse=True)
    table = np.zeros((CLASSES, rows.shape[1]), np.int64)
    table[: len(rows)] = rows
    return table, class_of.astype(np.uint8)


CLASSES = 64
"""Room for the classes below; a table of cells by classes fits the second cache, one by codes does not."""
CLASS_MEANINGS, CLASS_OF = _classes()
CAMERA_CLASSES = 18
"""Three answers on the camera's place, times three on its smartness, times live or not."""
ANSWERS = {False: 0, True: 1, None: 2}


def _camera_meanings() -> Numbers:
    """[18, 6]: in which columns of `Counts.video` a camera's class and whether it is live count."""
    rows = [
        (key, key and live, key and smart is True, key and smart is None, key is None, True)
        for key, smart, live in product(ANSWERS, ANSWERS, (False, True))
    ]
    return np.array([[bool(column) for column in row] for row in rows], np.int64)


CAMERA_MEANINGS = _camera_meanings()


def codes(
    heard: Seconds,
    installed_day: Days,
    life: Codes,
    kind: Kinds,
    notices: tuple[Numbers, Seconds],
    at: Moment,
) -> Codes:
    """A code for each terminal; `notices` are places in the columns and seconds since the epoch.

    Whoever was said to be offline is overdue if that is recent enough, else lost.
    """
    age = (heard > 0).view(np.uint8)
    age += heard >= limit(at.overdue, kind)
    age += heard >= limit(at.live, kind)
    places, said = notices
    places, said = places[heard[places] > 0], said[heard[places] > 0]
    age[places] = np.where(said >= limit(at.overdue, kind[places]), _OVERDUE, _LOST)
    stage = (installed_day <= at.today).view(np.uint8)
    stage += installed_day <= at.due_day
    stage += installed_day <= limit(at.ripe_day, kind)
    packed: Codes = np.left_shift(life, _LIFE_BITS, dtype=np.uint8)
    packed |= stage << 2
    packed |= age
    packed |= (heard >= limit(at.day, kind)).view(np.uint8) << 6
    packed |= (heard >= limit(at.active, kind)).view(np.uint8) << 7
    return packed


def groups(packed: Codes) -> tuple[Bools, Bools, Bools]:
    """Who is installed; who was heard lately, installed or not; who is installed and overdue or lost."""
    installed = (packed & _LIFE == Life.REGISTERED << _LIFE_BITS) & (packed & _STAGE > _PLANNED)
    live = packed & _AGE == _LIVE
    return installed, live, installed & ~live & (packed & _AGE > _NEVER)
