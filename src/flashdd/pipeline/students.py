"""The rows of a run's result table: those that no honest table lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flashdd.core.record import Accuracy
from flashdd.labels.hard import HardSource
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import network_stage
from flashdd.pipeline.rows import Row, row_facts, train_row
from flashdd.pipeline.schemes import LEARNED, Material, scheme_row

_RIVALS = ("teacher@searched", "teacher@published", "stored", "stored@equal-bytes")


def student_rows(context: Context, material: Material, beside: Sequence[Material]) -> list[dict[str, Any]]:
    """Train the students of every row and return them in the record's form, with curves and confusion.

    beside: the same with other images, which get the labeler's row. Images that came with soft labels get their row.
    """
    own = ("hard", "labeler") if material.learned is None else ("hard", LEARNED, "labeler")
    rows = [scheme_row(context, material, scheme) for scheme in own]
    rows += [scheme_row(context, other, "labeler") for other in beside]
    rows += [scheme_row(context, material, scheme) for scheme in _RIVALS]
    rows.append(_real_equal_passes(context, material))
    return [
        *(train_row(context, material.data, row, material.statistics) for row in rows if row is not None),
        _real_whole(context, material),
    ]


def _real_equal_passes(context: Context, material: Material) -> Row:
    """The whole training split with hard labels, for as many image passes as the distilled images get."""
    data, protocol = material.data, context.setup.protocol
    return Row(
        scheme="hard",
        images="real-equal-passes",
        label_bytes=0,
        key={"data": data.content_hash, "split": f"{len(data.val.labels)}"},
        open=lambda: (data.train.images, data.train.labels, HardSource(data.train.labels, data.num_classes)),
        protocol=protocol.of_passes(protocol.passes(material.images.num_images)).for_hard_labels(),
    )


def _real_whole(context: Context, material: Material) -> dict[str, Any]:
    """The upper bound: the student's architecture trained on the whole training split as members are, n = 1."""
    student = context.setup.student
    network = network_stage(context, material.data, student, context.setup.member_recipe)
    return {
        **row_facts("hard", "real-whole", context, 0),
        "protocol": "classifier",
        "accuracy": Accuracy.of([network.accuracy("test")]),
        "best_epoch": None,
        "seconds": network.stage.seconds,
        "curves": [],
        "confusion": None,
    }
