"""`flashdd compare` over sets made elsewhere, and over schemes that a set cannot have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import Listening, tiny_config

from flashdd.artifact.read import load
from flashdd.core.errors import UsageError
from flashdd.core.record import Record
from flashdd.pipeline import compare as module
from flashdd.pipeline.compare import compare
from flashdd.pipeline.schemes import scheme_row


def test_sets_made_elsewhere_are_told_apart(finished: tuple[Path, Record], tmp_path: Path) -> None:
    held = load(finished[0] / "artifact")
    for name in ("a", "b"):
        torch.save({"images": held.images, "labels": held.labels}, tmp_path / f"{name}.pt")
    paths = [str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]
    config = tiny_config(compare__schemes=["hard"], compare__images=paths, student__seeds=1)
    comparison = compare(config, tmp_path / "out", cache=finished[0].parent / "cache")
    assert [row.images for row in comparison.rows] == ["a.pt", "b.pt"]
    assert str(tmp_path) not in (tmp_path / "out" / "comparison.json").read_text()


def test_views_that_do_not_replay_leave_stored_labels_out(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    config = tiny_config(
        views__mix="cutmix-batch",
        compare__schemes=["hard", "stored", "stored@equal-bytes"],
        student__seeds=1,
    )
    comparison = compare(config, tmp_path / "out", cache=finished[0].parent / "cache")
    assert [row.scheme for row in comparison.rows] == ["hard"]
    assert sum("views do not replay" in note for note in comparison.notes) == 2


def test_sets_of_one_name_are_refused_before_training(finished: tuple[Path, Record], tmp_path: Path) -> None:
    """So is a set that is called as a method is: the scores would take it for random real images."""
    held = load(finished[0] / "artifact")
    for name in ("one/set.pt", "two/set.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save({"images": held.images, "labels": held.labels}, tmp_path / name)
    for index, (pixels, label) in enumerate(zip(held.images, held.labels, strict=True)):
        folder = tmp_path / "random" / held.class_names[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(folder / f"{index}.png")
    shutil.copytree(tmp_path / "random", tmp_path / "foreign")
    named = ("one/set.pt", "two/set.pt", "random", "foreign")
    one, two, random, foreign = (str(tmp_path / name) for name in named)
    progress = Listening()
    for sets, match in (
        ([one, two], r"two sets of the name 'set.pt' .*: rename one"),
        ([random, "rded"], "the images that flashdd calls 'random': rename it"),
        ([foreign], "the images that flashdd calls 'foreign': rename it"),  # as of an artifact
    ):
        config = tiny_config(compare__schemes=["hard"], compare__images=sets, student__seeds=1)
        with pytest.raises(UsageError, match=match):
            compare(config, tmp_path / "out", cache=tmp_path / "cache", progress=progress)
    assert progress.started == []
    assert not (tmp_path / "out").exists()


def test_a_comparison_without_any_row_is_refused(finished: tuple[Path, Record], tmp_path: Path) -> None:
    config = tiny_config(views__mix="cutmix-batch", compare__schemes=["stored"], student__seeds=1)
    with pytest.raises(
        UsageError, match=r"no row can be made. No stored on .*: .* Name a scheme that keeps no"
    ):
        compare(config, tmp_path / "out", cache=finished[0].parent / "cache")
    assert not (tmp_path / "out" / "comparison.json").exists()


def test_a_note_says_which_protocol_and_says_it_once(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scheme_row
    monkeypatch.setattr(
        module, "scheme_row", lambda shown, held, name: None if name == "stored" else made(shown, held, name)
    )
    config = tiny_config(
        compare__schemes=["hard", "stored"],
        compare__students=["convnet-2-w4", "convnet-1-w4"],
        compare__plain=True,
        student__seeds=1,
    )
    comparison = compare(config, tmp_path / "out", cache=finished[0].parent / "cache")
    notes = [note.partition(":")[0] for note in comparison.notes if note.startswith("No stored")]
    assert notes == [f"No stored on rded, IPC 2, protocol {name}" for name in ("flash", "flash@plain")]
