"""Views by bytes on hand-made rows: what is best, what is cheapest, who wins, and what is said where nothing can be."""

from __future__ import annotations

from typing import Any

import pytest

from flashdd.core.record import ArtifactImages, ComparedRow, ShipFacts
from flashdd.report import bytesviews
from flashdd.report.bytesviews import (
    areas,
    best_within,
    cheapest_reaching,
    families,
    family,
    shown_sizes,
    verdict,
    views_of,
)
from flashdd.report.efficiency import area

NETWORK = {"params": 9, "macs": 9, "accuracy": 0.6, "val_accuracy": 0.6, "temperature": 4.0}
SHIP = ShipFacts(name="convnet-3-w64", bytes=86_824, accuracy=0.78, budget_bytes=238_832)
HOME = ArtifactImages(images="rded", ipc=10)


def _row(scheme: str, num_bytes: int, *values: float, **more: Any) -> ComparedRow:
    n, mean = len(values), sum(values) / len(values)
    std = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5 if n > 1 else None
    return ComparedRow.model_validate(
        {
            "scheme": scheme,
            "images": "rded",
            "student": "convnet-3-w32",
            "protocol": "flash",
            "ipc": 10,
            "label_bytes": num_bytes,
            "accuracy": {"mean": mean, "std": std, "n": n, "values": values},
            "best_epoch": None,
            "seconds": 1.0,
            **more,
        }
    )


def _chosen(name: str, num_bytes: int) -> dict[str, Any]:
    candidate = {
        "name": name,
        "bytes": num_bytes,
        "proxy_mean": 0.5,
        "proxy_stderr": None,
        "n": 1,
        "values": [0.5],
    }
    held = {"name": name, "bytes": num_bytes, "budget_bytes": 9_000, "candidates": [candidate], "chosen": 0}
    return {"equal_bytes": {**held, "seconds": 1.0}}


ROWS = [
    _row("hard", 0, 0.30, 0.32, 0.31),
    _row("labeler", 8_874, 0.55, 0.56, 0.54),
    _row("teacher@searched", 347_800, 0.56, 0.57, 0.55),
    _row("stored@4bit", 400_000, 0.55, 0.56, 0.56),
    _row("stored@equal-bytes", 8_700, 0.46, 0.47, 0.45, **_chosen("vq@256-e30", 8_700)),
    _row("lpld@40x", 30_000, 0.50, 0.51, 0.52),
    _row("conv-3-w8@t4", 10_824, 0.53, 0.54, 0.55, network=NETWORK),
    _row("committee@conv-3-w8+conv-3-w4", 15_000, 0.50, 0.50, 0.50, network=NETWORK),
]


def _view(title: str, rows: list[ComparedRow]) -> dict[str, tuple[str, ...]]:
    (view,) = (view for view in views_of(rows) if view.title == title)
    return dict(zip(view.head, zip(*view.body, strict=True), strict=True))


def test_rows_count_as_families() -> None:
    assert [family(row) for row in ROWS] == [
        *("hard", "labeler", "teacher", "stored", "vq", "lpld", "network", "committee")
    ]
    assert list(families(ROWS[:2])) == ["hard", "labeler"]


def test_packed_labelers_and_ensembles_are_no_float_networks() -> None:
    """Nor of one family with each other: their areas compare designs of the same bytes."""
    packed = [
        _row(name, num_bytes, mean, network={**NETWORK, "bits": 4, "num_members": members})
        for name, num_bytes, mean, members in (
            ("conv-3-w8@b4", 4_000, 0.4, 1),
            ("conv-3-w8@b4-m2", 8_000, 0.5, 2),
            ("conv-3-w8+conv-3-w4@b4", 6_000, 0.45, 2),
        )
    ]
    rows = [ROWS[0], ROWS[6], *packed]
    assert [family(row) for row in rows[1:]] == ["network", "packed", "packed-ensemble", "packed-ensemble"]
    hard = ROWS[0].accuracy.mean
    assert areas(rows)["packed"] == area([(4_000, 0.4)], hard)
    assert areas(rows)["packed-ensemble"] == area([(8_000, 0.5), (6_000, 0.45)], hard)
    ours = areas([*rows, ROWS[1]])["any labelers"]
    assert ours == area([(4_000, 0.4), (8_000, 0.5), (6_000, 0.45), (8_874, 0.55)], hard)
    shown = _view("Efficiency of use", rows)["family"]
    assert set(shown) == {"networks (float32)", "packed labelers", "packed ensembles", "any labelers"}


