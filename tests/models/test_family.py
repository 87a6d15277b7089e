from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from flashdd.core.errors import UnknownNameError, UsageError
from flashdd.models.count import size_of
from flashdd.models.family import (
    STEMS,
    Block,
    Head,
    LabelerSpec,
    LayerShape,
    ladder,
    parse_family,
    shrink_factor,
    shrunk,
    spec_layers,
    spec_size,
)
from flashdd.models.initialize import on_meta
from flashdd.models.labelernet import ConvBlock, LabelerNet, labeler_net
from flashdd.models.table import build, size_of_name

CIFAR = (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [  # counted by hand; macs to three digits
        ("conv-3-w8", 2_706, 406_784),
        ("strided-3-w16", 13_050, 418_560),
        ("patch-2-w32", 16_010, 693_248),
    ],
)
def test_sizes_of_the_pilot(name: str, params: int, macs: int) -> None:
    size = spec_size(LabelerSpec.parse(name), CIFAR, 10)
    assert (size.params, size.bytes, size.macs) == (params, 4 * params, macs)


def test_conv_is_convnet() -> None:
    ours = build("conv-3-w8", num_classes=10, shape=CIFAR, seed=3)
    student = build("convnet-3-w8", num_classes=10, shape=CIFAR, seed=3)
    images = torch.rand(4, *CIFAR, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(ours(images), student(images))


def test_strided_layers() -> None:
    layers = spec_layers(LabelerSpec(stem="strided", depth=3, width=6), CIFAR, 10)
    assert layers == [
        LayerShape(outputs=6, inputs=3, kernel=3, stride=2, padding=1),
        LayerShape(outputs=10, inputs=6, kernel=3, stride=2, padding=1),
        LayerShape(outputs=10, inputs=10, kernel=3, stride=2, padding=1),
        LayerShape(outputs=10, inputs=160, head=True),
    ]


@pytest.mark.parametrize(("width", "wider"), [(2, 4), (3, 4), (4, 6), (6, 10), (8, 12), (12, 18), (16, 24)])
def test_later_strided_widths_are_even(width: int, wider: int) -> None:
    layers = spec_layers(LabelerSpec(stem="strided", depth=2, width=width), CIFAR, 10)
    assert [layer.outputs for layer in layers] == [width, wider, 10]


@pytest.mark.parametrize(
    ("side", "depth", "patch", "pool", "features"),
    [
        (8, 2, 2, False, 16),
        (12, 1, 2, True, 9),
        (14, 2, 2, False, 49),
        (16, 2, 4, False, 16),
        (32, 1, 4, True, 16),
        (28, 2, 4, False, 49),
        (64, 3, 4, True, 64),
        (35, 2, 4, True, 16),
    ],
)
def test_patch_layers(side: int, depth: int, patch: int, pool: bool, features: int) -> None:
    *convolutions, head = spec_layers(LabelerSpec(stem="patch", depth=depth, width=5), (1, side, side), 7)
    first = convolutions[0]
    assert (first.kernel, first.stride, first.padding) == (patch, patch, 0)
    assert [layer.pool for layer in convolutions] == [False] * (depth - 1) + [pool]
    assert all((layer.kernel, layer.stride, layer.padding) == (3, 1, 1) for layer in convolutions[1:])
    assert head == LayerShape(outputs=7, inputs=5 * features, head=True)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (3, 32, 48), (2, 13, 9), (3, 64, 64), (1, 4, 4)])
def test_arithmetic_agrees_with_the_network(shape: tuple[int, int, int]) -> None:
    for spec in ladder(shape, 6):
        if spec.width not in (4, 16):
            continue
        layers = spec_layers(spec, shape, 6)
        net = on_meta(lambda layers=layers: LabelerNet(layers))  # type: ignore[misc]
        assert (
            spec_size(spec, shape, 6)
            == size_of(net, shape)
            == size_of_name(spec.name, num_classes=6, shape=shape)
        )
        blocks = [block for block in net.layers if isinstance(block, ConvBlock)]
        weights = [*[block.conv.weight for block in blocks], net.head.weight]
        assert [tuple(w.shape) for w in weights] == [layer.weight_shape for layer in layers]
        assert [w.numel() for w in weights] == [layer.num_weights for layer in layers]
        assert [block.pool for block in blocks] == [layer.pool for layer in layers[:-1]]


