"""Students: trained from images and an opened label source alone, evaluated at the last step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from flashdd.core.seeds import derive
from flashdd.models.table import build
from flashdd.training.engine import Engine
from flashdd.training.evaluate import Evaluation, evaluate
from flashdd.training.loop import Fitted
from flashdd.training.normalize import Normalized
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource
from flashdd.training.student import fit_student

EVALUATIONS = 4
_LARGEST_CONFUSION = 200


@dataclass(frozen=True, kw_only=True)
class StudentTask:
    """What all seeds of a row share.

    images: uint8 (N, C, H, W); labels: int64 (N,), their classes. mean, std: the normalization, per channel.
    """

    images: np.ndarray | Tensor
    source: LabelSource
    protocol: Protocol
    student: str
    num_classes: int
    mean: Sequence[float]
    std: Sequence[float]
    augmentation_seed: int
    labels: Tensor | None = None


def evaluation_steps(steps: int, count: int) -> list[int]:
    """`count` steps, evenly spaced over the training, the last one its end."""
    return sorted({max(1, round(steps * (index + 1) / count)) for index in range(count)})


def train_student(
    task: StudentTask,
    engine: Engine,
    *,
    evaluate_on: tuple[np.ndarray | Tensor, Tensor],
    seed: int,
    checkpoint: Path | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> dict[str, Any]:
    """Train one student; returns {"accuracy" (last step), "curve": [[step, accuracy], ...], "confusion",
    "training_seconds"}.

    evaluate_on: uint8 images and their classes, `EVALUATIONS` times in the training. `seed` drives initialization and
    order. `confusion` counts these images, row = true class, and is left out beyond 200 classes. `training_seconds`: of
    all steps, labels that are made or read in them included, evaluations not.
    """
    last: list[Evaluation] = []

    def visit(step: int, net: nn.Module) -> float:
        last[:] = [evaluate(net, *evaluate_on)]
        return last[0].accuracy

    model, fitted = _fitted(
        task,
        engine,
        seed,
        visits=evaluation_steps(task.protocol.steps, EVALUATIONS),
        visit=visit,
        checkpoint=checkpoint,
        on_step=on_step,
    )
    if not last:  # resumed from a checkpoint of the very last step
        visit(task.protocol.steps, model)
    confusion = last[0].confusion
    return {
        "accuracy": last[0].accuracy,
        "curve": [[step, value] for step, value in fitted.visited],
        "confusion": confusion.tolist() if len(confusion) <= _LARGEST_CONFUSION else None,
        "training_seconds": fitted.seconds,
    }


def trained_student(
    task: StudentTask,
    engine: Engine,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> nn.Module:
    """The student that `train_student` trains, after its last step: pixels in [0, 1] -> logits."""
    return _fitted(task, engine, seed, checkpoint=checkpoint, on_step=on_step)[0]


def _fitted(task: StudentTask, engine: Engine, seed: int, **options: Any) -> tuple[nn.Module, Fitted]:
    """options: of `fit_student`."""
    model = build_student(task, seed)
    fitted = fit_student(
        model,
        task.images,
        task.source,
        task.protocol,
        engine,
        seed=seed,
        augmentation_seed=task.augmentation_seed,
        labels=task.labels,
        **options,
    )
    return model, fitted


def build_student(task: StudentTask, seed: int) -> Normalized:
    """A fresh student of the task's architecture: pixels in [0, 1] -> logits."""
    shape = (int(task.images.shape[1]), int(task.images.shape[2]), int(task.images.shape[3]))
    net = build(task.student, num_classes=task.num_classes, shape=shape, seed=derive(seed, "initialization"))
    return Normalized(net, task.mean, task.std)
