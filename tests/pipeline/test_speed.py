"""Labels per second, by a clock of our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import pytest
import torch
from torch import Tensor

from flashdd.data.views import ViewBatch
from flashdd.pipeline import speed
from flashdd.pipeline.speed import measured_rate
from flashdd.training.source import LabelSource, every_image


@final
class _Slow(LabelSource):
    """Labels whose calls take the given seconds, one after the other, the last one for good."""

    def __init__(self, takes: Sequence[float]) -> None:
        self.num_classes, self.temperature, self.fixed_temperature = 3, 1.0, False
        self.now, self.calls, self._takes = 0.0, 0, takes

    def logits(self, views: ViewBatch) -> Tensor:
        self.now += self._takes[min(self.calls, len(self._takes) - 1)]
        self.calls += 1
        return torch.zeros(len(views.image_ids), 3)

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        return every_image(epoch, num_images)


def _batch(size: int) -> ViewBatch:
    ids = torch.zeros(size, dtype=torch.int64)
    return ViewBatch(
        pixels=torch.zeros(size, 1, 8, 8), epoch=ids, image_ids=ids, partner_ids=ids, mix=torch.zeros(size)
    )


def test_the_rate_is_labels_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.3 seconds hold five calls of 1/16 second: 50 labels in 5/16 seconds."""
    monkeypatch.setattr(speed, "_SECONDS", 0.3)
    source = _Slow([1 / 16])
    rate = measured_rate(source, [_batch(10), _batch(10)], clock=lambda: source.now)
    assert rate == pytest.approx(160)
    assert source.calls == 2 + speed._REPEATS * 5


def test_a_cold_start_and_a_slow_repeat_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_SECONDS", 0.125)
    cold = [50.0, 50.0]
    source = _Slow([*cold, 0.125, 9.0, 0.125, 9.0, 0.125])
    assert measured_rate(source, [_batch(4), _batch(4)], clock=lambda: source.now) == pytest.approx(32)


def test_batches_of_different_length_are_counted_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_SECONDS", 2.0)
    source = _Slow([1.0])
    assert measured_rate(source, [_batch(10), _batch(2)], clock=lambda: source.now) == pytest.approx(6)
