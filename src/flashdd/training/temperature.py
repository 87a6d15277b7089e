"""Temperatures of labels and student, where one number for both does not do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# LPQLD's released code searches the student's temperature on these (the paper's section III-E gives the objective)
_GRID = tuple(step / 100 for step in range(1, 101))


@dataclass(frozen=True, kw_only=True)
class TemperatureRule:
    """How temperatures move in the course of a training; the default is one temperature throughout.

    decay, phases, floor: the labels' temperature is multiplied by `decay` after each of `phases` equal parts of the
        training, but not below `floor` (LPQLD's dynamic knowledge reuse, arXiv 2604.18135, section III-D).
    calibrated: the student's temperature is fitted to its outputs (`calibrate`).
    plain_from: from this epoch of views on, labels are probabilities: temperature 1 on both sides (HALD's hard labels).
    """

    decay: float = 1.0
    phases: int = 1
    floor: float = 0.0
    calibrated: bool = False
    plain_from: int | None = None

    def of_labels(self, start: float, step: int, steps: int, view_epochs: Tensor) -> float | Tensor:
        """The labels' temperature at `step` of `steps`; (M, 1), one per view, where these differ."""
        temperature = max(min(start, self.floor), start * self.decay ** (step * self.phases // steps))
        if self.plain_from is None:
            return temperature
        return torch.where(self._plain(view_epochs)[:, None], 1.0, temperature)

    def weights(self, start: float, view_epochs: Tensor) -> Tensor | None:
        """What the rows of a KL without T^2 count, (M,): 1 / T^2 where the temperature is 1 instead of T.

        Gradients at T are T^2 times smaller (Hinton et al., arXiv 1503.02531, section 2). Adam's second moment
        remembers the larger ones, so soft labels that come after hard ones would hardly move the student. None where
        all count alike.
        """
        if self.plain_from is None:
            return None
        return torch.where(self._plain(view_epochs), start**-2, 1.0)

    def _plain(self, view_epochs: Tensor) -> Tensor:
        assert self.plain_from is not None, "asked only where some labels are probabilities"
        return view_epochs >= self.plain_from


def calibrate(output: Tensor, targets: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    """The temperature t in {.01, .02, .. 1} at which KL(targets || softmax(output / t)) is least, a scalar.

    Calibrated student-teacher alignment (LPQLD, arXiv 2604.18135, section III-E). The released code refits once per
    epoch, on its last batch; here every batch is its own, because then a training that resumes needs to remember
    nothing. output, targets: (M, classes), this process's rows; total: sum over the processes.
    """
    output = output.detach().float()
    grid = torch.tensor(_GRID, device=output.device)
    # KL up to a constant: mean of logsumexp(output / t) - <targets, output> / t; divided by the same count for every t
    normalizers = torch.stack([torch.logsumexp(output / t, dim=1).sum() for t in _GRID])
    aligned = (targets * output).sum()
    return grid[total(normalizers - aligned / grid).argmin()]
