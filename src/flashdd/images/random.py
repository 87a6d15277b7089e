"""Random real images: the baseline that every image method must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from flashdd.core.config import Section
from flashdd.core.seeds import generator
from flashdd.data.imageset import ImageSet
from flashdd.images.task import DistillTask, chosen_images


def random_images(task: DistillTask, settings: Section) -> ImageSet:
    """`ipc` images of each class, drawn uniformly without replacement from the training split."""
    del settings

    def choose(label: int, rows: Tensor) -> Tensor:
        order = torch.randperm(len(rows), generator=generator(task.seed, "random", label))
        return rows[order[: task.ipc]]

    return chosen_images(task, choose, "random")
