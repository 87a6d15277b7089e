from __future__ import annotations

import pytest
import torch
from torch import nn

from flashdd.core.errors import UsageError
from flashdd.models.convnet import ConvNet
from flashdd.models.table import build

SHAPE = (3, 32, 32)


def test_convnet_is_the_published_stack() -> None:
    net = ConvNet(depth=2, width=4, num_classes=5, shape=(1, 8, 8))
    kinds = [type(layer) for layer in net.features]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.AvgPool2d] * 2
    assert net.head.weight.shape == (5, 4 * 2 * 2)
    assert all(layer.bias is None for layer in net.features if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize(("side", "features"), [(32, 16), (28, 9), (33, 16), (15, 1)])
def test_odd_sides_are_floored(side: int, features: int) -> None:
    net = ConvNet(depth=3, width=2, num_classes=4, shape=(1, side, side))
    assert net.head.in_features == 2 * features
    assert net(torch.zeros(3, 1, side, side)).shape == (3, 4)


def test_instance_norm_looks_at_one_image_and_channel() -> None:
    net = build("convnet-1-w4-in", num_classes=3, shape=(1, 8, 8), seed=0)
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(6, 1, 8, 8, generator=draws)
    together = net(images)
    torch.testing.assert_close(together[:1], net(images[:1]))
    norm = next(m for m in net.modules() if isinstance(m, nn.GroupNorm))
    assert norm.num_groups == norm.num_channels == 4
    assert norm.affine
    x = torch.randn(2, 4, 5, 5, generator=draws)
    spread = x.var((2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(norm(x), (x - x.mean((2, 3), keepdim=True)) / (spread + 1e-5).sqrt())


def test_too_deep_names_the_largest_depth() -> None:
    with pytest.raises(
        UsageError, match=r"convnet-6-w8 halves its input 6 times.*32x40.*largest depth there is 5"
    ):
        ConvNet(depth=6, width=8, num_classes=10, shape=(3, 32, 40))
    ConvNet(depth=5, width=8, num_classes=10, shape=(3, 32, 40))


def test_channels_last_gives_the_same_logits() -> None:
    net = build("convnet-3-w8", num_classes=10, shape=SHAPE, seed=1).eval()
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    expected = net(images)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(
        net(images.to(memory_format=torch.channels_last)), expected, atol=1e-5, rtol=1e-5
    )
