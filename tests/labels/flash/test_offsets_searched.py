"""The search's last step, over made-up scores: whether the choice has class offsets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_scores import BUDGET, DEFAULT, OFFSET, Scores, made_chain, swing

from flashdd.labels.flash.candidates import Candidate, Measured, Rung
from flashdd.labels.flash.capacity import Offsets, Variants, search


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


def test_what_is_best_without_offsets_is_settled_too() -> None:
    """As they are a1 is level with a2 on five seeds and 4 points behind on five more; corrected it never was level."""

    def score(candidate: Candidate, seed: int) -> float:
        if candidate.setting.offsets:
            return 0.4
        return {"a1": 0.5, "a2": 0.6}[candidate.rung.name] + 0.001 * swing(seed * candidate.rung.bytes)

    def plain(entry: Measured) -> Measured:
        lost = {"a1": (0.0,) * 5 + (0.04,) * 5, "a2": (0.1007,) * 10}[entry.candidate.rung.name]
        return replace(
            entry, values=tuple(value - less for value, less in zip(entry.values, lost, strict=False))
        )

    offsets = replace(_offsets({"a2": 0.0625}), plain=plain)
    for seeds, found in ((5, "a1"), (10, "a2")):
        budget = replace(BUDGET, settling_seeds=seeds)
        measured, chosen = search([[made_chain("a", 1, 2)]], [DEFAULT], score, budget, offsets=offsets)
        assert measured[chosen].candidate.rung.name == found


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


def test_offsets_that_gain_nothing_do_not_bring_back_a_rung_that_was_refused() -> None:
    """The wider rung of 4 bits has to be above the choice to be one, is below, and would be the smallest of equals."""
    wide = Rung(name="wide", params=15, bytes=7, macs=15, bits=4, num_members=1)

    def score(candidate: Candidate, seed: int) -> float:
        unsure = 0.01 * seed if candidate.rung.bits == 4 else 0.0  # 0.02 of it on average, less at two seeds
        return 0.6 + unsure - (0.021 if candidate.rung.bits == 4 else 0.0)

    variants = Variants(
        fewer_bits=lambda rung: [wide] if rung.bits == 8 else [],
        with_members=lambda rung, count: None,
        max_bytes=8,
        max_macs=100,
    )
    families = [[made_chain("a", 8)]]
    without, chosen = search(families, [DEFAULT], score, BUDGET, variants)
    assert without[chosen].candidate.rung.name == "a8"
    assert [entry.candidate.rung.name for entry in without] == ["wide", "a8"]
    offsets = _offsets({"a8": 0.0, "wide": 0.0})
    measured, chosen = search(families, [DEFAULT], score, BUDGET, variants, offsets)
    assert measured[chosen].candidate.rung.name == "a8"


def test_offsets_that_gain_nothing_leave_an_ensemble_as_it_is() -> None:
    def score(candidate: Candidate, seed: int) -> float:
        return 0.5 + 0.1 * (candidate.rung.num_members == 2) - 0.1 * len(candidate.setting.offsets)

    variants = Variants(
        fewer_bits=lambda rung: [],
        with_members=lambda rung, count: (
            replace(rung, num_members=count, bytes=8 * count, macs=8 * count) if count == 2 else None
        ),
        max_bytes=16,
        max_macs=100,
    )
    families = [[made_chain("a", 8)]]
    measured, chosen = search(families, [DEFAULT], score, BUDGET, variants, _offsets({"a8": 0.0}))
    assert str(measured[chosen].candidate) == "a8-b8-m2@1-s0-t4-x1"
