"""Which terminals come through which gateways, as far as one worker knows; pure.

A terminal has one gateway that the registry names (or the first it was heard through), and may have others: a LoRa
meter reaches two, a lorry many. Each pair is news once. Terminals and gateways are numbers here, so that a
whole batch is compared at once; gateways get theirs from this module, valid for the life of the object.
"""

import numpy as np
import numpy.typing as npt

from devices.index import MISSING, HashIndex

NO_GATEWAY = 0
"""Number of no gateway: the topic names none, or nobody knows the terminal's."""
GATEWAYS_MAX = 200_000
"""Gateways with a number; a province has tens of thousands, and whoever invents names fills no memory."""
PAIRS_MAX = 2_000_000
"""Pairs remembered, 24 bytes each; beyond that the database is asked again."""

Numbers = npt.NDArray[np.int32]


class Paths:
    """Numbers for gateways, and the pairs of terminal and gateway that are no news."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names = [""]
        self._forget()

    def _forget(self) -> None:
        self._pairs, self._count = HashIndex(), 0

    def number(self, gateway: str | None) -> int:
        """The gateway's number; `NO_GATEWAY` without one, and for new ones beyond `GATEWAYS_MAX`."""
        if gateway is None:
            return NO_GATEWAY
        if gateway not in self._numbers:
            if len(self._names) > GATEWAYS_MAX:
                return NO_GATEWAY
            self._numbers[gateway] = len(self._names)
            self._names.append(gateway)
        return self._numbers[gateway]

    def name(self, number: int) -> str:
        """The gateway of a number that `number` gave."""
        return self._names[number]

    def known(self, terminals: Numbers, gateways: Numbers) -> npt.NDArray[np.bool_]:
        """Which of these pairs are no news."""
        found: npt.NDArray[np.bool_] = self._pairs.find(_keys(terminals, gateways)) != MISSING
        return found

    def knows(self, terminal: int, gateway: int) -> bool:
        """Whether this pair is no news."""
        return bool(self.known(np.array([terminal], np.int32), np.array([gateway], np.int32))[0])

    def remember(self, terminal: int, gateway: int) -> None:
        """This pair is no news from now on."""
        if self._count >= PAIRS_MAX:
            self._forget()
        self._pairs.add(int(_keys(np.array([terminal], np.int32), np.array([gateway], np.int32))[0]), 0)
        self._count += 1


def _keys(terminals: Numbers, gateways: Numbers) -> npt.NDArray[np.int64]:
    """A key for each pair and no other, spread over the low bits, where the index looks first.

    Dense ids as they are lie side by side, those of a second gateway on top of them: one cluster, and a probe of it
    takes as many steps as there are terminals. The factor is SplitMix64's (Steele, Lea, Flood 2014).
    """
    pairs = (gateways.astype(np.int64) << 32 | terminals) * np.int64(-0x61C8864680B583EB)
    keys: npt.NDArray[np.int64] = pairs ^ pairs >> 32
    return keys
