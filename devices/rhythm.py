"""How often something comes from a gateway, as far as its terminals make one expect it.

Pure. Asked only of gateways that are quiet: their terminals are looked for in the whole fleet.
"""

from collections.abc import Mapping

import numpy as np

from devices.presence import BLOCK, Fleet
from devices.states import EPOCH_SECONDS, Life, moment

WITNESSES = 3
"""So many terminals must be silent: one that dies behind a gateway of daily meters is no dead gateway."""


def intervals(
    fleet: Fleet, last_seen: Mapping[int, float], gateways: int, now_seconds: float
) -> dict[int, float]:
    """Seconds in which something should come from each gateway asked for, by number.

    `last_seen` is when each was last heard, `gateways` one more than the highest number. The interval is the
    third shortest of the terminals that were live then (the longest, where there are fewer): who was never
    heard, lost or said to be offline makes nobody expect anything. Where none was live it is the longest of
    all installed; a gateway without any is left out.
    """
    numbers = np.array(sorted(last_seen), np.int64)
    reports, report_of_kind = np.unique(
        [kind.report_seconds for kind in fleet.kinds] or [0], return_inverse=True
    )
    place = np.full(gateways, -1, np.int64)
    place[numbers] = np.arange(len(numbers))
    seen = np.array([last_seen[number] for number in numbers.tolist()]) - EPOCH_SECONDS
    since = np.floor(seen[:, None] - (1.5 * reports + 600)).clip(1).ravel()
    installed, live = np.zeros(since.shape, np.bool_), np.zeros(since.shape, np.int32)
    today = moment(fleet.kinds, now_seconds).today
    for start in range(0, fleet.size if len(numbers) else 0, BLOCK):
        rows = slice(start, min(start + BLOCK, fleet.size))
        behind = place.take(fleet.gateway[rows])
        here = np.flatnonzero(
            (behind >= 0) & (fleet.life[rows] == Life.REGISTERED) & (fleet.installed_day[rows] <= today)
        )
        kind = fleet.kind[rows][here].astype(np.int64)
        pair = behind[here] * len(reports) + report_of_kind.take(kind)
        installed[pair] = True
        alive = fleet.heard[rows][here] >= since[pair]
        alive &= ~np.isin(here, fleet.notices(rows)[0], assume_unique=True)
        np.add.at(live, pair[alive], 1)
    found = {}
    rows_of = zip(
        numbers.tolist(), installed.reshape(-1, len(reports)), live.reshape(-1, len(reports)), strict=True
    )
    for number, there, alive in rows_of:
        if total := int(alive.sum()):
            found[number] = float(reports[np.searchsorted(np.cumsum(alive), min(WITNESSES, total))])
        elif there.any():
            found[number] = float(reports[np.flatnonzero(there)[-1]])
    return found
