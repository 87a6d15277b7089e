"""Philox4x32-10, the counter-based generator behind every random draw of a view.

A draw is a pure function of (seed, counter), so it does not depend on what was drawn before, in which
batch, on which device or by which worker. Written in int64 tensor operations because these are the same
integers on CPU and CUDA; a product of two 32-bit words wraps modulo 2^64, which loses nothing.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3;
constants and known answers as in the authors' library Random123.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

Words = tuple[Tensor, Tensor, Tensor, Tensor]

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


@functools.lru_cache(maxsize=64)
def _constants(seed: int, device: torch.device) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Multipliers (2,) and the key of each round (2,), int64 on `device`."""
    key = (seed & MASK, seed >> 32)
    keys = [[(k + r * step) & MASK for k, step in zip(key, KEY_STEPS, strict=True)] for r in range(ROUNDS)]
    return torch.tensor(MULTIPLIERS, device=device), tuple(torch.tensor(keys, device=device).unbind(0))


def philox4x32(counter: Words, seed: int) -> Words:
    """The four 32-bit words of block `counter` under the key (low, high 32 bits of `seed`).

    counter: four int64 tensors with values in 0 .. 2^32-1, of shapes that broadcast; seed: 0 .. 2^64-1.
    Returns four int64 tensors of the broadcast shape with values in 0 .. 2^32-1.
    """
    shape = np.broadcast_shapes(*(word.shape for word in counter))
    c0, c1, c2, c3 = (word.expand(shape) for word in counter)
    multipliers, keys = _constants(seed, c0.device)
    column = (2,) + (1,) * c0.dim()
    multipliers = multipliers.view(column)
    # Words 0 and 2 are multiplied, words 1 and 3 only mixed in: two stacks halve the number of operations.
    even, odd = torch.stack((c0, c2)), torch.stack((c1, c3))
    for key in keys:
        product = (even * multipliers).flip(0)
        even = (product >> 32).bitwise_and_(MASK).bitwise_xor_(odd).bitwise_xor_(key.view(column))
        odd = product.bitwise_and_(MASK)
    return even[0], odd[0], even[1], odd[1]
