"""Networks of the family against the same function written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flashdd.models.family import LabelerSpec, spec_layers
from flashdd.models.labelernet import ConvBlock, LabelerNet, labeler_net
from flashdd.models.table import build

SHAPE = (3, 16, 16)


def _net(name: str, seed: int = 0, num_classes: int = 5) -> LabelerNet:
    net = build(name, num_classes=num_classes, shape=SHAPE, seed=seed)
    assert isinstance(net, LabelerNet)
    return net


def _images(shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))


def _norm(x: Tensor) -> Tensor:
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (var + 1e-5).sqrt()


def test_a_separable_block_is_a_convolution_per_channel_and_one_per_pixel() -> None:
    net = _net("strided-2-w4-ds")
    first, each, point = [block for block in net.layers if isinstance(block, ConvBlock)]
    x = _norm(F.conv2d(_images(), first.conv.weight, stride=2, padding=1)).relu()
    channels = [F.conv2d(x[:, i : i + 1], each.conv.weight[i : i + 1], stride=2, padding=1) for i in range(4)]
    x = _norm(torch.cat(channels, 1)).relu()
    x = _norm(torch.einsum("ncyx,oc->noyx", x, point.conv.weight[:, :, 0, 0])).relu()
    torch.testing.assert_close(net(_images()), net.head(x.flatten(1)), atol=1e-4, rtol=1e-4)


def test_the_average_head_reads_the_mean_of_each_channel() -> None:
    net, flat = _net("conv-2-w6-gap").eval(), _net("conv-2-w6").eval()
    flat.load_state_dict(
        {**flat.state_dict(), **{k: v for k, v in net.state_dict().items() if not k.startswith("head")}}
    )
    features: list[Tensor] = []
    flat.head.register_forward_pre_hook(lambda module, args: features.append(args[0]))
    with torch.no_grad():
        flat(_images())
        expected = net.head(features[0].view(4, 6, 16).mean(2))
        torch.testing.assert_close(net(_images()), expected)


@pytest.mark.parametrize(
    ("option", "num_classes", "rank"),
    [("", 5, 5), ("-gap", 5, 5), ("", 100, 96), ("-gap", 100, 6), ("", 1000, 96), ("-gap", 1000, 6)],
)
def test_a_head_of_full_rank_is_the_whole_head(option: str, num_classes: int, rank: int) -> None:
    """96 features of 6 channels on 4 x 4 cells, or their averages."""
    whole = _net(f"conv-2-w6{option}", num_classes=num_classes).eval()
    low = _net(f"conv-2-w6{option}-r{rank}", num_classes=num_classes).eval()
    assert isinstance(low.project, nn.Linear)
    u, s, v = torch.linalg.svd(whole.head.weight.detach(), full_matrices=False)
    state = {**whole.state_dict(), "project.weight": s.diag() @ v, "head.weight": u}
    low.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(low(_images()), whole(_images()))


def test_low_rank_heads_start_from_the_seed() -> None:
    one, again, other = (_net("conv-2-w6-r3", seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert not torch.equal(one["project.weight"], other["project.weight"])
    assert "project.bias" not in one


def test_the_view_is_averaged_first() -> None:
    shape = (3, 48, 41)
    net = labeler_net(LabelerSpec.parse("conv-2-w4-p16"), shape, 5).eval()
    plain = LabelerNet(spec_layers(LabelerSpec.parse("conv-2-w4"), (3, 16, 13), 5)).eval()
    plain.load_state_dict(net.state_dict())
    pooled = _images(shape)[:, :, :48, :39].view(4, 3, 16, 3, 13, 3).mean((3, 5))
    with torch.no_grad():
        torch.testing.assert_close(net(_images(shape)), plain(pooled))
