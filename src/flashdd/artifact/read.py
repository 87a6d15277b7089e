"""An artifact in memory: images, labeler, and everything that a student needs to train from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flashdd.artifact.format import (
    IMAGES,
    LABELER,
    MANIFEST,
    REMEDY,
    Manifest,
    check_file,
    read_manifest,
    regular_file,
)
from flashdd.artifact.stream import ViewBatches, ViewDataset
from flashdd.core.errors import ArtifactError
from flashdd.data.imageset import ImageSet, read_parquet
from flashdd.data.viewspec import ViewSpec
from flashdd.labels.flash.pack import Labeler, read_labeler


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Artifact:
    """What `load` returns.

    views, augmentation_seed: of the views that the protocol trains on; a view is a pure function of them, the
        epoch and the image id.
    protocol, provenance, figures: as written, JSON values.
    """

    path: Path
    image_set: ImageSet
    labeler: Labeler
    views: ViewSpec
    augmentation_seed: int
    protocol: dict[str, Any]
    provenance: dict[str, Any]
    figures: dict[str, Any]

    def __repr__(self) -> str:
        made = self.image_set
        return (
            f"Artifact('{self.path}': {made.num_images} images {made.shape} of {made.num_classes} classes, labeler of "
            f"{self.labeler.params:,} parameters)"
        )

    @property
    def images(self) -> torch.Tensor:
        """uint8 (N, C, H, W); the row number is the image id."""
        return self.image_set.images

    @property
    def labels(self) -> torch.Tensor:
        """int64 (N,)."""
        return self.image_set.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.image_set.class_names

    def batches(
        self, batch_size: int, *, seed: int, epochs: int, device: torch.device | str = "cpu"
    ) -> ViewBatches:
        """Batches of (views, soft labels) for `epochs` passes over the images.

        The object has a length and can be iterated again, to the same batches. Views are float32 (B, C, H, W)
        in [0, 1], not normalized; soft labels are softmax(logits / temperature) of the labeler, float32
        (B, classes). The order of an epoch is a permutation by (seed, epoch); views come from the artifact's
        augmentation seed. An epoch's last batch may be smaller; where there are fewer images than
        `batch_size`, batches span consecutive epochs. Raises UsageError for counts below 1.
        """
        return ViewBatches(
            self.images,
            self.labeler,
            self.views,
            augmentation_seed=self.augmentation_seed,
            batch_size=batch_size,
            seed=seed,
            epochs=epochs,
            device=device,
        )

    def dataset(self, epoch: int = 0) -> ViewDataset:
        """A `torch.utils.data.Dataset` of (view, soft label) of each image id, for people's own loops.

        Call `set_epoch(e)` before each pass, else every pass shows the same views. Raises UsageError where
        views depend on their batch (mix "cutmix-batch").
        """
        return ViewDataset(
            self.images, self.labeler, self.views, augmentation_seed=self.augmentation_seed, epoch=epoch
        )


def load(path: str | Path) -> Artifact:
    """Open the artifact in folder `path`, or in that of a run, after checking hashes, format and that the files agree.

    Raises ArtifactError that names the file and the field: missing, damaged, foreign or newer files, symbolic
    links, files that do not belong together. Files that the format does not know are left alone.
    """
    folder = artifact_folder(path)
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        check_file(folder, name, entry)
    return Artifact(
        path=folder,
        image_set=open_images(folder, manifest),
        labeler=open_labeler(folder, manifest),
        views=manifest.views,
        augmentation_seed=manifest.augmentation_seed,
        protocol=manifest.protocol,
        provenance=manifest.provenance,
        figures=manifest.figures,
    )


def artifact_folder(path: str | Path) -> Path:
    """`path` as the folder of an artifact, or the artifact in that of a run; ArtifactError where there is neither."""
    folder = Path(path)
    if not (folder / MANIFEST).exists() and (folder / "artifact" / MANIFEST).exists():
        return folder / "artifact"
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise ArtifactError(
            f"{folder} {what}: expected the folder of an artifact; `flashdd run` writes it to OUT/artifact."
        )
    return folder


def open_images(folder: Path, manifest: Manifest | None) -> ImageSet:
    """The images, after a check that they are those that flashdd.json describes (if it is given)."""
    path = regular_file(folder, IMAGES)
    images = read_parquet(path)
    if manifest is not None:
        _agree(path, "num_images", images.num_images, manifest.num_images)
        _agree(path, "shape", images.shape, manifest.shape)
        _agree(path, "class_names", images.class_names, manifest.class_names)
    return images


def open_labeler(folder: Path, manifest: Manifest | None) -> Labeler:
    """The labeler, after a check that it labels such images with such classes (if flashdd.json is given)."""
    path = regular_file(folder, LABELER)
    labeler = read_labeler(path)
    if manifest is not None:
        _agree(path, "class_names", labeler.num_classes, len(manifest.class_names), "number of classes")
        _agree(path, "shape", tuple(labeler.shape), manifest.shape)
    return labeler


def _agree(path: Path, field: str, got: object, expected: object, what: str = "") -> None:
    if got != expected:
        raise ArtifactError(
            f"{path}: {what or field} is {_short(got)}, expected {_short(expected)} as field '{field}' of "
            f"{MANIFEST} says: the files do not belong together, {REMEDY}."
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