def test_the_best_within_some_bytes_is_that_of_a_loop() -> None:
    for size in (0, 8_699, 8_700, 8_874, 100_000, 1_000_000):
        fits = [row for row in ROWS if row.label_bytes <= size]
        assert best_within(ROWS, size) is sorted(fits, key=lambda row: row.accuracy.mean)[-1]
    assert best_within(ROWS[1:], 8_000) is None
    equal = [_row("lpld", 900, 0.5), _row("vq", 800, 0.5)]
    assert best_within(equal, 1_000) is equal[1]


def test_sizes_end_with_the_first_that_holds_all() -> None:
    assert shown_sizes(ROWS) == [4_000, 8_874, 16_000, 64_000, 256_000, 1_000_000]
    assert shown_sizes(ROWS[:2]) == [4_000, 8_874, 16_000]
    assert shown_sizes([ROWS[0], _row("lpld", 4_000, 0.4)]) == [4_000]


def test_at_equal_bytes() -> None:
    columns = _view("At equal bytes", ROWS)
    assert columns["within bytes"] == (
        *("4.0 KB", "8.9 KB (the labeler's)", "16.0 KB", "64.0 KB", "256.0 KB", "1.0 MB"),
    )
    best = ("hard labels", *["labeler (ours)"] * 4, "full teacher, searched settings")
    assert columns["best labels"] == best
    gaps = columns["to the labeler, points (95 %)"]
    assert gaps[0].startswith("-24.0 [")
    assert gaps[1:5] == ("-",) * 4
    assert gaps[5] == "+1.0 [+1.0, +1.0]"


def test_the_fewest_bytes_within_a_point_of_the_teacher() -> None:
    """55 % is exactly one point below 56 %, whatever the rounding of the mean."""
    assert cheapest_reaching(ROWS, 0.56) is ROWS[1]
    assert cheapest_reaching(ROWS, 0.571) is None
    columns = _view("At equal accuracy", ROWS)
    found = dict(zip(columns["scheme"], columns["fewest bytes"], strict=True))
    assert found == {
        "hard labels": "never, up to 0 B",
        "labeler (ours)": "8.9 KB",
        "full teacher": "347.8 KB",
        "stored labels": "400.0 KB",
        "vector-quantized labels": "never, up to 8.7 KB",
        "LPLD": "never, up to 30.0 KB",
        "networks (float32)": "never, up to 10.8 KB",
        "committees of networks (float32)": "never, up to 15.0 KB",
    }
    without = [row for row in ROWS if row.scheme != "teacher@searched"]
    (view,) = (view for view in views_of(without) if view.title == "At equal accuracy")
    assert "the 55.0 % of labeler (ours)" in view.text
    assert not [view for view in views_of([ROWS[5], ROWS[6]]) if view.title == "At equal accuracy"]


def test_areas_are_those_of_each_familys_rows() -> None:
    found = areas(ROWS)
    assert list(found) == [
        *("labeler", "teacher", "stored", "vq", "lpld", "network", "committee", "any stored labels")
    ]
    assert found["labeler"] == area([(8_874, 0.55)], ROWS[0].accuracy.mean)
    stored = [(row.label_bytes, row.accuracy.mean) for row in (ROWS[3], ROWS[4], ROWS[5])]
    assert found["any stored labels"] == area(stored, ROWS[0].accuracy.mean)
    assert areas(ROWS[1:]) == {}
    columns = _view("Efficiency of use", ROWS)
    assert columns["family"][0] == "labeler (ours)"
    assert [float(cell) for cell in columns["area, %"]] == sorted(
        map(float, columns["area, %"]), reverse=True
    )


