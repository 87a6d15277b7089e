"""Every shipped recipe, stepped once: the same stages, networks and rows on a handful of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flashdd.core.config import build_config, read_recipe
from flashdd.pipeline import throughput
from flashdd.pipeline.run import run

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
ONE_STEP = [
    ("data.resolution", 16),
    ("teacher.epochs", 1),
    ("labeler.image_passes", 1),
    ("labeler.stems", ["strided"]),
    ("protocol.image_passes", 100),
    ("search.finalists", 1),
    ("search.finalist_seeds", 2),
    ("search.checkpoints", [1.0]),
    ("search.temperatures", [4.0]),
    ("search.patience", 1),
    ("student.seeds", 1),
    ("device", "cpu"),
]


def _data(root: Path) -> Path:
    dice = np.random.default_rng(0)
    for split, count in (("train", 14), ("test", 2)):
        for label in range(10):
            folder = root / split / f"class {label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = dice.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_takes_one_step(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "_SECONDS", 0.01)
    source = ("data.source", str(_data(tmp_path / "data")))
    config = build_config(read_recipe(path), [*ONE_STEP, source])
    record = run(config, tmp_path / "out", cache=tmp_path / "cache")
    assert record.labeler.budget_bytes == 13_408
    assert record.labeler.bytes <= 13_408
    assert {row.student for row in record.students} == {config.student.name}
