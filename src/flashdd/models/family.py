"""The labeler's family of small networks: names, layouts, and the ladder that capacity search climbs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, final

import torch.nn.functional as F
from torch import Tensor, nn

from flashdd.core.errors import UsageError, unknown_name
from flashdd.models.count import Size

Stem = Literal["conv", "strided", "patch"]
STEMS: tuple[Stem, ...] = ("conv", "strided", "patch")
WIDTHS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
TINY_PIXELS = 16
LARGEST_GRID = 64
"""Larger images are average-pooled to at most this before the first layer: labels of a 224-pixel view need not be
made at 224 pixels, and the reference's own first layers shrink it, too."""
MAX_DEPTH = 99
_NAME = re.compile(r"(conv|strided|patch)-([1-9]\d?)-w([1-9]\d{0,3})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class LabelerSpec:
    """One member of the family; images above 64 pixels are average-pooled first (`shrink_factor`).

    "conv": `depth` x [3x3 convolution, norm, ReLU, 2x2 average pool], that is ConvNet-d-w.
    "strided": `depth` 3x3 convolutions of stride 2, the first `width` wide, the others 1.5 times that.
    "patch": a 4x4 convolution of stride 4 (2x2 of stride 2 below 16 pixels; a rest at the right
    and bottom is not read), then `depth` - 1 3x3 convolutions, all `width` wide, and a 2x2 average pool
    after the last if the grid is even and over 4.
    """

    stem: Stem
    depth: int
    width: int

    @property
    def name(self) -> str:
        return f"{self.stem}-{self.depth}-w{self.width}"

    @staticmethod
    def parse(name: str) -> LabelerSpec:
        """The spec called `name`, like "strided-3-w16"; raises UnknownNameError for any other text."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise unknown_name("labeler network", name, [f"{stem}-DEPTH-wWIDTH" for stem in STEMS])
        return LabelerSpec(stem=cast(Stem, match[1]), depth=int(match[2]), width=int(match[3]))


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """One convolution (without bias; norm and ReLU follow) or the head: the last one, linear with a bias."""

    outputs: int
    inputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    pool: bool = False
    """Whether a 2x2 average pool follows."""
    head: bool = False

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(outputs, inputs, kernel, kernel), of the head (outputs, inputs)."""
        return (self.outputs, self.inputs) + (() if self.head else (self.kernel, self.kernel))

    @property
    def num_weights(self) -> int:
        return self.outputs * self.inputs * self.kernel**2

    def grid(self, side: int) -> int:
        """Pixels of a side after the convolution and before the pool, `side` being those of the input."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


def spec_layers(spec: LabelerSpec, shape: tuple[int, int, int], num_classes: int) -> list[LayerShape]:
    """The layers of `spec` for images of `shape` (C, H, W), the head last.

    Raises UsageError, with the largest depth, when the resolution does not carry `spec`.
    """
    channels, height, width = shrunk(shape)
    largest = largest_depth(spec.stem, shape)
    if spec.depth > largest:
        remedy = f"the largest depth of '{spec.stem}' there is {largest}" if largest else "take larger images"
        raise UsageError(f"{spec.name} is too deep for images of {shape[1]}x{shape[2]} pixels: {remedy}.")
    layers: list[LayerShape] = []
    for index in range(spec.depth):
        layer = _convolution(spec, index, channels, (height, width))
        halvings = 2 if layer.pool else 1
        height, width = layer.grid(height) // halvings, layer.grid(width) // halvings
        channels = layer.outputs
        layers.append(layer)
    return [*layers, LayerShape(outputs=num_classes, inputs=channels * height * width, head=True)]


def shrink_factor(shape: tuple[int, int, int]) -> int:
    """Side of the average pool before the first layer, for images of `shape` (C, H, W): 1 up to 64 pixels."""
    return -(-max(shape[1:]) // LARGEST_GRID)


def shrunk(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(C, H, W) after that pool."""
    factor = shrink_factor(shape)
    return shape[0], shape[1] // factor, shape[2] // factor


def _convolution(spec: LabelerSpec, index: int, channels: int, grid: tuple[int, int]) -> LayerShape:
    if spec.stem == "conv":
        return LayerShape(outputs=spec.width, inputs=channels, kernel=3, padding=1, pool=True)
    if spec.stem == "strided":
        width = spec.width if index == 0 else 2 * ((3 * spec.width + 2) // 4)  # 1.5 times, to an even number
        return LayerShape(outputs=width, inputs=channels, kernel=3, stride=2, padding=1)
    if index == 0:
        patch = _patch(grid)
        grid = (grid[0] // patch, grid[1] // patch)
    pool = index == spec.depth - 1 and all(side % 2 == 0 and side > 4 for side in grid)
    if index == 0:
        return LayerShape(outputs=spec.width, inputs=channels, kernel=patch, stride=patch, pool=pool)
    return LayerShape(outputs=spec.width, inputs=channels, kernel=3, padding=1, pool=pool)


def _patch(grid: tuple[int, int]) -> int:
    return 2 if min(grid) < TINY_PIXELS else 4


def largest_depth(stem: Stem, shape: tuple[int, int, int]) -> int:
    """The deepest network of `stem` for images of `shape` (C, H, W); 0 where there is none.

    conv: a pixel must remain. strided: no layer may read a single pixel. patch: 3x3 layers need a grid.
    """
    side = min(shrunk(shape)[1:])
    if stem == "conv":
        return side.bit_length() - 1
    if stem == "strided":
        return (side - 1).bit_length()
    return side // 2 if side < 4 else MAX_DEPTH


def spec_size(spec: LabelerSpec, shape: tuple[int, int, int], num_classes: int) -> Size:
    """`count.size_of` of the network of `spec`, by arithmetic alone: no network is made."""
    _, height, width = shrunk(shape)
    params = macs = 0
    for layer in spec_layers(spec, shape, num_classes):
        if layer.head:
            params += layer.num_weights + layer.outputs
            macs += layer.num_weights
            continue
        height, width = layer.grid(height), layer.grid(width)
        params += layer.num_weights + 2 * layer.outputs  # the norm's weight and bias
        macs += layer.num_weights * height * width
        if layer.pool:
            height, width = height // 2, width // 2
    return Size(params=params, macs=macs)


def ladder(shape: tuple[int, int, int], num_classes: int) -> list[LabelerSpec]:
    """The candidates of capacity search for images of `shape` (C, H, W), by increasing parameters.

    Every stem at two depths, the one that ends on a grid of about 4x4 and the one above, so 2 and 1 at 8
    pixels, 3 and 2 at 32, 4 and 3 at 64, as far as the resolution allows them, times the widths. From 50 classes
    on one deeper, from 500 two: a head costs a weight per class and cell of the last grid. No budget.
    """
    side = min(shrunk(shape)[1:])
    depth = max(2, (side - 1).bit_length() - 2) + (num_classes >= 50) + (num_classes >= 500)
    specs = [
        LabelerSpec(stem=stem, depth=d, width=w)
        for stem in STEMS
        for d in (depth - 1, depth)
        if d <= largest_depth(stem, shape)
        for w in WIDTHS
    ]

    def key(spec: LabelerSpec) -> tuple[int, int, str]:
        size = spec_size(spec, shape, num_classes)
        return size.params, size.macs, spec.name

    return sorted(specs, key=key)


@final
class ConvBlock(nn.Module):
    """Convolution, norm, ReLU and perhaps a 2x2 average pool."""

    def __init__(self, layer: LayerShape) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            layer.inputs, layer.outputs, layer.kernel, stride=layer.stride, padding=layer.padding, bias=False
        )
        self.norm = nn.BatchNorm2d(layer.outputs)
        self.pool = layer.pool

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        return F.avg_pool2d(x, 2) if self.pool else x


@final
class LabelerNet(nn.Module):
    """The network of `layers`, the last of them the head: `spec_layers(...)`, or those that pruning left.

    shrink: side of the average pool before them, `shrink_factor(...)`.

    Input: normalized float32 (N, C, H, W). Output: logits float32 (N, num_classes).
    """

    def __init__(self, layers: Sequence[LayerShape], shrink: int = 1) -> None:
        super().__init__()
        self.shrink = shrink
        *convolutions, head = layers
        assert [layer.head for layer in layers] == [False] * len(convolutions) + [True]
        self.layers = nn.ModuleList(ConvBlock(layer) for layer in convolutions)
        self.head = nn.Linear(head.inputs, head.outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = images if self.shrink == 1 else F.avg_pool2d(images, self.shrink)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x.flatten(1))
        return logits
