"""Differentiable siamese augmentation: one random change, the same for all images of a call, with gradients.

Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation (ICML 2021, arXiv 2102.08259),
section 3.2; operations and strengths as in the authors' code, drawn here from an explicit generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

_FLIP = 0.5
_SCALE = 1.2
_ROTATE = 15.0
_CROP = 0.125
_CUTOUT = 0.5
_BRIGHTNESS = 1.0
_SATURATION = 2.0
_CONTRAST = 0.5
_NUMBERS = 3


@dataclass(frozen=True, kw_only=True)
class SiameseChange:
    """One operation of OPERATIONS and the numbers in [0, 1) that it takes; `numbers` are the same for every image."""

    operation: str
    numbers: tuple[float, ...] = field(repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Changed images (N, C, H, W), normalized ones as well as pixels; differentiable."""
        return OPERATIONS[self.operation](images, self.numbers)


def draw_change(stream: torch.Generator, *, flip: bool) -> SiameseChange:
    """An operation, uniform over all of them (mirror images only where `flip` allows), and its numbers."""
    names = [name for name in OPERATIONS if flip or name != "flip"]
    choice, *numbers = torch.rand(1 + _NUMBERS, generator=stream, dtype=torch.float64).tolist()
    return SiameseChange(operation=names[int(choice * len(names))], numbers=tuple(numbers))


def color(images: Tensor, numbers: tuple[float, ...]) -> Tensor:
    """Brightness, then saturation (distance from the mean over channels), then contrast (from the image's mean)."""
    bright = images + (numbers[0] - 0.5) * _BRIGHTNESS
    gray = bright.mean(1, keepdim=True)
    saturated = gray + (bright - gray) * (numbers[1] * _SATURATION)
    mean = saturated.mean((1, 2, 3), keepdim=True)
    return mean + (saturated - mean) * (numbers[2] + _CONTRAST)


def crop(images: Tensor, numbers: tuple[float, ...]) -> Tensor:
    """Shift by up to an eighth of each side, zeros behind."""
    height, width = images.shape[2:]
    reach_y, reach_x = int(height * _CROP + 0.5), int(width * _CROP + 0.5)
    top, left = int(numbers[0] * (2 * reach_y + 1)), int(numbers[1] * (2 * reach_x + 1))
    padded = F.pad(images, (reach_x, reach_x, reach_y, reach_y))
    return padded[:, :, top : top + height, left : left + width]


def cutout(images: Tensor, numbers: tuple[float, ...]) -> Tensor:
    """Zeros in a rectangle of half the sides around a uniform center, cut off at the border."""
    keep = torch.ones(images.shape[2:], device=images.device)
    spans = []
    for side, number in zip(images.shape[2:], numbers, strict=False):
        size = int(side * _CUTOUT + 0.5)
        start = int(number * (side + 1 - size % 2)) - size // 2
        spans.append(slice(max(0, start), min(side, start + size)))
    keep[spans[0], spans[1]] = 0
    return images * keep


def mirror(images: Tensor, numbers: tuple[float, ...]) -> Tensor:
    """Left and right exchanged, with probability one half."""
    return images.flip(3) if numbers[0] < _FLIP else images


def scale(images: Tensor, numbers: tuple[float, ...]) -> Tensor:
    """Height and width by factors of their own, uniform in 1/1.2 .. 1.2 of the sampling grid."""
    low = 1 / _SCALE
    across, down = (low + number * (_SCALE - low) for number in numbers[:2])
    return _affine(images, [[across, 0.0, 0.0], [0.0, down, 0.0]])


def rotate(images: Tensor, numbers: tuple[float, ...]) -> Tensor:
    """By up to 15 degrees either way."""
    angle = math.radians((numbers[0] - 0.5) * 2 * _ROTATE)
    return _affine(
        images, [[math.cos(angle), math.sin(-angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]]
    )


def _affine(images: Tensor, matrix: list[list[float]]) -> Tensor:
    theta = torch.tensor(matrix, device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


Operation = Callable[[Tensor, tuple[float, ...]], Tensor]
OPERATIONS: Mapping[str, Operation] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": mirror,
    "scale": scale,
    "rotate": rotate,
}
