"""The labeler on images that it was not made for, with class offsets of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashdd.core.files import sha256_bytes
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import labels_of
from flashdd.pipeline.material import Shipped
from flashdd.pipeline.offsets import Unfitted, fitted_offsets
from flashdd.pipeline.schemes import by_labeler

_OWN = "The labeler on {}: it has the class offsets of the images that it was made for"
_BESIDE = ", and beside them those that students of these ask for."
_NOTHING_BESIDE = "; what students of these ask for beside them gains nothing."


def suited_labeler(
    context: Context, data: RealDataset, images: ImageSet, shipped: Shipped, method: str
) -> Shipped:
    """`shipped`, which has class offsets of other images, with what `images` ask for beside them, in as many bytes.

    Where that gains nothing its logits are as shipped. method: what the table calls the images.
    """
    unfitted = Unfitted(
        name=f"labeler-{method}",
        labels=lambda: labels_of(context, shipped.labeler, images),
        temperature=shipped.labeler.temperature,
        inputs={"labeler": shipped.sha256},
    )
    search = context.setup.config.search
    facts = fitted_offsets(context, data, images, unfitted, max(search.seeds, search.finalist_seeds))
    labeler = shipped.labeler.with_settings(offsets=facts["offsets"])
    packed = labeler_bytes(labeler)
    return Shipped(labeler=labeler, bytes=len(packed), sha256=sha256_bytes(packed), class_offsets=facts)


def suited_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whose class offsets the labeler has in rows of images that it was not made for."""
    notes = []
    for row in rows:
        if by_labeler(row["scheme"]) and "class_offsets" in row:
            kept = row["class_offsets"]["offsets"]
            notes.append(_OWN.format(row["images"]) + (_BESIDE if kept else _NOTHING_BESIDE))
    return list(dict.fromkeys(notes))


def unsuited_note(method: str) -> str:
    """That it has no others there."""
    return _OWN.format(method) + " (search.class_offsets)."
