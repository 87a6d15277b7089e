"""Every shipped recipe, stepped once: the same stages, networks and rows on a handful of images."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flashdd.core.recipe import build_config, read_recipe
from flashdd.core.record import Record
from flashdd.pipeline import throughput
from flashdd.pipeline.compare import compare
from flashdd.pipeline.realrows import REAL
from flashdd.pipeline.regret import checked_cases
from flashdd.pipeline.run import run
from flashdd.pipeline.schemes import SHIP

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
COMPARISONS = [path for path in RECIPES if "compare" in read_recipe(path)]
REGRETS = [path for path in RECIPES if "regret" in read_recipe(path)]
RUNS = [
    path
    for path in RECIPES
    if path not in COMPARISONS or f"flashdd run recipes/{path.name}" in path.read_text()
]
LARGE = (
    "cifar10-ipc1-rded-large-cpu",
    "cifar10-ipc10-rded-large",
)  # 1.8 % of the reference; the others 0.03 %
ONE_STEP = [
    ("data.resolution", 8),
    ("teacher.epochs", 1),
    ("labeler.image_passes", 1),
    ("labeler.stems", ["strided"]),
    ("protocol.image_passes", 100),
    ("search.finalists", 1),
    ("search.finalist_seeds", 2),
    ("labeler.bits", [8, 4]),
    ("labeler.refit_steps", 1),
    ("labeler.max_members", 2),
    ("search.temperatures", [4.0]),
    ("search.patience", 1),
    ("student.seeds", 1),
    ("device", "cpu"),
]


def _data(root: Path, side: int = 16, num_train: int = 14) -> Path:
    dice = np.random.default_rng(0)
    for split, count in (("train", num_train), ("test", 2)):
        for label in range(10):
            folder = root / split / f"class {label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = dice.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_every_comparison_takes_one_step(path: Path, finished: tuple[Path, Record], tmp_path: Path) -> None:
    """On three classes of digits, with the labeler of a run on these; every set and scheme makes its row, and real
    data one row for each way that is asked for."""
    recipe = read_recipe(path)
    shrunk = [
        ("data.resolution", None),
        ("images.dm.network", "convnet-2-w4-in"),
        ("images.dm.iterations", 1),
    ]
    axes = [("compare.ipc", [1, 2]), ("student.name", "convnet-2-w4"), ("teacher.name", "convnet-2-w8")]
    schemes = [_two_layers(scheme) for scheme in recipe["compare"]["schemes"]]
    source = [("data.source", "digits"), ("data.classes", ["0", "1", "2"]), ("compare.schemes", schemes)]
    config = build_config(recipe, [*ONE_STEP, *shrunk, *axes, *source])
    artifact = finished[0] / "artifact"
    comparison = compare(config, tmp_path / "out", artifact=artifact, cache=tmp_path / "cache")
    sets = recipe["compare"].get("images") or [recipe["images"]["method"]]
    on_images = [scheme for scheme in schemes if scheme not in (*REAL, SHIP)]
    students = recipe["compare"].get("students", ["one"])
    assert len(comparison.rows) == len(students) * (
        2 * len(sets) * len(on_images) + len(set(schemes) & set(REAL))
    )


def _two_layers(scheme: str) -> str:
    """The scheme's network, as deep as 8 pixels carry it; entropies, ranks and epochs that three classes and few steps
    have."""
    networks = scheme.replace("-3-w", "-2-w").replace("w64", "w12").replace("w48", "w12")
    short = re.sub(r"(bit-e\d)\d+", r"\1", networks)
    return short.replace("h2.19", "h1.05").replace("-c4", "-c1").replace("@r8", "@r2").replace("-r4", "-r2")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_recipe_of_a_run_takes_one_step(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "_SECONDS", 0.01)
    monkeypatch.setattr(throughput, "_BATCH", 4)
    source = ("data.source", str(_data(tmp_path / "data")))
    config = build_config(read_recipe(path), [*ONE_STEP, source, ("images.ipc", 10)])
    record = run(config, tmp_path / "out", cache=tmp_path / "cache")
    budget = 804_525 if path.stem in LARGE else 13_408
    assert record.labeler.budget_bytes == budget
    assert record.labeler.bytes <= budget
    assert {row.student for row in record.students} == {config.student.name}


@pytest.mark.parametrize("path", REGRETS, ids=lambda path: path.stem)
def test_every_study_of_regret_can_be_started(path: Path, tmp_path: Path) -> None:
    """Its search may choose every network of its grid, in every case; on as many pixels and classes as are meant."""
    recipe = read_recipe(path)
    images = [("data.source", str(_data(tmp_path, side=32, num_train=60)))] if "data" in recipe else []
    cases = checked_cases(build_config(recipe, images))
    asked = recipe["regret"]
    assert [(case.ipc, case.times) for case in cases] == list(
        itertools.product(asked["ipc"], asked["passes"])
    )
    assert all(len(case.grid) >= 18 for case in cases)
