"""The labeler's family of small networks: names, layouts, sizes, and the ladder that capacity search climbs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from flashdd.core.errors import UnknownNameError, UsageError, unknown_name
from flashdd.models.count import Size

Stem = Literal["conv", "strided", "patch", "chain"]
Block = Literal["plain", "separable"]
Head = Literal["flatten", "average"]
STEMS: tuple[Stem, ...] = ("conv", "strided", "patch")
"""Those that a ladder is made of; of a "chain" every layer is named."""
FAMILIES = (*STEMS, *(f"{stem}-ds" for stem in STEMS))
"""Every stem with plain blocks, and with separable ones; `parse_family` knows more."""
WIDTHS = (4, 8, 16, 32, 64, 128)
TINY_PIXELS = 16
LARGEST_GRID = 64
"""Where a name does not say otherwise, larger images are average-pooled to at most this before the first layer: labels
of a 224-pixel view need not be made at 224 pixels, and the reference's own first layers shrink it, too."""
MAX_DEPTH = 99
OPTIONS = "[-ds][-gap][-rRANK][-pPIXELS]"
FAMILY_NAMES = (*FAMILIES, f"STEM{OPTIONS}")
"""As a message lists what `parse_family` knows."""
_NAME = re.compile(
    r"(?:(conv|strided|patch)-([1-9]\d?)-w([1-9]\d{0,3})(-ds)?|chain((?:-\d+k\d+(?:s\d+)?m?){1,99}))"
    r"(-gap)?(?:-r([1-9]\d{0,3}))?(?:-p([1-9]\d{0,3}))?",
    re.ASCII,
)
_LINK = re.compile(r"-([1-9]\d{0,3})k([1-9]\d?)(?:s([2-9]))?(m)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Link:
    """One layer of a chain: `WIDTHkKERNEL[sSTRIDE][m]`, m for a 2x2 average pool behind it.

    Odd kernels are padded by half their size, even ones not at all.
    """

    width: int
    kernel: int
    stride: int = 1
    pool: bool = False

    def __str__(self) -> str:
        stride = "" if self.stride == 1 else f"s{self.stride}"
        return f"{self.width}k{self.kernel}{stride}{'m' if self.pool else ''}"


@dataclass(frozen=True, kw_only=True)
class LabelerSpec:
    """One member of the family.

    "conv": `depth` x [3x3 convolution, norm, ReLU, 2x2 average pool], that is ConvNet-d-w.
    "strided": `depth` 3x3 convolutions of stride 2, the first `width` wide, the others 1.5 times that.
    "patch": a 4x4 convolution of stride 4 (2x2 of stride 2 below 16 pixels; a rest at the right
    and bottom is not read), then `depth` - 1 3x3 convolutions, all `width` wide, and a 2x2 average pool
    after the last if the grid is even and over 4.
    "chain": the convolutions that `links` lists; `depth` is their number, `width` the largest of theirs.
    """

    stem: Stem
    depth: int
    width: int
    links: tuple[Link, ...] = ()
    block: Block = "plain"
    """Of "separable" blocks, every convolution after the first is a 3x3 one per channel, norm and ReLU, then a 1x1
    one (MobileNets, arXiv:1704.04861, section 3.1)."""
    head: Head = "flatten"
    """What the linear head reads: all cells of the last grid, or their average (Network in Network,
    arXiv:1312.4400, section 3.2)."""
    rank: int | None = None
    """Rank of the head's weights: two linear maps without nonlinearity between them; None for a single one."""
    pixels: int = LARGEST_GRID
    """Images whose longer side is above this are average-pooled first, by the smallest integer that does."""

    @property
    def name(self) -> str:
        layers = "-".join(map(str, self.links)) if self.links else f"{self.depth}-w{self.width}"
        return f"{self.stem}-{layers}{self._options}"

    @property
    def family(self) -> str:
        """The name without depth and width, as `parse_family` reads it: "conv", "strided-ds", "patch-gap-r8-p32"."""
        return f"{self.stem}{self._options}"

    @property
    def _options(self) -> str:
        options = [
            "-ds" if self.block == "separable" else "",
            "-gap" if self.head == "average" else "",
            "" if self.rank is None else f"-r{self.rank}",
            "" if self.pixels == LARGEST_GRID else f"-p{self.pixels}",
        ]
        return "".join(options)

    @staticmethod
    def parse(name: str) -> LabelerSpec:
        """The spec called `name`, like "strided-3-w16", "patch-3-w32-ds-gap-r8-p48" or "chain-16k5s2-24k3m-gap".

        Raises UnknownNameError for any other text, also for one that spells out what goes without saying (64
        pixels): a network has one name.
        """
        match = _NAME.fullmatch(name)
        if match is None or match[8] == str(LARGEST_GRID):
            raise _unknown(name)
        links = _links(name, match[5]) if match[5] else ()
        return LabelerSpec(
            stem=cast(Stem, match[1] or "chain"),
            depth=len(links) or int(match[2]),
            width=max((link.width for link in links), default=0) or int(match[3]),
            links=links,
            block="separable" if match[4] else "plain",
            head="average" if match[6] else "flatten",
            rank=int(match[7]) if match[7] else None,
            pixels=int(match[8]) if match[8] else LARGEST_GRID,
        )


def _links(name: str, text: str) -> tuple[Link, ...]:
    found = list(_LINK.finditer(text))
    if "".join(match[0] for match in found) != text:
        raise _unknown(name)
    return tuple(
        Link(width=int(match[1]), kernel=int(match[2]), stride=int(match[3] or 1), pool=match[4] is not None)
        for match in found
    )


def _unknown(name: str) -> UnknownNameError:
    ladders = [f"{stem}-DEPTH-wWIDTH{OPTIONS}" for stem in STEMS]
    return unknown_name("labeler network", name, [*ladders, "chain-WIDTHkKERNEL[sSTRIDE][m]-..."])


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """One layer: a convolution (without bias; norm and ReLU follow), or a linear layer of the head.

    Linear are `project`, the first map of a low-rank head (without bias), and `head`, the last layer (with one).
    """

    outputs: int
    inputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    pool: bool = False
    """Whether a 2x2 average pool follows."""
    average: bool = False
    """Whether this linear layer reads the average of the grid's cells; else it reads all of them."""
    project: bool = False
    head: bool = False

    @property
    def linear(self) -> bool:
        return self.project or self.head

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(outputs, inputs / groups, kernel, kernel), of linear layers (outputs, inputs)."""
        kernel = () if self.linear else (self.kernel, self.kernel)
        return (self.outputs, self.inputs // self.groups, *kernel)

    @property
    def num_weights(self) -> int:
        return self.outputs * (self.inputs // self.groups) * self.kernel**2

    @property
    def num_biases(self) -> int:
        """Of the shipped layer, its norm folded into it: one per output, none for `project`."""
        return 0 if self.project else self.outputs

    def grid(self, side: int) -> int:
        """Pixels of a side after the convolution and before the pool, `side` being those of the input."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


def spec_layers(spec: LabelerSpec, shape: tuple[int, int, int], num_classes: int) -> list[LayerShape]:
    """The layers of `spec` for images of `shape` (C, H, W), the head last.

    Raises UsageError when the resolution does not carry `spec` (with the largest depth), or when an option
    finds nothing to work on: separable blocks without a second layer, a rank above the head's own.
    """
    channels, height, width = shrunk(shape, spec.pixels)
    _check_depth(spec, shape)
    layers: list[LayerShape] = []
    for index in range(spec.depth):
        for layer in _block(spec, index, channels, (height, width)):
            halvings = 2 if layer.pool else 1
            height, width = layer.grid(height) // halvings, layer.grid(width) // halvings
            if min(height, width) < 1:
                raise UsageError(
                    f"{spec.name} has nothing left of images of {shape[1]}x{shape[2]} pixels after layer {index + 1}: "
                    "take fewer strides and pools, or larger images."
                )
            channels = layer.outputs
            layers.append(layer)
    average = spec.head == "average"
    features = channels if average else channels * height * width
    if spec.rank is None:
        return [*layers, LayerShape(outputs=num_classes, inputs=features, average=average, head=True)]
    if spec.rank > min(features, num_classes):
        raise UsageError(
            f"{spec.name} has a head of rank {spec.rank} between {features} features and {num_classes} classes: "
            f"take -r{min(features, num_classes)} or less, or leave it out."
        )
    project = LayerShape(outputs=spec.rank, inputs=features, average=average, project=True)
    return [*layers, project, LayerShape(outputs=num_classes, inputs=spec.rank, head=True)]


def _check_depth(spec: LabelerSpec, shape: tuple[int, int, int]) -> None:
    largest = largest_depth(spec.stem, shape, spec.pixels)
    if spec.depth > largest:
        pools = shrink_factor(shape, spec.pixels) > 1
        pooled = f", read at most {spec.pixels} pixels wide" if pools else ""
        larger = "take larger images, or more pixels behind -p" if pools else "take larger images"
        remedy = f"the largest depth of '{spec.stem}' there is {largest}" if largest else larger
        raise UsageError(
            f"{spec.name} is too deep for images of {shape[1]}x{shape[2]} pixels{pooled}: {remedy}."
        )
    if spec.block == "separable" and spec.depth == 1:
        raise UsageError(
            f"{spec.name} has no layer after the first to be separable: take a depth of 2, or leave out -ds."
        )


def shrink_factor(shape: tuple[int, int, int], pixels: int = LARGEST_GRID) -> int:
    """Side of the average pool before the first layer, for images of `shape` (C, H, W): 1 up to `pixels`."""
    return -(-max(shape[1:]) // pixels)


def shrunk(shape: tuple[int, int, int], pixels: int = LARGEST_GRID) -> tuple[int, int, int]:
    """(C, H, W) after that pool; in an extremely flat image a side may be 0."""
    factor = shrink_factor(shape, pixels)
    return shape[0], shape[1] // factor, shape[2] // factor


def _block(spec: LabelerSpec, index: int, channels: int, grid: tuple[int, int]) -> list[LayerShape]:
    """The convolution number `index`, or the two that stand for it."""
    whole = _convolution(spec, index, channels, grid)
    if spec.block == "plain" or index == 0:
        return [whole]
    each = replace(whole, outputs=channels, groups=channels, pool=False)
    return [each, LayerShape(outputs=whole.outputs, inputs=channels, pool=whole.pool)]


def _convolution(spec: LabelerSpec, index: int, channels: int, grid: tuple[int, int]) -> LayerShape:
    if spec.stem == "chain":
        link = spec.links[index]
        padding = link.kernel // 2 if link.kernel % 2 else 0
        return LayerShape(
            outputs=link.width,
            inputs=channels,
            kernel=link.kernel,
            stride=link.stride,
            padding=padding,
            pool=link.pool,
        )
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


def largest_depth(stem: Stem, shape: tuple[int, int, int], pixels: int = LARGEST_GRID) -> int:
    """The deepest network of `stem` for images of `shape` (C, H, W) read at `pixels`; 0 where there is none.

    conv: a pixel must remain. strided: no layer may read a single pixel. patch: 3x3 layers need a grid. chain: as
    its layers say (`spec_layers`).
    """
    side = min(shrunk(shape, pixels)[1:])
    if side == 0:
        return 0
    if stem == "chain":
        return MAX_DEPTH
    if stem == "conv":
        return side.bit_length() - 1
    if stem == "strided":
        return (side - 1).bit_length()
    return side // 2 if side < 4 else MAX_DEPTH


def spec_size(spec: LabelerSpec, shape: tuple[int, int, int], num_classes: int) -> Size:
    """`count.size_of` of the network of `spec`, by arithmetic alone: no network is made."""
    _, height, width = shrunk(shape, spec.pixels)
    params = macs = 0
    for layer in spec_layers(spec, shape, num_classes):
        if layer.linear:
            params += layer.num_weights + layer.num_biases
            macs += layer.num_weights
            continue
        height, width = layer.grid(height), layer.grid(width)
        params += layer.num_weights + 2 * layer.outputs  # the norm's weight and bias
        macs += layer.num_weights * height * width
        if layer.pool:
            height, width = height // 2, width // 2
    return Size(params=params, macs=macs)


def parse_family(name: str) -> LabelerSpec | None:
    """A network of the family called `name`, like "conv", "strided-ds" or "patch-gap-r8-p32"; None if there is none.

    Every network of it has the same stem, block, head and resolution; depth and width are the ladder's.
    """
    stem, dash, options = name.partition("-")
    try:
        return LabelerSpec.parse(f"{stem}-1-w1{dash}{options}")
    except UnknownNameError:
        return None


def ladder(
    shape: tuple[int, int, int], num_classes: int, families: Sequence[str] = FAMILIES
) -> list[LabelerSpec]:
    """The candidates of capacity search for images of `shape` (C, H, W), by increasing parameters.

    Every family at two depths, the one that ends on a grid of about 4x4 and the one above, so 2 and 1 at 8
    pixels, 3 and 2 at 32, 4 and 3 at 64, times the widths, as far as the resolution, and the rank of a head,
    allow them. From 50 classes on one deeper, from 500 two, where a head costs a weight per class and cell of the
    last grid. No budget.

    Raises UnknownNameError for what is no family.
    """
    specs = [
        spec
        for name in dict.fromkeys(families)
        for spec in family_widths(name, shape, num_classes)
        if why_not(spec, shape, num_classes) is None
    ]

    def key(spec: LabelerSpec) -> tuple[int, int, str]:
        size = spec_size(spec, shape, num_classes)
        return size.params, size.macs, spec.name

    return sorted(specs, key=key)


def family_widths(family: str, shape: tuple[int, int, int], num_classes: int) -> list[LabelerSpec]:
    """The networks of `ladder` of one family, carried by such images or not, the largest last; raises as it does."""
    one = parse_family(family)
    if one is None:
        raise unknown_name("labeler family", family, FAMILY_NAMES)
    side = min(shrunk(shape, one.pixels)[1:])
    depth = max(2, (side - 1).bit_length() - 2)
    if one.head == "flatten" and one.rank is None:
        depth += (num_classes >= 50) + (num_classes >= 500)
    return [replace(one, depth=d, width=w) for d in (depth - 1, depth) for w in WIDTHS]


def why_not(spec: LabelerSpec, shape: tuple[int, int, int], num_classes: int) -> str | None:
    """Why images of `shape`, or so many classes, do not carry `spec`; None where they do."""
    try:
        spec_layers(spec, shape, num_classes)
    except UsageError as error:
        return str(error)
    return None
