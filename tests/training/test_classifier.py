"""The recipe of classifiers: its cycles, whose ends are the snapshots of an ensemble; and imitation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from flashdd.core.errors import ConfigError
from flashdd.core.seeds import derive
from flashdd.data.dataset import Split
from flashdd.data.views import ViewMaker, ViewSpec
from flashdd.labels.table import TableSource
from flashdd.training.classifier import ClassifierRecipe, Rehearsal, Tutor, fit_classifier
from flashdd.training.engine import Engine
from flashdd.training.losses import kl_divergence, soft_targets
from flashdd.training.optim import build_optimizer, one_cycle


def _recipe(cycles: int = 1) -> ClassifierRecipe:
    return ClassifierRecipe(epochs=2, batch_size=10, flip=False, shift=0.0, cycles=cycles)


def test_one_cycle_is_the_whole_training() -> None:
    recipe, whole = _recipe(), one_cycle(0.1, 20)
    assert recipe.steps(100) == 20
    assert recipe.ends(100) == [20]
    assert [recipe.rate(100)(step) for step in range(20)] == [whole(step) for step in range(20)]


def test_every_cycle_runs_the_rate_from_its_start() -> None:
    recipe = _recipe(cycles=3)
    assert recipe.ends(100) == [7, 14, 20]  # the first two share the rest
    rate, long, short = recipe.rate(100), one_cycle(0.1, 7), one_cycle(0.1, 6)
    expected = [long(step) for step in range(7)] * 2 + [short(step) for step in range(6)]
    assert [rate(step) for step in range(20)] == expected


def test_as_many_cycles_as_steps_at_most() -> None:
    assert _recipe(cycles=20).ends(100) == list(range(1, 21))
    with pytest.raises(ConfigError, match="21 cycles in a training of 20 steps: expected 1 to 20"):
        _recipe(cycles=21).ends(100)


def _pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)


def test_imitation_with_rehearsal_is_the_naive_loop() -> None:
    """Seven real images in batches of 4 and 3, three views of the two distilled images beside each, whose two epochs
    begin anew: KL at the labels' temperature, times its square, over all rows of a step alike."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    naive = copy.deepcopy(net)
    real, distilled = _pixels(7, 1), _pixels(2, 2)
    taught = TableSource(torch.randn(2, 7, 5), temperature=2.0)
    asked = TableSource(torch.randn(2, 2, 5), temperature=2.0)
    recipe = ClassifierRecipe(epochs=2, batch_size=4, flip=True, shift=0.25)
    views = ViewMaker(distilled, ViewSpec(crop_scale=(0.5, 1.0)), seed=3)
    rehearsal = Rehearsal(views=views, source=asked, epochs=2, per_batch=3)
    tutor = Tutor(source=taught, augmentation_seed=9, epochs=2, rehearsal=rehearsal)
    train = Split(images=real, labels=torch.zeros(7, dtype=torch.int64))
    fit_classifier(net, train, recipe, Engine(torch.device("cpu")), seed=5, tutor=tutor)

    maker = ViewMaker(real, ViewSpec(padding=1, flip=True), seed=9)
    order = recipe.order(7, seed=derive(5, "classifier"), schedule=tutor.schedule)
    optimizer = build_optimizer(naive, "sgd", lr=0.1, weight_decay=5e-4)
    seen: list[tuple[int, int]] = []
    shuffled = rehearsal.order(seed=derive(5, "rehearsal"))
    for step in range(4):
        own, more = maker.make(*order.pairs(step)), views.make(*shuffled.pairs(step))
        seen += zip(more.epoch.tolist(), more.image_ids.tolist(), strict=True)
        pixels = torch.cat([own.pixels, more.pixels])
        logits = torch.cat([taught.logits(own), asked.logits(more)])
        loss = 4 * kl_divergence(naive(pixels), soft_targets(logits, 2.0), 2.0)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(7)(step)
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        optimizer.step()
    for mine, other in zip(net.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    assert sorted(seen) == sorted([(0, 0), (0, 1), (1, 0), (1, 1)] * 3)
