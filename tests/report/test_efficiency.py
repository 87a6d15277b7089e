"""The area under accuracy against log2(bytes): exact where the steps are, and the mean over a fine grid elsewhere."""

from __future__ import annotations

import math
import random

import pytest

from flashdd.report.efficiency import HIGH, LOW, area


def test_a_staircase_by_hand() -> None:
    # log2 from 1 to 5: hard labels up to 2, then 0.5 up to 4, then 0.9: (0.1 + 2 * 0.5 + 0.9) / 4
    points = [(16, 0.9), (4, 0.5)]
    assert area(points, 0.1, low=2, high=32) == pytest.approx(0.5, abs=1e-15)


def test_what_lies_beyond_the_range() -> None:
    assert area([], 0.3) == pytest.approx(0.3)
    assert area([(HIGH, 0.9), (2 * HIGH, 0.95)], 0.3) == pytest.approx(0.3)
    assert area([(1, 0.6), (LOW, 0.7)], 0.3) == pytest.approx(0.7)
    middle = math.sqrt(LOW * HIGH)
    assert area([(round(middle), 0.9)], 0.3) == pytest.approx(0.6, abs=1e-6)


def test_worse_points_change_nothing() -> None:
    points = [(5_000, 0.5), (50_000, 0.6)]
    worse = [*points, (60_000, 0.6), (20_000, 0.4), (5_000, 0.1), (100, 0.2)]
    assert area(worse, 0.3) == area(points, 0.3)
    assert area(points, 0.55) == area([(50_000, 0.6)], 0.55)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_mean_over_a_grid(seed: int) -> None:
    dice = random.Random(seed)
    points = [(round(10 ** dice.uniform(2, 7)), dice.random()) for _ in range(8)]
    steps = 100_000
    low, high = math.log2(LOW), math.log2(HIGH)
    total = 0.0
    for index in range(steps):
        size = 2 ** (low + (high - low) * (index + 0.5) / steps)
        total += max([0.25, *(accuracy for held, accuracy in points if held <= size)])
    assert area(points, 0.25) == pytest.approx(total / steps, abs=1e-4)
    assert area([(2 * size, a) for size, a in points], 0.25, low=2 * LOW, high=2 * HIGH) == pytest.approx(
        area(points, 0.25)
    )


@pytest.mark.parametrize(("low", "high"), [(0, 8), (8, 8), (9, 8)])
def test_an_empty_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < low < high"):
        area([], 0.1, low=low, high=high)
