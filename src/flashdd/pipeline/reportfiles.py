"""What the report draws, as small files: thumbnails, mean labels, confusion, curves."""

from __future__ import annotations

import base64
import io
import statistics
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from flashdd.artifact.read import Artifact
from flashdd.core.files import canonical_json, write_atomic
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewMaker

_PER_CLASS = 10
_LARGEST_MATRIX = 200
_EPOCHS = 10


def write_report_files(artifact: Artifact, students: list[dict[str, Any]], folder: Path) -> None:
    """Write gallery.json, mean_labels.json, confusion.json and curves.json to `folder`."""
    names = list(artifact.class_names)
    _write(folder / "gallery.json", {"classes": _gallery(artifact.image_set)})
    if len(names) <= _LARGEST_MATRIX:
        matrix = _mean_labels(artifact)
        _write(folder / "mean_labels.json", {"class_names": names, "matrix": matrix})
        ours = next(row for row in students if row["scheme"] == "labeler")
        if ours["confusion"] is not None:
            _write(folder / "confusion.json", {"class_names": names, "matrix": ours["confusion"]})
    _write(folder / "curves.json", {"rows": [_curve(row) for row in students if row["curves"]]})


def _write(path: Path, value: Any) -> None:
    write_atomic(path, canonical_json(value))


def _gallery(images: ImageSet) -> list[dict[str, Any]]:
    classes = []
    for label, name in enumerate(images.class_names):
        rows = images.images[images.labels == label][:_PER_CLASS]
        classes.append({"name": name, "png": [_png(row) for row in rows]})
    return classes


def _png(image: torch.Tensor) -> str:
    pixels = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _mean_labels(artifact: Artifact) -> list[list[float]]:
    """Row c: the mean soft label of class c's views, over the first epochs."""
    views = ViewMaker(artifact.images, artifact.views, seed=artifact.augmentation_seed)
    labeler = artifact.labeler.to("cpu")
    ids = torch.arange(len(artifact.labels))
    total = torch.zeros(len(artifact.class_names), len(artifact.class_names), dtype=torch.float64)
    for epoch in range(_EPOCHS):
        logits = labeler.logits_of(views.make(torch.full_like(ids, epoch), ids).pixels)
        soft = torch.softmax(logits / artifact.labeler.temperature, dim=1).double()
        total.index_add_(0, artifact.labels, soft)
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
