"""`flashdd inspect`: what an artifact holds, and how many bytes each part takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flashdd.artifact.format import CARD, FORMAT_VERSION, IMAGES, LABELER, MANIFEST, read_manifest
from flashdd.artifact.read import load
from flashdd.core.files import folder_bytes


def describe(path: str | Path) -> dict[str, Any]:
    """The contents of a sound artifact as JSON values; raises ArtifactError as `load` does.

    `bytes` counts the bytes on disk: the four files of the format (the card may be missing), `other` for what
    people have added, and the `total`.
    """
    artifact = load(path)
    manifest = read_manifest(artifact.path)
    images, labeler = artifact.image_set, artifact.labeler
    return {
        "path": str(artifact.path),
        "format": FORMAT_VERSION,
        "flashdd": manifest.flashdd,
        "images": {
            "num_images": images.num_images,
            "num_classes": images.num_classes,
            "ipc": images.ipc,
            "shape": list(images.shape),
            "class_names": list(images.class_names),
        },
        "labeler": {
            "num_members": labeler.num_members,
            "params": labeler.params,
            "bits": labeler.bits,
            "macs": labeler.macs,
            "temperature": labeler.temperature,
        },
        "views": artifact.views.to_json(),
        "augmentation_seed": artifact.augmentation_seed,
        "protocol": artifact.protocol,
        "provenance": artifact.provenance,
        "figures": artifact.figures,
        "bytes": part_bytes(artifact.path),
    }


def part_bytes(folder: Path) -> dict[str, int]:
    """Bytes on disk by part of an artifact's folder."""
    names = {"images": IMAGES, "labeler": LABELER, "manifest": MANIFEST, "card": CARD}
    parts = {
        part: (folder / name).stat().st_size if (folder / name).is_file() else 0
        for part, name in names.items()
    }
    total = folder_bytes(folder)
    return {**parts, "other": total - sum(parts.values()), "total": total}
