"""The tables below a comparison's own: what stands in a cell, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flashdd.core.record import Comparison
from flashdd.core.scores import Ranking, Score, Spread
from flashdd.report.comparison import comparison_cells, comparison_markdown, comparison_page
from flashdd.report.scores import side_markdown, side_tables

RECORD = Path(__file__).with_name("record.json")
WHERE: dict[str, Any] = {"ipc": 10, "student": "convnet-3-w32", "protocol": "flash"}
SCORES = (
    Score(
        scheme="hard",
        images="random",
        **WHERE,
        hlr=None,
        ior=Spread.of([0.0, 0.0]),
        lrs=None,
        ars=None,
    ),
    Score(
        scheme="labeler",
        images="rded",
        **WHERE,
        hlr=Spread.of([0.45, 0.43]),
        ior=Spread.of([-0.02, -0.04]),
        lrs=Spread.of([0.2]),
        ars=None,
    ),
)
RANKINGS = (
    Ranking(
        schemes=("labeler", "teacher@searched"),
        **WHERE,
        images=("random", "rded", "dm"),
        num_sets=3,
        tau=1 / 3,
        low=-1.0,
        high=1.0,
        n=3,
    ),
)


def _comparison(**more: Any) -> Comparison:
    top = {
        key: value
        for key, value in json.loads(RECORD.read_text()).items()
        if key in ("flashdd", "format", "environment", "config", "data")
    }
    accuracy = {"mean": 0.5, "std": None, "n": 1, "values": [0.5]}
    row = {**WHERE, "scheme": "hard", "images": "rded", "label_bytes": 0, "accuracy": accuracy}
    rows = [{**row, "best_epoch": None, "seconds": 1.0}]
    return Comparison.model_validate({**top, "rows": rows}).model_copy(update=more)


def test_cells() -> None:
    scores, rankings = side_tables(_comparison(scores=SCORES, rankings=RANKINGS))
    assert scores.head == ["images", "IPC", "labels", "HLR, points", "IOR, points", "LRS, %"]
    assert scores.body == [
        ["random real", "10", "hard labels", "-", "0.0 ± 0.0 (n=2)", "-"],
        ["rded", "10", "labeler (ours)", "+44.0 ± 1.4 (n=2)", "-3.0 ± 1.4 (n=2)", "20.0 (n=1)"],
    ]
    assert rankings.head == ["labels", "and", "IPC", "image sets", "tau-b (95 %)", "seeds"]
    assert rankings.body == [
        [
            "labeler (ours)",
            "full teacher, searched settings",
            "10",
            "3",
            "+0.33",
            "3",
        ]  # too few seeds for an interval
    ]
    (_, more) = side_tables(_comparison(scores=SCORES, rankings=(RANKINGS[0].model_copy(update={"n": 5}),)))
    assert more.body[0][-2:] == ["+0.33 [-1.00, +1.00]", "5"]


def test_recovery_alone_stands_once_for_all_labels() -> None:
    alone = SCORES[1].model_copy(update={"ior": None, "lrs": None})
    hard = alone.model_copy(update={"scheme": "hard"})
    (table,) = side_tables(_comparison(scores=(alone, hard)))
    assert table.body == [["rded", "10", "hard labels", "+44.0 ± 1.4 (n=2)"]]
    (table,) = side_tables(_comparison(scores=(SCORES[1], hard)))
    assert [row[2] for row in table.body] == ["labeler (ours)", "hard labels"]
    assert side_tables(_comparison(scores=(alone,))) == []


def test_students_and_protocols_get_a_column_where_they_differ() -> None:
    other = SCORES[1].model_copy(update={"student": "resnet18", "protocol": "rded"})
    (table,) = side_tables(_comparison(scores=(*SCORES, other)))
    assert table.head[2:4] == ["student", "protocol"]
    assert table.body[2][2:4] == ["resnet18", "rded"]


def test_no_interval_and_no_order() -> None:
    single = RANKINGS[0].model_copy(update={"low": None, "high": None, "n": 1})
    level = RANKINGS[0].model_copy(update={"tau": None, "low": None, "high": None})
    (table,) = side_tables(_comparison(rankings=(single, level)))
    assert [cells[-2] for cells in table.body] == ["+0.33", "-"]


def test_they_stand_between_the_table_and_the_notes() -> None:
    text = comparison_markdown(_comparison(scores=SCORES, rankings=RANKINGS, notes=("last",)))
    places = [text.index(part) for part in ("test accuracy", "**DD-Ranking", "**Do labels", "\n\n- last\n")]
    assert places == sorted(places)
    page = comparison_page(_comparison(scores=SCORES, rankings=RANKINGS))
    assert page.count('<h2 id="side-') == 2
    assert "full teacher, searched settings" in page


def test_a_comparison_without_them_is_as_before() -> None:
    assert side_markdown(_comparison()) == ""
    assert "side-" not in comparison_page(_comparison())


def test_real_rows_have_no_amount_of_images_per_class() -> None:
    comparison = _comparison()
    real = {"images": "real-equal-passes", "ipc": None, "image_passes": 50_000}
    rows = (comparison.rows[0], comparison.rows[0].model_copy(update=real))
    asked = {**comparison.config, "compare": {"schemes": ["real-whole", "hard"]}}
    both = comparison.model_copy(update={"rows": rows, "config": asked})
    head, body = comparison_cells(both)
    assert [cells[: head.index("labels")] for cells in body] == [
        ["rded", "10"],
        ["real, equal passes, 50,000", "-"],
    ]
    assert "real, equal passes, 50,000, the whole training split, convnet-3-w32" in comparison_page(both)
