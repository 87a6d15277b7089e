"""The rows of a run's result table: those that no honest table lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flashdd.pipeline.context import Context
from flashdd.pipeline.material import Material
from flashdd.pipeline.realrows import real_equal_passes, real_whole
from flashdd.pipeline.rows import train_row
from flashdd.pipeline.schemes import scheme_row
from flashdd.pipeline.storedrows import LEARNED

_RIVALS = ("teacher@searched", "teacher@published", "stored", "stored@equal-bytes")


def student_rows(context: Context, material: Material, beside: Sequence[Material]) -> list[dict[str, Any]]:
    """Train the students of every row and return them in the record's form, with curves and confusion.

    beside: the same with other images, which get the labeler's row. Images that came with soft labels get their row.
    """
    own = ("hard", "labeler") if material.learned is None else ("hard", LEARNED, "labeler")
    rows = [scheme_row(context, material, scheme) for scheme in own]
    rows += [scheme_row(context, other, "labeler") for other in beside]
    rows += [scheme_row(context, material, scheme) for scheme in _RIVALS]
    passes = context.setup.protocol.passes(material.images.num_images)
    rows.append(real_equal_passes(context, material.data, passes))
    return [
        *(train_row(context, material.data, row, material.statistics) for row in rows if row is not None),
        real_whole(context, material.data),
    ]
