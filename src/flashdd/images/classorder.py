"""Whether the labels of somebody else's images mean the classes that they say.

Class folders sorted as text, or another order of classes, give every image a wrong label, and students that learn
nothing: the commonest complaint about published sets. A teacher tells.
"""

from __future__ import annotations

from scipy.optimize import linear_sum_assignment
from torch import Tensor

from flashdd.core.errors import DataError

_CLEARLY = 0.25
"""By how much of all images another assignment must agree better,"""
_AT_LEAST = 5
"""and by how many images: with few of them, chance finds better assignments."""
_OVER_CHANCE = 2.0
"""A witness whose best assignment agrees on fewer than so many times the images that chance does tells nothing."""


def check_class_order(
    logits: Tensor, labels: Tensor, class_names: tuple[str, ...], *, witness: str = "the teacher agrees"
) -> str:
    """On how many images the witness agrees, as a sentence, which says so where it is too weak to tell classes apart.
    DataError if another assignment of labels to classes agrees clearly better with a teacher, or another witness.

    logits: (N, classes), the teacher's on the images; labels: int64 (N,). An assignment agrees on an image if the
    teacher's class is the one that it gives to the image's label; the best one is found by Hungarian matching
    (Kuhn 1955).
    """
    classes = len(class_names)
    counts = (labels * classes + logits.argmax(1)).bincount(minlength=classes**2).view(classes, classes)
    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    given, best = int(counts.diagonal().sum()), int(counts[rows, columns].sum())
    if best - given < max(_AT_LEAST, _CLEARLY * len(labels)):
        weak = best < max(_AT_LEAST, _OVER_CHANCE * len(labels) / classes)
        unknown = ", too few to tell whether the labels mean these classes" if weak else ""
        return f"{witness} with {given} of {len(labels)} labels{unknown}"
    moved = [
        f"'{class_names[row]}' looks like '{class_names[column]}'"
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if row != column and counts[row, column]
    ]
    shown = ", ".join(moved[:5]) + (", ..." if len(moved) > 5 else "")
    raise DataError(
        f"the labels of the images seem to mean other classes: {witness} with {given} of {len(labels)} as "
        f"they are, and with {best} in another order ({shown}): put the classes into the data's order; folders named "
        "as the classes cannot be mistaken."
    )
