"""RDED: realistic, diverse and efficient mosaics of real crops, without gradients.

Sun, Shi, Yu, Lin: On the Diversity and Realism of Distilled Dataset (CVPR 2024, arXiv 2312.03526), section 4.
Settings as the released code has them (300 real images per class, 5 crops each); unlike it, pixels are rounded,
not cut off, are kept without loss, and are normalized with the teacher's own statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flashdd.core.device import full_float32
from flashdd.core.errors import ConfigError
from flashdd.core.progress import Progress
from flashdd.core.seeds import generator
from flashdd.data.dataset import Split
from flashdd.data.imageset import ImageSet
from flashdd.images.random import rows_of_class

_MIN_AREA = 0.08
_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class RdedSettings:
    """ipc: images per class; factor: an image is a factor x factor mosaic; candidates: real images per class that
    are looked at; crops: crops per real image, of which the best is kept."""

    ipc: int
    factor: int
    candidates: int
    crops: int


def default_factor(resolution: int) -> int:
    """1 up to 64 pixels, 2 above (the paper: 1 for CIFAR and Tiny-ImageNet, 2 for ImageNet)."""
    return 1 if resolution <= 64 else 2


def rded_images(
    train: Split,
    class_names: tuple[str, ...],
    teacher: nn.Module,
    settings: RdedSettings,
    *,
    seed: int,
    progress: Progress,
) -> ImageSet:
    """Mosaics of the crops that `teacher` (pixels in [0, 1] -> logits) finds most realistic, class by class.

    Per class: take `candidates` real images; from each, `crops` random square crops resized to side / factor;
    keep the crop of the lowest cross-entropy; rank the images by it; image k of the class shows the patches
    k, k + ipc, k + 2 ipc, ... of that ranking, row by row.
    """
    side = train.images.shape[2]
    if side % settings.factor:
        raise ConfigError(
            f"images.factor: {settings.factor} does not divide the resolution {side}; choose a divisor."
        )
    needed = settings.ipc * settings.factor**2
    candidates = max(settings.candidates, needed)
    images = []
    progress.start("images: rded", len(class_names))
    for label, name in enumerate(class_names):
        rows = rows_of_class(
            train, label, name, needed, f"IPC {settings.ipc} at mosaic factor {settings.factor}"
        )
        stream = generator(seed, "rded", label)
        rows = rows[torch.randperm(len(rows), generator=stream)[:candidates]]
        patches = _best_patches(train.images, rows, label, teacher, settings, stream)
        images.append(mosaics(patches[:needed], settings.ipc, settings.factor))
        progress.update(label + 1)
    labels = torch.arange(len(class_names)).repeat_interleave(settings.ipc)
    return ImageSet(images=torch.cat(images), labels=labels, class_names=class_names)


def _best_patches(
    images: np.ndarray,
    rows: Tensor,
    label: int,
    teacher: nn.Module,
    settings: RdedSettings,
    stream: torch.Generator,
) -> Tensor:
    """uint8 (M, C, S/f, S/f): the best crop of each row's image, most realistic first."""
    side = images.shape[2]
    patches = torch.stack(
        [
            random_crop(torch.from_numpy(images[row].copy()), side // settings.factor, stream)
            for row in rows.tolist()
            for _ in range(settings.crops)
        ]
    )
    scores = _cross_entropy(teacher, patches, side, label).view(len(rows), settings.crops)
    best = scores.argmin(1)
    kept = patches.view(len(rows), settings.crops, *patches.shape[1:])[torch.arange(len(rows)), best]
    ranking = scores.amin(1).argsort(stable=True)
    return kept[ranking]


def random_crop(image: Tensor, size: int, stream: torch.Generator) -> Tensor:
    """A square crop of `image` (uint8 C, H, W), area uniform in 8..100 %, resized to `size` with antialiasing."""
    height, width = image.shape[1:]
    area, across, down = torch.rand(3, generator=stream, dtype=torch.float64).tolist()
    share = _MIN_AREA + (1 - _MIN_AREA) * area
    side = min(max(1, round((share * height * width) ** 0.5)), height, width)
    top, left = int(down * (height - side + 1)), int(across * (width - side + 1))
    crop = image[:, top : top + side, left : left + side].float()[None]
    resized = F.interpolate(crop, size=(size, size), mode="bilinear", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def _cross_entropy(teacher: nn.Module, patches: Tensor, side: int, label: int) -> Tensor:
    """Cross-entropy of every patch, zero-padded to the full side around its center, as class `label`."""
    device = next(teacher.parameters()).device
    margin = side - patches.shape[2]
    before, after = margin // 2, margin - margin // 2
    scores = []
    for chunk in torch.split(patches, _BATCH):
        pixels = F.pad(chunk.to(device).float() / 255, (before, after, before, after))
        with full_float32():
            log_probabilities = F.log_softmax(teacher(pixels).float(), dim=1)
        scores.append(-log_probabilities[:, label].cpu())
    return torch.cat(scores)


def mosaics(patches: Tensor, ipc: int, factor: int) -> Tensor:
    """uint8 (ipc, C, f*h, f*w): image k shows the patches k, k + ipc, ..., row by row, in an f x f grid.

    patches: (ipc * f * f, C, h, w), most realistic first.
    """
    channels, height, width = patches.shape[1:]
    grid = patches.view(factor, factor, ipc, channels, height, width)  # row, column, image
    return grid.permute(2, 3, 0, 4, 1, 5).reshape(ipc, channels, factor * height, factor * width)
