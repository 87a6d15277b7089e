"""Accuracy on real images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flashdd.core.device import full_float32


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """accuracy: fraction in 0..1; confusion: int64 (classes, classes), row = true class, column = predicted."""

    accuracy: float
    confusion: Tensor


# Rows at a time. On a CPU a small network's layers then fit its caches: half the time of 500 for a ConvNet-3-w32.
_BATCH = {"cpu": 100, "cuda": 1000}


@torch.inference_mode()
def logits_of(model: nn.Module, images: np.ndarray | Tensor) -> Tensor:
    """Logits (N, classes) on the CPU of `model`, which takes pixels in [0, 1], on uint8 images (N, C, H, W).

    The images are not augmented; the model runs in eval mode and in float32.
    """
    device = next(model.parameters()).device
    batch_size = _BATCH.get(device.type, 500)
    was_training = model.training
    model.eval()
    with full_float32():
        found = [
            model(_pixels(images[start : start + batch_size], device)).cpu()
            for start in range(0, len(images), batch_size)
        ]
    model.train(was_training)
    return torch.cat(found)


def evaluate(model: nn.Module, images: np.ndarray | Tensor, labels: Tensor) -> Evaluation:
    """Evaluate `model` as `logits_of` runs it."""
    guesses = logits_of(model, images).argmax(1)
    num_classes = int(max(int(labels.max()), int(guesses.max()))) + 1
    confusion = torch.bincount(labels * num_classes + guesses, minlength=num_classes**2)
    correct = int((guesses == labels).sum())
    return Evaluation(accuracy=correct / len(labels), confusion=confusion.view(num_classes, num_classes))


def _pixels(rows: np.ndarray | Tensor, device: torch.device) -> Tensor:
    tensor = (
        rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))
    )  # a copy: maps are read-only
    return tensor.to(device).float() / 255
