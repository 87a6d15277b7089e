"""The best classifier within the artifact's bytes: which networks are trained, how long, and which of them is it."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from flashdd.models.family import LabelerSpec
from flashdd.pipeline import ship
from flashdd.training.classifier import ClassifierRecipe

_MEMBERS = ClassifierRecipe(epochs=8, batch_size=128, flip=True, shift=0.03125)
_TEACHER = ClassifierRecipe(epochs=16, batch_size=128, flip=True, shift=0.125)
_BYTES = 100_000


@dataclass(frozen=True)
class _Trained:
    """Accuracy after any training goes by the family: separable networks are best, and a conv next."""

    name: str
    epochs: int

    @property
    def stage(self) -> Any:
        return SimpleNamespace(seconds=float(self.epochs))

    def accuracy(self, split: str) -> float:
        assert split == "val", "nothing is chosen on test data"
        spec = LabelerSpec.parse(self.name.replace("convnet-", "conv-"))
        return 0.5 + 0.1 * (spec.stem == "conv") + 0.05 * (spec.block == "separable") + 0.001 * self.epochs


class _Runs:
    """`ship_classifier` with trainings that only say that they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, int]] = []
        monkeypatch.setattr(ship, "network_stage", self._train)
        monkeypatch.setattr(
            ship, "single", lambda network: SimpleNamespace(cpu=lambda: b"", to=lambda device: network)
        )
        monkeypatch.setattr(ship, "labeler_bytes", lambda labeler: bytes(90_000))
        monkeypatch.setattr(ship, "evaluate", lambda network, images, labels: SimpleNamespace(accuracy=0.5))

    def _train(self, context: Any, data: Any, name: str, recipe: ClassifierRecipe) -> _Trained:
        self.made.append((name, recipe.epochs))
        return _Trained(name, recipe.epochs)

    def found(self, teacher: str, *, side: int = 32, members: ClassifierRecipe = _MEMBERS) -> dict[str, Any]:
        setup = SimpleNamespace(
            member_recipe=members, teacher_recipe=_TEACHER, teacher_size=SimpleNamespace(macs=13_000_000)
        )
        context: Any = SimpleNamespace(setup=setup, device="cpu")
        test = SimpleNamespace(images=None, labels=None)
        data: Any = SimpleNamespace(shape=(3, side, side), num_classes=10, test=test)
        network: Any = _Trained(teacher, _TEACHER.epochs)
        return ship.ship_classifier(context, data, network, None, _BYTES)


def test_the_two_best_after_an_eighth_are_trained_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _Runs(monkeypatch)
    found = runs.found("resnet18")
    short = [name for name, epochs in runs.made if epochs == 1]
    long = [name for name, epochs in runs.made if epochs == 8]
    assert len(short) == 6
    assert len({LabelerSpec.parse(name).family for name in short}) == 6
    assert [LabelerSpec.parse(name).family for name in long] == ["conv-ds", "conv"]
    assert [entry["name"] for entry in found["screened"]] == short
    assert sorted(entry["name"] for entry in found["candidates"]) == sorted(long)
    assert found["name"] == long[0]
    assert found["val_accuracy"] == pytest.approx(0.658)
    assert found["seconds"] == 6 * 1 + 2 * 8


@pytest.mark.parametrize(("side", "epochs"), [(15, 8), (32, 1)])
def test_all_are_trained_to_the_end_where_screening_saves_nothing(
    monkeypatch: pytest.MonkeyPatch, side: int, epochs: int
) -> None:
    runs = _Runs(monkeypatch)
    members = ClassifierRecipe(epochs=epochs, batch_size=128, flip=True, shift=0.0)
    found = runs.found("resnet18", side=side, members=members)
    assert found["screened"] == []
    assert len(runs.made) == len(found["candidates"]) > 2
    assert {length for _, length in runs.made} == {epochs}


def test_sixteen_pixels_are_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _Runs(monkeypatch).found("resnet18", side=16)["screened"]


@pytest.mark.parametrize("teacher", ["convnet-3-w40", "conv-3-w40"])
def test_a_teacher_of_the_family_is_a_candidate_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, teacher: str
) -> None:
    runs = _Runs(monkeypatch)
    found = runs.found(teacher)
    names = [entry["name"] for entry in found["candidates"]]
    assert teacher in names
    assert len(names) == 3
    assert teacher not in [name for name, _ in runs.made], "it is trained already"
    assert found["seconds"] == len(found["screened"]) + 2 * 8, "the teacher's seconds are counted elsewhere"


def test_a_teacher_of_a_labeler_s_name_takes_nobody_s_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The widest `conv` has the teacher's own operations: it may bear its name, and is trained as members are."""
    runs = _Runs(monkeypatch)
    runs.found("resnet18")
    widest = next(name for name, _ in runs.made if LabelerSpec.parse(name).family == "conv")
    runs.made.clear()
    candidates = runs.found(widest)["candidates"]
    assert [entry["name"] for entry in candidates].count(widest) == 2
    assert (widest, 8) in runs.made
