"""What every image method gets, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flashdd.core.device import full_float32
from flashdd.core.errors import DataError, UsageError
from flashdd.core.progress import Progress
from flashdd.data.dataset import Split
from flashdd.data.imageset import ImageSet
from flashdd.training.engine import Engine

_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class DistillTask:
    """Distill `ipc` images of every class from `train`.

    teacher: gives a trained network, pixels in [0, 1] -> logits, in eval mode on the engine's device. mean, std:
    per channel, of the training pixels in [0, 1]. flip: whether mirrored images stay what they are. checkpoint:
    a file in which a long method keeps its state. on_step: told the units of the open bar that are done.
    """

    train: Split
    class_names: tuple[str, ...]
    ipc: int
    teacher: Callable[[], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    seed: int
    engine: Engine
    progress: Progress
    checkpoint: Path | None = None
    on_step: Callable[[int], None] = lambda done: None

    @property
    def device(self) -> torch.device:
        return self.engine.device

    def rows(self, label: int, *, each: int = 1) -> Tensor:
        """The row numbers of class `label`; DataError if there are fewer than `each` per distilled image."""
        rows = torch.nonzero(self.train.labels == label).flatten()
        needed = self.ipc * each
        if len(rows) < needed:
            mosaic = f", {each} of which make an image," if each > 1 else ""
            raise DataError(
                f"class '{self.class_names[label]}' has {len(rows)} training images after the validation split, but "
                f"IPC {self.ipc}{mosaic} needs {needed}: lower --ipc or add images to that class."
            )
        return rows

    def pixels(self, rows: Tensor) -> Tensor:
        """uint8 (len(rows), C, H, W): training images, read row by row."""
        return torch.from_numpy(np.stack([self.train.images[row] for row in rows.tolist()]))


def chosen_images(task: DistillTask, choose: Callable[[int, Tensor], Tensor], label: str) -> ImageSet:
    """The training images that `choose` (class, its row numbers) -> (ipc of them) picks, class by class."""
    task.progress.start(f"images: {label}", len(task.class_names))
    chosen = []
    for number in range(len(task.class_names)):
        chosen.append(choose(number, task.rows(number)))
        task.on_step(number + 1)
    index = torch.cat(chosen)
    return ImageSet(
        images=task.pixels(index), labels=task.train.labels[index].clone(), class_names=task.class_names
    )


@torch.no_grad()
def penultimate_features(task: DistillTask, teacher: nn.Module, rows: Tensor) -> Tensor:
    """float32 (len(rows), D): the penultimate features of un-augmented training images."""
    parts = []
    with full_float32():
        for chunk in torch.split(rows, _BATCH):
            parts.append(penultimate(teacher, task.pixels(chunk).to(task.device).float() / 255).float().cpu())
    return torch.cat(parts)


def penultimate(net: nn.Module, images: Tensor) -> Tensor:
    """(N, D): what the last linear layer of `net` reads; gradients flow to `images`."""
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UsageError(
            "this image method reads what the last linear layer of a network reads, and the network has none: take "
            "another teacher, or the method random or rded."
        )
    read: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        del module
        read.append(inputs[0])

    hook = layers[-1].register_forward_pre_hook(keep)
    try:
        net(images)
    finally:
        hook.remove()
    return read[0]
