"""Notes of a record: what was not searched, so that nothing is said to match more than it was compared to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tiny import tiny_config

from flashdd.core.record import Record
from flashdd.data.dataset import RealDataset
from flashdd.pipeline.real import Network
from flashdd.pipeline.record import at_chance, caveats
from flashdd.pipeline.start import started


@pytest.mark.parametrize(
    ("schemes", "told"),
    [
        ({"teacher@published", "hard"}, True),
        ({"teacher@published", "stored@4bit-by-labeler"}, True),
        ({"teacher@published", "stored@4bit"}, False),
        ({"teacher@searched"}, False),
        ({"stored@4bit-by-labeler", "hard"}, False),
    ],
)
def test_where_no_row_has_the_searched_teacher_a_note_says_so(
    schemes: set[str], told: bool, finished: tuple[Path, Record], tmp_path: Path
) -> None:
    config, cache = tiny_config(search__teacher_lengths=[0.5, 1.0]), finished[0].parent / "cache"
    with started(config, tmp_path / "out", cache=cache, progress=None) as (context, data):
        notes = caveats(context, data, schemes)
        assert any("training length was not searched" in note for note in notes) == told


@pytest.mark.parametrize(
    ("changes", "schemes", "dial"),
    [
        ({"search__temperatures": [4.0]}, {"teacher@searched"}, "search.temperatures"),
        ({"search__temperatures": [4.0, 1.0]}, {"teacher@searched"}, None),
        ({"search__temperatures": [4.0]}, {"teacher@published"}, None),
        ({"protocol__name": "rded", "search__logit_scales": [1.0]}, {"stored@4bit"}, "search.logit_scales"),
        ({"protocol__name": "rded", "search__logit_scales": [1.0, 2.0]}, {"stored@4bit"}, None),
    ],
)
def test_where_one_temperature_was_tried_a_note_says_so(
    changes: dict[str, Any],
    schemes: set[str],
    dial: str | None,
    finished: tuple[Path, Record],
    tmp_path: Path,
) -> None:
    config, cache = tiny_config(**changes), finished[0].parent / "cache"
    with started(config, tmp_path / "out", cache=cache, progress=None) as (context, data):
        told = [
            note for note in caveats(context, data, schemes) if "was not searched" in note and "soft" in note
        ]
    assert [f"({dial})" in note for note in told] == ([True] if dial else [])


@pytest.mark.parametrize(
    ("searched", "schemes", "told"),
    [
        (True, {"teacher@searched"}, False),
        (False, {"teacher@searched"}, True),
        (True, {"teacher@published"}, True),
        (False, {"labeler", "hard"}, False),
    ],
)
def test_where_the_teacher_had_no_class_offsets_a_note_says_so(
    searched: bool, schemes: set[str], told: bool, finished: tuple[Path, Record], tmp_path: Path
) -> None:
    config, cache = tiny_config(search__class_offsets=searched), finished[0].parent / "cache"
    with started(config, tmp_path / "out", cache=cache, progress=None) as (context, data):
        notes = caveats(context, data, schemes)
    assert (
        any("Class offsets of the full teacher's labels were not searched" in note for note in notes) == told
    )


@pytest.mark.parametrize(
    ("accuracy", "told"), [(0.1, True), (0.4, True), (0.6, True), (0.78, True), (0.82, False), (1.0, False)]
)
def test_a_teacher_at_chance_is_told(accuracy: float, told: bool) -> None:
    """Chance: three of four images are of one class, 0.75 ± 0.022 of 400."""
    val = SimpleNamespace(labels=torch.tensor([0] * 300 + [1] * 100))
    teacher = SimpleNamespace(
        name="convnet-2-w8", accuracy=lambda split: accuracy if split == "val" else None
    )
    notes = at_chance(cast(RealDataset, SimpleNamespace(val=val)), cast(Network, teacher))
    assert ["cannot be told from chance" in note for note in notes] == [True] * told
