"""Stored labels at equal bytes: a choice on validation data, kept proxy by proxy, that fits the labeler."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_config

from flashdd.core.config import RunConfig
from flashdd.core.progress import Silent
from flashdd.core.record import Record
from flashdd.core.seeds import derive
from flashdd.labels.catalog import SHORTLISTED, open_labels, parse_scheme
from flashdd.labels.scheme import Subject
from flashdd.pipeline.context import Context
from flashdd.pipeline.distill import images_stage, open_images
from flashdd.pipeline.equalbytes import LabelsToStore, best_candidate, best_within
from flashdd.pipeline.labels import labels_stage
from flashdd.pipeline.real import teacher_network
from flashdd.pipeline.start import started
from flashdd.students.train import StudentTask, train_student

BUDGET = 900


def test_the_highest_mean_wins_then_the_fewest_bytes() -> None:
    rows = [
        {"proxy_mean": 0.5, "bytes": 900},
        {"proxy_mean": 0.6, "bytes": 900},
        {"proxy_mean": 0.6, "bytes": 800},
        {"proxy_mean": 0.6, "bytes": 800},
    ]
    assert best_candidate(rows) == 2
    assert best_candidate(rows[:2]) == 1


def test_the_row_is_the_candidate_that_validation_liked_best(finished: tuple[Path, Record]) -> None:
    out, record = finished
    row = next(row for row in record.students if row.scheme == "stored@equal-bytes")
    choice = row.equal_bytes
    assert choice is not None
    assert choice.budget_bytes == record.labeler.bytes >= row.label_bytes
    assert 1 < len(choice.candidates) <= SHORTLISTED
    best = choice.candidates[choice.chosen]
    assert best.proxy_mean == max(candidate.proxy_mean for candidate in choice.candidates)
    assert (choice.name, choice.bytes) == (best.name, best.bytes) == (best.name, row.label_bytes)
    for candidate in choice.candidates:
        assert candidate.bytes <= choice.budget_bytes
        assert (candidate.n, len(candidate.values)) == (2, 2)
    (labels,) = (out / "stages").glob("stored-equal-bytes-*/labels")
    manifest = json.loads((labels / "manifest.json").read_text())
    assert manifest["scheme"] == parse_scheme(choice.name).kind
    assert sum(path.stat().st_size for path in labels.iterdir()) == row.label_bytes
    assert record.seconds["stored-within"] == choice.seconds
    assert not list((out / "stages").glob("stored-within-*/checkpoints"))


class _Stop(Silent):
    """Interrupts when the bar number `limit` is opened; remembers the bars before."""

    def __init__(self, limit: int) -> None:
        self.limit, self.started = limit, list[str]()

    def start(self, label: str, total: int) -> None:
        if len(self.started) == self.limit:
            raise KeyboardInterrupt
        self.started.append(label)


def _choose(config: RunConfig, out: Path, cache: Path, progress: Silent) -> Any:
    """The choice on the run's own images and labels, for a budget of its own; and the context it was made in."""
    with started(config, out, cache=cache, progress=progress) as (context, data):
        setup = context.setup
        teacher = teacher_network(context, data)
        images = open_images(images_stage(context, data, setup.method))
        _, labels = labels_stage(context, teacher, images)
        subject = Subject(
            images=images, views=setup.protocol.views, augmentation_seed=setup.config.views.augmentation_seed
        )
        table = labels.table
        assert table is not None
        source = LabelsToStore(logits=lambda first: 2.0 * table, temperature=4.0, inputs={"labels": "here"})
        found = best_within(context, data, subject, source, BUDGET)
        return found, context, data, subject, 2.0 * table


def test_a_killed_choice_loses_one_proxy(finished: tuple[Path, Record], tmp_path: Path) -> None:
    run_out, _ = finished
    cache = run_out.parent / "cache"
    out = tmp_path / "out"
    shutil.copytree(run_out, out)  # images and the teacher's labels are made
    cut = _Stop(3)
    with pytest.raises(KeyboardInterrupt):
        _choose(tiny_config(), out, cache, cut)
    assert len(cut.started) == 3
    again = _Stop(100)
    found, *_ = _choose(tiny_config(), out, cache, again)
    rows = found.facts["candidates"]
    assert len(cut.started) + len(again.started) == sum(row["n"] for row in rows)
    assert set(cut.started).isdisjoint(again.started)
    whole = tmp_path / "whole"
    shutil.copytree(out, whole, ignore=shutil.ignore_patterns("stored-within-*"))
    other, *_ = _choose(tiny_config(), whole, cache, _Stop(100))
    assert {**other.facts, "seconds": 0} == {**found.facts, "seconds": 0}
    assert other.scheme == found.scheme


def test_a_score_is_that_of_students_of_the_stored_labels(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    """By hand: the candidate written, read back, and a proxy trained on it, evaluated on the validation split and on
    the training images that it did not learn."""
    run_out, _ = finished
    out = tmp_path / "out"
    shutil.copytree(run_out, out)
    found, context, data, subject, logits = _choose(tiny_config(), out, run_out.parent / "cache", Silent())
    assert isinstance(context, Context)
    setup = context.setup
    row = next(row for row in found.facts["candidates"] if row["name"].startswith("stored@4bit"))
    size = parse_scheme(row["name"]).write(tmp_path / "labels", logits, subject, temperature=4.0)
    assert size == row["bytes"] <= BUDGET
    task = StudentTask(
        images=subject.images.images,
        source=open_labels(tmp_path / "labels", subject),
        protocol=setup.protocol,
        student=setup.proxy,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        augmentation_seed=0,
    )
    own = {image.tobytes() for image in subject.images.images.numpy()}
    unseen = [row for row, image in enumerate(data.train.images) if image.tobytes() not in own]
    real = (
        np.concatenate([data.val.images, data.train.images[unseen]]),
        torch.cat([data.val.labels, data.train.labels[unseen]]),
    )
    for seed, value in enumerate(row["values"]):
        result = train_student(
            task,
            context.engine,
            evaluate_on=real,
            seed=derive(setup.config.seed, "proxy", seed),
        )
        assert result["accuracy"] == value


def test_a_budget_that_holds_nothing_makes_no_row(finished: tuple[Path, Record], tmp_path: Path) -> None:
    run_out, _ = finished
    with started(tiny_config(), tmp_path / "out", cache=run_out.parent / "cache", progress=None) as (
        context,
        data,
    ):
        setup = context.setup
        images = open_images(images_stage(context, data, setup.method))
        subject = Subject(images=images, views=setup.protocol.views, augmentation_seed=0)
        source = LabelsToStore(logits=lambda first: pytest.fail("not asked"), temperature=4.0, inputs={})
        assert best_within(context, data, subject, source, 200) is None
