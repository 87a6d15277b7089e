"""Networks that carry their own normalization: pixels in [0, 1] in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn


@final
class Normalized(nn.Module):
    """`net((pixels - mean) / std)`; mean and std are per channel, of pixels in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        normalized = (pixels - self.mean) / self.std
        logits: Tensor = self.net(normalized.contiguous(memory_format=torch.channels_last))
        return logits
