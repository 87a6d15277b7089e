"""Labels made online by a network: the scheme that ships a teacher, and the one that ships a labeler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from flashdd.core.device import full_float32
from flashdd.data.views import ViewBatch
from flashdd.training.source import LabelSource, every_image


@final
class NetworkSource(LabelSource):
    """logit_scale * net(pixels) + offsets, in eval mode and full float32.

    net: pixels in [0, 1] -> logits. temperature: of the labels. logit_scale: fitted or searched, 1 as published;
    offsets: one per class, or none.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int,
        temperature: float = 1.0,
        logit_scale: float = 1.0,
        offsets: Sequence[float] = (),
    ) -> None:
        self.num_classes = num_classes
        self.temperature = temperature
        self.fixed_temperature = False
        self._scale = logit_scale
        self._offsets = tuple(offsets)
        # 8x8 and ResNet-18 on a CPU: two thirds of the time that contiguous pictures take
        self._net: nn.Module = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def logits(self, views: ViewBatch) -> Tensor:
        with full_float32():
            raw: Tensor = self._net(views.pixels)
        return with_offsets(self._scale * raw.float(), self._offsets)

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        return every_image(epoch, num_images)


def with_offsets(logits: Tensor, offsets: Sequence[float]) -> Tensor:
    """Logits (..., C) with class offsets: one per class, or none."""
    return logits + torch.tensor(offsets, device=logits.device) if offsets else logits
