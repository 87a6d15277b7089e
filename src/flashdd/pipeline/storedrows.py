"""Rows of stored labels: the searched teacher's, or by `-by-labeler` the labeler's own, kept as a scheme keeps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from flashdd.core.errors import UsageError
from flashdd.core.files import sha256_bytes
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.imageset import ImageSet
from flashdd.labels import catalog
from flashdd.labels.catalog import open_labels
from flashdd.labels.network import NetworkSource, with_offsets
from flashdd.labels.scheme import Scheme, Subject
from flashdd.labels.static import Static, learned_logits, plain_logits
from flashdd.labels.table import Labels, most_epochs
from flashdd.pipeline.context import Context
from flashdd.pipeline.equalbytes import LabelsToStore, best_within
from flashdd.pipeline.labels import labels_of, labels_stage, labels_tabled
from flashdd.pipeline.material import Material, labeler_facts, teacher_facts
from flashdd.pipeline.rows import Row

LEARNED = "static@learned"
EQUAL_BYTES = "stored@equal-bytes"
BY_LABELER = "by-labeler"


def split_origin(scheme: str) -> tuple[str, bool]:
    """A scheme of stored labels without whose labels they are, and whether these are the labeler's.

    >>> split_origin("stored@4bit-by-labeler"), split_origin("lpld@by-labeler"), split_origin("vq")
    (('stored@4bit', True), ('lpld', True), ('vq', False))
    """
    kind, _, variant = scheme.partition("@")
    if variant == BY_LABELER:
        return kind, True
    base = scheme.removesuffix(f"-{BY_LABELER}")
    return base, base != scheme


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """Whose labels are stored: logits (epochs, N, classes) of the views of the first epochs, None for all, and (1, N,
    classes) of the images as they are. facts: more to say about the row."""

    of_views: Callable[[int | None], Tensor]
    of_images: Callable[[], Tensor]
    temperature: float
    inputs: dict[str, str]
    network: Callable[[], dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)

    def labels(self, context: Context, images: ImageSet, stored: Scheme | None) -> LabelsToStore:
        """What `stored` keeps, None for schemes of views.

        A table of all views serves every scheme; where it would be too big, one of the first epochs does.
        """
        most = None if labels_tabled(context, images) else _most_epochs(images)

        def logits(first: int) -> Tensor:
            if stored is not None and not stored.of_views:
                return self.of_images()
            return self.of_views(None if most is None else first)

        return LabelsToStore(
            logits=logits,
            temperature=self.temperature,
            inputs=self.inputs,
            most_epochs=most,
        )


def stored_row(context: Context, material: Material, scheme: str) -> Row | None:
    """The row of a scheme of stored labels; None where its labels are beyond memory, budget or views do not replay."""
    base, by_labeler = split_origin(scheme)
    if not context.setup.protocol.views.replayable:
        return None
    images = material.images
    stored = None if base == EQUAL_BYTES else catalog.parse_scheme(base)
    if stored is not None and stored.of_views:
        size = _subject(context, images).size(context.setup.protocol.epochs(images.num_images))
        if stored.leading_epochs(size) > _most_epochs(images):
            return None
    origin = (_labeler if by_labeler else _teacher)(context, material)
    facts = dict(origin.facts)
    if stored is None:
        budget = material.shipped.bytes if material.shipped else context.setup.budget_bytes
        found = best_within(
            context, material.data, _subject(context, images), origin.labels(context, images, None), budget
        )
        if found is None:
            return None
        stored = found.scheme
        facts["equal_bytes"] = found.facts
    stage = _stage(context, material, scheme, stored, origin.labels(context, images, stored))
    row = _row(context, material, scheme, stored, stage)
    return replace(row, network=origin.network, facts=facts)


def _most_epochs(images: ImageSet) -> int:
    return most_epochs(images.num_images, images.num_classes)


def learned_row(context: Context, material: Material) -> Row | None:
    """The soft labels that came with images made elsewhere, one per image, as published."""
    if material.learned is None:
        raise UsageError(f"scheme '{LEARNED}': the images of {material.method} came without soft labels.")
    if not context.setup.protocol.views.replayable:
        return None
    logits = learned_logits(material.learned)
    inputs = {"learned": sha256_bytes(logits.numpy().tobytes())}
    labels = LabelsToStore(logits=lambda first: logits, temperature=1.0, inputs=inputs)
    stage = _stage(context, material, LEARNED, Static(), labels)
    return _row(context, material, LEARNED, Static(), stage)


def _teacher(context: Context, material: Material) -> _Origin:
    """The full teacher at its searched settings."""
    setting, images = material.searched().choice.setting, material.images
    teacher = material.teacher(setting.course)

    def of_views(first: int | None) -> Tensor:
        table = _table(labels_stage(context, teacher, images, first=first)[1])
        return with_offsets(setting.logit_scale * table, setting.offsets)

    def of_images() -> Tensor:
        net = teacher.open().to(context.device)
        source = NetworkSource(
            net,
            num_classes=images.num_classes,
            logit_scale=setting.logit_scale,
            offsets=setting.offsets,
        )
        return plain_logits(source, images, device=context.device)

    return _Origin(
        of_views=of_views,
        of_images=of_images,
        temperature=setting.temperature,
        inputs={
            "network": teacher.stage.hash,
            "scale": " ".join(map(repr, (setting.logit_scale, *setting.offsets))),
        },
        network=partial(teacher_facts, context, material, setting),
    )


def _labeler(context: Context, material: Material) -> _Origin:
    """The artifact's labeler; its scale is part of its logits."""
    shipped, images = material.labeler(), material.images

    def of_images() -> Tensor:
        source = NetworkSource(shipped.labeler.to(context.device), num_classes=images.num_classes)
        return plain_logits(source, images, device=context.device)

    return _Origin(
        of_views=lambda first: _table(labels_of(context, shipped.labeler, images, first=first)),
        of_images=of_images,
        temperature=shipped.labeler.temperature,
        inputs={"network": shipped.sha256},
        network=partial(labeler_facts, context, material.data, shipped),
        facts=shipped.facts,
    )


