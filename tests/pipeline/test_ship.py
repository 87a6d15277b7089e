"""The best classifier within the artifact's bytes: which networks are trained to the end."""

from types import SimpleNamespace
from typing import Any

import pytest

from flashdd.pipeline import ship
from flashdd.training.classifier import ClassifierRecipe

_ACCURACY = {"a": 0.61, "b": 0.68, "c": 0.62, "d": 0.66}


class _Trained:
    def __init__(self, name: str, recipe: ClassifierRecipe) -> None:
        self.name, self.recipe = name, recipe

    def accuracy(self, split: str) -> float:
        assert split == "val", "nothing is chosen on test data"
        return _ACCURACY[self.name]


def _screened(
    monkeypatch: pytest.MonkeyPatch, names: list[str], epochs: int, side: int = 32
) -> tuple[list[str], list[Any]]:
    monkeypatch.setattr(ship, "network_stage", lambda context, data, name, recipe: _Trained(name, recipe))
    recipe = ClassifierRecipe(epochs=epochs, batch_size=128, flip=True, shift=0.0)
    context: Any = SimpleNamespace(setup=SimpleNamespace(member_recipe=recipe))
    data: Any = SimpleNamespace(shape=(3, side, side))
    return ship._screened(context, data, names)


def test_the_two_best_after_an_eighth_are_trained_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    finalists, short = _screened(monkeypatch, ["a", "b", "c", "d"], epochs=60)
    assert finalists == ["b", "d"]
    assert [(network.name, network.recipe.epochs) for network in short] == [(name, 8) for name in "abcd"]


@pytest.mark.parametrize(
    ("names", "epochs", "side"), [(["a", "b"], 60, 32), (["a", "b", "c"], 1, 32), (["a", "b", "c"], 60, 8)]
)
def test_nothing_is_screened_where_it_saves_nothing(
    monkeypatch: pytest.MonkeyPatch, names: list[str], epochs: int, side: int
) -> None:
    assert _screened(monkeypatch, names, epochs, side) == (names, [])
