"""ConvNet-d-w, the student that dataset distillation is usually measured with."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from flashdd.core.errors import UsageError


@final
class ConvNet(nn.Module):
    """`depth` x [3x3 convolution, norm, ReLU, 2x2 average pool], flatten, linear (Gidaris & Komodakis 2018,
    arXiv:1804.09458; in this field since Zhao et al. 2021, arXiv:2006.05929).

    The norm is BatchNorm2d, or with `instance_norm` GroupNorm of one group per channel, affine. Convolutions
    carry no bias, because the norm takes it away again; papers that keep it count `depth * width` more.
    Input: normalized float32 (N, C, H, W) of `shape` (C, H, W). Output: logits float32 (N, num_classes).
    Odd sides are floored by the pool. Raises UsageError when `depth` halvings leave nothing.
    """

    def __init__(
        self,
        *,
        depth: int,
        width: int,
        num_classes: int,
        shape: tuple[int, int, int],
        instance_norm: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width_px = shape
        largest = min(height, width_px).bit_length() - 1
        if depth > largest:
            raise UsageError(
                f"convnet-{depth}-w{width} halves its input {depth} times, too often for images of "
                f"{height}x{width_px} pixels: the largest depth there is {largest}."
            )
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.GroupNorm(width, width) if instance_norm else nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width * (height >> depth) * (width_px >> depth), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).flatten(1))
        return logits