def test_two_schemes_that_cost_bytes_make_a_view() -> None:
    assert views_of(ROWS[:2]) == []
    assert [view.title for view in views_of(ROWS[:3])] == [
        *("At equal bytes", "At equal accuracy", "Efficiency of use")
    ]


def test_who_wins_is_said() -> None:
    sentence = verdict(ROWS, None)
    assert sentence is not None
    assert sentence.startswith(
        "Beside the labeler (8.9 KB), the labeler with 55.0 % is above stored labels, equal-bytes (vq@256-e30), 8.7 KB "
        "(+9.0 [+9.0, +9.0]); differences in points"
    )
    assert sentence.endswith("Shipping a classifier instead is not in this comparison (scheme ship).")


def test_a_shipped_classifier_may_win() -> None:
    """Its interval is over the students' seeds: 78 less 54, 55 and 56 is 23 +- 4.303 / sqrt(3)."""
    sentence = verdict(ROWS, SHIP, HOME)
    assert sentence is not None
    words = "shipping a classifier (one convnet-3-w64, 86.8 KB, within the 238.8 KB of the whole artifact at IPC 10)"
    assert f"{words} with 78.0 % is above the labeler (+23.0 [+20.5, +25.5]) and stored labels" in sentence
    assert sentence.endswith("too few of them for a claim.")


@pytest.mark.parametrize("change", [{"ipc": 1}, {"images": "random"}, {"protocol": "flash@plain"}])
def test_a_classifier_of_the_artifacts_bytes_competes_on_its_images_alone(change: dict[str, Any]) -> None:
    """Elsewhere the group is judged as without it, and a remark says so."""
    rows = [row.model_copy(update=change) for row in ROWS]
    sentence, without = verdict(rows, SHIP, HOME), verdict(rows, None)
    assert sentence is not None
    assert without is not None
    assert "78.0" not in sentence
    assert sentence.partition(" Shipping")[0] == without.partition(" Shipping")[0]
    assert sentence.endswith("is compared only on the artifact's own images, with augmentation.")


def test_bytes_of_an_unknown_artifact_are_named() -> None:
    """In a record that does not say what images the artifact holds; still never without augmentation."""
    sentence = verdict(ROWS, SHIP)
    assert sentence is not None
    assert "within the 238.8 KB of the whole artifact, whose images and IPC may be others)" in sentence
    plain = verdict([row.model_copy(update={"protocol": "flash@plain"}) for row in ROWS], SHIP)
    assert plain is not None
    assert "convnet-3-w64" not in plain


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ((0.50, 0.58, 0.55), "the labeler with 55.0 % cannot be told from"),
        ((0.60, 0.50, 0.58), "with 56.0 % cannot be told from the labeler (+1.0 ["),
        ((0.60, 0.61, 0.59), "with 60.0 % is above the labeler (+5.0 [+5.0, +5.0])"),
        (
            (0.40, 0.41, 0.39, 0.40),
            "cannot be told from stored labels, equal-bytes (stored@16bit), 8.0 KB (+15.0, no interval)",
        ),
        (
            (0.40,),
            "one seed is too few to tell who is better (the labeler 55.0 %, stored labels, equal-bytes "
            "(stored@16bit), 8.0 KB 40.0 %): take three or more.",
        ),
    ],
)
def test_an_interval_that_holds_0_is_a_tie(stored: tuple[float, ...], expected: str) -> None:
    rival = _row("stored@equal-bytes", 8_000, *stored, **_chosen("stored@16bit", 8_000))
    sentence = verdict([ROWS[1], rival], None)
    assert sentence is not None
    assert expected in sentence


def test_a_tie_of_two_ahead_of_a_third() -> None:
    rival = _row("stored@equal-bytes", 8_000, 0.50, 0.58, 0.55, **_chosen("stored@16bit", 8_000))
    rows = [ROWS[1], rival]
    weak = SHIP.model_copy(update={"accuracy": 0.2})
    sentence = verdict(rows, weak)
    assert sentence is not None
    assert "cannot be told from stored labels, equal-bytes (stored@16bit), 8.0 KB (" in sentence
    assert "), and is above shipping a classifier (one convnet-3-w64" in sentence


