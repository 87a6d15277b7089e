"""Rows of students that see real data with hard labels: made once for a student, whatever the image sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flashdd.core.record import Accuracy
from flashdd.data.dataset import RealDataset
from flashdd.labels.hard import HardSource
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import network_stage
from flashdd.pipeline.rows import Row, row_facts, train_row
from flashdd.training.protocols import Protocol

WHOLE, EQUAL_PASSES = "real-whole", "real-equal-passes"
REAL = (WHOLE, EQUAL_PASSES)
"""As `flashdd compare --schemes` spells them, and as the rows' `images` do."""


def real_rows(
    contexts: Iterable[Context],
    data: RealDataset,
    statistics: tuple[Sequence[float], Sequence[float]],
    schemes: Sequence[str],
) -> list[dict[str, Any]]:
    """Train the rows that `schemes` ask for, once for every student (and protocol of equal passes) among `contexts`."""
    whole: dict[str, dict[str, Any]] = {}
    equal: dict[tuple[str, Protocol | None], dict[str, Any]] = {}
    for context in contexts:
        setup = context.setup
        if WHOLE in schemes and setup.student not in whole:
            whole[setup.student] = real_whole(context, data)
        if EQUAL_PASSES in schemes:
            row = real_equal_passes(context, data, setup.protocol.passes(setup.num_images))
            if (setup.student, row.protocol) not in equal:
                equal[setup.student, row.protocol] = train_row(context, data, row, statistics)
    return [*whole.values(), *equal.values()]


def real_equal_passes(context: Context, data: RealDataset, passes: int) -> Row:
    """The whole training split with hard labels, for as many image passes as the distilled images get."""
    return Row(
        scheme="hard",
        images=EQUAL_PASSES,
        label_bytes=0,
        key={"data": data.content_hash, "split": f"{len(data.val.labels)}"},
        open=lambda: (data.train.images, data.train.labels, HardSource(data.train.labels, data.num_classes)),
        protocol=context.setup.protocol.of_passes(passes).for_hard_labels(),
        facts={"image_passes": passes},
    )


def real_whole(context: Context, data: RealDataset) -> dict[str, Any]:
    """The upper bound: the student's architecture trained on the whole training split as members are, n = 1."""
    network = network_stage(context, data, context.setup.student, context.setup.member_recipe)
    return {
        **row_facts("hard", WHOLE, context, 0),
        "protocol": "classifier",
        "accuracy": Accuracy.of([network.accuracy("test")]),
        "best_epoch": None,
        "seconds": network.stage.seconds,
        "curves": [],
        "confusion": None,
    }
