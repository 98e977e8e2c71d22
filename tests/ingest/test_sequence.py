"""Holes in a numbering, by tables."""

import pytest

from ingest.sequence import HOLE_MAX, LATE_MAX, Numbering


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
        ([5, 206], [0, 200]),
        ([7, 7, 8], [0, -1, 0]),
        ([203, 205, 204, 206], [0, 1, -2, 0]),
        ([0, 256 - LATE_MAX, 257 - LATE_MAX], [0, 255 - LATE_MAX, 0]),
    ],
)
def test_numbers_that_wrap(numbers, steps):
    """After 255 comes 0; the way is forward, and only the last few numbers are late and change nothing."""
    numbering = Numbering(256)
    assert [numbering.ahead("edge", number) for number in numbers] == steps


@pytest.mark.parametrize(
    ("modulo", "numbers", "again", "then", "missing"),
    [
        (0, [1, 3], range(4, 11), 11, 0),
        (0, [1, 12], range(4, 11), 13, 0),
        (0, [], range(4, 11), 12, 1),
        (256, [250], [251, 252, 253, 254, 255, 0, 1], 2, 0),
        (256, [9], [7, 8], 10, 0),
    ],
)
def test_what_comes_again_is_no_hole(modulo, numbers, again, then, missing):
    """Redelivered numbers are expected past, whether they are ahead or behind, and none counts as missing."""
    numbering = Numbering(modulo)
    for number in numbers:
        numbering.ahead("gw", number)
    for number in again:
        numbering.again("gw", number)
    assert numbering.missing("gw", then) == missing


def test_sources_are_apart():
    """A source's holes are its own, and `begin` leaves none."""
    numbering = Numbering()
    numbering.begin("a", 5)
    assert [numbering.missing("a", 7), numbering.missing("b", 100), numbering.missing("a", 8)] == [1, 0, 0]
