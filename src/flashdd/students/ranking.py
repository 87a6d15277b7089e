"""How alike two label schemes rank image sets: Kendall's tau-b, and how sure of it the seeds make us."""

from __future__ import annotations

import torch
from torch import Tensor

# Accuracies are counts of test images, and means of equal counts may differ in their last bits.
_TIED = 1e-9
RESAMPLES = 2000
_ENDS = (0.025, 0.975)


def kendall_tau_b(first: Tensor, second: Tensor) -> Tensor:
    """tau-b of `first` and `second`, both (..., M), float64 (...): in -1..1, NaN where all M of one are tied.

    M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945: (P - Q) / sqrt(A B), where P of the
    M (M - 1) / 2 pairs stand in the same order in both, Q in opposite orders, A are not tied in the first, and B not in
    the second. Values that differ by less than 1e-9 are tied.
    """
    one, other = torch.triu_indices(first.shape[-1], first.shape[-1], offset=1)
    orders = []
    for values in (first.double(), second.double()):
        gaps = values[..., one] - values[..., other]
        orders.append(torch.where(gaps.abs() < _TIED, 0.0, gaps.sign()))
    untied = [order.abs().sum(-1) for order in orders]
    return (orders[0] * orders[1]).sum(-1) / torch.sqrt(untied[0] * untied[1])


def seed_interval(
    first: Tensor, second: Tensor, *, stream: torch.Generator, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """95 % interval of the tau-b between means over seeds; first, second: accuracies (M sets, n seeds).

    A percentile bootstrap over the seeds (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3):
    n seeds are drawn with replacement, the same for all sets and both schemes, for students of one seed share their
    initialization and order. It is no bootstrap over image methods: it says how the tau of these very sets would vary
    with other seeds, nothing about other methods, and at few seeds it is too narrow. Draws without a tau, in which one
    scheme gives all sets the same, are left out, so the quantiles are of those that have one. None at n = 1, and where
    no draw has a tau.
    """
    num_seeds = first.shape[1]
    if num_seeds == 1:
        return None
    seeds = torch.randint(num_seeds, (resamples, num_seeds), generator=stream)
    taus = kendall_tau_b(*(values.double()[:, seeds].mean(-1).T for values in (first, second)))
    defined = taus[~taus.isnan()]
    if not len(defined):
        return None
    low, high = torch.quantile(defined, torch.tensor(_ENDS, dtype=torch.float64)).tolist()
    return low, high
