"""Class offsets: what is added to every label so that students predict each class as often as it is.

Students of few images over- and underpredict classes, and all of them the same ones: the distilled images' views are
other data than the real ones. Offsets that would undo this in a student's own logits undo it where they are added to
the labels' instead (docs/labeler.md, "Class offsets"). Logit adjustment (Menon et al. 2021, arXiv 2007.07314) shifts
logits by known class frequencies; here they are fitted to what proxy students say, as bias correction does for
networks that learn class by class (Wu et al. 2019, arXiv 1905.13260).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 200
_FARTHEST = 30.0


def fit_offsets(logits: Tensor, classes: Tensor) -> Tensor:
    """The offsets b, float64 (C,) of mean 0, with which softmax(a (logits + b)) is most likely to say `classes`.

    logits: a student's, (N, C), of real training images; classes: int64 (N,), theirs. Multinomial likelihood over b and
    the scale a > 0, with a normal prior on b as wide as the logits' own spread, which bounds it where a class is rare.
    The spread is the median distance from 0, and logits beyond `_FARTHEST` of it are cut: few wild ones decide nothing.
    Of logits that are not finite, or mostly alike, or to which the search finds no better offsets than none: zeros.
    """
    scores = logits.double()
    scores = scores - scores.mean(1, keepdim=True)  # softmax does not see it
    spread = scores.abs().median()
    if not (torch.isfinite(scores).all() and spread > 0):
        return torch.zeros(scores.shape[1], dtype=torch.float64)
    scores = (scores / spread).clamp(-_FARTHEST, _FARTHEST)
    offsets = torch.zeros(scores.shape[1], dtype=torch.float64, requires_grad=True)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([offsets, log_scale], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        prior = offsets.square().sum() / (2 * len(scores))
        return F.cross_entropy(log_scale.exp() * (scores + offsets), classes) + prior

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        without = loss().detach()
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    if not loss() <= without:  # where logits say nothing of classes the search may run away
        return torch.zeros_like(offsets).detach()
    found = spread * offsets.detach()
    return found - found.mean()
