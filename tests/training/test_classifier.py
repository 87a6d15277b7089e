"""The recipe of classifiers: its cycles, whose ends are the snapshots of an ensemble."""

from __future__ import annotations

import pytest

from flashdd.core.errors import ConfigError
from flashdd.training.classifier import ClassifierRecipe
from flashdd.training.optim import one_cycle


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
