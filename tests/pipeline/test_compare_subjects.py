"""Whom `flashdd compare` compares: a run, an artifact alone, or what a run lends a recipe."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_config

from flashdd.artifact.format import IMAGES
from flashdd.artifact.read import load
from flashdd.cli import main as cli
from flashdd.core.config import RunConfig
from flashdd.core.errors import UsageError
from flashdd.core.recipe import build_config
from flashdd.core.record import Record
from flashdd.pipeline import subject as subject_module
from flashdd.pipeline.compare import compare
from flashdd.pipeline.subject import open_subject


def test_folders_that_are_neither_run_nor_artifact_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither the folder of a finished run"):
        open_subject(tmp_path)


def test_a_run_that_was_killed_after_its_artifact_is_refused(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    copy = shutil.copytree(finished[0], tmp_path / "out")
    (copy / "record.json").unlink()
    with pytest.raises(UsageError, match="neither the folder of a finished run"):
        open_subject(copy)


def test_an_artifact_alone_is_compared(finished: tuple[Path, Record], tmp_path: Path) -> None:
    out, record = finished
    subject = open_subject(out / "artifact")
    comparison = compare(
        build_config(subject.settings, [("compare.schemes", ["labeler"]), ("student.seeds", 2)]),
        tmp_path / "out",
        artifact=subject.artifact,
        cache=out.parent / "cache",
    )
    ours = next(row for row in record.students if (row.scheme, row.images) == ("labeler", "rded"))
    assert comparison.rows[0].accuracy.values == ours.accuracy.values


def test_an_artifact_that_says_nothing_of_students_is_none_of_a_killed_run(
    finished: tuple[Path, Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = shutil.copytree(finished[0] / "artifact", tmp_path / "out" / "artifact")
    monkeypatch.setattr(subject_module, "load", lambda path: replace(load(path), figures={}))
    assert open_subject(tmp_path / "out").artifact == copy


def test_the_file_of_images_that_a_method_made_is_a_set_made_elsewhere(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    artifact = finished[0] / "artifact"
    config = tiny_config(images__method=str(artifact / IMAGES), compare__schemes=["hard"], student__seeds=1)
    found = compare(config, tmp_path / "out", artifact=artifact, cache=finished[0].parent / "cache")
    assert [row.images for row in found.rows] == [Path(IMAGES).name]
    assert found.artifact is not None
    assert found.artifact.images == "rded"


def test_an_artifact_of_other_data_is_refused(finished: tuple[Path, Record], tmp_path: Path) -> None:
    config = tiny_config(data__classes=["3", "4", "5"], compare__schemes=["labeler"])
    with pytest.raises(
        UsageError, match=r"was made from other data than 'digits' \(classes 0, 1, 2, .*; here 3, 4, 5"
    ):
        compare(
            config,
            tmp_path / "out",
            artifact=finished[0] / "artifact",
            cache=finished[0].parent / "cache",
        )


def test_a_name_in_an_artifact_imports_nothing(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = load(finished[0] / "artifact")
    named = {**held.provenance, "student": "evil:part", "teacher": "evil:part"}
    monkeypatch.setattr(subject_module, "load", lambda path: replace(held, provenance=named))
    settings = open_subject(finished[0] / "artifact").settings
    assert settings["student"] == settings["teacher"] == {}
    assert settings["protocol"] == {"name": "flash", "image_passes": 600}
    elsewhere = {**held.provenance, "data": {**held.provenance["data"], "name": "photos"}}
    monkeypatch.setattr(subject_module, "load", lambda path: replace(held, provenance=elsewhere))
    with pytest.raises(
        UsageError, match="made from the data 'photos', which are not here under that name: give them"
    ):
        open_subject(finished[0] / "artifact")
    assert open_subject(finished[0] / "artifact", "other/photos").artifact is not None


def test_a_run_lends_a_recipes_comparison_its_labeler_and_finished_work(
    finished: tuple[Path, Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, record = finished
    taken: dict[str, object] = {}

    def compared(config: RunConfig, _: Path, **kwargs: object) -> None:
        taken.update(kwargs, ipc=config.images.ipc)
        raise UsageError("seen enough")

    monkeypatch.setattr("flashdd.pipeline.compare.compare", compared)
    (tmp_path / "recipe.toml").write_text("[images]\nipc = 7\n")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", str(tmp_path / "recipe.toml"), "--artifact", str(out)])
    assert (taken["ipc"], taken["artifact"], taken["stages"]) == (7, out / "artifact", out / "stages")
    assert taken["ship"] == record.ship is not None
