"""The worked example of docs/extending.md, as it stands there, and what happens when a part is wrong."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_config

from flashdd.artifact.read import load
from flashdd.core import plugins
from flashdd.core.errors import UsageError
from flashdd.data.dataset import open_dataset
from flashdd.images.table import method_of
from flashdd.models.table import build, size_of_name
from flashdd.pipeline.distill import distill
from flashdd.pipeline.plan import plan
from flashdd.pipeline.run import run
from flashdd.pipeline.train import train_from_artifact

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
OWN = {
    "images__method": "mymethods:brightest",
    "student__name": "mymethods:perceptron",
    "protocol__name": "mymethods:brief",
    "labeler__stems": ["mymethods:wide_windows"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, holding the page's module."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (tmp_path / "mymethods.py").write_text(found[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # a rewritten module of the same second is read again
    yield tmp_path
    sys.modules.pop("mymethods", None)


def test_every_part_of_the_example_is_twenty_lines_at_most(folder: Path) -> None:
    parts = (folder / "mymethods.py").read_text().split("\n\n\n")[1:]
    assert len(parts) == 4
    assert max(part.count("\n") for part in parts) <= 20


def test_the_example_runs(folder: Path) -> None:
    record = run(tiny_config(**OWN), folder / "out", cache=folder / "cache")
    assert record.images.method == "mymethods:brightest"
    assert {row.protocol for row in record.students} == {"brief", "classifier"}
    assert "mymethods:perceptron" in {row.student for row in record.students}
    assert record.capacity is not None
    assert {rung.name for rung in record.capacity.candidates} <= {
        f"chain-{width}k5s2-{2 * width}k3m-gap" for width in (4, 8, 16)
    }
    artifact = load(folder / "out" / "artifact")
    assert artifact.labeler.members[0].spec.name.startswith("chain-")
    (data,) = (folder / "cache").glob("data-*/data")
    train = open_dataset(data).train
    for label in range(3):
        brightness = [
            float(np.mean(i)) for i, own in zip(train.images, train.labels, strict=True) if own == label
        ]
        ours = artifact.images[artifact.labels == label].float().mean((1, 2, 3))
        assert torch.allclose(ours, torch.tensor(sorted(brightness)[-1:-3:-1]))


def test_an_artifact_never_makes_us_import_a_module(folder: Path) -> None:
    run(tiny_config(**OWN), folder / "out", cache=folder / "cache")
    (folder / "mymethods.py").write_text("raise SystemExit('imported')")
    sys.modules.pop("mymethods", None)
    result = train_from_artifact(folder / "out" / "artifact", seeds=1, device="cpu")
    assert result["student"] == "convnet-2-w32"


def test_images_are_made_again_when_the_module_changes(folder: Path) -> None:
    config = tiny_config(images__method="mymethods:brightest")
    first = distill(config, folder / "out", cache=folder / "cache")
    path = folder / "mymethods.py"
    path.write_text(path.read_text().replace("descending=True", "descending=False"))
    sys.modules.pop("mymethods", None)
    second = distill(config, folder / "out", cache=folder / "cache")
    assert first["content_hash"] != second["content_hash"]


def test_same_seed_same_weights_and_no_trace_in_torch(folder: Path) -> None:
    before = torch.random.get_rng_state()
    nets = [build("mymethods:perceptron", num_classes=3, shape=(1, 8, 8), seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [net.state_dict()["1.weight"] for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert size_of_name("mymethods:perceptron", num_classes=3, shape=(1, 8, 8)).macs == 64 * 64 + 64 * 3


@pytest.mark.parametrize(
    ("key", "code", "match"),
    [
        ("images__method", "", r"has no 'part': correct the name"),
        (
            "images__method",
            "import nothing_like_this",
            "importing mine failed .*current folder or be installed",
        ),
        ("images__method", "def part(task, settings): return 3", "returned a int: expected an ImageSet"),
        (
            "images__method",
            "def part(task, settings):\n    return 1 / 0",
            r"failed in mine.py, line 2 \(ZeroDivisionError: division by zero\): correct it",
        ),
        (
            "images__method",
            "from dataclasses import replace\nfrom flashdd.images.random import random_images\n"
            "def part(task, settings): return random_images(replace(task, ipc=1), None)",
            r"returned 3 images \(1, 8, 8\) of 3 classes: expected 2 of each of the 3 classes",
        ),
        (
            "student__name",
            "def part(num_classes, shape): return 3",
            "returned a int: expected a torch.nn.Module",
        ),
        ("student__name", "def part(classes): pass", "failed when called with num_classes=3"),
        (
            "student__name",
            "from torch import nn\ndef part(num_classes, shape): return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))",
            r"gives \(2, 5\) for two images: expected logits \(2, 3\)",
        ),
        (
            "student__name",
            "from torch import nn\ndef part(num_classes, shape): return nn.Linear(3, 3)",
            "failed on two images",
        ),
        ("protocol__name", "def part(setting): return {}", "returned a dict: expected a Protocol"),
        ("labeler__stems", "def part(num_classes, shape): return ['conv-2-w4']", "expected a list of chains"),
        ("labeler__stems", "def part(num_classes, shape): return [['cnv-2-w4']]", "unknown labeler network"),
        (
            "labeler__stems",
            "def part(num_classes, shape): return [['conv-2-w4', 'wide']]",
            "labeler family 'mine:part': unknown labeler network 'wide'",
        ),
        ("labeler__stems", "def part(num_classes, shape): return [['chain-99k3']]", "no network within 4000"),
        ("labeler__stems", "def part(num_classes, shape): return [[]]", "returned no network"),
    ],
)
def test_a_wrong_part_gets_a_sentence(key: str, code: str, match: str, folder: Path) -> None:
    (folder / "mine.py").write_text(code)
    value = ["mine:part"] if key == "labeler__stems" else "mine:part"
    try:
        with pytest.raises(UsageError, match=match):
            run(tiny_config(**{key: value}), folder / "out", cache=folder / "cache")
    finally:
        sys.modules.pop("mine", None)


def test_a_dry_run_looks_for_the_method(folder: Path) -> None:
    with pytest.raises(UsageError, match="importing elsewhere failed"):
        plan(tiny_config(images__method="elsewhere:part"))
    plan(tiny_config(images__method="mymethods:brightest"))


def test_installed_packages_register_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = plugins.GROUPS["image method"]
    named = [
        importlib.metadata.EntryPoint(name, "mymethods:brightest", group) for name in ("shiny", "random")
    ]

    def points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [point for point in named if point.group == group]

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    plugins.registered.cache_clear()
    try:
        assert method_of("shiny").make.__name__ == "brightest"
        assert method_of("random").make.__name__ == "random_images"
        with pytest.raises(UsageError, match="did you mean 'shiny'"):
            method_of("shinny")
    finally:
        plugins.registered.cache_clear()
