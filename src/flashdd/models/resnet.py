"""ResNet-18, the usual teacher and the yardstick for bytes and speed."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

SMALL_IMAGE_PIXELS = 64
"""Up to this side the stem keeps the resolution; above it, the ImageNet stem reduces it by four."""


@final
class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, arXiv:1512.03385, figure 5 left, option B)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + shortcut, inplace=True)


@final
class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016, table 1) under torchvision's parameter names, for any number of channels.

    Stem: up to 64 pixels one 3x3 convolution of stride 1, as everywhere for small images; above, 7x7 of
    stride 2 with a 3x3 max pool. 11,173,962 parameters at 10 classes, 3 channels, small-image stem.
    Input: normalized float32 (N, C, H, W) of `shape` (C, H, W). Output: logits float32 (N, num_classes).
    """

    def __init__(self, *, num_classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        self.small_images = max(height, width) <= SMALL_IMAGE_PIXELS
        if self.small_images:
            self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.fc = nn.Linear(512, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = F.relu(self.bn1(self.conv1(images)), inplace=True)
        if not self.small_images:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits
