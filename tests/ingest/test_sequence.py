"""Holes in a numbering, by tables."""

import pytest

from ingest.sequence import HOLE_MAX, Numbering


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [([5], [0]), ([1, 2, 3], [0, 0, 0]), ([1, 4, 5], [0, 2, 0]), ([9, 0, 1], [0, 0, 0]), ([9, 9], [0, 0]),
     ([1, 2 + HOLE_MAX], [0, HOLE_MAX]), ([1, 3 + HOLE_MAX, 4 + HOLE_MAX], [0, 0, 0])],
)  # fmt: skip
def test_whole_numbers(numbers, missing):
    """Missing is what lies between a number and the one before; a smaller one, or a giant leap, begins anew."""
    numbering = Numbering()
    assert [numbering.missing("gw", number) for number in numbers] == missing


@pytest.mark.parametrize(
    ("numbers", "steps"),
    [
        ([255, 0, 1], [0, 0, 0]),
        ([254, 1], [0, 2]),
        ([0, 128], [0, 127]),
        ([0, 129], [0, -128]),
        ([7, 7], [0, -1]),
    ],
)
def test_numbers_that_wrap(numbers, steps):
    """After 255 comes 0; more than half the way round is a step back."""
    numbering = Numbering(256)
    assert [numbering.ahead("edge", number) for number in numbers] == steps


def test_sources_are_apart():
    """A source's holes are its own, and `begin` leaves none."""
    numbering = Numbering()
    numbering.begin("a", 5)
    assert [numbering.missing("a", 7), numbering.missing("b", 100), numbering.missing("a", 8)] == [1, 0, 0]
