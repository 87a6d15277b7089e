"""Scores and rankings as they stand in a file: spreads of samples, and what does not agree with itself."""

from __future__ import annotations

import statistics

import pytest
from pydantic import ValidationError

from flashdd.core.scores import Ranking, Spread

RANKING = {
    "schemes": ("hard", "labeler"),
    "ipc": 10,
    "student": "convnet-3-w32",
    "protocol": "flash",
    "images": ("random", "rded", "dm"),
    "num_sets": 3,
    "tau": 1.0,
    "low": None,
    "high": None,
    "n": 1,
}


def test_a_spread_is_that_of_a_sample_of_either_sign() -> None:
    values = [-0.3, 0.1, 0.5]
    spread = Spread.of(values)
    assert (spread.mean, spread.std, spread.n) == (statistics.fmean(values), statistics.stdev(values), 3)
    assert Spread.of([0.5]).std is None
    with pytest.raises(ValueError, match="a score of no values"):
        Spread.of([])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n": 2}, "n is 2, but 3 values"), ({"std": None}, "std must be null at n = 1, and only there")],
)
def test_a_spread_agrees_with_itself(change: dict[str, object], message: str) -> None:
    held = {**Spread.of([0.1, 0.2, 0.4]).model_dump(), **change}
    with pytest.raises(ValidationError, match=message):
        Spread.model_validate(held)


def test_a_ranking_counts_its_sets() -> None:
    assert Ranking.model_validate(RANKING).tau == 1
    with pytest.raises(ValidationError, match="num_sets is 4, but 3 images are named"):
        Ranking.model_validate({**RANKING, "num_sets": 4})
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Ranking.model_validate({**RANKING, "tau": 1.5})
