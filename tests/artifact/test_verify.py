"""`verify`: every check is listed, damage is reported and never raised, also where hashes were made anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifact_samples import FILES, VIEWS, make_artifact, make_images, make_labeler, reseal

from flashdd.artifact.format import IMAGES, LABELER, MANIFEST
from flashdd.artifact.read import load
from flashdd.artifact.verify import VerifyReport, verify
from flashdd.data.imageset import write_parquet
from flashdd.data.viewspec import ViewSpec
from flashdd.labels.flash import pack
from flashdd.labels.flash.pack import write_labeler

NAMES = [
    "folder",
    "flashdd.json",
    "data/train-00000-of-00001.parquet: hash",
    "labeler.safetensors: hash",
    "data/train-00000-of-00001.parquet: contents",
    "labeler.safetensors: contents",
    "replayed views",
    "replayed labels",
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("sound") / "artifact")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "artifact"))


def failed(report: VerifyReport) -> list[str]:
    assert [check.check for check in report.checks] == NAMES
    assert all(check.detail for check in report.checks)
    assert report.ok == all(check.ok for check in report.checks)
    return [check.check for check in report.checks if not check.ok]


def detail(report: VerifyReport, name: str) -> str:
    return next(check.detail for check in report.checks if check.check == name)


def test_a_sound_artifact(folder: Path) -> None:
    report = verify(str(folder))
    assert failed(report) == []
    assert detail(report, NAMES[1]) == "format 1, written by flashdd 0.1.0"
    assert detail(report, NAMES[6]) == "parameters of 6 views of epoch 0 are bitwise equal"
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


def test_views_that_cannot_be_replayed(tmp_path: Path) -> None:
    report = verify(make_artifact(tmp_path / "artifact", views=ViewSpec(mix="cutmix-batch")))
    assert failed(report) == []
    assert detail(report, "replayed views") == "views of mix 'cutmix-batch' cannot be replayed"


def test_no_folder(tmp_path: Path) -> None:
    report = verify(tmp_path / "none")
    assert failed(report) == NAMES
    assert "does not exist" in detail(report, "folder")
    assert detail(report, "flashdd.json") == "not checked, because the check 'folder' failed."


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (MANIFEST, [NAMES[1], NAMES[2], NAMES[3], NAMES[6], NAMES[7]]),
        (IMAGES, [NAMES[2], NAMES[4], NAMES[6], NAMES[7]]),
        (LABELER, [NAMES[3], NAMES[5], NAMES[7]]),
    ],
)
def test_missing_and_truncated_files(folder: Path, name: str, expected: list[str]) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    assert failed(verify(folder)) == expected
    (folder / name).unlink()
    report = verify(folder)
    assert failed(report) == expected
    assert "is missing" in detail(report, expected[0])


def put(document: dict[str, Any], *path: Any, value: Any) -> None:
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        (
            lambda document: put(document, "views", "augmentation_seed", value=8),
            NAMES[6:],
            "views.replay.params_sha256 in flashdd.json",
        ),
        (
            lambda document: put(document, "views", "spec", "flip", value=False),
            NAMES[6:],
            "views.replay.params_sha256 in flashdd.json",
        ),
        (
            lambda document: put(document, "views", "replay", "params_sha256", value="0" * 64),
            NAMES[6:7],
            "expected 0000000",
        ),
        (
            lambda document: put(document, "views", "replay", "logits", 3, 1, value=0.0),
            NAMES[7:],
            "views.replay.logits in flashdd.json, expected at most 0.001",
        ),
        (
            lambda document: put(document, "class_names", value=["cat", "cow", "猫"]),
            NAMES[4:5] + NAMES[6:],
            "class_names is ('cat', 'dog'",
        ),
        (
            lambda document: put(document, "num_images", value=100),
            [NAMES[1], *NAMES[2:4], *NAMES[6:]],
            "16 rows",
        ),
        (lambda document: put(document, "format", value=2), [NAMES[1], *NAMES[2:4], *NAMES[6:]], "upgrade"),
    ],
)
def test_edits_behind_hashes_made_anew(
    folder: Path, change: Callable[[dict[str, Any]], None], expected: list[str], message: str
) -> None:
    reseal(folder, change)
    report = verify(folder)
    assert failed(report) == expected
    assert message in detail(report, expected[0])


def test_logits_within_the_tolerance_pass(folder: Path) -> None:
    def shift(by: float) -> Callable[[dict[str, Any]], None]:
        def change(document: dict[str, Any]) -> None:
            document["views"]["replay"]["logits"][2][0] += by

        return change

    reseal(folder, shift(9e-4))
    assert failed(verify(folder)) == []
    reseal(folder, shift(2e-4))
    assert failed(verify(folder)) == ["replayed labels"]


def test_another_labeler_behind_hashes_made_anew(folder: Path) -> None:
    write_labeler(make_labeler(seed=9), folder / LABELER)
    reseal(folder)
    load(folder)
    assert failed(verify(folder)) == ["replayed labels"]


def test_one_changed_image_behind_hashes_made_anew(folder: Path) -> None:
    images = make_images()
    images.images[0] = 255 - images.images[0]
    write_parquet(images, folder / IMAGES)
    reseal(folder)
    assert failed(verify(folder)) == ["replayed labels"]


def test_logits_that_are_not_finite_fail(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    infinite = make_labeler()
    infinite.logit_scale = float("nan")
    monkeypatch.setattr("flashdd.artifact.read.read_labeler", lambda path: infinite)
    assert failed(verify(folder)) == ["replayed labels"]


@pytest.mark.parametrize("error", [ValueError("odd"), MemoryError(), RecursionError()])
def test_errors_that_nobody_foresaw_are_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(path: Path) -> pack.Labeler:
        raise error

    monkeypatch.setattr("flashdd.artifact.read.read_labeler", fail)
    report = verify(folder)
    assert failed(report) == [NAMES[5], NAMES[7]]
    assert type(error).__name__ in detail(report, NAMES[5])


def test_links_are_damage(folder: Path, tmp_path: Path) -> None:
    for name in FILES:
        target = tmp_path / Path(name).name
        shutil.move(folder / name, target)
        (folder / name).symlink_to(target)
        report = verify(folder)
        assert not report.ok
        assert any("is a symbolic link" in check.detail for check in report.checks)


def test_many_images(tmp_path: Path) -> None:
    report = verify(make_artifact(tmp_path / "artifact", images=make_images(per_class=9), views=VIEWS))
    assert failed(report) == []
    assert "16 views" in detail(report, "replayed views")
