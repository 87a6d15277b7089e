"""The export for DD-Ranking: read back as that package reads it, and refused where it could not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from artifact_samples import make_artifact, make_images, make_labeler

from flashdd.artifact import ddranking
from flashdd.artifact.ddranking import export_dd_ranking
from flashdd.artifact.read import Artifact, load
from flashdd.cli import main as cli
from flashdd.core.errors import DataError, FlashddError, OutputError, UnknownNameError
from flashdd.data.foreign import Expected, read_foreign

NAMES = tuple(f"class {index}" for index in range(10))
SHAPE = (3, 8, 8)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # of CIFAR-10, as utils/data.py there has them


def _artifact(folder: Path, names: tuple[str, ...] = NAMES, **changes: Any) -> Artifact:
    facts: dict[str, Any] = {
        "images": make_images(names),
        "labeler": make_labeler(len(names)),
        "provenance": {"data": {"name": "uoft-cs/cifar10"}},
    }
    return load(make_artifact(folder, **{**facts, **changes}))


def test_tensors_are_the_images_and_their_labels(tmp_path: Path) -> None:
    artifact = _artifact(tmp_path / "artifact")
    assert export_dd_ranking(artifact, tmp_path / "out") == "CIFAR10"
    images = torch.load(tmp_path / "out" / "images.pt", weights_only=True)
    labels = torch.load(tmp_path / "out" / "labels.pt", weights_only=True)
    assert (images.dtype, tuple(images.shape)) == (torch.float32, (20, *SHAPE))
    assert (labels.dtype, tuple(labels.shape)) == (torch.float32, (20, 10))
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        for channel in range(3):
            pixels = 255 * (image[channel] * STD[channel] + MEAN[channel])
            assert torch.equal(pixels.round().to(torch.uint8), artifact.images[row, channel])
        expected = artifact.labeler.logits_of(artifact.images[row : row + 1] / 255)
        assert torch.allclose(label, expected[0], atol=1e-4)
    # hard labels are taken for granted: IPC rows of class 0, then IPC of class 1, ...
    assert artifact.labels.tolist() == [index for index in range(10) for _ in range(2)]


def test_its_teacher_on_normalized_images_gives_the_same_labels(tmp_path: Path) -> None:
    """Mode 'M' as the README has it, on images that no augmentation changed."""
    artifact = _artifact(tmp_path / "artifact")
    export_dd_ranking(artifact, tmp_path / "out")
    images, labels = (
        torch.load(tmp_path / "out" / name, weights_only=True) for name in ("images.pt", "labels.pt")
    )
    assert torch.allclose(artifact.labeler.as_teacher(MEAN, STD)(images), labels, atol=1e-3)


def test_class_folders_are_the_same_images(tmp_path: Path) -> None:
    artifact = _artifact(tmp_path / "artifact")
    export_dd_ranking(artifact, tmp_path / "out")
    expected = Expected(class_names=NAMES, shape=SHAPE, mean=MEAN, std=STD)
    again = read_foreign(tmp_path / "out" / "images", expected)
    assert torch.equal(again.images.images, artifact.images)
    assert torch.equal(again.images.labels, artifact.labels)


def test_the_readme_says_how_to_load_it(tmp_path: Path) -> None:
    artifact = _artifact(tmp_path / "artifact")
    export_dd_ranking(artifact, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    for part in (
        'torch.load("images.pt", weights_only=True)',
        'dataset="CIFAR10", ipc=2, im_size=(8, 8)',
        '{"temperature": 4, "scale_loss": False}',
        f"as_teacher({MEAN}, {STD})",
        "augmentations of an image then share its one label",
        "torch.arange(10).repeat_interleave(2)",
    ):
        assert part in text
    assert "<" not in text.replace("```", "")


def test_equal_artifacts_give_equal_files(tmp_path: Path) -> None:
    artifact = _artifact(tmp_path / "artifact")
    for name in ("a", "b"):
        export_dd_ranking(artifact, tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 3 + 20
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    artifact = _artifact(tmp_path / "artifact")
    (tmp_path / "empty").mkdir()
    export_dd_ranking(artifact, tmp_path / "empty")
    before = (tmp_path / "empty" / "images.pt").stat().st_mtime_ns
    with pytest.raises(OutputError, match="empty is not empty: give a folder that does not exist yet"):
        export_dd_ranking(artifact, tmp_path / "empty")
    assert (tmp_path / "empty" / "images.pt").stat().st_mtime_ns == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file is a file"):
        export_dd_ranking(artifact, tmp_path / "file")


def test_half_an_export_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(pixels: np.ndarray[Any, Any]) -> bytes:
        raise RuntimeError("out of luck")

    artifact = _artifact(tmp_path / "artifact")
    monkeypatch.setattr(ddranking, "encode_png", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        export_dd_ranking(artifact, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


@pytest.mark.parametrize(
    ("changes", "dataset", "error", "message"),
    [
        (
            {"provenance": {"data": {"name": "digits"}}},
            None,
            DataError,
            "'digits', which is no dataset of DD-Ranking",
        ),
        ({"provenance": {"data": "photos"}}, None, DataError, "'photos', which is no dataset of DD-Ranking"),
        ({}, "CIFAR", UnknownNameError, "unknown DD-Ranking dataset 'CIFAR': did you mean 'CIFAR10'"),
        ({}, "CIFAR100", DataError, "has 10 classes, DD-Ranking's CIFAR100 100"),
        (
            {
                "images": make_images(NAMES, shape=(1, 8, 8)),
                "labeler": make_labeler(10, shape=(1, 8, 8)),
            },
            None,
            DataError,
            "take RGB images, those of the artifact are gray",
        ),
    ],
    ids=["data", "foreign provenance", "name", "classes", "gray"],
)
def test_what_dd_ranking_cannot_take_is_refused(
    changes: dict[str, Any], dataset: str | None, error: type[FlashddError], message: str, tmp_path: Path
) -> None:
    artifact = _artifact(tmp_path / "artifact", **changes)
    with pytest.raises(error, match=message):
        export_dd_ranking(artifact, tmp_path / "out", dataset=dataset)
    assert not (tmp_path / "out").exists()


def test_classes_of_different_sizes_are_refused(tmp_path: Path) -> None:
    whole = make_images(NAMES)
    uneven = type(whole)(images=whole.images[1:], labels=whole.labels[1:], class_names=NAMES)
    with pytest.raises(DataError, match="as many images of every class for granted"):
        export_dd_ranking(_artifact(tmp_path / "artifact", images=uneven), tmp_path / "out")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _artifact(tmp_path / "artifact", provenance={"data": {"name": "mine"}})
    arguments = ["export", str(tmp_path / "artifact"), "--to", "dd-ranking", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as done:
        cli.main(arguments)
    assert done.value.code == 2
    assert "say which with --dataset" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        cli.main([*arguments, "--dataset", "ImageNette"])
    assert done.value.code == 0
    assert "DD-Ranking's dataset ImageNette" in capsys.readouterr().out
    assert (tmp_path / "out" / "README.md").exists()
