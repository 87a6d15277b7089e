"""The tables of a regret study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flashdd.core.record import Accuracy, ComparedRow, paired_difference
from flashdd.core.regret import Regret, RegretCase
from flashdd.report.regret import regret_markdown

RECORD = Path(__file__).with_name("record.json")


def row(scheme: str, label_bytes: int, values: list[float]) -> dict[str, Any]:
    made = ComparedRow.model_validate(
        {
            "scheme": scheme,
            "images": "random",
            "ipc": 10,
            "student": "convnet-2-w16",
            "protocol": "flash",
            "label_bytes": label_bytes,
            "accuracy": Accuracy.of(values),
            "best_epoch": None,
            "seconds": 1.0,
        }
    )
    return made.model_dump(exclude_unset=True)


def case(**changes: Any) -> dict[str, Any]:
    wide, narrow, chosen = "conv-2-w8@e4-b8-t4", "conv-2-w4@e4-b8-t4", "conv-2-w6@e4-b8-t4"
    found = {
        "ipc": 10,
        "times": 4,
        "image_passes": 200_000,
        "chosen": chosen,
        "proxies": 30,
        "seconds": 60.0,
        "best": wide,
        "regret": paired_difference([0.51, 0.53], [0.5, 0.5]).model_dump(),
        "finals": [row(chosen, 1500, [0.5, 0.5]), row(wide, 2500, [0.51, 0.53])],
        "sweep": [
            {"name": "conv-2-w8", "epochs": 4, "row": row(wide, 2500, [0.51, 0.53])},
            {"name": "conv-2-w8", "epochs": 2, "row": row("conv-2-w8@e2-b8-t4", 2500, [0.4, 0.42])},
            {"name": "conv-2-w4", "epochs": 4, "row": row(narrow, 900, [0.3, 0.3])},
            {"name": "conv-2-w4", "epochs": 2, "row": row("conv-2-w4@e2-b8-t4", 900, [0.2, 0.2])},
        ],
    }
    return {**found, **changes}


def record(**changes: Any) -> Regret:
    top = json.loads(RECORD.read_text())
    return Regret.model_validate(
        {
            **{key: top[key] for key in ("flashdd", "format", "environment", "config", "data")},
            "cases": [case(**changes)],
            "notes": ["A note."],
        }
    )


def test_a_case_is_one_row_with_its_regret_in_points() -> None:
    lines = regret_markdown(record()).splitlines()
    assert lines[2] == (
        "| 10 | 200,000 (x4) | conv-2-w6@e4-b8-t4 | 1.5 KB | 50.0 ± 0.0 (n=2) | conv-2-w8@e4-b8-t4 | 2.5 KB | "
        "52.0 ± 1.4 (n=2) | +2.0 [-10.7, +14.7] |"
    )
    assert "- A note." in lines


def test_what_a_search_cost_is_said() -> None:
    head = "- The search at IPC 10, 200,000 (x4) image passes: 30 proxy students, trained in 1 min 0 s"
    assert f"{head}." in regret_markdown(record()).splitlines()
    search = {**json.loads(RECORD.read_text())["capacity"], "flops": 4e12, "reference_epochs": 3.815}
    assert (
        f"{head}; they and the networks that label took as many operations as 3.8 epochs of the reference ResNet-18 "
        "on these data."
    ) in regret_markdown(record(search=search)).splitlines()
    trials = {**search, "reference_epochs": 1.1}
    both = regret_markdown(record(search=search, tutor_search=trials))
    assert "as many operations as 4.9 epochs" in both


def test_a_choice_that_is_the_best_of_the_grid_says_how_far_the_next_is() -> None:
    held = case()
    wide = held["best"]
    line = regret_markdown(record(**{**held, "chosen": wide})).splitlines()[2]
    assert line.endswith("| 0, the choice (next: conv-2-w6@e4-b8-t4, -2.0 [-14.7, +10.7]) |")
    alone = regret_markdown(record(**{**held, "chosen": wide, "finals": held["finals"][1:]})).splitlines()[2]
    assert alone.endswith("| 0, the choice |")


def test_the_grid_is_drawn_as_networks_by_bytes_and_epochs() -> None:
    grid = regret_markdown(record()).splitlines()[-6:]
    assert grid == [
        "Grid at IPC 10, 200,000 (x4) image passes, n = 2:",
        "",
        "| network | bytes | after 2 epochs, % | after 4 epochs, % |",
        "| --- | ---: | ---: | ---: |",
        "| conv-2-w4 | 900 B | 20.0 ± 0.0 | 30.0 ± 0.0 |",
        "| conv-2-w8 | 2.5 KB | 41.0 ± 1.4 | 52.0 ± 1.4 |",
    ]


def test_a_choice_that_was_not_trained_is_no_case() -> None:
    with pytest.raises(ValidationError, match="conv-9-w9 is none of the finals"):
        RegretCase.model_validate(case(chosen="conv-9-w9"))
