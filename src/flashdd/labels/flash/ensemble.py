"""Weights of an ensemble's members: logits are averaged after matching their scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flashdd.core.errors import UsageError


def logit_spread(logits: Tensor) -> float:
    """The scale of a network's logits (N, classes): their root mean square about each row's own mean.

    Softmax does not see that mean. Members of one ensemble are to be compared on the same images, held out.
    """
    centered = logits.double() - logits.double().mean(1, keepdim=True)
    return float(torch.sqrt(centered.square().mean()))


def matched_weights(spreads: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """The members' weights and the labeler's logit scale, for members of `spreads`.

    With S the geometric mean of the spreads s_m, weight_m = S / s_m, and the logit scale is the mean of the weights.
    So the labeler's logits are the plain mean of members that all have the spread S, and one temperature suits members
    and ensemble. Equal members weigh 1. Shares fitted on validation images instead of equal ones made no better
    students of the one unequal pair tried (docs/LOG.md, 2026-11-29).
    Raises UsageError for no spreads, or those that are not above 0.
    """
    if not spreads:
        raise UsageError("an ensemble of no members has no weights: give it one or more.")
    if not all(math.isfinite(value) and value > 0 for value in spreads):
        raise UsageError(
            f"spreads {list(spreads)} of members must be finite and above 0: leave out a member whose logits say "
            "nothing."
        )
    middle = math.exp(math.fsum(math.log(spread) for spread in spreads) / len(spreads))
    weights = tuple(middle / spread for spread in spreads)
    return weights, math.fsum(weights) / len(weights)
