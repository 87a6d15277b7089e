"""Which label schemes are set against each other, on which image sets."""

from __future__ import annotations

import pytest
from compared import comparison, row

from flashdd.pipeline.rankings import rankings
from flashdd.pipeline.scores import with_scores

SETS = {"random": 0.3, "rded": 0.5, "dm": 0.4, "herding": 0.2}
ROWS = [
    row(scheme, images, [base + 0.01 * seed + shift for seed in range(3)])
    for scheme, shift in (("hard", 0.0), ("labeler", 0.3))
    for images, base in SETS.items()
]


def test_two_schemes_that_agree_in_every_seed() -> None:
    (found,) = rankings(ROWS, seed=0)
    assert (found.schemes, found.images, found.num_sets) == (("hard", "labeler"), tuple(SETS), 4)
    assert (found.ipc, found.student, found.protocol) == (10, "convnet-3-w32", "flash")
    assert (found.tau, found.low, found.high, found.n) == (1, 1, 1, 3)


def test_one_pair_in_the_other_order() -> None:
    """Five of six pairs agree: (5 - 1) / 6."""
    rows = [
        *ROWS[:4],
        *(entry for entry in ROWS[4:] if entry.images != "dm"),
        row("labeler", "dm", [0.9, 0.91, 0.92]),
    ]
    (found,) = rankings(rows, seed=0)
    assert found.tau == pytest.approx(4 / 6)
    assert set(found.images) == set(SETS)


def test_seeds_that_disagree_widen_the_interval_and_the_same_seed_gives_the_same() -> None:
    swapped = [row("labeler", images, [base, base, 0.6 - base]) for images, base in SETS.items()]
    (found,) = rankings([*ROWS[:4], *swapped], seed=0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert rankings([*ROWS[:4], *swapped], seed=0) == [found]


def test_two_sets_are_no_ranking_and_real_data_are_no_set() -> None:
    real = [row("hard", name, [0.7], ipc=None) for name in ("real-whole", "real-equal-passes")]
    assert rankings([*ROWS[:2], *ROWS[4:6], *real], seed=0) == []
    assert len(rankings([*ROWS, *real], seed=0)) == 1


def test_other_amounts_students_and_protocols_are_apart() -> None:
    changes: list[dict[str, object]] = [{"ipc": 1}, {"student": "resnet18"}, {"protocol": "rded"}]
    for change in changes:
        moved = [entry.model_copy(update=change) for entry in ROWS[4:]]
        assert rankings([*ROWS[:4], *moved], seed=0) == []


def test_equal_accuracies_have_no_order() -> None:
    level = [row("labeler", images, [0.5, 0.5, 0.5]) for images in SETS]
    (found,) = rankings([*ROWS[:4], *level], seed=0)
    assert (found.tau, found.low, found.high) == (None, None, None)


def test_a_comparison_holds_them() -> None:
    assert list(with_scores(comparison(ROWS)).rankings) == rankings(ROWS, seed=0)
