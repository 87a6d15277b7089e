"""What the report draws, as small files: thumbnails, mean labels, confusion, curves."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flashdd.artifact.read import Artifact
from flashdd.core.files import canonical_json, write_atomic
from flashdd.data.imageset import ImageSet, encode_png
from flashdd.data.views import ViewMaker
from flashdd.labels.table import canonical_chunks
from flashdd.training.losses import soft_targets

_PER_CLASS = 10
_LARGEST_MATRIX = 200
_LARGEST_GALLERY = 50
_EPOCHS = 10


def write_report_files(
    artifact: Artifact, others: Mapping[str, ImageSet], students: list[dict[str, Any]], folder: Path
) -> None:
    """Write gallery.json, mean_labels.json, confusion.json and curves.json to `folder`.

    others: sets of other image methods to stand beside the artifact's in the gallery, by name.
    """
    names = list(artifact.class_names)
    sets = {artifact.provenance["images"]["method"]: artifact.image_set, **others}
    _write(folder / "gallery.json", {"classes": _gallery(sets, names)})
    if len(names) <= _LARGEST_MATRIX:
        matrix = _mean_labels(artifact)
        _write(folder / "mean_labels.json", {"class_names": names, "matrix": matrix})
        ours = next(row for row in students if row["scheme"] == "labeler")
        if ours["confusion"] is not None:
            _write(folder / "confusion.json", {"class_names": names, "matrix": ours["confusion"]})
    _write(folder / "curves.json", {"rows": [_curve(row) for row in students if row["curves"]]})


def _write(path: Path, value: Any) -> None:
    write_atomic(path, canonical_json(value))


def _gallery(sets: Mapping[str, ImageSet], names: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "strips": [{"images": method, "png": _pngs(images, label)} for method, images in sets.items()],
        }
        for label, name in enumerate(names[:_LARGEST_GALLERY])
    ]


def _pngs(images: ImageSet, label: int) -> list[str]:
    rows = images.images[images.labels == label][:_PER_CLASS]
    return [base64.b64encode(encode_png(row.permute(1, 2, 0).numpy())).decode() for row in rows]


def _mean_labels(artifact: Artifact) -> list[list[float]]:
    """Row c: the mean soft label of class c's views, over the first epochs."""
    views = ViewMaker(artifact.images, artifact.views, seed=artifact.augmentation_seed)
    labeler = artifact.labeler.to("cpu")
    total = torch.zeros(len(artifact.class_names), len(artifact.class_names), dtype=torch.float64)
    for epochs, ids in canonical_chunks(_EPOCHS, len(artifact.labels)):
        logits = labeler.logits_of(views.make(epochs, ids).pixels)
        total.index_add_(0, artifact.labels[ids], soft_targets(logits, artifact.labeler.temperature).double())
    counts = torch.bincount(artifact.labels, minlength=len(artifact.class_names))
    mean: list[list[float]] = (total / (_EPOCHS * counts[:, None])).tolist()
    return mean


def _curve(row: dict[str, Any]) -> dict[str, Any]:
    steps = [step for step, _ in row["curves"][0]]
    means = [
        statistics.fmean(values)
        for values in zip(*([v for _, v in curve] for curve in row["curves"]), strict=True)
    ]
    return {"scheme": row["scheme"], "images": row["images"], "steps": steps, "mean": means}
