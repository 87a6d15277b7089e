"""The main job, whole: what it leaves, that it resumes bit for bit, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config

from flashdd.artifact.read import load
from flashdd.artifact.verify import verify
from flashdd.core.device import environment
from flashdd.core.errors import (
    ConfigError,
    DataError,
    FlashddError,
    UnknownNameError,
    UsageError,
)
from flashdd.core.files import folder_bytes
from flashdd.core.record import Record
from flashdd.labels.flash.candidates import Candidate
from flashdd.pipeline import run as run_module
from flashdd.pipeline import search as search_module
from flashdd.pipeline import throughput
from flashdd.pipeline.plan import plan
from flashdd.pipeline.run import run
from flashdd.pipeline.train import train_from_artifact


def _figures(value: Any) -> Any:
    """A record without what a clock or another checkout changes."""
    if isinstance(value, dict):
        skipped = ("seconds", "throughput", "environment")
        return {key: _figures(entry) for key, entry in value.items() if key not in skipped}
    return [_figures(entry) for entry in value] if isinstance(value, list) else value


def test_a_run_leaves_everything_it_promises(finished: tuple[Path, Record]) -> None:
    out, record = finished
    assert {path.name for path in out.iterdir()} == {
        "artifact",
        "record.json",
        "report",
        "report.html",
        "run.json",
        "stages",
    }
    assert Record.read(out / "record.json") == record
    rows = {(row.scheme, row.images) for row in record.students}
    assert rows == {
        ("hard", "rded"),
        ("labeler", "rded"),
        ("labeler", "random"),
        ("teacher@searched", "rded"),
        ("teacher@published", "rded"),
        ("stored", "rded"),
        ("stored@equal-bytes", "rded"),
        ("hard", "real-equal-passes"),
        ("hard", "real-whole"),
    }
    assert record.ship is not None
    assert all(row.accuracy.n == (1 if row.images == "real-whole" else 2) for row in record.students)


def test_a_finished_run_keeps_what_was_measured_of_its_speed_and_where(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0], tmp_path / "out")
    monkeypatch.setattr(throughput, "measure_throughput", None)
    threads = finished[1].environment.threads + 1
    monkeypatch.setattr(
        run_module,
        "environment",
        lambda device, commit: {**environment(device, commit=commit), "threads": threads},
    )
    again = run(tiny_config(), tmp_path / "out", cache=finished[0].parent / "cache")
    assert again.throughput == finished[1].throughput
    assert again.environment == finished[1].environment  # of the process that made it


def test_sizes_in_the_record_are_bytes_on_disk(finished: tuple[Path, Record]) -> None:
    out, record = finished
    assert record.labeler.bytes == (out / "artifact" / "labeler.safetensors").stat().st_size
    assert record.labeler.budget_bytes == 4000 >= record.labeler.bytes
    assert record.artifact_bytes == folder_bytes(out / "artifact")
    assert record.ship is not None
    assert record.ship.bytes <= record.artifact_bytes
    equal = next(row for row in record.students if row.scheme == "stored@equal-bytes")
    assert equal.label_bytes <= record.labeler.bytes


def test_the_artifact_is_sound_and_says_what_the_record_says(finished: tuple[Path, Record]) -> None:
    out, record = finished
    assert verify(out / "artifact").ok
    artifact = load(out / "artifact")
    assert artifact.labeler.temperature == record.labeler.temperature
    ours = next(row for row in artifact.figures["students"] if row["scheme"] == "labeler")
    assert ours["accuracy"]["values"] == list(record.students[1].accuracy.values)


def test_students_of_the_artifact_alone_are_those_of_the_run(finished: tuple[Path, Record]) -> None:
    """`flashdd train` on the shipped folder gives the run's own accuracies, bit for bit."""
    out, record = finished
    source = tiny_config().data
    result = train_from_artifact(
        out / "artifact", seeds=2, test=source.source, device="cpu", out=out.parent / "s"
    )
    assert result["accuracy"] is not None
    ours = next(row for row in record.students if (row.scheme, row.images) == ("labeler", "rded"))
    assert result["accuracy"]["values"] == list(ours.accuracy.values)
    assert len(result["files"]) == 2


