"""Stages: the students of one row of a result table, a stage per seed, so that more seeds cost only themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from flashdd.core.plugins import own_part
from flashdd.core.record import Accuracy
from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.pipeline.context import Context
from flashdd.report.text import percent_text
from flashdd.students.train import StudentTask, train_student
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource

_REVISION = 4
LONGEST_NAME = (
    120  # of a stage: a committee's scheme may be longer than a file's name can be; the key tells them apart
)


Opened = tuple[np.ndarray | Tensor, Tensor, LabelSource]


@dataclass(frozen=True, kw_only=True)
class Row:
    """scheme and images as the record names them; open: images, their classes and an opened source, on demand; key: its
    inputs; protocol: the run's unless said; online: the same with labels made at every step, where `open` has a table
    of them that was made beforehand; network: what a comparison says of the network that labels, on demand; facts: more
    to say about the row, into every record."""

    scheme: str
    images: str
    label_bytes: int
    key: dict[str, str]
    open: Callable[[], Opened]
    protocol: Protocol | None = None
    online: Callable[[], Opened] | None = None
    network: Callable[[], dict[str, Any]] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def train_row(
    context: Context, data: RealDataset, row: Row, statistics: tuple[Sequence[float], Sequence[float]]
) -> dict[str, Any]:
    """Train the students of `row` and return it in the record's form, with curves and the first one's confusion.

    statistics: the normalization of every student, those from the artifact among them.
    """
    opened: list[Opened] = []

    def open_once() -> Opened:
        if not opened:
            opened.append(row.open())
        return opened[0]

    cells = [
        _cell(context, data, row, statistics, seed, open_once)
        for seed in range(context.setup.config.student.seeds)
    ]
    students = [cell.record for cell in cells]
    return {
        **row_facts(row.scheme, row.images, context, row.label_bytes),
        "accuracy": Accuracy.of([student["accuracy"] for student in students]),
        "best_epoch": Accuracy.of([max(value for _, value in student["curve"]) for student in students]),
        "seconds": sum(cell.seconds for cell in cells),
        "curves": [student["curve"] for student in students],
        "confusion": students[0]["confusion"],
        **row.facts,
    }


def row_facts(scheme: str, images: str, context: Context, label_bytes: int) -> dict[str, Any]:
    """What the record says of every row beside its figures."""
    return {
        "scheme": scheme,
        "images": images,
        "student": context.setup.student,
        "protocol": context.setup.protocol.name,
        "label_bytes": label_bytes,
    }


def _cell(
    context: Context,
    data: RealDataset,
    row: Row,
    statistics: tuple[Sequence[float], Sequence[float]],
    seed: int,
    open_row: Callable[[], Opened],
) -> StageResult:
    setup = context.setup
    protocol = row.protocol or setup.protocol

    def make(work: StageWork) -> dict[str, Any]:
        images, labels, source = open_row()
        task = StudentTask(
            images=images,
            source=source,
            protocol=protocol,
            student=setup.student,
            num_classes=data.num_classes,
            mean=statistics[0],
            std=statistics[1],
            augmentation_seed=setup.config.views.augmentation_seed,
            labels=labels,
        )
        context.progress.start(f"student {row.scheme} on {row.images}, seed {seed}", protocol.steps)
        trained = train_student(
            task,
            context.engine,
            evaluate_on=(data.test.images, data.test.labels),
            seed=derive(setup.config.seed, "student", seed),
            checkpoint=work.folder / "checkpoints" / "student.pt",
            on_step=work.step,
        )
        context.progress.finish(f"{percent_text(trained['accuracy'])} % of the test images")
        return trained

    return context.local.make(
        f"student-{row.scheme.replace('@', '-')}-{row.images}"[:LONGEST_NAME] + f"-{seed}",
        revision=_REVISION,
        config={
            "student": setup.student,
            "student_seed": seed,
            "seed": setup.config.seed,
            "protocol": protocol.to_json(),
            "augmentation_seed": setup.config.views.augmentation_seed,
            "precision": setup.config.precision,
            "statistics": [list(part) for part in statistics],
            **own_part("model", setup.student),
        },
        inputs={**row.key, "test": data.content_hash},
        build=make,
    )
