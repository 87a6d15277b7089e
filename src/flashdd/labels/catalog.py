"""All schemes of stored labels: by name, from a folder, and those that fit a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from flashdd.core.errors import ArtifactError, UsageError, unknown_name
from flashdd.labels.hald import Hald
from flashdd.labels.lowrank import Lowrank
from flashdd.labels.lpld import Lpld
from flashdd.labels.lpqld import Lpqld
from flashdd.labels.payload import MANIFEST, open_payload, read_manifest
from flashdd.labels.scheme import Opened, Scheme, Subject, TableSize
from flashdd.labels.static import Static
from flashdd.labels.stored import Stored
from flashdd.labels.vq import Vq
from flashdd.training.source import LabelSource

SCHEMES: Mapping[str, type[Scheme]] = {
    scheme.kind: scheme for scheme in (Static, Stored, Lpld, Lpqld, Hald, Lowrank, Vq)
}

STORED_REVISION = 3
"""Of what the schemes write: raised whenever the same logits become other files, and part of every key with them."""
_FLOAT_BITS, _COARSE_BITS = 16, 4
SHORTLISTED = 8
"""The most schemes that `shortlist` keeps."""


def parse_scheme(text: str) -> Scheme:
    """The scheme called `text`: a bare name, or one with a variant after `@`, as in `stored@4bit`.

    UnknownNameError with the nearest spelling for a name or a variant that no scheme has; UsageError for a number out
    of a scheme's range.
    """
    kind, at, variant = text.partition("@")
    if kind not in SCHEMES:
        raise unknown_name("label scheme", text, SCHEMES)
    if at and not variant:
        raise unknown_name("label scheme", text, SCHEMES[kind].forms)
    scheme = SCHEMES[kind].parse(variant)
    if scheme is None:
        raise unknown_name("label scheme", text, SCHEMES[kind].forms)
    return scheme


def open_labels(folder: Path, subject: Subject) -> LabelSource:
    """The labels in `folder` for exactly these images and views; what is large stays on disk, memory-mapped.

    ArtifactError where files are missing, damaged or inconsistent, or belong to other images or views.
    """
    manifest = read_manifest(folder)
    _check_subject(folder, manifest, subject)
    size = subject.size(manifest["epochs"])
    scheme = _scheme(folder, manifest, size)
    parts = open_payload(folder, scheme.sections(size), manifest["sha256"])
    opened = Opened(parts=parts, size=size, subject=subject, temperature=manifest["temperature"])
    try:
        return scheme.source(opened)
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from error


def _check_subject(folder: Path, manifest: Mapping[str, Any], subject: Subject) -> None:
    if manifest["content_hash"] != subject.content_hash:
        raise ArtifactError(
            f"{folder}: these labels were made for other images (content hash {manifest['content_hash'][:12]}, "
            f"the images have {subject.content_hash[:12]}): store labels again for the images as they are now."
        )
    views = subject.views.to_json(), subject.augmentation_seed
    if (manifest["views"], manifest["augmentation_seed"]) != views:
        raise ArtifactError(
            f"{folder}: these labels were made for other views (field 'views' or 'augmentation_seed'): "
            "train with the views of the manifest, or store labels again."
        )
    for name, expected in (
        ("num_images", subject.images.num_images),
        ("num_classes", subject.images.num_classes),
    ):
        if manifest[name] != expected:
            raise ArtifactError(
                f"{folder / MANIFEST}: field '{name}' is {manifest[name]}, the images have {expected}: copy the "
                "folder again."
            )


def _scheme(folder: Path, manifest: Mapping[str, Any], size: TableSize) -> Scheme:
    """The scheme of a manifest; its settings must be there in full, and be possible for this table."""
    path, kind, settings = folder / MANIFEST, manifest["scheme"], manifest["settings"]
    if kind not in SCHEMES:
        raise ArtifactError(
            f"{path}: field 'scheme' is '{kind[:60]}'; this flashdd knows {', '.join(SCHEMES)}: a newer one may have "
            "written it."
        )
    known = {field.name for field in fields(SCHEMES[kind])}
    problem = "expected whole numbers"
    if settings.keys() <= known and all(type(value) is int for value in settings.values()):
        try:
            scheme = SCHEMES[kind](**settings)
            if scheme.resolve(size).settings() == settings:
                return scheme
            problem = "some are missing"
        except UsageError as error:
            problem = str(error)
    raise ArtifactError(f"{path}: field 'settings' cannot be used ({problem}): copy the folder again.")


def equal_bytes(
    budget: int, subject: Subject, *, epochs: int, temperature: float, most_epochs: int | None = None
) -> list[Scheme]:
    """What "stored at equal bytes" is chosen from, on validation: every kind of scheme, as large as `budget` holds.

    A teacher's table has `epochs` epochs. Fewer epochs cycled at 16, 8, 4, 3 and 2 bits; LPLD; LPQLD with 1, 2, 4, ..
    classes per label; low rank with 1, 2, 4, .. components of 8 bits; VQ with 16, 256 and 4,096 codewords. A scheme of
    which nothing fits is left out. None keeps views beyond the first `most_epochs`, all that memory may hold.
    """
    classes = subject.images.num_classes
    powers = [1 << exponent for exponent in range(classes.bit_length()) if 1 << exponent < classes]
    candidates: list[Scheme] = [
        *(Stored(bits=bits) for bits in (16, 8, 4, 3, 2)),
        Lpld(labels=1),
        *(Lpqld(k=k, labels=1) for k in powers),
        *(Lowrank(rank=rank, bits=8) for rank in powers),
        *(Vq(codewords=count) for count in (16, 256, 4096)),
    ]
    fitted = (scheme.within(budget, subject, epochs=epochs, temperature=temperature) for scheme in candidates)
    size = subject.size(epochs)
    return [scheme.of_first(most_epochs, size) for scheme in fitted if scheme is not None]


def shortlist(candidates: Sequence[Scheme], num_images: int) -> list[Scheme]:
    """Of what `equal_bytes` lists for `num_images` images, few settings of every scheme, so that each can be scored.

    Float16 epochs, and those of 4, 3 and 2 bits, as many as fit; LPLD; and of LPQLD, low rank and VQ the
    most classes, components or codewords that fit while at least as many views have a label as with 4 bits: a finer
    label that covers less than plain rounding to 4 bits does compresses nothing. Where none covers as many, the setting
    that covers most. No paper gives such a rule; it looks at sizes alone.
    """
    stored = [scheme for scheme in candidates if isinstance(scheme, Stored)]
    coarse = [scheme for scheme in stored if scheme.bits <= _COARSE_BITS]
    kept: list[Scheme] = [*(scheme for scheme in stored if scheme.bits == _FLOAT_BITS), *coarse]
    enough = num_labels(coarse[0], num_images) if coarse else 0
    for kind in (Lpld, Lpqld, Lowrank, Vq):
        settings = [scheme for scheme in candidates if isinstance(scheme, kind)]
        covering = [scheme for scheme in settings if coarse and num_labels(scheme, num_images) >= enough]
        kept += covering[-1:] or settings[:1]
    return kept


def num_labels(scheme: Scheme, num_images: int) -> int:
    """Labels of a resolved scheme that keeps whole epochs, or a number of labels, of `num_images` images."""
    settings = scheme.settings()
    labels: int = settings["epochs"] * num_images if "epochs" in settings else settings["labels"]
    return labels
