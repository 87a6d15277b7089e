"""The validation cut, against its own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashdd.data.write import validation_rows


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=12),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 100),
)
@settings(max_examples=200, deadline=None)
def test_the_cut_is_stratified_and_leaves_something_of_each_class(
    counts: list[int], fraction: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = validation_rows(labels, fraction)
    assert (np.diff(rows) > 0).all()
    taken = np.bincount(labels[rows], minlength=len(counts))
    assert (taken >= 1).all()
    assert (taken <= np.array(counts) - 1).all()
    assert len(rows) >= math.ceil(fraction * len(labels))
    if min(counts) * fraction >= 1:
        assert len(rows) == math.ceil(fraction * len(labels))
        assert (np.abs(taken - np.array(counts) * fraction) < 1).all()


def test_the_cut_is_fixed_for_good() -> None:
    labels = np.arange(40, dtype=np.int64) % 4
    assert validation_rows(labels, 0.15).tolist() == [8, 10, 13, 21, 27, 32]
    assert validation_rows(labels, 0.15, seed=1).tolist() != validation_rows(labels, 0.15).tolist()


@pytest.mark.parametrize(("count", "fraction", "expected"), [(1437, 0.15, 216), (50000, 0.15, 7500)])
def test_the_size_of_the_cut(count: int, fraction: float, expected: int) -> None:
    assert len(validation_rows(np.arange(count, dtype=np.int64) % 10, fraction)) == expected
