"""DD-Ranking's scores of hand-made rows, seed by seed, and what is said where a row is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from compared import comparison, row

from flashdd.core.record import ComparedRow, Comparison
from flashdd.core.scores import Score
from flashdd.pipeline.scores import scores, with_scores

ROWS = [
    row("hard", "random", [0.20, 0.25]),
    row("labeler", "random", [0.48, 0.50]),
    row("hard", "rded", [0.30, 0.32]),
    row("labeler", "rded", [0.50, 0.54]),
    row("labeler", "random", [0.40, 0.41], protocol="flash@plain"),
    row("labeler", "rded", [0.44, 0.40], protocol="flash@plain"),
    row("hard", "real-whole", [0.75], ipc=None, protocol="classifier"),
]


def scale(value: float) -> float:
    return (math.exp(value) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def _of(rows: list[ComparedRow], scheme: str, images: str) -> Score:
    (found,) = [entry for entry in scores(rows)[0] if (entry.scheme, entry.images) == (scheme, images)]
    return found


def test_scores_are_those_of_each_seed() -> None:
    score = _of(ROWS, "labeler", "rded")
    hlr, ior, plain = (0.75 - 0.30, 0.75 - 0.32), (0.50 - 0.48, 0.54 - 0.50), (0.44 - 0.40, 0.40 - 0.41)
    lrs = [scale(0.5 * b - 0.5 * a) for a, b in zip(hlr, ior, strict=True)]
    ars = [scale(0.5 * a + 0.5 * b) for a, b in zip(ior, plain, strict=True)]
    for spread, expected in ((score.hlr, hlr), (score.ior, ior), (score.lrs, lrs), (score.ars, ars)):
        assert spread is not None
        assert spread.values == pytest.approx(tuple(expected))
        assert spread.mean == pytest.approx(sum(expected) / 2)
        # of two values: half their distance times sqrt(2)
        assert spread.std == pytest.approx(abs(expected[0] - expected[1]) / math.sqrt(2))


def test_random_images_have_no_gain_over_themselves() -> None:
    score = _of(ROWS, "hard", "random")
    assert score.hlr is not None
    assert score.hlr.values == pytest.approx((0.55, 0.50))
    assert (score.ior, score.lrs, score.ars) == (None, None, None)


def test_real_and_plain_rows_have_no_score_of_their_own() -> None:
    found, missing = scores(ROWS)
    assert [(entry.scheme, entry.images) for entry in found] == [
        ("hard", "random"),
        ("hard", "rded"),
        ("labeler", "rded"),
    ]
    assert {entry.protocol for entry in found} == {"flash"}
    assert missing == ["the same without augmentation (compare.plain=true) for ARS"]  # of hard labels


@pytest.mark.parametrize(
    ("without", "lost", "phrase"),
    [
        (
            6,
            {"hlr", "lrs"},
            "real data with hard labels (scheme real-whole) for HLR and LRS of convnet-3-w32",
        ),
        (2, {"hlr", "lrs"}, "hard labels (scheme hard) on rded for its HLR and LRS"),
        (
            1,
            {"ior", "lrs", "ars"},
            "the same labels on random real images (image method random, IPC 10) for IOR, LRS and ARS",
        ),
        (5, {"ars"}, "the same without augmentation (compare.plain=true) for ARS"),
    ],
)
def test_a_missing_row_is_named(without: int, lost: set[str], phrase: str) -> None:
    rows = [entry for index, entry in enumerate(ROWS) if index != without]
    score = _of(rows, "labeler", "rded")
    assert {name for name in ("hlr", "ior", "lrs", "ars") if getattr(score, name) is None} == lost
    assert phrase in scores(rows)[1]


@pytest.mark.parametrize("change", [{"ipc": 1}, {"student": "resnet18"}, {"protocol": "rded"}])
def test_rows_of_another_kind_do_not_stand_in(change: dict[str, object]) -> None:
    random = ROWS[1].model_copy(update=change)
    assert _of([ROWS[0], random, *ROWS[2:]], "labeler", "rded").ior is None


def test_a_comparison_holds_them(tmp_path: Path) -> None:
    whole = with_scores(comparison(ROWS))
    assert list(whole.scores) == scores(ROWS)[0]
    assert whole.notes[0] == "first"
    assert whole.notes[1].startswith(
        "DD-Ranking's scores are not complete; rows that they lack: the same without"
    )
    whole.write(tmp_path / "comparison.json")
    assert Comparison.read(tmp_path / "comparison.json") == whole


def test_what_cannot_be_computed_leaves_no_key(tmp_path: Path) -> None:
    bare = with_scores(comparison([ROWS[3]]))
    assert (bare.scores, bare.rankings) == ((), ())
    bare.write(tmp_path / "comparison.json")
    assert {"scores", "rankings"}.isdisjoint(json.loads((tmp_path / "comparison.json").read_text()))


@pytest.mark.parametrize(
    ("rows", "plain", "asked"),
    [
        ([3], False, False),
        ([0, 1], False, False),  # random images alone
        ([3, 7], False, False),  # real data at equal passes are no part of a score
        ([0, 7], False, False),
        ([1, 3], False, True),
        ([3, 6], False, True),
        ([3, 5], True, True),
    ],
)
def test_a_note_is_for_those_who_ask_for_scores(rows: list[int], plain: bool, asked: bool) -> None:
    """Nobody else lacks anything; complete scores need no note either."""
    passes = row("hard", "real-equal-passes", [0.7, 0.72], ipc=None)
    made = comparison([(*ROWS, passes)[index] for index in rows])
    made = made.model_copy(update={"config": {**made.config, "compare": {"plain": plain}}})
    notes = with_scores(made).notes
    assert notes[0] == "first"
    assert len(notes) == 1 + asked
    hard = [row("hard", name, [0.2, 0.2], protocol="flash@plain") for name in ("random", "rded")]
    assert with_scores(comparison([*ROWS, *hard])).notes == ("first",)
