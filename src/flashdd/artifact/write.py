"""Write an artifact: the folder appears whole or not at all, and equal content gives equal bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashdd import __version__
from flashdd.artifact.card import card_text
from flashdd.artifact.format import (
    CARD,
    IMAGES,
    LABELER,
    MANIFEST,
    FileEntry,
    Manifest,
    encode_manifest,
    read_manifest,
)
from flashdd.artifact.replay import replay
from flashdd.core.errors import DataError
from flashdd.core.files import atomic_folder, sha256_file, write_atomic
from flashdd.data.imageset import ImageSet, write_parquet
from flashdd.data.viewspec import ViewSpec
from flashdd.labels.flash.pack import Labeler, read_labeler, write_labeler


@dataclass(frozen=True, kw_only=True, eq=False)
class ArtifactContent:
    """Everything that goes into an artifact.

    views, augmentation_seed (0..2^64-1): of the views that the protocol trains on.
    protocol, provenance, figures: JSON values; `figures["students"]` may list rows of the record's form,
        which become the card's table of accuracies.
    title: of the card.
    """

    images: ImageSet
    labeler: Labeler
    views: ViewSpec
    augmentation_seed: int
    protocol: dict[str, Any]
    provenance: dict[str, Any]
    figures: dict[str, Any]
    title: str


def write_artifact(content: ArtifactContent, folder: Path) -> None:
    """Write the artifact to `folder`, replacing what stands there once the new one is complete.

    Raises DataError where the parts do not fit each other or JSON, OutputError or StorageError where the disk
    does not let it.
    """
    _check(content)
    with atomic_folder(folder) as draft:
        write_parquet(content.images, draft / IMAGES)
        write_labeler(content.labeler, draft / LABELER)
        # The logits that readers must get again are those of the packed bytes, not of the object in memory.
        packed = read_labeler(draft / LABELER)
        manifest = Manifest(
            flashdd=__version__,
            class_names=content.images.class_names,
            shape=content.images.shape,
            num_images=content.images.num_images,
            views=content.views,
            augmentation_seed=content.augmentation_seed,
            replay=replay(content.images, content.views, content.augmentation_seed, packed),
            files={name: _entry(draft / name) for name in (IMAGES, LABELER)},
            protocol=content.protocol,
            provenance=content.provenance,
            figures=content.figures,
        )
        write_atomic(draft / MANIFEST, encode_manifest(manifest))
        manifest = read_manifest(draft)  # the reader's checks, on what the reader will see
        write_atomic(draft / CARD, card_text(manifest, packed, title=content.title).encode())


def _entry(path: Path) -> FileEntry:
    return FileEntry(num_bytes=path.stat().st_size, sha256=sha256_file(path))


def _check(content: ArtifactContent) -> None:
    images, labeler = content.images, content.labeler
    if labeler.num_classes != images.num_classes:
        raise DataError(
            f"the labeler has {labeler.num_classes} classes, the images have {images.num_classes}: "
            "make the labeler for these images."
        )
    if tuple(labeler.shape) != images.shape:
        raise DataError(
            f"the labeler takes views of shape {tuple(labeler.shape)}, the images have {images.shape}: "
            "make the labeler for these images."
        )
    if not 0 <= content.augmentation_seed < 2**64:
        raise DataError(f"augmentation_seed is {content.augmentation_seed}, expected 0..2^64-1.")
