"""The labeler on images that it was not made for, with class offsets of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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

_OWN = "the class offsets of the images that it was made for"


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
    return replace(
        shipped, labeler=labeler, bytes=len(packed), sha256=sha256_bytes(packed), class_offsets=facts
    )


def offset_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was found where a row's labels were tried with class offsets that no search has found."""
    return [_told(row) for row in rows if "class_offsets" in row]


def _told(row: Mapping[str, Any]) -> str:
    found = row["class_offsets"]
    gain = f"{100 * found['gain']:+.1f} ± {100 * found['gain_stderr']:.1f} points"
    left_out = f"bring proxy students {gain}, no more than chance, and are left out."
    if not by_labeler(row["scheme"]):
        kept = f"with class offsets, which bring proxy students {gain}."
        return (
            f"{row['scheme']} on {_place(row)}: {kept if found['offsets'] else f'class offsets {left_out}'}"
        )
    if found["offsets"]:
        return (
            f"The labeler on {_place(row)}: beside {_OWN} it has others, fitted to these, which bring proxy students "
            f"{gain}."
        )
    return f"The labeler on {_place(row)}: it has {_OWN}; others, fitted to these, {left_out}"


def unsuited_note(row: Mapping[str, Any]) -> str:
    """That the labeler of a row has no others."""
    return f"The labeler on {_place(row)}: it has {_OWN}, and none of these (search.class_offsets)."


def _place(row: Mapping[str, Any]) -> str:
    """Images and, in a comparison, their number."""
    amount = row.get("ipc")
    return row["images"] if amount is None else f"{row['images']}, IPC {amount}"