def test_a_block_is_convolution_norm_relu_pool() -> None:
    net = build("patch-2-w4", num_classes=3, shape=(1, 32, 32), seed=0)
    block = net.get_submodule("layers.1")
    assert isinstance(block, ConvBlock)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    y = nn.functional.conv2d(x, block.conv.weight, padding=1)
    y = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    expected = y.relu().view(2, 4, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("side", "chains"),
    [
        (4, {"conv-2", "conv-1", "strided-2", "strided-1", "patch-2", "patch-1"}),
        (2, {"conv-1", "strided-1", "patch-1"}),
        (1, set()),
        (8, {"conv-2", "conv-1", "strided-2", "strided-1", "patch-2", "patch-1"}),
        (28, {"conv-3", "conv-2", "strided-3", "strided-2", "patch-3", "patch-2"}),
        (32, {"conv-3", "conv-2", "strided-3", "strided-2", "patch-3", "patch-2"}),
        (64, {"conv-4", "conv-3", "strided-4", "strided-3", "patch-4", "patch-3"}),
        (224, {"conv-4", "conv-3", "strided-4", "strided-3", "patch-4", "patch-3"}),
    ],
)
def test_chains_of_the_ladder(side: int, chains: set[str]) -> None:
    rungs = ladder((3, side, side), 10, STEMS)
    assert {f"{spec.stem}-{spec.depth}" for spec in rungs} == chains
    separable = ladder((3, side, side), 10, [f"{stem}-ds" for stem in STEMS])
    assert {f"{spec.stem}-{spec.depth}" for spec in separable} == {c for c in chains if not c.endswith("-1")}
    assert all(spec.block == "separable" and spec.name.endswith("-ds") for spec in separable)
    for chain in chains:
        widths = sorted(spec.width for spec in rungs if spec.name.startswith(f"{chain}-w"))
        assert widths == [4, 8, 16, 32, 64, 128]


@pytest.mark.parametrize(
    ("family", "depths", "narrowest"),
    [
        ("conv-gap", {2, 3}, 4),
        ("strided-r8", {2, 3}, 4),
        ("conv-gap-r8", {2, 3}, 8),
        ("strided-ds-p16", {2, 3}, 4),
        ("patch-ds-gap-r16-p8", {2}, 16),
    ],
)
def test_ladders_of_other_heads_and_resolutions(family: str, depths: set[int], narrowest: int) -> None:
    """For a hundred classes, on averages and of low rank as deep as for ten; no wider rank than there are features."""
    rungs = ladder(CIFAR, 100, [family])
    assert {spec.depth for spec in rungs} == depths
    assert min(spec.width for spec in rungs) == narrowest
    assert all(spec.name.removeprefix(f"{spec.stem}-{spec.depth}-w{spec.width}") in family for spec in rungs)
    assert {spec.family for spec in rungs} == {family}
    for spec in rungs:
        assert LabelerSpec.parse(spec.name) == spec
        spec_layers(spec, CIFAR, 100)


@pytest.mark.parametrize(
    "name", ["conv-2", "conv-", "convolution", "chain", "conv-gap-ds", "conv-p64", "conv-r0", "", "conv-3-w8"]
)
def test_what_is_no_family(name: str) -> None:
    assert parse_family(name) is None
    with pytest.raises(UnknownNameError, match=r"unknown labeler family.*STEM\[-ds\]\[-gap\]"):
        ladder(CIFAR, 10, [name])


def test_a_family_named_twice_is_climbed_once() -> None:
    assert ladder(CIFAR, 10, ["conv-gap", "conv-gap"]) == ladder(CIFAR, 10, ["conv-gap"])


@pytest.mark.parametrize(("classes", "deepest"), [(10, 3), (100, 4), (1000, 5)])
def test_heads_of_many_classes_sit_on_smaller_grids(classes: int, deepest: int) -> None:
    assert max(spec.depth for spec in ladder(CIFAR, classes) if spec.stem == "strided") == deepest


