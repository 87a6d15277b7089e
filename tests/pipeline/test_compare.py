"""`flashdd compare`: cells that a run has trained are taken from it, and all that is wrong is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import Listening, tiny_config

from flashdd.artifact.read import load
from flashdd.core.config import RunConfig
from flashdd.core.errors import DataError, UnknownNameError, UsageError
from flashdd.core.files import folder_bytes
from flashdd.core.recipe import build_config
from flashdd.core.record import ArtifactImages, Comparison, Record
from flashdd.data.views import ViewMaker
from flashdd.labels import table
from flashdd.labels.catalog import open_labels
from flashdd.labels.scheme import Subject
from flashdd.pipeline.compare import compare
from flashdd.pipeline.run import run
from flashdd.pipeline.subject import open_subject

CLOCK = ("seconds", "labels_per_second", "seconds_per_epoch")
SCHEMES = ["teacher@searched", "hard", "labeler", "stored", "stored@equal-bytes"]
STORED_ALIKE = ["labeler", "stored@by-labeler", "stored", "static", "static@by-labeler"]


def _config(settings: dict[str, object], *, seeds: int = 2, **axes: object) -> RunConfig:
    chosen = [(f"compare.{name}", value) for name, value in axes.items()]
    return build_config(settings, [*chosen, ("student.seeds", seeds)])


def test_cells_of_the_run_are_taken_from_it(finished: tuple[Path, Record], tmp_path: Path) -> None:
    out, record = finished
    subject, progress = open_subject(out), Listening()
    assert subject.artifact is not None
    comparison = compare(
        _config(subject.settings, schemes=SCHEMES),
        tmp_path / "out",
        artifact=subject.artifact,
        stages=subject.stages,
        cache=out.parent / "cache",
        progress=progress,
    )
    assert progress.started == []
    counted = [text for text in progress.messages if text.startswith("row ")]
    assert counted == [f"row {n} of 5: {name} on rded, IPC 2" for n, name in enumerate(SCHEMES, start=1)]
    for row in comparison.rows:
        theirs = next(
            other for other in record.students if (other.scheme, other.images) == (row.scheme, "rded")
        )
        assert row.accuracy == theirs.accuracy
        assert (row.label_bytes, row.ipc) == (theirs.label_bytes, 2)
        assert row.equal_bytes == theirs.equal_bytes
    assert [row.scheme for row in comparison.rows] == SCHEMES
    assert Comparison.read(tmp_path / "out" / "comparison.json") == comparison
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table.count("\n| rded") == len(SCHEMES)
    assert "digits saturate" in table


def test_a_further_seed_trains_itself_alone(finished: tuple[Path, Record], tmp_path: Path) -> None:
    out, record = finished
    subject, progress = open_subject(out), Listening()
    comparison = compare(
        _config(subject.settings, seeds=3, schemes=["hard"]),
        tmp_path / "out",
        artifact=subject.artifact,
        stages=subject.stages,
        cache=out.parent / "cache",
        progress=progress,
    )
    assert progress.started == ["student hard on rded, seed 2"]
    held = next(row for row in record.students if (row.scheme, row.images) == ("hard", "rded"))
    assert comparison.rows[0].accuracy.values[:2] == held.accuracy.values


def test_the_best_classifier_of_the_artifacts_bytes_stands_beside_the_rows(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    """As the run found it; of an artifact alone it is found by its scheme, which is no row."""
    out, record = finished
    subject = open_subject(out)
    assert subject.ship == record.ship is not None
    config = _config(subject.settings, schemes=["labeler", "hard"])
    kept = compare(
        config,
        tmp_path / "run",
        artifact=subject.artifact,
        stages=subject.stages,
        ship=subject.ship,
        cache=out.parent / "cache",
    )
    assert kept.ship == record.ship
    assert kept.artifact == ArtifactImages(images="rded", ipc=2)
    assert "shipping a classifier (one " in (tmp_path / "run" / "comparison.md").read_text()
    alone = open_subject(out / "artifact")
    assert alone.ship is None
    short = {"labeler": {"image_passes": 800}, "teacher": {"name": "convnet-2-w8", "epochs": 1}}
    found = compare(
        _config({**alone.settings, **short}, schemes=["ship", "labeler", "hard"], seeds=1),
        tmp_path / "alone",
        artifact=alone.artifact,
        cache=out.parent / "cache",
    )
    assert [row.scheme for row in found.rows] == ["labeler", "hard"]
    assert found.ship is not None
    assert found.ship.bytes <= folder_bytes(out / "artifact") == found.ship.budget_bytes
    assert Comparison.read(tmp_path / "alone" / "comparison.json") == found
    plain = compare(
        _config({**alone.settings, **short}, schemes=["labeler", "hard"], seeds=1),
        tmp_path / "alone",
        artifact=alone.artifact,
        cache=out.parent / "cache",
    )
    assert plain.ship is None
    assert "(scheme ship)" in (tmp_path / "alone" / "comparison.md").read_text()


def test_every_row_says_how_fast_its_labels_are(finished: tuple[Path, Record], tmp_path: Path) -> None:
    """A student's epoch is its training, and where labels were made beforehand, their time beside it."""
    out, _ = finished
    subject = open_subject(out)
    first, again = (
        compare(
            _config(subject.settings, schemes=[*SCHEMES, "convnet-2-w4@e1"]),
            tmp_path / "out",
            artifact=subject.artifact,
            stages=subject.stages,
            cache=out.parent / "cache",
        )
        for _ in range(2)
    )
    assert first.rows == again.rows  # measured once
    own = []
    for row in first.rows:
        assert row.labels_per_second is not None
        assert row.seconds_per_epoch is not None
        own.append(row.seconds_per_epoch - 6 / row.labels_per_second)
    assert min(own) > 0
    assert own == pytest.approx([own[0]] * len(own))  # the student's steps are the same, whatever the labels


