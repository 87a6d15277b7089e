"""The search's last step, over made-up scores: whether the choice has class offsets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_scores import BUDGET, DEFAULT, OFFSET, Scores, made_chain

from flashdd.labels.flash.candidates import Candidate, Measured
from flashdd.labels.flash.capacity import Offsets, search


def _offsets(lost: dict[str, float]) -> Offsets:
    """lost: by rung, what its students lack as they are; offsets of that size are asked for."""

    def applied(choice: Measured) -> Candidate:
        setting = replace(choice.candidate.setting, offsets=(lost[choice.candidate.rung.name],))
        return replace(choice.candidate, setting=setting)

    def plain(entry: Measured) -> Measured:
        return replace(entry, values=tuple(value - lost[entry.candidate.rung.name] for value in entry.values))

    return Offsets(applied=applied, plain=plain)


@pytest.mark.parametrize(("bonus", "chosen_offsets"), [(-0.03, (0.0625,)), (-0.09, ()), (-0.0625, ())])
def test_class_offsets_are_chosen_where_they_gain(bonus: float, chosen_offsets: tuple[float, ...]) -> None:
    """Against what students reach without any, not against the corrected scores that chose: 0.0625 less here."""
    score = Scores({"a1": 0.4, "a2": 0.6}, {replace(DEFAULT, offsets=(0.0625,)): bonus})
    offsets = _offsets({"a1": 0.0, "a2": 0.0625})
    measured, chosen = search([[made_chain("a", 1, 2)]], [DEFAULT], score, BUDGET, offsets=offsets)
    assert measured[chosen].candidate.rung.name == "a2"
    assert measured[chosen].candidate.setting.offsets == chosen_offsets
    tried = [entry for entry in measured if entry.candidate.setting.offsets]
    assert [(entry.candidate.rung.name, len(entry.values)) for entry in tried] == [("a2", 5)]


def test_without_offsets_that_is_chosen_which_is_best_without_them() -> None:
    """a2 leads by corrected scores, a1 as it is."""
    score = Scores({"a1": 0.5, "a2": 0.6}, {replace(DEFAULT, offsets=(0.25,)): -0.25})
    offsets = _offsets({"a1": 0.0, "a2": 0.25})
    measured, chosen = search([[made_chain("a", 1, 2)]], [DEFAULT], score, BUDGET, offsets=offsets)
    assert str(measured[chosen].candidate) == "a1-b8-m1@1-s0-t4-x1"
    assert measured[chosen].mean == pytest.approx(0.504)


@pytest.mark.parametrize(
    ("corrected", "lost", "bonus", "choice"),
    [
        ({"a1": 0.6, "a2": 0.6}, {"a1": 0.0625, "a2": 0.0}, 0.0, "a1-b8-m1@1-s0-t4-x1-offsets"),
        ({"a1": 0.6, "a2": 0.6}, {"a1": 0.0625, "a2": 0.0}, -0.001, "a2-b8-m1@1-s0-t4-x1"),
        ({"a1": 0.6, "a2": 0.625}, {"a1": 0.0, "a2": 0.0625}, -0.025, "a1-b8-m1@1-s0-t4-x1"),
    ],
)
def test_of_equal_students_the_smaller_network_is_chosen_offsets_or_not(
    corrected: dict[str, float], lost: dict[str, float], bonus: float, choice: str
) -> None:
    score = Scores(corrected, {replace(DEFAULT, offsets=(0.0625,)): bonus})
    measured, chosen = search([[made_chain("a", 1, 2)]], [DEFAULT], score, BUDGET, offsets=_offsets(lost))
    assert str(measured[chosen].candidate) == choice


@pytest.mark.parametrize(
    ("values", "gains"), [((0.25, 0, 0, 0, -0.125), False), ((0.25, 0.25, 0, 0, 0), True)]
)
def test_class_offsets_have_to_gain_more_than_chance(values: tuple[float, ...], gains: bool) -> None:
    def score(candidate: Candidate, seed: int) -> float:
        return 0.5 + (values[seed] if candidate.setting.offsets else 0.0)

    offsets = _offsets({"a1": 0.0})
    offsets = replace(offsets, applied=lambda choice: replace(choice.candidate, setting=OFFSET))
    measured, chosen = search([[made_chain("a", 1)]], [DEFAULT], score, BUDGET, offsets=offsets)
    assert bool(measured[chosen].candidate.setting.offsets) == gains
