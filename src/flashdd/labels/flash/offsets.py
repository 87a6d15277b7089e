"""Class offsets: what is added to every label so that students predict each class as often as it is.

Students of few images over- and underpredict classes, and all of them the same ones: the distilled images' views are
other data than the real ones. Offsets that would undo this in a student's own logits undo it where they are added to
the labels' instead (docs/labeler.md, "Class offsets"). Logit adjustment (Menon et al. 2021, arXiv 2007.07314) shifts
logits by known class frequencies; here they are fitted to what proxy students say, as bias correction does for
networks that learn class by class (Wu et al. 2019, arXiv 1905.13260).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

_STEPS = 200
_PRECISION = {"gtol": 1e-7, "ftol": 1e-12}
"""Of the gradient, and of the likelihood's relative gain in a step: offsets are exact to 1e-3 of the logits' spread."""
_FARTHEST = 30.0
_MOST_SCALED = 20.0
"""Of log a, either way: logits that know every class, or none, have no best one."""


def fit_offsets(logits: Tensor, classes: Tensor) -> Tensor:
    """The offsets b, float64 (C,) of mean 0, with which softmax(a (logits + b)) is most likely to say `classes`.

    logits: a student's, (N, C), of real training images; classes: int64 (N,), theirs. Multinomial likelihood over b and
    the scale a > 0, with a normal prior on b as wide as the logits' own spread, which bounds it where a class is rare.
    The spread is the median distance from 0, and logits beyond `_FARTHEST` of it are cut: few wild ones decide nothing.
    Of logits that are not finite, or mostly alike, or to which the search finds no better offsets than none: zeros.
    """
    scores = logits.detach().double()
    scores = scores - scores.mean(1, keepdim=True)  # softmax does not see it
    spread = scores.abs().median()
    if not (torch.isfinite(scores).all() and spread > 0):
        return torch.zeros(scores.shape[1], dtype=torch.float64)
    likelihood = _Likelihood((scores / spread).clamp(-_FARTHEST, _FARTHEST).numpy(), classes.numpy())
    none = np.zeros(scores.shape[1] + 1)
    bounds = [(None, None)] * scores.shape[1] + [(-_MOST_SCALED, _MOST_SCALED)]
    options = {"maxiter": _STEPS, **_PRECISION}
    found = minimize(likelihood, none, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    if not found.fun <= likelihood(none)[0]:  # where logits say nothing of classes the search may run away
        return torch.zeros(scores.shape[1], dtype=torch.float64)
    offsets = spread * torch.from_numpy(found.x[:-1])
    return offsets - offsets.mean()


class _Likelihood:
    """Minus the mean log-likelihood of `classes` (N,), and of the prior, given scores (N, C); with its gradient.

    Of x = (b, log a): log-softmax of z = a (scores + b). It is linear in what is said of the classes themselves, so
    that these enter by their shares and by the mean of their own scores.
    """

    def __init__(self, scores: np.ndarray, classes: np.ndarray) -> None:
        self.scores = scores
        self.shares = np.bincount(classes, minlength=scores.shape[1]) / len(scores)
        self.own = scores[np.arange(len(scores)), classes].mean()

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        offsets, scale = x[:-1], np.exp(x[-1])
        shifted = self.scores + offsets
        logits = scale * shifted
        top = logits.max(1, keepdims=True)
        powers = np.exp(logits - top)
        sums = powers.sum(1, keepdims=True)
        said = powers / sums
        told = self.own + self.shares @ offsets
        loss = (top + np.log(sums)).mean() - scale * told + offsets @ offsets / (2 * len(self.scores))
        by_offsets = scale * (said.mean(0) - self.shares) + offsets / len(self.scores)
        by_log_scale = scale * ((said * shifted).sum() / len(self.scores) - told)
        return float(loss), np.append(by_offsets, by_log_scale)
