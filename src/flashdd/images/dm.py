"""Distribution matching: synthetic images whose mean features, under random networks, are those of their class.

Zhao and Bilen, Dataset Condensation with Distribution Matching (WACV 2023, arXiv 2110.04181), equation 4 and
Algorithm 1. Settings as the released code has them; unlike it, every draw comes from one seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from flashdd.core.config import DmSection
from flashdd.core.progress import Silent
from flashdd.core.seeds import derive, generator
from flashdd.data.imageset import ImageSet
from flashdd.images.random import random_images
from flashdd.images.siamese import draw_change
from flashdd.images.task import DistillTask, penultimate
from flashdd.models.table import build
from flashdd.training.loop import Training, fit

_MANY_PER_CLASS = 100
_LR, _LR_MANY = 1.0, 10.0


class _Canvas(nn.Module):
    """The synthetic images as parameters, normalized, (N, C, H, W)."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(images)

    def forward(self) -> Tensor:
        return self.images


def dm_images(task: DistillTask, settings: DmSection) -> ImageSet:
    """`ipc` synthetic images of each class, started at random real ones, after `settings.iterations` steps.

    Rounded to 8 bits and cut off at black and white, which the released code leaves to its reader. Beside the
    images themselves, memory holds one class: its gradient is taken before the next class is read.
    """
    start = random_images(replace(task, progress=Silent(), on_step=lambda done: None), settings)
    mean, std = (
        torch.tensor(values, device=task.device).view(1, -1, 1, 1) for values in (task.mean, task.std)
    )
    canvas = _Canvas((start.images.to(task.device).float() / 255 - mean) / std)
    rows = [task.rows(label) for label in range(len(task.class_names))]
    network = settings.network or default_network(start.shape)
    rate = settings.lr or (_LR_MANY if task.ipc >= _MANY_PER_CLASS else _LR)

    def loss(model: nn.Module, step: int) -> tuple[Tensor, int, int]:
        net = _random_network(task, network, start.shape, step)
        gradient, value = torch.zeros_like(canvas.images), 0.0
        for label, real_rows in enumerate(rows):
            stream = generator(task.seed, "dm", step, label)
            chosen = real_rows[torch.randperm(len(real_rows), generator=stream)[: settings.real_batch]]
            real = (task.pixels(chosen).to(task.device).float() / 255 - mean) / std
            own = slice(label * task.ipc, (label + 1) * task.ipc)
            synthetic = canvas.images[own].detach().requires_grad_()
            with torch.enable_grad():
                distance = feature_distance(net, real, synthetic, draw_change(stream, flip=task.flip))
            (gradient[own],) = torch.autograd.grad(distance, synthetic)
            value += float(distance.detach())
        return _with_gradient(model(), gradient, value), 1, 1

    training = Training(
        steps=settings.iterations,
        loss=loss,
        optimizer=torch.optim.SGD(canvas.parameters(), lr=rate, momentum=settings.momentum),
        lr=lambda step: rate,
    )
    task.progress.start("images: dm", settings.iterations)
    fit(canvas, training, task.engine, checkpoint=task.checkpoint, on_step=task.on_step)
    pixels = ((canvas.images.detach() * std + mean) * 255).round().clamp(0, 255)
    return ImageSet(
        images=pixels.to(torch.uint8).cpu().contiguous(), labels=start.labels, class_names=task.class_names
    )


def default_network(shape: tuple[int, int, int]) -> str:
    """The paper's ConvNet of 128 channels and instance norm: 3 blocks at 32 pixels, one more at each doubling."""
    depth = max(2, round(math.log2(min(shape[1:]) / 4)))
    return f"convnet-{depth}-w128-in"


def feature_distance(
    net: nn.Module, real: Tensor, synthetic: Tensor, change: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """Squared distance of the mean features of `real` and `synthetic` under the same change (equation 4, a class)."""
    with torch.no_grad():
        target = penultimate(net, change(real) if change else real).mean(0)
    mean = penultimate(net, change(synthetic) if change else synthetic).mean(0)
    return (target - mean).square().sum()


def _random_network(task: DistillTask, name: str, shape: tuple[int, int, int], step: int) -> nn.Module:
    seed = derive(task.seed, "dm network", step)
    net = build(name, num_classes=len(task.class_names), shape=shape, seed=seed).requires_grad_(False)
    return net.to(task.device)


def _with_gradient(images: Tensor, gradient: Tensor, value: float) -> Tensor:
    """A scalar of value `value` whose gradient with respect to `images` is `gradient`."""
    product = (images * gradient).sum()
    return product - product.detach() + value
