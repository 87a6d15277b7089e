"""Temperatures that move: against their formulas, and inside a student's training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flashdd.core.seeds import generator
from flashdd.data.views import ViewBatch, ViewSpec
from flashdd.models.table import build
from flashdd.training.engine import Engine
from flashdd.training.losses import KL, kl_divergence, loss_value, soft_targets
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource, every_image
from flashdd.training.student import fit_student
from flashdd.training.temperature import TemperatureRule, calibrate

NONE = torch.zeros(1, dtype=torch.int64)
STEPS = 12


def test_one_temperature_is_exactly_itself() -> None:
    for start in (0.1, 4.0, 20.0):
        assert {TemperatureRule().of_labels(start, step, 7, NONE) for step in range(7)} == {start}


def test_decay_goes_by_equal_parts_down_to_the_floor() -> None:
    rule = TemperatureRule(decay=0.5, phases=4, floor=2.0)
    found = [rule.of_labels(10.0, step, 8, NONE) for step in range(8)]
    assert found == [10.0, 10.0, 5.0, 5.0, 2.5, 2.5, 2.0, 2.0]
    assert rule.of_labels(1.0, 7, 8, NONE) == 1.0  # a start below the floor is kept


def test_plain_views_have_temperature_one() -> None:
    found = TemperatureRule(plain_from=3).of_labels(5.0, 0, 1, torch.tensor([2, 3, 0, 9]))
    assert isinstance(found, Tensor)
    assert found.tolist() == [[5.0], [1.0], [5.0], [1.0]]


def test_soft_and_plain_views_pull_a_student_equally() -> None:
    """At a high temperature the gradient of KL is (student - labels) / (classes T^2); weighted, T is gone from it."""
    rule, start = TemperatureRule(plain_from=1), 50.0
    logits = torch.tensor([[0.02, -0.01, 0.01], [0.02, -0.01, 0.01]])
    student = torch.zeros(2, 3, requires_grad=True)
    at = rule.of_labels(start, 0, 1, torch.tensor([0, 1]))
    weights = rule.weights(start, torch.tensor([0, 1]))
    value = loss_value(KL, student, logits, at, None, student_temperature=at, weights=weights)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.allclose(gradient[0], gradient[1], rtol=0.02)
    assert TemperatureRule(decay=0.5).weights(start, NONE) is None


def test_a_temperature_per_row_is_that_of_each_row_alone() -> None:
    stream = generator(0, "rows")
    student, teacher = torch.randn(4, 5, generator=stream), torch.randn(4, 5, generator=stream)
    temperatures = torch.tensor([[1.0], [4.0], [20.0], [1.0]])
    targets = soft_targets(teacher, temperatures)
    losses = [
        kl_divergence(student[i : i + 1], soft_targets(teacher[i : i + 1], t), t)
        for i, t in enumerate(temperatures[:, 0].tolist())
    ]
    assert torch.allclose(kl_divergence(student, targets, temperatures), torch.stack(losses).mean())


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.37, 1.0, 8.0])
def test_calibration_finds_the_least_divergence_of_the_grid(scale: float) -> None:
    stream = generator(1, "calibration")
    output = scale * torch.randn(30, 6, generator=stream)
    targets = torch.softmax(torch.randn(30, 6, generator=stream) + 2 * output / scale, 1)
    targets[0] = F.one_hot(torch.tensor(2), 6).float()
    losses = {
        t / 100: float(F.kl_div(F.log_softmax(output / (t / 100), 1), targets, reduction="batchmean"))
        for t in range(1, 101)
    }
    found = float(calibrate(output, targets, lambda curve: curve))
    assert losses[round(found, 2)] == pytest.approx(min(losses.values()), rel=1e-4)


def test_calibration_sees_the_rows_of_every_process() -> None:
    stream = generator(2, "shares")
    output, targets = torch.randn(8, 4, generator=stream), torch.rand(8, 4, generator=stream)
    targets /= targets.sum(1, keepdim=True)
    curves: list[Tensor] = []

    def keep(curve: Tensor) -> Tensor:
        curves.append(curve)
        return curve

    whole = calibrate(output, targets, lambda curve: curve)
    calibrate(output[::2], targets[::2], keep)
    shared = calibrate(output[1::2], targets[1::2], lambda curve: curve + curves[0])
    assert torch.equal(shared, whole)


class _Source(LabelSource):
    """Random labels of a rule."""

    def __init__(self, rule: TemperatureRule) -> None:
        self.num_classes, self.temperature, self.fixed_temperature = 3, 8.0, False
        self.rule = rule
        self._table = torch.randn(20, 6, 3, generator=generator(3, "table"))

    def logits(self, views: ViewBatch) -> Tensor:
        return self._table[views.epoch, views.image_ids]

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        return every_image(epoch, num_images)


IMAGES = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=generator(4, "images"))


def _net() -> nn.Module:
    return build("convnet-2-w4", num_classes=3, shape=(1, 8, 8), seed=0)


def _losses(rule: TemperatureRule) -> list[float]:
    protocol = Protocol(
        name="test",
        citation="none",
        steps=STEPS,
        batch_size=6,
        span=True,
        lr=1e-30,
        weight_decay=0.0,
        rate_steps=1,
        views=ViewSpec(),
        temperature=None,
    )
    engine = Engine(torch.device("cpu"))
    return fit_student(_net(), IMAGES, _Source(rule), protocol, engine, seed=0, augmentation_seed=0).losses


def _expected(temperatures: list[float], *, calibrated: bool = False) -> list[float]:
    """Losses of the first weights in train mode, step s at its own temperature; every batch is all six images."""
    labels = torch.randn(20, 6, 3, generator=generator(3, "table"))
    with torch.no_grad():
        output = _net().train()(IMAGES.float() / 255)
    losses = []
    for epoch, temperature in enumerate(temperatures):
        targets = torch.softmax(labels[epoch] / temperature, 1)
        at = float(calibrate(output, targets, lambda curve: curve)) if calibrated else temperature
        losses.append(float(F.kl_div(F.log_softmax(output / at, 1), targets, reduction="batchmean")))
    return losses


@pytest.mark.parametrize(
    ("rule", "temperatures"),
    [
        (TemperatureRule(), [8.0] * STEPS),
        (TemperatureRule(plain_from=5), [8.0] * 5 + [1.0] * 7),
        (TemperatureRule(decay=0.25, phases=2), [8.0] * 6 + [2.0] * 6),
        (TemperatureRule(decay=0.25, phases=2, calibrated=True), [8.0] * 6 + [2.0] * 6),
    ],
)
def test_a_student_trains_at_the_temperatures_of_its_labels(
    rule: TemperatureRule, temperatures: list[float]
) -> None:
    """At a rate of zero every loss is that of the first weights; after soft labels hard ones count 1 / T^2."""
    expected = _expected(temperatures, calibrated=rule.calibrated)
    if rule.plain_from is not None:
        expected[5:] = [value / 64 for value in expected[5:]]
    assert _losses(rule) == pytest.approx(expected, rel=1e-4, abs=1e-7)