def test_the_labelers_own_labels_can_be_stored(finished: tuple[Path, Record], tmp_path: Path) -> None:
    """All of them in float16 are the labeler's labels, rounded; those of the teacher are others."""
    out, record = finished
    subject = open_subject(out)
    comparison = compare(
        _config(subject.settings, schemes=STORED_ALIKE, seeds=1),
        tmp_path / "out",
        artifact=subject.artifact,
        stages=subject.stages,
        cache=out.parent / "cache",
    )
    labeler, stored, teachers, static, own_static = comparison.rows
    assert stored.network == labeler.network
    assert stored.network is not None
    assert teachers.network is not None
    assert comparison.labeler is not None
    assert (stored.network.name, teachers.network.name) == (comparison.labeler.name, "convnet-2-w8")
    assert record.teacher_search is not None
    searched = record.teacher_search.candidates[record.teacher_search.chosen]
    assert (teachers.network.temperature, teachers.network.epochs) == (searched.temperature, searched.epochs)
    assert stored.label_bytes == pytest.approx(teachers.label_bytes, abs=8)  # manifests spell temperatures
    assert static.label_bytes == pytest.approx(own_static.label_bytes, abs=8)
    held = load(out / "artifact")
    subject_of = Subject(images=held.image_set, views=held.views, augmentation_seed=held.augmentation_seed)
    (folder,) = (tmp_path / "out" / "stages").glob("stored-by-labeler-*/labels")
    views = ViewMaker(held.images, held.views, seed=held.augmentation_seed).make(
        torch.tensor([0, 3, 3]), torch.tensor([0, 1, 5])
    )
    expected = held.labeler(views.pixels)
    assert torch.allclose(open_labels(folder, subject_of).logits(views), expected, atol=1e-2)


def test_labels_of_a_labeler_need_one(finished: tuple[Path, Record], tmp_path: Path) -> None:
    subject = open_subject(finished[0])
    with pytest.raises(UsageError, match="scheme 'stored@equal-bytes-by-labeler' needs a labeler"):
        compare(_config(subject.settings, schemes=["stored@equal-bytes-by-labeler"]), tmp_path / "out")
    with pytest.raises(UnknownNameError, match="label scheme"):
        compare(_config(subject.settings, schemes=["hard-by-labeler"]), tmp_path / "out")


def test_images_budgets_and_students_are_crossed(finished: tuple[Path, Record], tmp_path: Path) -> None:
    out, record = finished
    subject = open_subject(out)
    comparison = compare(
        _config(
            subject.settings,
            schemes=["labeler", "strided-1-w4@e2-h0.9", "convnet-2-w4@e1-t4"],
            images=["random", "herding"],
            ipc=[1, 2],
            students=["convnet-2-w4", "convnet-1-w4"],
            seeds=1,
        ),
        tmp_path / "out",
        artifact=subject.artifact,
        stages=subject.stages,
        cache=out.parent / "cache",
    )
    assert len(comparison.rows) == 3 * 2 * 2 * 2
    assert len({(row.images, row.ipc, row.student, row.scheme) for row in comparison.rows}) == 24
    networks = [row.network for row in comparison.rows if row.scheme == "strided-1-w4@e2-h0.9"]
    assert [network.entropy for network in networks if network] == pytest.approx([0.9] * 8, abs=1e-3)
    assert len({network.accuracy for network in networks if network}) == 1  # one training for all sets
    itself = [row.network for row in comparison.rows if row.scheme == "labeler"]
    assert {network.accuracy for network in itself if network} == {record.labeler.accuracy}
    assert comparison.labeler is not None
    assert {network.name for network in itself if network} == {comparison.labeler.name}
    assert comparison.labeler.bytes == record.labeler.bytes


