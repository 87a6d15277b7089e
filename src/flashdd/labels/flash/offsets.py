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
"""Of the gradient, and of the loss's relative gain in a step: offsets are exact to about 1e-3 of the logits' spread."""
_FARTHEST = 30.0
_MOST_SCALED = 20.0
"""Of log a, either way: logits that know every class, or none, have no best one."""


def fit_offsets(logits: Tensor, classes: Tensor) -> Tensor:
    """The offsets b, float64 (C,) of mean 0, with which softmax(a (logits + b)) is most likely to say `classes`.

    logits: a student's, (N, C), of real training images; classes: int64 (N,), theirs. Multinomial likelihood over b and
    the scale a > 0, with a normal prior on b as wide as the logits' own spread, which bounds it where a class is rare.
    The spread is the median distance from 0, and logits beyond `_FARTHEST` of it are cut: few wild ones decide nothing.
    Of logits that are not finite, or mostly alike: zeros.
    """
    scores = logits.detach().double()
    scores = scores - scores.mean(1, keepdim=True)  # softmax does not see it
    spread = scores.abs().median()
    if not (torch.isfinite(scores).all() and spread > 0):
        return torch.zeros(scores.shape[1], dtype=torch.float64)
    loss = _Loss((scores / spread).clamp(-_FARTHEST, _FARTHEST), classes)
    bounds = [(None, None)] * scores.shape[1] + [(-_MOST_SCALED, _MOST_SCALED)]
    options = {"maxiter": _STEPS, **_PRECISION}
    start = np.zeros(scores.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    offsets = spread * torch.from_numpy(found.x[:-1])
    return offsets - offsets.mean()


class _Loss:
    """Minus the mean log-likelihood of `classes` (N,), and of the prior, given scores (N, C); with its gradient.

    Of x = (b, log a), by softmax(a (scores + b)). Beside the log-sum-exp the classes enter by their shares and by the
    mean of their own scores alone.
    """

    def __init__(self, scores: Tensor, classes: Tensor) -> None:
        self.scores = scores
        self.shares = torch.bincount(classes, minlength=scores.shape[1]).double() / len(scores)
        self.own = scores.gather(1, classes[:, None].long()).mean()

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        count, found = len(self.scores), torch.from_numpy(x)
        offsets, scale = found[:-1], found[-1].exp()
        shifted = self.scores + offsets
        logits = scale * shifted
        total = logits.logsumexp(1, keepdim=True)
        said = (logits - total).exp()
        own = self.own + self.shares @ offsets
        loss = total.mean() - scale * own + offsets @ offsets / (2 * count)
        by_offsets = scale * (said.mean(0) - self.shares) + offsets / count
        by_log_scale = scale * ((said * shifted).sum() / count - own)
        return loss.item(), torch.cat([by_offsets, by_log_scale[None]]).numpy()
