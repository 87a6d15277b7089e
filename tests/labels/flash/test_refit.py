"""Refit of few-bit members: nearer to the trained network than rounding, exact where there is nothing to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from member_samples import CLASSES, MEAN, SHAPE, STD, make_labeler, make_net, normalized, pixels
from torch import Tensor

from flashdd.core.errors import ConfigError, DataError
from flashdd.core.seeds import generator
from flashdd.data.dataset import Split
from flashdd.labels.flash import refit
from flashdd.labels.flash.fold import fold
from flashdd.labels.flash.labeler import Member, quantize_member
from flashdd.labels.flash.refit import RefitRecipe, refit_member
from flashdd.models.family import LabelerSpec, spec_layers
from flashdd.training import loop
from flashdd.training.engine import Engine

ENGINE = Engine(torch.device("cpu"))
NAME = "strided-2-w4-ds-gap-r3"
TRAIN = Split(
    images=torch.randint(0, 256, (40, *SHAPE), dtype=torch.uint8, generator=generator(0, "real")).numpy(),
    labels=torch.zeros(40, dtype=torch.int64),
)


def _refit(steps: int, *, bits: int = 2, seed: int = 0, name: str = NAME, **changes: Any) -> Member:
    net = changes.pop("net", None) or make_net(name)
    options = {key: changes.pop(key) for key in ("checkpoint", "on_step") if key in changes}
    recipe = RefitRecipe(**{"steps": steps, "batch_size": 16, "lr": 1e-2, **changes})
    return refit_member(
        net,
        LabelerSpec.parse(name),
        TRAIN,
        recipe,
        ENGINE,
        bits=bits,
        seed=seed,
        num_classes=CLASSES,
        mean=MEAN,
        std=STD,
        **options,
    )


def _tensors(member: Member) -> list[Tensor]:
    return [*member.integers, *member.scales, *member.biases]


def _equal(one: Member, two: Member) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_tensors(one), _tensors(two), strict=True))


def _error(member: Member) -> float:
    with torch.no_grad():
        expected = make_net(member.spec.name)(normalized(64))
    return float((make_labeler([member]).logits_of(pixels(64)) - expected).square().mean())


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", ["conv-2-w4", NAME])
def test_without_steps_it_is_the_rounded_member(bits: int, name: str) -> None:
    rounded = quantize_member(make_net(name), LabelerSpec.parse(name), SHAPE, CLASSES, bits=bits)
    assert _equal(_refit(0, bits=bits, name=name), rounded)


@pytest.mark.parametrize(
    ("bits", "left"),
    [(2, 0.05), (3, 0.05)],  # learned scales alone leave 0.35 of the error at 2 bits and 0.08 at 3
)
def test_refitting_brings_it_nearer(bits: int, left: float) -> None:
    before, after = _refit(0, bits=bits), _refit(30, bits=bits)
    assert (after.bits, after.spec.name) == (bits, NAME)
    assert _error(after) < left * _error(before)


def test_what_is_trained_is_what_is_shipped() -> None:
    net = make_net("conv-2-w4")
    layers = spec_layers(LabelerSpec.parse("conv-2-w4"), SHAPE, CLASSES)
    model = refit._Rounded(fold(net, layers), 3)
    stream = generator(0, "moves")
    for moves in (model.weight_moves, model.bias_moves, model.growths):
        for tensor in moves:
            tensor.data.copy_(0.3 * torch.randn(tensor.shape, generator=stream))
    labeler = make_labeler([model.member(LabelerSpec.parse("conv-2-w4"))])
    with torch.no_grad():
        torch.testing.assert_close(labeler.logits_of(pixels()), model(normalized()), atol=1e-5, rtol=1e-5)


def test_the_gradient_passes_rounding_and_stops_at_the_clip() -> None:
    weight = torch.tensor([[0.4, -0.6, 5.0, -5.0]], requires_grad=True)
    scale = torch.tensor([0.5], requires_grad=True)
    found = refit._rounded(weight, scale, 2)
    assert found.tolist() == [[0.5, -0.5, 0.5, -1.0]]
    found.backward(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 10.0, 0.0, 0.0]]
    assert scale.grad is not None  # LSQ, equation 3: rounded - exact within the range, the limit beyond it
    assert scale.grad.item() == pytest.approx((1 - 0.8) + 10 * (-1 + 1.2) + 100 * 1 + 1000 * -2, rel=1e-5)


def test_same_seed_same_bits_and_the_network_is_left_alone() -> None:
    assert _equal(_refit(6), _refit(6))
    assert not _equal(_refit(6), _refit(6, seed=1))
    net = make_net("conv-2-w4")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    _refit(3, name="conv-2-w4", net=net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_killed_refit_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    class KilledError(Exception):
        pass

    def kill(step: int) -> None:
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        _refit(9, checkpoint=tmp_path / "c.pt", on_step=kill)
    steps: list[int] = []
    resumed = _refit(9, checkpoint=tmp_path / "c.pt", on_step=steps.append)
    assert steps == [6, 7, 8, 9]
    assert _equal(resumed, _refit(9))


def test_images_move_as_far_as_the_recipe_says() -> None:
    single = replace(TRAIN, images=TRAIN.images[:1], labels=TRAIN.labels[:1])
    image = torch.from_numpy(single.images).float() / 255
    still, moved = (
        refit._Batches(single, RefitRecipe(steps=1, batch_size=16, shift=shift), ENGINE, 0).pixels(0)
        for shift in (0.0, 0.5)
    )
    assert torch.equal(still, image.expand(16, -1, -1, -1))
    assert not torch.equal(moved, still)


def test_views_are_those_of_the_seed() -> None:
    single = Split(images=TRAIN.images[:1], labels=TRAIN.labels[:1])  # its order cannot differ
    recipe = RefitRecipe(steps=1, batch_size=16, shift=1 / 8)
    one, again, other = (refit._Batches(single, recipe, ENGINE, seed).pixels(0) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_batches_are_those_of_the_seed() -> None:
    recipe = RefitRecipe(steps=1, batch_size=16)  # images that do not move: views cannot differ
    one, again, other = (refit._Batches(TRAIN, recipe, ENGINE, seed).pixels(0) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_diverged_refit_is_a_sentence() -> None:
    with pytest.raises(DataError, match="its training diverged"):
        _refit(3, lr=1e30)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"steps": -1}, "0 steps or more"),
        ({"batch_size": 0}, "batches of 1 or more"),
        ({"lr": 0.0}, "a rate above 0"),
        ({"lr": float("nan")}, "a rate above 0"),
    ],
)
def test_what_cannot_be_refitted_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        _refit(**{"steps": 1, **changes})
