"""How fast a row's labels are made or read, and what an epoch of its students takes.

Only a comparison measures this. No key of a stage depends on a time, and no test looks at the clock.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.views import ViewBatch, ViewMaker
from flashdd.pipeline.context import Context
from flashdd.pipeline.rows import LONGEST_NAME, Opened, Row
from flashdd.training.order import BatchOrder
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource

_REVISION = 1
_SECONDS = 0.2
_REPEATS = 5
_BATCHES = 4


def row_times(context: Context, row: Row, made: dict[str, Any]) -> dict[str, float]:
    """`labels_per_second` and `seconds_per_epoch` of a finished row, as the record has them.

    made: what `train_row` returned. An epoch is one pass over the distilled images. Its seconds are those of the
    students' training steps; where a network's labels had been made beforehand, the time to make those of an epoch is
    added, as if they were made online.
    """
    rate: float = _rate_stage(context, row).record["labels_per_second"]
    num_images, protocol = context.setup.num_images, row.protocol or context.setup.protocol
    seconds = seconds_per_epoch(
        made["training_seconds"],
        passes=protocol.passes(num_images),
        num_images=num_images,
        labels_per_second=None if row.online is None else rate,
    )
    return {"labels_per_second": rate, "seconds_per_epoch": seconds}


def seconds_per_epoch(
    training_seconds: Sequence[float], *, passes: int, num_images: int, labels_per_second: float | None = None
) -> float:
    """Seconds of a student for `num_images` views, mean over the students.

    training_seconds: of each whole training, `passes` views long. labels_per_second: where labels are not yet part of
    these seconds.
    """
    own = num_images * statistics.fmean(training_seconds) / passes
    return own if labels_per_second is None else own + num_images / labels_per_second


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


@torch.no_grad()
def _label(source: LabelSource, batch: ViewBatch) -> int:
    logits = source.logits(batch)
    if logits.device.type == "cuda":
        torch.cuda.synchronize(logits.device)
    return len(logits)
