"""Ensembles: one pass equals the loop over members, and scales are matched before logits are averaged."""

from __future__ import annotations

import pytest
import torch
from member_samples import CLASSES, NAMES, SHAPE, make_labeler, make_member, make_net, normalized, pixels
from torch import Tensor

from flashdd.core.errors import UsageError
from flashdd.labels.flash.ensemble import logit_spread, matched_weights
from flashdd.labels.flash.labeler import Labeler, Member, folded_member
from flashdd.models.labelernet import LabelerNet


def _loop(labeler: Labeler) -> Tensor:
    """Member by member, each by itself."""
    total = sum(member.weight for member in labeler.members)
    logits = torch.zeros(6, CLASSES)
    for member in labeler.members:
        logits += member.weight * folded_member(member, SHAPE, CLASSES)(normalized())
    return labeler.logit_scale * logits / total


def _weighted(member: Member, weight: float) -> Member:
    return Member(
        spec=member.spec,
        integers=member.integers,
        scales=member.scales,
        biases=member.biases,
        bits=member.bits,
        weight=weight,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_pass_is_the_loop(name: str, count: int) -> None:
    members = [_weighted(make_member(name, seed, (8, 4, 2)[seed % 3]), 0.5 + seed) for seed in range(count)]
    labeler = make_labeler(members, logit_scale=1.5)
    assert len(labeler.nets) == 1
    torch.testing.assert_close(labeler.logits_of(pixels()), _loop(labeler), atol=1e-5, rtol=1e-5)


def test_different_members_run_one_after_another() -> None:
    names = ["conv-2-w4", "strided-2-w4", "conv-2-w4", "conv-2-w6-gap-r3", "strided-2-w4"]
    labeler = make_labeler([_weighted(make_member(n, i), 1.0 + i) for i, n in enumerate(names)])
    assert [net.num_members for net in labeler.nets] == [2, 2, 1]
    torch.testing.assert_close(labeler.logits_of(pixels()), _loop(labeler), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_eight_bits_in_a_stack_are_close_to_the_trained_networks(name: str) -> None:
    nets = [make_net(name, seed) for seed in range(3)]
    with torch.no_grad():
        expected = torch.stack([net(normalized()) for net in nets]).mean(0)
    found = make_labeler([make_member(name, seed) for seed in range(3)]).logits_of(pixels())
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_spread_is_blind_to_what_softmax_does_not_see() -> None:
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    assert logit_spread(3 * logits + torch.arange(9.0)[:, None]) == pytest.approx(3 * logit_spread(logits))
    assert logit_spread(torch.tensor([[1.0, -1.0], [3.0, 1.0]])) == pytest.approx(1.0)


def _louder(net: LabelerNet, factor: float) -> LabelerNet:
    with torch.no_grad():
        net.head.weight.mul_(factor)
        net.head.bias.mul_(factor)
    return net


def test_matched_members_count_equally_whatever_their_scale() -> None:
    outputs = [_louder(make_net("conv-2-w4", seed), 10.0**seed)(normalized()).detach() for seed in range(3)]
    spreads = [logit_spread(logits) for logits in outputs]
    weights, scale = matched_weights(spreads)
    found = scale * sum(w * x for w, x in zip(weights, outputs, strict=True)) / sum(weights)
    middle = (spreads[0] * spreads[1] * spreads[2]) ** (1 / 3)
    unit = [x / s for x, s in zip(outputs, spreads, strict=True)]
    torch.testing.assert_close(found, middle * (unit[0] + unit[1] + unit[2]) / 3)


def test_equal_members_weigh_one_and_keep_their_scale() -> None:
    weights, scale = matched_weights([2.5] * 4)
    assert weights == pytest.approx((1.0,) * 4, abs=1e-12)
    assert scale == pytest.approx(1.0)
    assert {_weighted(make_member("conv-2-w4"), weight).weight for weight in weights} == {1.0}


@pytest.mark.parametrize(
    ("spreads", "match"),
    [([], "no members"), ([1.0, 0.0], "finite and above 0"), ([1.0, float("nan")], "finite and above 0")],
)
def test_members_that_say_nothing_are_refused(spreads: list[float], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        matched_weights(spreads)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e7])
def test_weights_out_of_range_are_refused(weight: float) -> None:
    with pytest.raises(UsageError, match=r"a member's weight is .* expected a number in 1e-6"):
        _weighted(make_member("conv-2-w4"), weight)


def test_numbers_keep_six_digits() -> None:
    assert _weighted(make_member("conv-2-w4"), 1 / 3).weight == 0.333333
    labeler = make_labeler([make_member("conv-2-w4")], temperature=2 / 3, logit_scale=12345.678)
    assert (labeler.temperature, labeler.logit_scale) == (0.666667, 12345.7)


def test_members_out_of_number_and_bits_are_refused() -> None:
    with pytest.raises(UsageError, match="a labeler of 0 members; expected 1 to 1000"):
        make_labeler([])
    member = make_member("conv-2-w4")
    with pytest.raises(UsageError, match=r"have 5 bits; expected one of \(2, 3, 4, 6, 8\)"):
        Member(spec=member.spec, integers=(), scales=(), biases=(), bits=5)
