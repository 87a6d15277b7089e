"""Few-bit weights: symmetric, one scale per output channel."""

from __future__ import annotations

import torch
from torch import Tensor

# The smallest positive float16: the scale of a channel whose weights are all zero.
_TINY = 2.0**-24


def quantize(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integers in [-q, q], q = 2**(bits-1) - 1, and a float16 scale per row of `weight`.

    weight: float32 (out, ...). Returns int8 of the same shape and float16 (out,). The scale is rounded to
    float16 first and the integers are taken against the rounded one, so that the file loses nothing more.
    """
    limit = 2 ** (bits - 1) - 1
    rows = weight.detach().float().flatten(1)
    scale = (rows.abs().amax(1) / limit).half()
    # Rounding down would push the largest weight over the limit; the next float16 up holds it.
    short = scale.float() * limit < rows.abs().amax(1)
    scale = torch.where(short, torch.nextafter(scale, torch.full_like(scale, torch.inf)), scale).clamp_min(
        _TINY
    )
    integers = (rows / scale.float()[:, None]).round().clamp(-limit, limit)
    return integers.to(torch.int8).view(weight.shape), scale


def dequantize(integers: Tensor, scale: Tensor) -> Tensor:
    """Float32 weights: integers times their row's scale."""
    rows = integers.float().flatten(1) * scale.float()[:, None]
    return rows.view(integers.shape)