def test_large_images_are_pooled_before_the_first_layer() -> None:
    shape = (3, 150, 130)
    spec = LabelerSpec(stem="strided", depth=3, width=4)
    assert (shrink_factor(shape), shrunk(shape), shrink_factor((3, 64, 64))) == (3, (3, 50, 43), 1)
    net = LabelerNet(spec_layers(spec, shape, 5), shrink_factor(shape)).eval()
    plain = LabelerNet(spec_layers(spec, shrunk(shape), 5)).eval()
    plain.load_state_dict(net.state_dict())
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    pooled = images[:, :, :150, :129].view(2, 3, 50, 3, 43, 3).mean((3, 5))
    with torch.no_grad():
        torch.testing.assert_close(net(images), plain(pooled))
    assert size_of(net, shape) == spec_size(spec, shape, 5)


def test_the_ladder_climbs() -> None:
    rungs = ladder(CIFAR, 10)
    params = [spec_size(spec, CIFAR, 10).params for spec in rungs]
    assert params == sorted(params)
    assert len({spec.name for spec in rungs}) == len(rungs) == 72


@pytest.mark.parametrize(
    ("name", "side", "largest"), [("conv-6-w4", 32, 5), ("strided-4-w4", 8, 3), ("patch-2-w4", 3, 1)]
)
def test_too_deep_names_the_largest_depth(name: str, side: int, largest: int) -> None:
    spec = LabelerSpec.parse(name)
    with pytest.raises(
        UsageError, match=rf"{name} is too deep for images of {side}x50 pixels: .* there is {largest}\."
    ):
        spec_layers(spec, (1, side, 50), 4)
    spec_layers(LabelerSpec(stem=spec.stem, depth=largest, width=4), (1, side, 50), 4)


def test_no_depth_at_all() -> None:
    with pytest.raises(UsageError, match="take larger images"):
        spec_layers(LabelerSpec(stem="patch", depth=1, width=4), (1, 1, 1), 4)


def test_names_round_trip() -> None:
    for spec in [*ladder(CIFAR, 10), *variants()]:
        assert LabelerSpec.parse(spec.name) == spec


def variants() -> list[LabelerSpec]:
    """Every combination of shape and options at a small width."""
    return [
        LabelerSpec(stem=stem, depth=2, width=6, block=block, head=head, rank=rank, pixels=pixels)
        for stem in STEMS
        for block in get_args(Block)
        for head in get_args(Head)
        for rank in (None, 4)
        for pixels in (64, 10)
    ] + [
        LabelerSpec.parse(f"chain-5k5s2-6k2-4k3m{options}") for options in ("", "-gap", "-r3", "-gap-r3-p12")
    ]


def test_options_have_one_order_and_no_default_is_spelled_out() -> None:
    spec = LabelerSpec(stem="patch", depth=3, width=32, block="separable", head="average", rank=8, pixels=48)
    assert spec.name == "patch-3-w32-ds-gap-r8-p48"
    assert LabelerSpec.parse("conv-3-w8") == LabelerSpec(stem="conv", depth=3, width=8)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 13, 21), (3, 150, 130)])
def test_arithmetic_agrees_with_every_variant(shape: tuple[int, int, int]) -> None:
    for spec in variants():
        net = on_meta(lambda spec=spec: labeler_net(spec, shape, 7))  # type: ignore[misc]
        assert spec_size(spec, shape, 7) == size_of(net, shape), spec.name
        layers = spec_layers(spec, shape, 7)
        matrices = [p for p in net.parameters() if p.ndim > 1]
        assert [tuple(p.shape) for p in matrices] == [layer.weight_shape for layer in layers]
        assert [p.numel() for p in matrices] == [layer.num_weights for layer in layers]