def _table(labels: Labels) -> Tensor:
    assert labels.table is not None, "seen to fit before"
    return labels.table


def _subject(context: Context, images: ImageSet) -> Subject:
    setup = context.setup
    seed = setup.config.views.augmentation_seed
    return Subject(images=images, views=setup.protocol.views, augmentation_seed=seed)


def _stage(
    context: Context, material: Material, scheme: str, stored: Scheme, labels: LabelsToStore
) -> StageResult:
    """The payload and its manifest on disk."""
    subject = _subject(context, material.images)
    epochs = context.setup.protocol.epochs(material.images.num_images) if stored.of_views else 1

    def make(work: StageWork) -> dict[str, Any]:
        folder, logits = work.folder / "labels", labels.logits(stored.leading_epochs(subject.size(epochs)))
        written = stored.write(folder, logits, subject, temperature=labels.temperature, epochs=epochs)
        return {"bytes": written}

    return context.local.make(
        scheme.replace("@", "-"),
        revision=catalog.STORED_REVISION,
        config={
            "scheme": stored.name,
            "settings": stored.settings(),
            "temperature": labels.temperature,
            "views": subject.views.to_json(),
            "epochs": context.setup.protocol.epochs(material.images.num_images),
            "augmentation_seed": subject.augmentation_seed,
        },
        inputs={**labels.inputs, "images": material.images.content_hash},
        build=make,
    )


def _row(context: Context, material: Material, scheme: str, stored: Scheme, stage: StageResult) -> Row:
    images, subject = material.images, _subject(context, material.images)
    key = {"images": images.content_hash, "stored": stage.hash}
    if stored.training_revision:
        key["training"] = f"{stored.training_revision}"
    return Row(
        scheme=scheme,
        images=material.method,
        label_bytes=stage.record["bytes"],
        key=key,
        open=lambda: (images.images, images.labels, open_labels(stage.folder / "labels", subject)),
        protocol=None if stored.keeps_logits else context.setup.protocol.for_hard_labels(),
    )
