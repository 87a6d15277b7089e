"""Which measured candidate is chosen, and which get more seeds before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_scores import DEFAULT, made_measured

from flashdd.labels.flash.candidates import Setting
from flashdd.labels.flash.choice import best, choose, contenders, finalists


def test_contenders_are_near_the_best_on_shared_seeds() -> None:
    hard, soft = (replace(DEFAULT, temperature=temperature) for temperature in (1.0, 20.0))
    raised = [made_measured("d", 4, 0.70, 0.70, 0.50), made_measured("c", 3, 0.70, 0.69, 0.49)]
    assert choose(raised) == raised[0]
    near = [
        made_measured("d", 4, 0.698, 0.702, setting=hard),
        made_measured("d", 4, 0.696, 0.702, setting=soft),
    ]
    small = made_measured("a", 1, 0.690, 0.702)  # 0.4 points behind on two seeds, ahead of all three
    entries = [
        *raised,
        *near,
        small,
        made_measured("b", 2, 0.690, 0.698),  # 0.6
        large := made_measured("e", 5, 0.699, 0.699),  # may come to lead, further ahead of the choice
    ]
    # the leader's own settings leave room for smaller rungs, and larger ones take none from them
    assert contenders(entries, raised, 1) == [near[0].candidate, large.candidate]
    assert contenders(entries, raised, 2) == [near[0].candidate, small.candidate, large.candidate]
    assert contenders(entries, raised, 3) == [
        near[0].candidate,
        small.candidate,
        near[1].candidate,
        large.candidate,
    ]


def test_finalists_are_of_different_rungs_first() -> None:
    other = Setting(length=0.5, shift=0.0, temperature=4.0, logit_scale=1.0)
    entries = [
        made_measured("a", 1, 0.9),
        made_measured("a", 1, 0.8, setting=other),
        made_measured("b", 2, 0.1),
    ]
    assert [entry.candidate.rung.name for entry in finalists(entries, 2)] == ["a", "b"]
    assert [entry.mean for entry in finalists(entries, 3)] == [0.9, 0.1, 0.8]


def test_the_choice_is_the_smallest_within_one_standard_error() -> None:
    top = made_measured("big", 9, 0.80, 0.82, 0.81, 0.83, 0.79)
    close = made_measured("mid", 5, 0.79, 0.83, 0.80, 0.83, 0.79)  # behind by 0.002 +- 0.004
    behind = made_measured("tiny", 1, 0.78, 0.80, 0.79, 0.81, 0.77)  # behind by 0.02 without spread
    assert choose([top, close, behind]) is close
    assert choose([top, behind]) is top


def test_a_smaller_one_loses_half_a_point_at_most_however_large_the_error() -> None:
    top = made_measured("big", 9, 0.70, 0.90, 0.80)
    half = made_measured("mid", 5, 0.75, 0.84, 0.796)  # behind by 0.0047 +- 0.032
    more = made_measured("tiny", 1, 0.75, 0.84, 0.794)  # behind by 0.0053 +- 0.032
    assert choose([top, half, more]) is half
    assert choose([top, more]) is top


@pytest.mark.parametrize("base", [0.5, 0.6, 0.7, 0.75, 0.81])
def test_exactly_half_a_point_may_be_lost_however_floats_round(base: float) -> None:
    top = made_measured("big", 9, base + 0.1, base - 0.1)
    half = made_measured("mid", 5, base + 0.1 - 0.01, base - 0.1)
    assert choose([top, half]) is half


def test_of_one_capacity_the_best_setting_is_chosen() -> None:
    settings = [Setting(length=1.0, shift=0.0, temperature=t, logit_scale=1.0) for t in (1.0, 4.0)]
    worse = made_measured("a", 1, 0.50, 0.60, 0.55, setting=settings[0])
    better = made_measured("a", 1, 0.51, 0.60, 0.56, setting=settings[1])
    assert choose([worse, better]) is better


def test_equal_means_prefer_the_smaller() -> None:
    assert best([made_measured("b", 2, 0.5), made_measured("a", 1, 0.5)], 1)[0].candidate.rung.name == "a"


def test_the_standard_error_has_ddof_one() -> None:
    assert made_measured("a", 1, 0.1, 0.3).stderr == pytest.approx(0.1)