def test_choices_never_read_test_images(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: Any
) -> None:
    """With every test image blackened, the choices and the artifact's parts stay the same, bit for bit."""
    out, record = finished
    from flashdd.data import dataset
    from flashdd.pipeline import real

    opened = dataset.open_dataset

    def blackened(folder: Path) -> Any:
        data = opened(folder)
        test = dataset.Split(images=np.zeros_like(data.test.images), labels=data.test.labels)
        fields = {name: getattr(data, name) for name in data.__dataclass_fields__}
        return type(data)(**{**fields, "test": test})

    monkeypatch.setattr(real, "open_dataset", blackened)
    other = run(tiny_config(), tmp_path / "out", cache=tmp_path / "cache")
    assert other.capacity == record.capacity.model_copy(update={"seconds": other.capacity.seconds})  # type: ignore[union-attr]
    assert other.labeler.accuracy != record.labeler.accuracy
    name = "artifact/labeler.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()
    chosen = [
        next(row.equal_bytes for row in made.students if row.scheme == "stored@equal-bytes")
        for made in (record, other)
    ]
    assert all(chosen)
    assert (
        len({choice.model_copy(update={"seconds": 0}).model_dump_json() for choice in chosen if choice}) == 1
    )


def test_killed_in_every_kind_of_stage_it_ends_with_the_same_bits(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    out, _ = finished
    script = Path(__file__).with_name("run_tiny.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(script), str(tmp_path / "out"), str(tmp_path / "cache")]
    where = [("train ", 3), ("labels of", 1), ("teacher-search", 3), ("capacity", 5)]
    where += [("stored-within", 3), ("student labeler", 4)]
    for label, step in where:
        killed = subprocess.run(
            [*command, label, str(step)], env=environment, capture_output=True, timeout=150
        )
        assert killed.returncode == -signal.SIGKILL, (label, killed.stderr.decode()[-2000:])
        assert not (tmp_path / "out" / "record.json").exists()
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=150)
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    found = json.loads((tmp_path / "out" / "record.json").read_text())
    assert _figures(found) == _figures(json.loads((out / "record.json").read_text()))
    for path in sorted((out / "artifact").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "out" / path.relative_to(out)).read_bytes(), path


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"images__ipc": 9999}, DataError, r"IPC 9999 is larger than class '\d'.*use --ipc \d+ or less"),
        (
            {"labeler__budget": "300"},
            ConfigError,
            r"holds no labeler: the smallest that works here is \d+ bytes",
        ),
        (
            {"labeler__tutor": "searched"},
            ConfigError,
            r"fewer than its \d+ epochs: add --set search.teacher",
        ),
        (
            {"labeler__tutor": "searched", "search__teacher_lengths": [0.5, 1.0], "teacher__epochs": 1},
            ConfigError,
            "fewer than its 1 epochs",
        ),
        ({"labeler__max_macs": 1}, ConfigError, "allows no labeler: the smallest that works here is"),
        ({"teacher__name": "resnet81"}, UnknownNameError, "did you mean 'resnet18'"),
        ({"student__name": "convnet-9-w4"}, UsageError, "the largest depth there is 3"),
        ({"images__method": "rdde"}, UnknownNameError, "unknown image method 'rdde': did you mean 'rded'"),
        ({"protocol__name": "flush"}, UnknownNameError, "did you mean 'flash'"),
        ({"labeler__stems": ["convolution"]}, UnknownNameError, "did you mean 'conv'"),
        ({"data__source": "digit"}, UnknownNameError, "did you mean 'digits'"),
        ({"data__source": "./nowhere"}, DataError, "nowhere"),
        ({"device": "tpu"}, UsageError, "--device tpu: expected auto, cpu, cuda"),
        ({"images__rded__factor": 3}, ConfigError, "3 does not divide 8 pixels"),
        (
            {"images__method": "dm", "images__dm__network": "convnet-4-w8-in"},
            UsageError,
            "largest depth there is 3",
        ),
    ],
    ids=str,
)
def test_what_can_be_seen_is_refused_before_training(
    changes: dict[str, Any], error: type[FlashddError], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        run(tiny_config(**changes), tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out").exists()


def test_the_smallest_budget_that_it_names_works() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(tiny_config(labeler__budget="300"))
    smallest = int(str(caught.value).split("here is ")[1].split(" ")[0])
    assert plan(tiny_config(labeler__budget=str(smallest)))["bytes"]["label_budget"] == smallest
    with pytest.raises(ConfigError):
        plan(tiny_config(labeler__budget=str(smallest - 1)))


def test_under_torchrun_it_says_that_it_works_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="works in one process"):
        run(tiny_config(), tmp_path / "out")


def test_a_folder_of_images_of_mixed_sizes_runs(tmp_path: Path) -> None:
    random_numbers = np.random.default_rng(0)
    modes = ["RGB", "L", "RGBA", "P"]
    for split, count in (("train", 12), ("test", 4)):
        for label, name in enumerate(("cat", "dog <b>")):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                size = (10 + index % 5, 12 + index % 3)
                pixels = random_numbers.integers(0, 128, (*size, 3)) + 100 * label
                image = Image.fromarray(pixels.astype(np.uint8)).convert(modes[index % 4])
                image.save(folder / f"{index}.png")
    config = tiny_config(
        data__source=str(tmp_path / "data"),
        data__resolution=8,
        data__classes=["cat", "dog <b>"],
        labeler__max_macs=20_000,
    )
    record = run(config, tmp_path / "out", cache=tmp_path / "cache")
    assert record.data.shape == (3, 8, 8)
    assert record.config["data"]["source"] == "data"
    assert str(tmp_path) not in (tmp_path / "out" / "record.json").read_text()
    assert "dog <b>" not in (tmp_path / "out" / "report.html").read_text()
    assert torch.equal(load(tmp_path / "out" / "artifact").labels, torch.tensor([0, 0, 1, 1]))


def test_the_plan_counts_what_a_run_may_train(finished: tuple[Path, Record]) -> None:
    _, record = finished
    facts = plan(tiny_config())
    stage = {entry["name"]: entry["what"] for entry in facts["stages"]}
    assert record.teacher_search is not None
    trained = sum(candidate.n for candidate in record.teacher_search.candidates)
    # 3 settings, of which 2 get a third seed and the last may; with class offsets the choice has 3
    assert stage["teacher-search"].startswith("up to 12 proxy students")
    assert 3 * 2 + 2 + 3 <= trained <= 12
    assert record.capacity is not None
    # chains of 3 and 5 rungs, of each of which 3 are climbed; the best 2, and the best of the other chain, see the
    # other temperature; 2 get a third seed, as do 2 more at most on either side; with class offsets the choice has 3;
    # each of these 6 may be settled by twice as many
    least, most = (3 + 3 + 2) * 2 + 2 + 3, (3 + 5 + 3) * 2 + (2 + 2 + 2) + 3 + 6 * 3
    assert f"; {least} to {most} proxy students" in stage["capacity"]
    assert least <= sum(candidate.n for candidate in record.capacity.candidates) <= most


def test_a_labeler_imitates_the_teacher_that_the_search_chose(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies like the one that was stopped early."""
    monkeypatch.setattr(
        search_module._Proxies,
        "score",
        lambda _, candidate, seed: 0.3 + 0.1 * (candidate.setting.length < 1) + 0.01 * seed,
    )
    config = tiny_config(
        labeler__tutors=2,
        search__teacher_lengths=[0.5, 1.0],
        labeler__image_passes=400,
    )
    told = [stage["what"] for stage in plan(config)["stages"]]
    assert any("which imitate the mean of 2 convnet-2-w8 (1 of them trained for it)" in what for what in told)
    assert any(
        "the training that the teacher's search chooses or, where that is the whole" in what for what in told
    )
    assert any("3 other trainings of it (1 to 2 epochs)" in what for what in told)
    record = run(config, tmp_path / "out", cache=finished[0].parent / "cache")
    assert record.teacher_search is not None
    assert record.capacity is not None
    taught = record.teacher_search.candidates[record.teacher_search.chosen]
    tutor = record.labeler.tutor
    assert tutor is not None
    assert tutor.name == "convnet-2-w8"
    assert [tutor.epochs, tutor.shift, tutor.num_networks] == [taught.epochs, taught.shift, 2]
    assert "imitates the mean of 2 convnet-2-w8 after" in (tmp_path / "out" / "report.html").read_text()
    shipped = load(tmp_path / "out" / "artifact").provenance["labeler_training"]
    chosen = record.capacity.candidates[record.capacity.chosen]
    assert shipped == {"epochs": chosen.epochs, "shift": chosen.shift, "tutor": tutor.model_dump(mode="json")}
    assert finished[1].labeler.tutor is None
    assert "tutor" not in load(finished[0] / "artifact").provenance["labeler_training"]


@pytest.mark.parametrize("stopped", [True, False])
def test_from_sixteen_pixels_on_labelers_imitate_by_default(
    stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three teachers, where proxies like one that was stopped early."""

    def liked(proxies: object, candidate: Candidate, seed: int) -> float:
        return (
            0.3
            + 0.1 * (candidate.setting.length < 1 if stopped else candidate.setting.length == 1)
            + 0.01 * seed
        )

    monkeypatch.setattr(search_module._Proxies, "score", liked)
    larger = {"data__resolution": 16, "labeler__max_macs": 40_000, "protocol__image_passes": 100}
    record = run(tiny_config(teacher__epochs=4, **larger), tmp_path / "out", cache=tmp_path / "cache")
    assert record.config["resolved"]["teacher_lengths"] == [0.25, 0.5, 1.0]
    assert record.config["resolved"]["lengths"] == [0.5, 1.0]  # of two epochs
    assert record.teacher_search is not None
    tried = record.teacher_search.candidates
    assert {2, 4} <= {candidate.epochs for candidate in tried}
    assert (tried[record.teacher_search.chosen].epochs < 4) == stopped
    assert (record.labeler.tutor is not None) == stopped
    assert (record.tutor_search is None) == stopped  # on equal terms nobody is imitated
    assert any("(labeler.tutor)" in note for note in record.notes) != stopped
    assert record.labeler.tutor is None or record.labeler.tutor.num_networks == 3


def test_a_run_ships_what_its_search_chose(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies that like few bits, many members and short trainings, of the teacher too."""

    def liked(proxies: object, candidate: Candidate, seed: int) -> float:
        rung, setting = candidate.rung, candidate.setting
        value = 0.3 + 0.2 * (rung.bits == 4) + 0.1 * rung.num_members + 0.05 * (setting.length < 1)
        return value + 0.01 * seed

    monkeypatch.setattr(search_module._Proxies, "score", liked)
    config = tiny_config(
        labeler__bits=[8, 4], labeler__max_members=2, labeler__stems=["conv"], search__lengths=[0.5, 1.0]
    )
    record = run(config, tmp_path / "out", cache=finished[0].parent / "cache")
    assert record.capacity is not None
    assert record.teacher_search is not None
    choice = record.capacity.candidates[record.capacity.chosen]
    assert (choice.bits, choice.num_members, choice.length) == (4, 2, 0.5)
    assert (record.labeler.bits, record.labeler.num_members) == (4, 2)
    assert record.labeler.macs == choice.macs
    assert record.labeler.bytes <= choice.bytes <= 4000
    whole = [entry for entry in record.capacity.candidates if entry.length == 1.0]
    assert choice.epochs < whole[0].epochs
    shipped = load(tmp_path / "out" / "artifact").labeler
    assert [member.bits for member in shipped.members] == [4, 4]
    taught = record.teacher_search.candidates[record.teacher_search.chosen]
    assert (taught.length, taught.epochs) == (0.5, 1)
