"""Herding: real images whose mean feature follows that of their class.

Welling, Herding Dynamical Weights to Learn (ICML 2009), as an exemplar rule by Rebuffi, Kolesnikov, Sperl and
Lampert, iCaRL (CVPR 2017, arXiv 1611.07725), Algorithm 4, with the features and means of unit length (section 2.1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flashdd.core.config import Section
from flashdd.data.imageset import ImageSet
from flashdd.images.task import DistillTask, chosen_images, penultimate_features


def herding_images(task: DistillTask, settings: Section) -> ImageSet:
    """`ipc` training images of each class, in the order in which Algorithm 4 picks them."""
    del settings
    teacher = task.teacher()
    return chosen_images(
        task, lambda _, rows: rows[herd(penultimate_features(task, teacher, rows), task.ipc)], "herding"
    )


def herd(features: Tensor, count: int) -> Tensor:
    """The `count` rows of `features` (N, D) that Algorithm 4 picks, in its order; no row twice.

    Pick k minimizes || mu - unit((phi(x) + the sum of those picked) / k) ||, mu the mean feature, all of unit length.
    For unit vectors that is the largest dot product with mu.
    """
    unit = F.normalize(features.double(), dim=1)
    mean = F.normalize(unit.mean(0), dim=0)
    total = torch.zeros_like(mean)
    free = torch.ones(len(unit), dtype=torch.bool)
    picked = []
    for _ in range(count):
        agreement = F.normalize(unit + total, dim=1) @ mean
        row = int(agreement.masked_fill(~free, -torch.inf).argmax())
        total += unit[row]
        free[row] = False
        picked.append(row)
    return torch.tensor(picked)
