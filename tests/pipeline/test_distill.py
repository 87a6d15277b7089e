"""Images alone, and images that somebody else made."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config

from flashdd.artifact.read import load
from flashdd.core.errors import DataError, FlashddError, OutputError, UnknownNameError, UsageError
from flashdd.core.recipe import build_config
from flashdd.data.imageset import read_parquet
from flashdd.pipeline.compare import compare
from flashdd.pipeline.distill import distill
from flashdd.pipeline.label import label
from flashdd.pipeline.plan import plan
from flashdd.pipeline.run import run
from flashdd.pipeline.subject import open_subject


def _export(parquet: Path, root: Path, names: list[str]) -> Path:
    """Class folders as RDED publishes them, of an image set."""
    held = read_parquet(parquet)
    shutil.rmtree(root, ignore_errors=True)
    for index, (image, number) in enumerate(zip(held.images, held.labels.tolist(), strict=True)):
        folder = root / names[number]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / f"class{number:05d}_id{index:05d}.png")
    return root


@pytest.mark.parametrize("method", ["random", "herding", "kmeans", "rded", "dm"])
def test_every_method_leaves_a_file_of_images(method: str, tmp_path: Path) -> None:
    config = tiny_config(
        images__method=method,
        images__dm__iterations=2,
        images__dm__network="convnet-2-w4-in",
        images__dm__real_batch=5,
    )
    facts = distill(config, tmp_path / "out", cache=tmp_path / "cache")
    images = read_parquet(Path(facts["path"]))
    assert images.content_hash == facts["content_hash"]
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (facts["method"], facts["ipc"], facts["bytes"]) == (
        method,
        2,
        (tmp_path / "out" / "images.parquet").stat().st_size,
    )
    asked = method in ("herding", "kmeans", "rded")
    assert any((tmp_path / "cache").glob("network-convnet-2-w8-*")) == asked  # no teacher for nothing


def test_classes_in_another_order_are_refused_unless_they_are_to_be_taken_as_they_are(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    facts = distill(tiny_config(images__method="random", images__ipc=12), tmp_path / "made", cache=cache)
    right = read_parquet(Path(facts["path"]))
    path = tmp_path / "shifted.pt"
    torch.save({"images": right.images, "labels": (right.labels + 1) % 3}, path)
    config = tiny_config(images__method=str(path), teacher__epochs=20)
    with pytest.raises(DataError, match=r"seem to mean other classes.*--set images\.check_classes=false"):
        distill(config, tmp_path / "out", cache=cache)
    taken = tiny_config(images__method=str(path), images__check_classes=False)
    made = distill(taken, tmp_path / "taken", cache=cache)
    assert "what their labels mean was not checked (images.check_classes = false)" in made["notes"]


def test_a_labeler_for_images_made_elsewhere(tmp_path: Path) -> None:
    """`label` on a set, then `run` on the same folder: the same labeler, bit for bit."""
    facts = distill(tiny_config(images__method="random"), tmp_path / "made", cache=tmp_path / "cache")
    config = tiny_config(images__method=facts["path"])
    made = label(config, tmp_path / "out", cache=tmp_path / "cache")
    artifact = load(made["artifact"])
    assert artifact.image_set.content_hash == facts["content_hash"]
    path = tmp_path / "out" / "artifact" / "labeler.safetensors"
    before = path.read_bytes()
    assert len(before) == made["bytes"] <= 4000
    assert any("the teacher agrees with " in note for note in made["notes"])
    assert "No student was trained" in (tmp_path / "out" / "artifact" / "README.md").read_text()
    held = open_subject(
        tmp_path / "out"
    )  # the folder that holds the artifact, as `flashdd inspect` takes it, too
    assert (held.artifact, held.stages) == (tmp_path / "out" / "artifact", tmp_path / "out" / "stages")
    record = run(config, tmp_path / "out", cache=tmp_path / "cache")
    assert path.read_bytes() == before
    assert record.labeler.accuracy == made["accuracy"]
    with pytest.raises(OutputError, match="holds a finished run, whose record and artifact belong together"):
        label(config, tmp_path / "out", cache=tmp_path / "cache")


def test_a_run_takes_images_made_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = distill(tiny_config(images__method="random"), tmp_path / "made", cache=tmp_path / "cache")
    folder = _export(Path(facts["path"]), tmp_path / "set", ["00000", "00001", "00002"])
    record = run(tiny_config(images__method=str(folder)), tmp_path / "out", cache=tmp_path / "cache")
    assert record.images.method == "foreign"
    assert record.images.ipc == 2
    assert any("told by number" in note for note in record.notes)
    assert {row.images for row in record.students} == {"foreign", "random", "real-equal-passes", "real-whole"}
    shipped = load(tmp_path / "out" / "artifact")
    assert torch.equal(shipped.images, read_parquet(Path(facts["path"])).images)
    assert str(tmp_path) not in (tmp_path / "out" / "record.json").read_text()
    shutil.rmtree(folder)
    ours = next(row for row in record.students if (row.scheme, row.images) == ("labeler", "foreign"))
    asked = [("compare.schemes", ["hard", "labeler"]), ("student.seeds", 2), ("device", "cpu")]
    monkeypatch.chdir(tmp_path)
    for where in (tmp_path / "out", Path("out/artifact")):  # the images are in the artifact
        held = open_subject(where)
        compared = compare(
            build_config(held.settings, asked),
            tmp_path / f"of-{where.name}",
            artifact=tmp_path / "out" / "artifact",
            cache=tmp_path / "cache",
        )
        assert [row.images for row in compared.rows] == ["foreign", "foreign"]
        assert compared.rows[1].accuracy.values == ours.accuracy.values
        assert compared.artifact is not None
        assert (compared.artifact.images, compared.artifact.ipc) == ("foreign", 2)
    for axes, match in (
        ([("compare.ipc", [1, 5])], "have their own number per class: leave --ipc out"),
        ([("compare.schemes", ["static@learned"])], "come without soft labels .an artifact keeps none"),
    ):
        with pytest.raises(UsageError, match=match):
            compare(
                build_config(held.settings, [*asked, *axes]), tmp_path / "refused", artifact=held.artifact
            )


def test_a_set_of_uneven_classes_is_taken_and_told(tmp_path: Path) -> None:
    facts = distill(tiny_config(images__method="random"), tmp_path / "made", cache=tmp_path / "cache")
    folder = _export(Path(facts["path"]), tmp_path / "set", ["00000", "00001", "00002"])
    next((folder / "00001").iterdir()).unlink()
    made = distill(tiny_config(images__method=str(folder)), tmp_path / "out", cache=tmp_path / "cache")
    assert made["num_images"] == 5
    assert "classes hold 1 to 2 images each" in made["notes"]


def test_labels_in_another_order_are_refused_by_the_teacher(tmp_path: Path) -> None:
    config = tiny_config(images__method="random", images__ipc=8, teacher__epochs=8)
    facts = distill(config, tmp_path / "made", cache=tmp_path / "cache")
    held = read_parquet(Path(facts["path"]))
    np.save(tmp_path / "images.npy", held.images.numpy())
    np.save(tmp_path / "labels.npy", ((held.labels + 1) % 3).numpy())
    foreign = tiny_config(images__method=str(tmp_path / "images.npy"), teacher__epochs=8)
    with pytest.raises(DataError, match="put the classes into the data's order"):
        distill(foreign, tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out" / "images.parquet").exists()


def test_what_no_pixels_can_be_is_refused_before_a_teacher_is_trained(tmp_path: Path) -> None:
    """NaN before anything, a picture that is cut short as soon as the real data are decoded."""
    images = np.zeros((3, 1, 8, 8), np.float32)
    images[1, 0, 2, 3] = np.nan
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(3))
    config = tiny_config(images__method=str(tmp_path / "set.npz"))
    with pytest.raises(DataError, match=r"set\.npz: the images hold NaN or infinity"):
        plan(config)
    with pytest.raises(DataError, match="NaN"):
        distill(config, tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out").exists()
    for number in range(3):
        (tmp_path / "set" / str(number)).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "set" / str(number) / "a.png")
    cut = tmp_path / "set" / "1" / "a.png"
    cut.write_bytes(cut.read_bytes()[:40])
    with pytest.raises(DataError, match=r"a\.png"):
        distill(tiny_config(images__method=str(tmp_path / "set")), tmp_path / "out", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("network-*"))


@pytest.mark.parametrize(
    ("method", "error", "match"),
    [
        ("rdde", UnknownNameError, r"did you mean 'rded'\?.* Nor is there a file or folder of that name"),
        ("./nowhere", DataError, "no such file or folder; give a path or one of random, herding"),
        ("set.pt", DataError, "no such file or folder"),
    ],
)
def test_refused_before_any_work(method: str, error: type[FlashddError], match: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=match):
        distill(tiny_config(images__method=method), tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out").exists()
