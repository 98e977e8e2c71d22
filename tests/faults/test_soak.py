"""The soak's judgement of memory: a leak is told from what comes and goes, and how sure that is."""

import itertools

import numpy as np
import pytest

from tests.faults.cases.soak import GROWTH_MB_PER_HOUR, trend_of

SECONDS = np.arange(0, 1_200, 2)
"""The last two thirds of half an hour."""
HOURS = SECONDS / 3600


@pytest.mark.parametrize("leak", [0, 3, 30])
@pytest.mark.parametrize("begun_seconds", [0, 100, 200])
def test_a_leak_beneath_what_comes_and_goes(leak: float, begun_seconds: int) -> None:
    """The slope is the leak's, although 4 MB pile up in every five minutes and are given back."""
    noise = np.random.default_rng(1).normal(0, 0.2, len(HOURS))
    teeth = 4 * ((SECONDS + begun_seconds) % 300) / 300
    trend = trend_of(HOURS, 100 + leak * HOURS + teeth + noise)
    assert abs(trend.slope - leak) < trend.error < 1
    assert (trend.highest > GROWTH_MB_PER_HOUR) == (leak > GROWTH_MB_PER_HOUR)


def test_how_often_the_error_is_right() -> None:
    """Of memory that wanders off for minutes and comes back, 0 is within the error of 19 slopes in 20."""
    random = np.random.default_rng(1)
    wandering = np.zeros((len(HOURS), 400))
    for before, now in itertools.pairwise(wandering):
        now[:] = 0.97 * before + random.normal(0, 1, len(now))
    trends = [trend_of(HOURS, one) for one in wandering.T]
    right = np.mean([abs(trend.slope) <= trend.error for trend in trends])
    assert 0.92 < right < 0.98


def test_a_step_of_the_allocator() -> None:
    """A MiB that is taken in the midst and kept passes; one in each five minutes does not."""
    once, often = (trend_of(HOURS, 1.05 * (SECONDS // every)) for every in (600, 300))
    assert str(once) == "+5.0 ± 7.7 MB/h"
    assert once.highest < GROWTH_MB_PER_HOUR
    assert often.slope == pytest.approx(12.6)


def test_nothing_moves() -> None:
    """Memory that stays as it is has a slope of 0, without doubt."""
    assert trend_of(HOURS, np.full(len(HOURS), 100.0)) == pytest.approx((0, 0), abs=1e-9)
