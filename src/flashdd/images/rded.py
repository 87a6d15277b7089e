"""RDED: realistic, diverse and efficient mosaics of real crops, without gradients.

Sun, Shi, Yu, Lin: On the Diversity and Realism of Distilled Dataset (CVPR 2024, arXiv 2312.03526), section 4.
Settings as the released code has them (300 real images per class, 5 crops each); unlike it, pixels are rounded,
not cut off, are kept without loss, and are normalized with the teacher's own statistics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flashdd.core.config import RdedSection
from flashdd.core.device import full_float32
from flashdd.core.seeds import generator
from flashdd.data.imageset import ImageSet
from flashdd.images.task import DistillTask

_MIN_AREA = 0.08
_BATCH = 500


def default_factor(resolution: int) -> int:
    """1 up to 64 pixels, 2 above (the paper: 1 for CIFAR and Tiny-ImageNet, 2 for ImageNet)."""
    return 1 if resolution <= 64 else 2


def rded_images(task: DistillTask, settings: RdedSection) -> ImageSet:
    """Mosaics of the crops that the teacher finds most realistic, class by class.

    Per class: take `settings.candidates` real images; from each, `crops` random square crops resized to side /
    factor; keep the crop of the lowest cross-entropy; rank the images by it; image k of the class shows the patches
    k, k + ipc, k + 2 ipc, ... of that ranking, row by row. The factor divides the side.
    """
    factor = settings.factor or default_factor(task.train.images.shape[2])
    needed = task.ipc * factor**2
    teacher = task.teacher()
    images = []
    task.progress.start("images: rded", len(task.class_names))
    for label in range(len(task.class_names)):
        rows = task.rows(label, each=factor**2)
        stream = generator(task.seed, "rded", label)
        rows = rows[torch.randperm(len(rows), generator=stream)[: max(settings.candidates, needed)]]
        patches = _best_patches(task, rows, label, teacher, settings.crops, factor, stream)
        images.append(mosaics(patches[:needed], task.ipc, factor))
        task.on_step(label + 1)
    labels = torch.arange(len(task.class_names)).repeat_interleave(task.ipc)
    return ImageSet(images=torch.cat(images), labels=labels, class_names=task.class_names)


def _best_patches(
    task: DistillTask,
    rows: Tensor,
    label: int,
    teacher: nn.Module,
    crops: int,
    factor: int,
    stream: torch.Generator,
) -> Tensor:
    """uint8 (M, C, S/f, S/f): the best crop of each row's image, most realistic first."""
    side = task.train.images.shape[2]
    patches = torch.stack(
        [random_crop(image, side // factor, stream) for image in task.pixels(rows) for _ in range(crops)]
    )
    scores = _cross_entropy(teacher, patches, side, label).view(len(rows), crops)
    best = scores.argmin(1)
    kept = patches.view(len(rows), crops, *patches.shape[1:])[torch.arange(len(rows)), best]
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