def test_learned_soft_labels_are_a_scheme(finished: tuple[Path, Record], tmp_path: Path) -> None:
    """Of a set made elsewhere; a run gives them a row too. Other sets have none, and are refused at once."""
    out, _ = finished
    held = load(out / "artifact")
    soft = torch.full((6, 3), 0.1) + 0.7 * torch.eye(3)[held.labels]
    torch.save({"images": held.images, "labels": held.labels, "soft_labels": soft}, tmp_path / "set.pt")
    config = tiny_config(
        images__method=str(tmp_path / "set.pt"),
        compare__schemes=["static@learned", "static", "hard", "stored@4bit", "lpld@2x", "vq@4"],
    )
    comparison = compare(config, tmp_path / "out", cache=out.parent / "cache")
    rows = {row.scheme: row for row in comparison.rows}
    assert list(rows) == list(config.compare.schemes)
    assert rows["static@learned"].label_bytes == rows["static"].label_bytes > 6 * 3 * 2
    (kept,) = (tmp_path / "out" / "stages").glob("static-learned-*/labels/labels.bin")
    assert np.allclose(np.frombuffer(kept.read_bytes(), "<f2").reshape(6, 3), soft.log().numpy(), atol=1e-3)
    assert rows["stored@4bit"].label_bytes < 2000
    record = run(config, tmp_path / "out", cache=out.parent / "cache")
    ours = next(row for row in record.students if row.scheme == "static@learned")
    assert ours.accuracy == rows["static@learned"].accuracy
    torch.save(
        {"images": held.images, "labels": held.labels, "soft_labels": soft.roll(1, 1)}, tmp_path / "set.pt"
    )
    with pytest.raises(
        DataError, match="their soft labels agree with 0 of 6 as they are, and with 6 in another"
    ):
        compare(config, tmp_path / "moved", cache=out.parent / "cache")
    plain = tiny_config(compare__schemes=["static@learned"])
    with pytest.raises(UsageError, match="images of rded come without soft labels"):
        compare(plain, tmp_path / "other", cache=out.parent / "cache")


def test_killed_it_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    script = tmp_path / "compare_tiny.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom run_tiny import Bomb\nfrom flashdd.core.progress import Silent\n"
        "from tiny import Listening, tiny_config\nfrom flashdd.pipeline.compare import compare\n"
        "progress = Bomb(sys.argv[2], 3) if len(sys.argv) > 2 else Silent()\n"
        "axes = {'compare__schemes': ['hard', 'convnet-2-w4@t2'], 'images__method': 'random', 'student__seeds': 1}\n"
        "config = tiny_config(**axes)\n"
        "compare(config, Path(sys.argv[1]), cache=Path(sys.argv[1] + '-cache'), progress=progress)\n"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(here)}

    def start(name: str, *label: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, str(script), str(tmp_path / name), *label]
        return subprocess.run(command, env=environment, capture_output=True, timeout=150, check=False)

    assert start("cut", "student convnet-2-w4@t2").returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "comparison.json").exists()
    for name in ("cut", "whole"):
        assert start(name).returncode == 0
    cut, whole = (
        [
            {key: value for key, value in row.items() if key not in CLOCK}
            for row in json.loads((tmp_path / name / "comparison.json").read_text())["rows"]
        ]
        for name in ("cut", "whole")
    )
    assert cut == whole
    assert not list((tmp_path / "whole-cache").glob("network-convnet-2-w8-*"))  # no teacher for nothing


def test_where_a_table_of_all_views_is_too_big_schemes_of_few_labels_stay(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 epochs of 6 images: labels of the first epochs alone are the same bits, if their chunks are."""
    monkeypatch.setattr(table, "CHUNK", 6)
    kept = ["static", "stored@4bit-e7", "lpld@10x", "lpqld@k2-n31", "hald@4", "vq@4-e5"]
    config = tiny_config(compare__schemes=["stored", *kept], student__seeds=1)
    whole = compare(config, tmp_path / "whole", cache=tmp_path / "cache")
    assert [row.scheme for row in whole.rows] == ["stored", *kept]
    monkeypatch.setattr(table, "LARGEST_TABLE", 4 * 11 * 6 * 3)
    part = compare(config, tmp_path / "part", cache=tmp_path / "cache")
    assert [row.scheme for row in part.rows] == kept
    assert any("No stored on rded, IPC 2, protocol flash" in note for note in part.notes)
    for row, other in zip(whole.rows[1:], part.rows, strict=True):
        assert (row.label_bytes, row.accuracy.values) == (other.label_bytes, other.accuracy.values)


def test_labelers_are_compared_as_they_would_be_shipped(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    schemes = ["strided-1-w4@b8", "strided-1-w4@b3", "strided-1-w4@b4-m2", "strided-1-w4+strided-1-w6@b4-c2"]
    config = tiny_config(compare__schemes=schemes, student__seeds=1)
    rows = compare(config, tmp_path / "out", cache=finished[0].parent / "cache").rows
    networks = [row.network for row in rows]
    assert [(n.bits, n.num_members) for n in networks if n] == [(8, 1), (3, 1), (4, 2), (4, 4)]
    assert rows[1].label_bytes < rows[0].label_bytes < rows[3].label_bytes
    assert all(row.label_bytes < 4000 for row in rows)