def test_stored_labels_compete_as_they_were_chosen_on_validation_data() -> None:
    """A row that is higher on test does not stand in for the chosen one, nor does one beyond the bytes."""
    rows = [
        ROWS[1],
        ROWS[4],
        _row("lpld@40x", 8_000, 0.70, 0.71, 0.72),
        _row("lowrank@r3", 9_000, 0.8, 0.8, 0.8),
    ]
    assert verdict(rows, None) == verdict([ROWS[1], ROWS[4]], None)


def test_what_was_picked_on_test_neither_wins_nor_loses() -> None:
    """However far it is ahead, or behind; the shipped classifier still competes."""
    for mean in (0.40, 0.90):
        rows = [ROWS[1], _row("lpld@40x", 8_000, *[mean] * 3), _row("vq@4", 7_000, 0.3, 0.3, 0.3), ROWS[5]]
        sentence = verdict(rows, None)
        assert sentence is not None
        assert sentence.startswith(
            "Beside the labeler (8.9 KB), which has 55.0 %: LPLD, 40x, 8.0 KB (highest on test of 2 rows) has "
            f"{100 * mean:.1f} %: it was picked on test, so no win is claimed"
        )
        assert "wins over" not in sentence
        assert "cannot be told from" not in sentence
        beside = verdict(rows, SHIP)
        assert beside is not None
        assert "with 78.0 % is above the labeler (+23.0 [+20.5, +25.5]); differences" in beside
        assert "(highest on test of 2 rows)" in beside


def test_what_stands_alone_wins_nothing() -> None:
    assert verdict(ROWS[2:], SHIP) is None
    assert verdict(ROWS[:2], None) == (
        "Beside the labeler (8.9 KB), which has 55.0 %, nothing stands. No stored labels within these bytes are in "
        "this comparison (scheme stored@equal-bytes). Shipping a classifier instead is not in this comparison (scheme "
        "ship)."
    )


def test_two_seeds_tell_nobody_apart() -> None:
    """Their interval has twelve standard errors a side: 47 points may stay within it."""
    ours = _row("labeler", 9_000, 0.49, 0.57)
    sentence = verdict([ours, _row("hard", 0, 0.6, 0.7)], SHIP, HOME)
    assert sentence is not None
    assert sentence.startswith(
        "Beside the labeler (9.0 KB), two seeds are too few to tell who is better (the labeler 53.0 %, shipping a "
    )
    assert (
        "take three or more. Hard labels, of no bytes, reach 65.0 %, above the labeler. No stored" in sentence
    )
    below = verdict([ours, _row("hard", 0, 0.1, 0.2)], SHIP, HOME)
    assert below is not None
    assert "Hard labels" not in below


def test_every_family_of_stored_labels_is_known() -> None:
    from flashdd.labels.catalog import SCHEMES

    assert set(bytesviews.STORED) == set(SCHEMES)


def test_five_seeds_make_a_win_and_the_labeler_competes_as_a_classifier() -> None:
    network = {"params": 10, "macs": 20, "accuracy": 0.6, "val_accuracy": 0.6, "temperature": 4.0}
    ours = _row("labeler", 9_000, 0.50, 0.52, 0.51, 0.52, 0.50, network={"name": "conv-3-w8", **network})
    rival = _row("stored@equal-bytes", 8_000, *[0.40] * 5, **_chosen("stored@16bit", 8_000))
    sentence = verdict([ours, rival], None)
    assert sentence is not None
    assert sentence.startswith(
        "Beside the labeler (9.0 KB), the labeler itself as a classifier (one network) with 60.0 % wins over the "
        "labeler ("
    )
    assert "too few" not in sentence
    assert family(ours) == "labeler"
    beside = verdict([ours, rival], SHIP, HOME)
    assert beside is not None
    assert "; the labeler itself as a classifier (one network) has 60.0 %; differences" in beside
