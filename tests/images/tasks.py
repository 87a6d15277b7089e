"""Small splits and tasks for the tests of image methods."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from flashdd.core.progress import Silent
from flashdd.data.dataset import Split
from flashdd.images.task import DistillTask
from flashdd.training.engine import Engine

NAMES = ("a", "b")


def split_of(per_class: int = 8, side: int = 8, channels: int = 1) -> Split:
    """Random pixels, the two classes taking turns."""
    shape = (2 * per_class, channels, side, side)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Split(images=pixels, labels=torch.arange(2).repeat(per_class))


def task_of(
    split: Split, *, ipc: int, teacher: nn.Module | None = None, seed: int = 0, flip: bool = True
) -> DistillTask:
    """A task on the CPU; a method that asks for a teacher where none is given fails."""

    def open_teacher() -> nn.Module:
        assert teacher is not None, "this method was not expected to ask for a teacher"
        return teacher

    channels = split.images.shape[1]
    return DistillTask(
        train=split,
        class_names=NAMES,
        ipc=ipc,
        teacher=open_teacher,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        flip=flip,
        seed=seed,
        engine=Engine(torch.device("cpu")),
        progress=Silent(),
    )
