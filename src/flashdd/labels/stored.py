"""Stored labels: float16 logits of every epoch, memory-mapped, with a manifest (FKD, arXiv 2112.01528; SRe2L).

No coordinates are stored: views replay from the augmentation seed. The manifest ties the payload to its images
and views, so that labels are never given to images that changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashdd.core.errors import ArtifactError
from flashdd.core.files import atomic_folder, canonical_json, folder_bytes, read_json, sha256_file
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewSpec
from flashdd.labels.table import TableSource

SCHEMA = 1
_PAYLOAD = "labels.f16"
_MANIFEST = "manifest.json"
_FIELDS = {
    "schema": int,
    "content_hash": str,
    "num_images": int,
    "num_classes": int,
    "epochs": int,
    "temperature": float,
    "augmentation_seed": int,
    "views": dict,
    "sha256": str,
}


def epochs_within(
    budget: int,
    images: ImageSet,
    views: ViewSpec,
    *,
    augmentation_seed: int,
    temperature: float,
    at_most: int,
) -> int:
    """How many epochs, up to `at_most`, a stored scheme may hold within `budget` bytes, manifest included."""
    per_epoch = 2 * images.num_images * images.num_classes
    manifest = _manifest(images, views, at_most, augmentation_seed, temperature, "0" * 64)
    return max(0, min(at_most, (budget - len(canonical_json(manifest))) // per_epoch))


def _manifest(
    images: ImageSet, views: ViewSpec, epochs: int, augmentation_seed: int, temperature: float, sha256: str
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "content_hash": images.content_hash,
        "num_images": images.num_images,
        "num_classes": images.num_classes,
        "epochs": epochs,
        "temperature": float(temperature),
        "augmentation_seed": augmentation_seed,
        "views": views.to_json(),
        "sha256": sha256,
    }


def write_stored(
    folder: Path,
    logits: Tensor,
    images: ImageSet,
    views: ViewSpec,
    *,
    augmentation_seed: int,
    temperature: float,
) -> int:
    """Write `logits` (epochs, N, classes), made in canonical chunks, as a stored scheme; returns bytes on disk.

    The row of an image in an epoch is its id. Raises ValueError if the logits do not fit float16.
    """
    epochs, num_images, num_classes = logits.shape
    if (num_images, num_classes) != (images.num_images, images.num_classes):
        raise ValueError(f"logits of shape {tuple(logits.shape)} are not those of {images.num_images} images")
    half = logits.half()
    if not torch.isfinite(half).all():
        raise ValueError(
            "logits beyond float16 (65504) or not finite cannot be stored: lower the logit scale"
        )
    with atomic_folder(folder) as draft:
        payload = draft / _PAYLOAD
        payload.write_bytes(half.contiguous().numpy().astype("<f2").tobytes())
        manifest = _manifest(images, views, epochs, augmentation_seed, temperature, sha256_file(payload))
        (draft / _MANIFEST).write_bytes(canonical_json(manifest))
    return folder_bytes(folder)


def open_stored(folder: Path, images: ImageSet, views: ViewSpec, *, augmentation_seed: int) -> TableSource:
    """The labels in `folder` for exactly these images and views; the payload stays on disk, memory-mapped.

    Raises ArtifactError where files are missing or damaged, or belong to other images or views.
    """
    manifest = _read_manifest(folder / _MANIFEST)
    if manifest["content_hash"] != images.content_hash:
        raise ArtifactError(
            f"{folder}: these labels were made for other images (content hash {manifest['content_hash'][:12]}, "
            f"the images have {images.content_hash[:12]}): store labels again for the images as they are now."
        )
    if manifest["views"] != views.to_json() or manifest["augmentation_seed"] != augmentation_seed:
        raise ArtifactError(
            f"{folder}: these labels were made for other views (field 'views' or 'augmentation_seed'): "
            "train with the views of the manifest, or store labels again."
        )
    shape = (manifest["epochs"], images.num_images, images.num_classes)
    payload = folder / _PAYLOAD
    expected = 2 * int(np.prod(shape))
    if not payload.is_file() or payload.stat().st_size != expected:
        got = f"{payload.stat().st_size} bytes" if payload.is_file() else "no file"
        raise ArtifactError(f"{payload}: expected {expected} bytes, got {got}: copy the folder again.")
    if sha256_file(payload) != manifest["sha256"]:
        raise ArtifactError(f"{payload}: its hash is not the manifest's: the file is damaged, copy it again.")
    # mode "c" (copy on write) gives PyTorch the writable array it wants; nothing is ever written back
    table = torch.from_numpy(np.memmap(payload, dtype="<f2", mode="c", shape=shape))
    return TableSource(table, temperature=manifest["temperature"])


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = read_json(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing: this folder holds no stored labels.") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}): copy the folder again.") from error
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{path}: expected an object with the fields {', '.join(_FIELDS)}.")
    for name, kind in _FIELDS.items():
        if not isinstance(manifest.get(name), kind):
            raise ArtifactError(
                f"{path}: field '{name}' must be of type {kind.__name__}: copy the folder again."
            )
    if manifest["schema"] > SCHEMA:
        raise ArtifactError(
            f"{path}: written by a newer flashdd (schema {manifest['schema']}); this one reads {SCHEMA}: upgrade."
        )
    if manifest["epochs"] < 1:
        raise ArtifactError(f"{path}: field 'epochs' must be at least 1, got {manifest['epochs']}.")
    return manifest
