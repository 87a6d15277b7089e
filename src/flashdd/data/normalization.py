"""From a stranger's floats back to 8-bit pixels: the normalization is stated, or found out and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flashdd.core.errors import DataError

_LARGEST_OUTSIDE = 0.25
"""Share of values beyond black and white above which no normalization explains the images."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What normalized images: (pixel - mean) / std per channel, pixels in [0, 1]; name: where the numbers are from."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


USUAL = (
    Statistics(name="ImageNet's", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    # The per-image deviations that DC, DM, MTT and DATM write for CIFAR-10, and the deviations over all pixels
    Statistics(
        name="CIFAR-10's as DM writes them", mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)
    ),
    Statistics(name="CIFAR-10's", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    Statistics(
        name="CIFAR-100's as DM writes them", mean=(0.5071, 0.4866, 0.4409), std=(0.2673, 0.2564, 0.2762)
    ),
)


def check_values(values: Tensor) -> None:
    """DataError unless these are uint8 or finite floats."""
    if values.dtype == torch.uint8:
        return
    if not values.is_floating_point():
        raise DataError(f"the images are {values.dtype}: expected uint8 or floating point.")
    if not torch.isfinite(values.float()).all():
        raise DataError("the images hold NaN or infinity: save them again from a sound copy.")


def to_pixels(values: Tensor, *, data: Statistics, stated: Statistics | None) -> tuple[Tensor, str]:
    """uint8 (N, C, H, W) of foreign images `values` that passed `check_values`, and a sentence on what was assumed.

    uint8 stays as it is. Floats with stated statistics are de-normalized with them. Without, floats within 0..1 are
    pixels, whole numbers within 0..255 too; anything else is de-normalized with those of `data` (the real
    dataset's own) or of USUAL under which its channels come nearest to the real dataset's.
    Raises DataError for values that no statistics bring into the range of pixels.
    """
    if values.dtype == torch.uint8:
        return values, "8-bit pixels"
    values = values.float()
    if stated is not None:
        return _denormalized(values, stated, "stated")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return (values * 255).round().to(torch.uint8), "floats in 0..1, taken for pixels"
    if low >= 0 and high <= 255 and bool((values == values.round()).all()):
        return values.to(torch.uint8), "whole numbers in 0..255, taken for pixels"
    channels = values.shape[1]
    fitting = [s for s in (data, *USUAL) if len(s.mean) == channels]
    return _denormalized(values, min(fitting, key=lambda s: _distance(values, s, data)), "estimated")


def _denormalized(values: Tensor, statistics: Statistics, how: str) -> tuple[Tensor, str]:
    pixels = _undo(values, statistics)
    outside = float(((pixels < -0.002) | (pixels > 1.002)).float().mean())
    numbers = f"mean {_numbers(statistics.mean)}, std {_numbers(statistics.std)}"
    if outside > _LARGEST_OUTSIDE:
        raise DataError(
            f"with {how} statistics ({numbers}) {100 * outside:.0f} % of the images' values lie beyond black and "
            "white: state those that the images were normalized with (images.mean, images.std); whitened images "
            "(ZCA) have none, undo the whitening where they were made."
        )
    source = "stated" if how == "stated" else f"estimated: {statistics.name}"
    note = f"normalized floats, statistics {source} ({numbers}); {100 * outside:.1f} % of values were cut off"
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8), note


def _undo(values: Tensor, statistics: Statistics) -> Tensor:
    mean, std = (torch.tensor(part).view(1, -1, 1, 1) for part in (statistics.mean, statistics.std))
    return values * std + mean


def _distance(values: Tensor, statistics: Statistics, data: Statistics) -> float:
    """How far the de-normalized channels' means and deviations are from the real dataset's, plus what is cut off."""
    pixels = _undo(values, statistics)
    means, stds = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0)
    cut = (pixels - pixels.clamp(0, 1)).abs().mean()
    gap = (means - torch.tensor(data.mean)).abs().mean() + (stds - torch.tensor(data.std)).abs().mean()
    return float(gap + cut)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