def test_separable_layers() -> None:
    layers = spec_layers(LabelerSpec.parse("strided-2-w4-ds"), CIFAR, 10)
    assert layers == [
        LayerShape(outputs=4, inputs=3, kernel=3, stride=2, padding=1),
        LayerShape(outputs=4, inputs=4, kernel=3, stride=2, padding=1, groups=4),
        LayerShape(outputs=6, inputs=4),
        LayerShape(outputs=10, inputs=6 * 64, head=True),
    ]
    each, point = spec_layers(LabelerSpec.parse("conv-2-w4-ds"), CIFAR, 10)[1:3]
    assert (each.pool, each.num_weights, point.pool, point.num_weights) == (False, 36, True, 16)


def test_the_layers_of_a_chain_are_those_of_its_name() -> None:
    spec = LabelerSpec.parse("chain-4k5s2-8k2-6k3m-gap")
    assert (spec.stem, spec.depth, spec.width) == ("chain", 3, 8)
    assert spec_layers(spec, CIFAR, 10) == [
        LayerShape(outputs=4, inputs=3, kernel=5, stride=2, padding=2),
        LayerShape(outputs=8, inputs=4, kernel=2),
        LayerShape(outputs=6, inputs=8, kernel=3, padding=1, pool=True),
        LayerShape(outputs=10, inputs=6, average=True, head=True),
    ]
    same = LabelerSpec.parse("chain-8k3s2-12k3s2-12k3s2")
    assert spec_layers(same, CIFAR, 10) == spec_layers(LabelerSpec.parse("strided-3-w8"), CIFAR, 10)


def test_heads() -> None:
    def linear(name: str) -> list[LayerShape]:
        return [layer for layer in spec_layers(LabelerSpec.parse(name), CIFAR, 10) if layer.linear]

    assert linear("conv-3-w8-gap") == [LayerShape(outputs=10, inputs=8, average=True, head=True)]
    assert linear("conv-3-w8-r5") == [
        LayerShape(outputs=5, inputs=128, project=True),
        LayerShape(outputs=10, inputs=5, head=True),
    ]
    assert linear("conv-3-w8-gap-r5")[0] == LayerShape(outputs=5, inputs=8, average=True, project=True)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("conv-1-w4-ds", "conv-1-w4-ds has no layer after the first to be separable: take a depth of 2"),
        ("conv-3-w8-gap-r9", "a head of rank 9 between 8 features and 10 classes: take -r8 or less"),
        ("conv-3-w8-r11", "take -r10 or less"),
        ("chain-4k3s4-4k9s9-4k2", "nothing left of images of 32x32 pixels after layer 3: take fewer"),
        ("strided-4-w4-p8", "too deep for images of 32x32 pixels, read at most 8 pixels wide: .* is 3"),
    ],
)
def test_options_without_an_object_are_refused(name: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        spec_layers(LabelerSpec.parse(name), CIFAR, 10)


@pytest.mark.parametrize(
    ("pixels", "factor", "left"),
    [(64, 3, (43, 56)), (130, 2, (65, 84)), (168, 1, (130, 168)), (5, 34, (3, 4))],
)
def test_resolution_is_an_integer_fraction(pixels: int, factor: int, left: tuple[int, int]) -> None:
    assert shrink_factor((3, 130, 168), pixels) == factor
    assert shrunk((3, 130, 168), pixels) == (3, *left)


def test_an_image_too_flat_to_be_pooled_carries_nothing() -> None:
    for stem in STEMS:
        with pytest.raises(UsageError, match="take larger images"):
            spec_layers(LabelerSpec(stem=stem, depth=1, width=4), (3, 4096, 1), 4)


@pytest.mark.parametrize(
    "name",
    [
        "conv-3",
        "conv-0-w8",
        "conv-3-w08",
        "conv-3-w8-in",
        "mlp-3-w8",
        "conv-100-w8",
        "conv-3-w10000",
        "conv-1\u0663-w8",
        "conv-3-w8-gap-ds",
        "conv-3-w8-r0",
        "conv-3-w8-r04",
        "conv-3-w8-p64",
        "conv-3-w8-p",
        "conv-3-w8-",
        "chain",
        "chain-4k3s1",
        "chain-04k3",
        "chain-4k3-ds",
        "chain-4k3m2",
        "chain-4k100",
        "chain-4k3" * 100,
    ],
)
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown labeler network .* Known: chain-WIDTHkKERNEL"):
        LabelerSpec.parse(name)
