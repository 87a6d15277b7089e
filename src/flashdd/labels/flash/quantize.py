"""Few-bit weights: integers and one scale per output channel."""

from __future__ import annotations

import torch
from torch import Tensor

BITS = (2, 3, 4, 6, 8)
# The smallest positive float16: the scale of a channel whose weights are all zero.
TINIEST = 2.0**-24
# Shares of the largest weight at which the search clips. Below an eighth a channel of 100,000 Gaussian weights
# gains nothing at 2 bits, and fewer bits or weights clip later.
_CLIPS = tuple(step / 64 for step in range(64, 7, -1))


def integer_range(bits: int) -> tuple[int, int]:
    """The least and the greatest integer of a weight: -127 and 127 at 8 bits, else all that two's complement has.

    Few bits cannot spare a level: the one that has no opposite lies on the side that the scale's sign chooses.
    """
    assert bits in BITS
    top = 2 ** (bits - 1) - 1
    return (-top, top) if bits == 8 else (-top - 1, top)


def quantize(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integers in `integer_range(bits)`, and a float16 scale per row of `weight`.

    weight: float32 (out, ...). Returns int8 of the same shape and float16 (out,). The scale is rounded to
    float16 first and the integers are taken against the rounded one, so that the file loses nothing more.
    At 8 bits the scale is above 0 and clips nothing. Below, it is of the 57 clips and two signs that the
    search tries the one of the least squared error (of equal ones the first: clipping less, above 0).
    """
    rows = weight.detach().float().flatten(1)
    scale = _unclipped(rows, bits) if bits == 8 else _least_squares(rows, bits)
    return to_integers(weight, scale, bits), scale


def to_integers(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The int8 integers nearest to float32 `weight` (out, ...) over its row's scale, in `integer_range(bits)`."""
    rows = weight.detach().float().flatten(1)
    return _nearest(rows, scale.float(), bits).to(torch.int8).view(weight.shape)


def dequantize(integers: Tensor, scale: Tensor) -> Tensor:
    """Float32 weights: integers times their row's scale."""
    rows = integers.float().flatten(1) * scale.float()[:, None]
    return rows.view(integers.shape)


def _nearest(rows: Tensor, scale: Tensor, bits: int) -> Tensor:
    return (rows / scale[:, None]).round().clamp(*integer_range(bits))


def _unclipped(rows: Tensor, bits: int) -> Tensor:
    limit = integer_range(bits)[1]
    largest = rows.abs().amax(1)
    scale = (largest / limit).half()
    # Rounding down would push the largest weight over the limit; the next float16 up holds it.
    short = scale.float() * limit < largest
    scale = torch.where(short, torch.nextafter(scale, torch.full_like(scale, torch.inf)), scale)
    return scale.clamp_min(TINIEST)


def _least_squares(rows: Tensor, bits: int) -> Tensor:
    largest = rows.abs().amax(1) / integer_range(bits)[1]
    found = torch.full_like(largest, torch.inf).half()
    least = torch.full_like(largest, torch.inf)
    for clip in _CLIPS:
        for sign in (1, -1):
            scale = sign * (clip * largest).half().clamp_min(TINIEST)
            error = (_nearest(rows, scale.float(), bits) * scale.float()[:, None] - rows).square().sum(1)
            better = error < least
            found, least = torch.where(better, scale, found), torch.where(better, error, least)
    return found
