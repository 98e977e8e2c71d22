"""Who was said to be offline, and when: notices of few terminals, as two columns in the order of their ids.

Pure. A notice holds unless its terminal was heard since; when that was, the caller's column `heard` says, by terminal
id. Times are those of the columns (`states.EPOCH_SECONDS`). Of a terminal the newest notice is kept.
"""

import numpy as np
import numpy.typing as npt

from devices.states import Bools, Numbers, Seconds

Ids = npt.NDArray[np.uint32]


class Notices:
    """The columns, one entry a terminal."""

    def __init__(self) -> None:
        self.ids: Ids = np.empty(0, np.uint32)
        """Ascending."""
        self.at: Seconds = np.empty(0, np.int32)
        """When their newest notice came."""
        self._newest = 0

    def put(self, ids: Ids, at: Seconds) -> None:
        """Take all notices at once, one a terminal: one after the other would sort each in."""
        order = np.argsort(ids)
        self.ids, self.at = ids[order], at[order]
        self._newest = int(at.max(initial=0))

    def add(self, ids: Ids, at: int, heard: Seconds) -> Ids:
        """Take notices of one second; answers the terminals that had none that holds.

        One older than the terminal was heard changes nothing.
        """
        ids = np.unique(ids)
        self._newest = max(self._newest, at)
        ids = ids[heard[ids] <= at]
        places = np.searchsorted(self.ids, ids)
        noted = np.isin(ids, self.ids)
        again, new = places[noted], places[~noted]
        known = noted.copy()
        known[noted] = self.at[again] >= heard[ids[noted]]
        self.at[again] = np.maximum(self.at[again], at)
        self.ids = np.insert(self.ids, new, ids[~noted])
        self.at = np.insert(self.at, new, at)
        return ids[~known]

    def said_at(self, ids: Ids, at: int) -> npt.NDArray[np.int32] | int:
        """1 for terminals whose notice is of this very second: what comes after it counts as the next one's."""
        if at > self._newest:
            return 0
        noted = self.ids[self.at == at]
        return np.isin(ids, noted).astype(np.int32) if len(noted) else 0

    def holding(self, rows: slice, heard: Seconds) -> tuple[Numbers, Seconds]:
        """Places among these rows with a notice that holds, and when it came."""
        first, last = np.searchsorted(self.ids, (rows.start, rows.stop))
        places = self.ids[first:last].astype(np.int64) - rows.start
        holds = self.at[first:last] >= heard[rows][places]
        return places[holds], self.at[first:last][holds]

    def drop_old(self, heard: Seconds) -> None:
        """Forget those that hold no more."""
        self._keep(self.at >= heard[self.ids])

    def remove(self, ids: Ids) -> None:
        """Forget those of these terminals."""
        self._keep(~np.isin(self.ids, ids))

    def _keep(self, keep: Bools) -> None:
        if not keep.all():
            self.ids, self.at = self.ids[keep], self.at[keep]
