"""Kendall's tau-b against pairs counted by loops, and the interval against resampling by loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from flashdd.core.seeds import generator
from flashdd.students.ranking import kendall_tau_b, seed_interval


def naive(first: list[float], second: list[float]) -> float:
    same = opposite = only_first = only_second = 0
    for i, j in itertools.combinations(range(len(first)), 2):
        a, b = (
            (first[i] > first[j]) - (first[i] < first[j]),
            (second[i] > second[j]) - (second[i] < second[j]),
        )
        same += a * b > 0
        opposite += a * b < 0
        only_first += a == 0 and b != 0
        only_second += b == 0 and a != 0
    pairs = (same + opposite + only_second) * (same + opposite + only_first)
    return (same - opposite) / math.sqrt(pairs) if pairs else math.nan


@pytest.mark.parametrize("seed", range(12))
def test_pairs_are_counted_as_by_loops(seed: int) -> None:
    """Few different values, so that ties in one, the other and both are there."""
    draws = torch.randint(0, 4, (2, 6), generator=generator(seed, "ranks")).double() / 4
    expected = naive(*draws.tolist())
    assert float(kendall_tau_b(*draws)) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_many_are_taken_at_once() -> None:
    first, second = torch.rand(2, 5, 7, generator=generator(0, "many"), dtype=torch.float64)
    expected = [naive(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert kendall_tau_b(first, second).tolist() == pytest.approx(expected)


def test_order_opposite_order_and_no_order() -> None:
    ranks = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert float(kendall_tau_b(ranks, 2 * ranks)) == 1
    assert float(kendall_tau_b(ranks, -ranks)) == -1
    assert math.isnan(float(kendall_tau_b(ranks, torch.full((4,), 0.5))))


def test_the_last_bits_of_a_mean_are_no_order() -> None:
    first = torch.tensor([0.1 + 0.2, 0.3, 0.5], dtype=torch.float64)
    assert first[0] != first[1]
    tied = torch.tensor([0.3, 0.3, 0.5], dtype=torch.float64)
    other = torch.tensor([0.2, 0.1, 0.3], dtype=torch.float64)
    assert (
        float(kendall_tau_b(first, other))
        == float(kendall_tau_b(tied, other))
        == pytest.approx(2 / math.sqrt(6))
    )


def test_the_interval_is_that_of_resampling_by_loops() -> None:
    stream = generator(1, "accuracies")
    first, second = torch.rand(2, 4, 3, generator=stream, dtype=torch.float64)
    drawn = torch.randint(3, (200, 3), generator=generator(2, "resampling")).tolist()
    taus = []
    for seeds in drawn:
        means = [
            [np.mean([row[seed] for seed in seeds]) for row in part.tolist()] for part in (first, second)
        ]
        taus.append(naive([float(mean) for mean in means[0]], [float(mean) for mean in means[1]]))
    expected = np.quantile(taus, [0.025, 0.975])
    got = seed_interval(first, second, stream=generator(2, "resampling"), resamples=200)
    assert got == pytest.approx(tuple(expected), abs=1e-12)
    assert seed_interval(first, second, stream=generator(2, "resampling"), resamples=200) == got


def test_seeds_are_resampled_together() -> None:
    """Whatever seeds are drawn, two schemes that agree in every seed agree."""
    first = torch.tensor([[0.1, 0.5, 0.9], [0.2, 0.6, 0.95], [0.15, 0.4, 0.8]], dtype=torch.float64)
    assert seed_interval(first, first / 2, stream=generator(0, "together")) == (1, 1)


def test_one_seed_and_no_order_have_no_interval() -> None:
    one = torch.tensor([[0.1], [0.2], [0.3]])
    assert seed_interval(one, one, stream=generator(0, "one")) is None
    assert seed_interval(torch.ones(3, 2), torch.ones(3, 2), stream=generator(0, "tied")) is None
