"""The search, over made-up scores: a choice for being smaller is settled with more seeds."""

from __future__ import annotations

from dataclasses import replace

from made_scores import BUDGET, DEFAULT, Scores, made_chain, made_measured, made_variants, swing

from flashdd.labels.flash.candidates import Candidate, Measured
from flashdd.labels.flash.capacity import search
from flashdd.labels.flash.choice import choose, settled


class Flattered(Scores):
    """Five seeds put `flattered` rungs level with the best, five more 4 points behind; noise grows with size."""

    def __init__(self, values: dict[str, float], *flattered: str) -> None:
        super().__init__(values)
        self.flattered = flattered

    def __call__(self, candidate: Candidate, seed: int) -> float:
        self.calls.append((candidate.rung.name, candidate.setting, seed))
        late = -0.04 if seed >= 5 and candidate.rung.name in self.flattered else 0.0
        return self.values[candidate.rung.name] + late + 0.001 * candidate.rung.bytes * swing(seed)


SETTLING = replace(BUDGET, settling_seeds=10)


def test_a_choice_that_more_seeds_put_behind_is_left_out_and_the_next_one_taken() -> None:
    score = Flattered({"a1": 0.6, "a2": 0.6001, "a3": 0.6002, "a4": 0.6003}, "a1", "a2")
    measured, chosen = search(
        [[made_chain("a", 1, 2, 3, 4)]], [DEFAULT], score, replace(SETTLING, finalists=4)
    )
    assert measured[chosen].candidate.rung.name == "a3"
    assert [(entry.candidate.rung.name, len(entry.values)) for entry in measured] == [
        (name, 10) for name in score.values
    ]
    assert len(score.calls) == len(set(score.calls))


def test_the_best_itself_needs_no_more_seeds() -> None:
    score = Flattered({"a1": 0.5, "a2": 0.6}, "a2")
    measured, chosen = search([[made_chain("a", 1, 2)]], [DEFAULT], score, SETTLING)
    assert measured[chosen].candidate.rung.name == "a2"
    assert max(len(entry.values) for entry in measured) == 5


def test_a_choice_that_more_seeds_confirm_stays_and_the_best_may_turn_out_worse() -> None:
    for flattered in ((), ("a2",)):
        score = Flattered({"a1": 0.6, "a2": 0.6001}, *flattered)
        measured, chosen = search([[made_chain("a", 1, 2)]], [DEFAULT], score, SETTLING)
        assert measured[chosen].candidate.rung.name == "a1"
        assert [len(entry.values) for entry in measured] == [10, 10]


def test_of_a_rung_whose_best_setting_was_luck_the_next_one_is_tried() -> None:
    whole, half = DEFAULT, replace(DEFAULT, length=0.5)
    first, second = (
        made_measured("a", 1, 0.603, 0.60, setting=whole),
        made_measured("a", 1, 0.60, 0.60, setting=half),
    )
    top = made_measured("b", 2, 0.611, 0.595)
    later = {first.candidate: 0.6, second.candidate: 0.7, top.candidate: 0.7}
    asked: list[Candidate] = []

    def settling(candidate: Candidate) -> Measured:
        asked.append(candidate)
        return Measured(candidate=candidate, values=(later[candidate],) * 4)

    assert choose([first, second, top]) is first
    assert choose(settled([first, second, top], settling)) is second
    assert set(asked) == set(later)
    later[second.candidate] = 0.6
    assert settled([first, second, top], settling) == [top]


def test_fewer_bits_are_settled_too() -> None:
    """Four bits look level on five seeds, and are not."""

    def score(candidate: Candidate, seed: int) -> float:
        late = -0.03 if seed >= 5 and candidate.rung.bits == 4 else 0.0
        return 0.6 + late + (0.002 * swing(seed) if candidate.rung.bits == 8 else 0.0)

    measured, chosen = search([[made_chain("a", 8)]], [DEFAULT], score, SETTLING, made_variants(max_bytes=8))
    assert {entry.candidate.rung.bits for entry in measured} == {8, 4}  # two bits are not tried
    assert measured[chosen].candidate.rung.bits == 8


def test_what_was_settled_is_compared_with_others_on_the_seeds_that_these_have() -> None:
    """The later five seeds are 10 points above, for all: two members gain 2 on the first five, and are taken."""

    def score(candidate: Candidate, seed: int) -> float:
        gain = 0.02 * (candidate.rung.num_members - 1)
        return 0.6 + gain + 0.1 * (seed >= 5) + 0.001 * candidate.rung.params * swing(seed)

    variants = made_variants(max_bytes=2, bits=(8,))
    measured, chosen = search([[made_chain("a", 1, 2)]], [DEFAULT], score, SETTLING, variants)
    assert len(next(e.values for e in measured if e.candidate.rung.name == "a1")) == 10
    assert str(measured[chosen].candidate).startswith("a1-b8-m2")
