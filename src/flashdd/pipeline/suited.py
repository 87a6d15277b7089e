"""The labeler for images that it was not made for, with class offsets of these."""

from __future__ import annotations

from flashdd.core.files import sha256_bytes
from flashdd.core.stages import StageResult
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import labels_of
from flashdd.pipeline.material import Shipped
from flashdd.pipeline.offsets import Unadjusted, offsets_stage

SUITED = (
    "On other images than its own the labeler has class offsets that were fitted to these, where they gain "
    "(search.class_offsets)."
)
"""The note beside such rows."""


def suited_labeler(context: Context, data: RealDataset, images: ImageSet, shipped: Shipped) -> Shipped:
    """`shipped`, which has class offsets of other images, with those of `images` instead, in as many bytes."""
    offsets = suited_stage(context, data, images, shipped).record["offsets"]
    if not offsets:
        return shipped
    labeler = shipped.labeler.changed(offsets=offsets)
    packed = labeler_bytes(labeler)
    return Shipped(labeler=labeler, bytes=len(packed), sha256=sha256_bytes(packed))


def suited_stage(context: Context, data: RealDataset, images: ImageSet, shipped: Shipped) -> StageResult:
    """Its record has the `offsets` by which those of `images` differ from the labeler's own."""
    found = Unadjusted(
        labels=lambda: labels_of(context, shipped.labeler, images),
        temperature=shipped.labeler.temperature,
        inputs={"labeler": shipped.sha256},
    )
    search = context.setup.config.search
    return offsets_stage(context, data, images, found, max(search.seeds, search.finalist_seeds))
