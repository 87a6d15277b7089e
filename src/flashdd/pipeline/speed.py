"""How fast a row's labels are made or read, and what an epoch of its students takes.

Only a comparison measures this. No key of a stage depends on a time, and no test looks at the clock.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from flashdd.core.plugins import own_part
from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.views import ViewBatch, ViewMaker
from flashdd.pipeline.context import Context
from flashdd.pipeline.rows import LONGEST_NAME, Opened, Row
from flashdd.students.train import StudentTask, trained_student
from flashdd.training.order import BatchOrder
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource, every_image

_REVISION = 2
_SECONDS = 0.2
_REPEATS = 5
_BATCHES = 4
_WARM_UP, _STEPS = 3, 12


def row_times(context: Context, row: Row) -> dict[str, float]:
    """`labels_per_second` and `seconds_per_epoch` of a row, as the record has them.

    An epoch is one pass over the distilled images. Its seconds are those of a student's steps, timed once for all rows
    of a student and protocol, for students that were trained at different times, perhaps beside other work, cannot be
    compared; and those of its labels, as if they were made or read online.
    """
    rate: float = _rate_stage(context, row).record["labels_per_second"]
    step: float = _step_stage(context, row).record["seconds_per_step"]
    num_images = context.setup.num_images
    own = step * num_images / context.setup.protocol.batch_size
    return {"labels_per_second": rate, "seconds_per_epoch": own + num_images / rate}


def measured_rate(
    source: LabelSource, batches: Sequence[ViewBatch], *, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Labels per second of `source` on these batches of views, taken in turn.

    The median of `_REPEATS` timings of at least `_SECONDS`, after every batch has been labeled once. The views are
    made beforehand: every scheme needs the same.
    """
    for batch in batches:
        _label(source, batch)
    rates = []
    for _ in range(_REPEATS):
        done, started = 0, clock()
        for batch in itertools.cycle(batches):
            done += _label(source, batch)
            elapsed = clock() - started
            if elapsed >= _SECONDS:
                break
        rates.append(done / elapsed)
    return statistics.median(rates)


def student_batches(opened: Opened, protocol: Protocol, context: Context) -> list[ViewBatch]:
    """The first batches of views that a student of the protocol asks labels for, on the run's device."""
    images, _, source = opened
    setup = context.setup
    views = ViewMaker(
        images, protocol.views, seed=setup.config.views.augmentation_seed, device=context.device
    )
    num_images = views.num_images
    order = BatchOrder(
        lambda epoch: source.schedule(epoch, num_images),
        batch_size=protocol.batch_size,
        seed=derive(setup.config.seed, "speed"),
        span=protocol.span,
        num_pairs=len(source.schedule(0, num_images)[1]),
    )
    return [views.make(*order.pairs(step)) for step in range(min(_BATCHES, protocol.steps))]


def _rate_stage(context: Context, row: Row) -> StageResult:
    """Measured once per row and kept: a comparison that is started again does not measure again."""
    protocol = row.protocol or context.setup.protocol

    def make(work: StageWork) -> dict[str, Any]:
        context.progress.message(f"speed: {row.scheme} on {row.images}")
        opened = (row.online or row.open)()
        rate = measured_rate(opened[2], student_batches(opened, protocol, context))
        return {"labels_per_second": rate, "batch": protocol.batch_size, "repeats": _REPEATS}

    return context.local.make(
        f"speed-{row.scheme.replace('@', '-')}-{row.images}"[:LONGEST_NAME],
        revision=_REVISION,
        config={
            "protocol": protocol.to_json(),
            "augmentation_seed": context.setup.config.views.augmentation_seed,
        },
        inputs=row.key,
        build=make,
    )


def _step_stage(context: Context, row: Row) -> StageResult:
    """Seconds of a student's step with labels that cost nothing: the median of `_STEPS`, after a few to warm up."""
    setup = context.setup
    protocol = setup.protocol

    def make(work: StageWork) -> dict[str, Any]:
        context.progress.message(f"speed: {setup.student}, {protocol.name}")
        images, labels, source = row.open()
        task = StudentTask(
            images=images,
            source=_Free(source.num_classes),
            protocol=replace(protocol, steps=_WARM_UP + _STEPS),
            student=setup.student,
            num_classes=source.num_classes,
            mean=[0.5] * images.shape[1],
            std=[0.5] * images.shape[1],
            augmentation_seed=setup.config.views.augmentation_seed,
            labels=labels,
        )
        ends: list[float] = []

        def on_step(step: int) -> None:
            if context.device.type == "cuda":
                torch.cuda.synchronize(context.device)
            ends.append(time.perf_counter())

        trained_student(task, context.engine, seed=0, on_step=on_step)
        taken = [after - before for before, after in itertools.pairwise(ends[_WARM_UP - 1 :])]
        return {"seconds_per_step": statistics.median(taken), "repeats": len(taken)}

    return context.local.make(
        f"speed-{setup.student}"[:LONGEST_NAME],
        revision=_REVISION,
        config={
            "student": [setup.student, own_part("model", setup.student)],
            "protocol": protocol.to_json(),
            "shape": list(setup.facts.shape),
            "classes": setup.facts.num_classes,
            "precision": setup.config.precision,
        },
        inputs={},
        build=make,
    )


@final
class _Free(LabelSource):
    """Labels that cost nothing: all classes alike."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes, self.temperature, self.fixed_temperature = num_classes, 1.0, False

    def logits(self, views: ViewBatch) -> Tensor:
        return torch.zeros(len(views.image_ids), self.num_classes, device=views.pixels.device)

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        return every_image(epoch, num_images)


@torch.no_grad()
def _label(source: LabelSource, batch: ViewBatch) -> int:
    logits = source.logits(batch)
    if logits.device.type == "cuda":
        torch.cuda.synchronize(logits.device)
    return len(logits)
