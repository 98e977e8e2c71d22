"""Pairs of terminal and gateway that a worker remembers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from devices import paths
from devices.paths import NO_GATEWAY, Paths


def ints(*numbers):
    return np.array(numbers, np.int32)


@given(st.sets(st.tuples(st.integers(1, 2**31 - 1), st.integers(1, paths.GATEWAYS_MAX)), min_size=1))
def test_it_knows_the_pairs_it_was_told_and_no_other(pairs):
    """Whatever the numbers, also where a terminal and a gateway change places."""
    known = Paths()
    for terminal, gateway in pairs:
        known.remember(terminal, gateway)
    terminals, gateways = ints(*(t for t, _ in pairs)), ints(*(g for _, g in pairs))
    assert known.known(terminals, gateways).all()
    others = [(g, t) in pairs for t, g in pairs]
    assert known.known(gateways, terminals).tolist() == others


def test_dense_ids_of_several_gateways_lie_apart():
    """Their keys spread over the slots of an index, as if drawn by lot: 80,000 over 262,144 fill 68,900."""
    terminals = np.tile(np.arange(1, 10_001, dtype=np.int32), 8)
    gateways = np.repeat(np.arange(1, 9, dtype=np.int32), 10_000)
    assert len(np.unique(paths._keys(terminals, gateways) & (2**18 - 1))) > 65_000


def test_gateways_get_numbers_and_keep_them():
    """A name has one number, and a number its name; no gateway is a number of its own."""
    numbers = Paths()
    assert [numbers.number(name) for name in ("a", "b", "a", None)] == [1, 2, 1, NO_GATEWAY]
    assert [numbers.name(number) for number in (1, 2)] == ["a", "b"]


def test_invented_gateways_fill_no_memory(monkeypatch):
    """Beyond so many, new ones have no number; those that have one keep it."""
    monkeypatch.setattr(paths, "GATEWAYS_MAX", 2)
    numbers = Paths()
    assert [numbers.number(name) for name in ("a", "b", "c", "b")] == [1, 2, NO_GATEWAY, 2]


def test_pairs_are_forgotten_before_they_fill_memory(monkeypatch):
    """Beyond so many it begins anew."""
    monkeypatch.setattr(paths, "PAIRS_MAX", 2)
    known = Paths()
    for terminal in (1, 2, 3):
        known.remember(terminal, 1)
    assert known.known(ints(1, 2, 3), ints(1, 1, 1)).tolist() == [False, False, True]
