"""Writing an artifact: whole or absent, equal bytes for equal content, readable by `datasets` alone."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from artifact_samples import VIEWS, make_artifact, make_content, make_images, make_labeler

from flashdd.artifact import write
from flashdd.artifact.format import CARD, IMAGES, LABELER, MANIFEST
from flashdd.artifact.read import load
from flashdd.artifact.verify import verify
from flashdd.core.errors import DataError, OutputError, StorageError
from flashdd.data.viewspec import ViewSpec


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_the_four_files(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "new" / "artifact")
    assert set(files_of(folder)) == {MANIFEST, IMAGES, LABELER, CARD}
    assert [path.name for path in folder.parent.iterdir()] == ["artifact"]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    assert files_of(make_artifact(tmp_path / "one")) == files_of(make_artifact(tmp_path / "two"))


def test_hashes_are_those_of_the_files(tmp_path: Path) -> None:
    files = files_of(make_artifact(tmp_path / "artifact"))
    document = json.loads(files[MANIFEST])
    assert document["files"] == {
        name: {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
        for name in (IMAGES, LABELER)
    }


def test_replaces_an_older_artifact(tmp_path: Path) -> None:
    make_artifact(tmp_path / "artifact", augmentation_seed=1)
    (tmp_path / "artifact" / "extra").write_text("x")
    make_artifact(tmp_path / "artifact", augmentation_seed=2)
    assert load(tmp_path / "artifact").augmentation_seed == 2
    assert not (tmp_path / "artifact" / "extra").exists()


def test_keys_that_are_no_strings_become_strings(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact", figures={"by_ipc": {10: (1, 2), 9: 0.5}})
    assert load(folder).figures == {"by_ipc": {"10": [1, 2], "9": 0.5}}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 10)])
@pytest.mark.parametrize("views", [ViewSpec(), VIEWS, ViewSpec(shuffle=2, mix="cutmix-batch")])
def test_every_kind_of_views_and_images(tmp_path: Path, shape: tuple[int, int, int], views: ViewSpec) -> None:
    content: dict[str, Any] = {"images": make_images(shape=shape), "labeler": make_labeler(shape=shape)}
    folder = make_artifact(tmp_path / "artifact", views=views, **content)
    report = verify(folder)
    assert report.ok, report.to_json()
    assert load(folder).views == views


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labeler": make_labeler(num_classes=4)}, "the labeler has 4 classes, the images have 3"),
        (
            {"labeler": make_labeler(shape=(1, 8, 8))},
            r"takes views of shape \(1, 8, 8\), the images have \(3, 8",
        ),
        ({"augmentation_seed": -1}, "augmentation_seed is -1"),
        ({"protocol": {"a": object()}}, "cannot keep 'protocol' in flashdd.json"),
        ({"figures": {"a": float("nan")}}, "cannot keep 'figures' in flashdd.json"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_artifact(tmp_path / "artifact", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["write_parquet", "write_labeler", "replay", "write_atomic", "card_text"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(write, step, fail)
    with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
        make_artifact(tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_older_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(make_artifact(tmp_path / "artifact"))
    monkeypatch.setattr(write, "card_text", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_artifact(tmp_path / "artifact", augmentation_seed=3)
    assert files_of(tmp_path / "artifact") == before
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write.write_artifact(make_content(), tmp_path / "file" / "artifact")


ODD_NAMES = (
    "yes",
    "0",
    'quote " and \\ backslash',
    "line\nbreak",
    "bell\x07",
    "delete\x7f",
    "next\x85line",
    "separator\u2028",
    "\ufeffmark",
    "emoji 🐈",
    "# no comment: [a] {b} &c *d !e |f >g %h @i `j",
    " spaces ",
    "---",
)


def test_datasets_reads_it_without_flashdd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    import datasets

    images = make_images(names=ODD_NAMES, per_class=1)
    labeler = make_labeler(num_classes=len(ODD_NAMES))
    folder = make_artifact(
        tmp_path / "artifact", images=images, labeler=labeler, title="--- # odd: 'title'\n|"
    )
    found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    train = found["train"]
    assert train.features == datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(ODD_NAMES))}
    )
    assert train["label"][:] == images.labels.tolist()
    pixels = np.stack([np.asarray(image) for image in train["image"]])
    assert torch.equal(torch.from_numpy(pixels).permute(0, 3, 1, 2), images.images)


def test_files_can_be_read_by_everybody(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    assert os.stat(folder).st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o644}
