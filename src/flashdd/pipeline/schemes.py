"""From a label scheme's name to the row of a result table that it makes on a set of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from flashdd.artifact.read import open_labeler
from flashdd.core.errors import UnknownNameError, UsageError, unknown_name
from flashdd.core.files import sha256_bytes, sha256_file
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.foreign import has_soft_labels
from flashdd.data.imageset import ImageSet
from flashdd.labels import catalog
from flashdd.labels.catalog import open_labels
from flashdd.labels.flash.capacity import Setting
from flashdd.labels.flash.labeler import Labeler, rounded_statistics
from flashdd.labels.hard import HardSource
from flashdd.labels.network import NetworkSource
from flashdd.labels.scheme import Scheme, Subject, TableSize
from flashdd.labels.static import Static, learned_logits, plain_logits
from flashdd.labels.stored import Stored
from flashdd.pipeline.context import Context
from flashdd.pipeline.networks import check_network, network_row
from flashdd.pipeline.package import teacher_bytes
from flashdd.pipeline.real import Network
from flashdd.pipeline.realrows import REAL
from flashdd.pipeline.rows import Opened, Row
from flashdd.pipeline.search import SearchResult, labels_of, labels_stage
from flashdd.pipeline.setup import Setup, foreign_hints

_STORED_REVISION = 3
LEARNED = "static@learned"
LABELER_FILE = "labeler.safetensors"


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A labeler as it lies in the folder of an artifact."""

    labeler: Labeler
    bytes: int
    sha256: str


def shipped_labeler(folder: Path) -> Shipped:
    """The labeler of the artifact in `folder`; raises ArtifactError."""
    path = folder / LABELER_FILE
    return Shipped(labeler=open_labeler(folder, None), bytes=path.stat().st_size, sha256=sha256_file(path))


@dataclass(frozen=True, kw_only=True)
class Material:
    """What rows are made of.

    method: the images' name in the table. teacher, and searched, the search for its settings on these images: made on
    demand. shipped: None where there is no artifact. learned: soft labels (N, classes) that came with images made
    elsewhere.
    """

    data: RealDataset
    images: ImageSet
    method: str
    teacher: Callable[[], Network]
    searched: Callable[[], SearchResult]
    shipped: Shipped | None
    learned: Tensor | None = None

    @property
    def statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        return student_statistics(self.shipped, self.data)


def student_statistics(shipped: Shipped | None, data: RealDataset) -> tuple[Sequence[float], Sequence[float]]:
    """The normalization of every student: the labeler's, so that those from the artifact alone are the same."""
    if shipped is not None:
        return shipped.labeler.statistics
    return rounded_statistics(data.mean, data.std)


def check_scheme(scheme: str, setup: Setup, *, has_labeler: bool) -> None:
    """Raise what can be seen to be wrong before any training: UnknownNameError, UsageError."""
    if scheme == "labeler" and not has_labeler:
        raise UsageError(
            "scheme 'labeler' needs a labeler: give the folder of a run or of an artifact (flashdd run makes one)."
        )
    if scheme == LEARNED:
        hints = foreign_hints(setup.config)
        if not setup.foreign or not has_soft_labels(
            setup.foreign, setup.facts.class_names, setup.facts.shape, hints
        ):
            raise UsageError(f"scheme '{LEARNED}': images of {setup.method} come without soft labels.")
    if scheme in SCHEMES or scheme in REAL:
        return
    if scheme.partition("@")[0] in catalog.SCHEMES:
        epochs = setup.protocol.epochs(setup.num_images)
        size = TableSize(epochs=epochs, num_images=setup.num_images, num_classes=setup.facts.num_classes)
        catalog.parse_scheme(scheme).resolve(size)
        return
    try:
        check_network(scheme, setup)
    except UnknownNameError:
        known = (*SCHEMES, *REAL, *(form for kind in catalog.SCHEMES.values() for form in kind.forms))
        raise unknown_name("label scheme", scheme, (*known, "NETWORK", "NETWORK@DIALS")) from None


def scheme_row(context: Context, material: Material, scheme: str) -> Row | None:
    """The row of `scheme`, checked before; None where these images cannot have it: labels beyond memory or budget."""
    if scheme in SCHEMES:
        return SCHEMES[scheme](context, material)
    if scheme.partition("@")[0] in catalog.SCHEMES:
        return _stored(context, material, scheme, catalog.parse_scheme(scheme))
    return network_row(context, material.data, material.images, material.method, scheme)


def _hard(context: Context, material: Material) -> Row:
    images = material.images
    return Row(
        scheme="hard",
        images=material.method,
        label_bytes=0,
        key={"images": images.content_hash},
        open=lambda: (images.images, images.labels, HardSource(images.labels, images.num_classes)),
        protocol=context.setup.protocol.for_hard_labels(),
    )


def _labeler(context: Context, material: Material) -> Row:
    """The labeler as read back from its file."""
    shipped, images = material.shipped, material.images
    assert shipped is not None, "checked before"

    def open_row() -> Opened:
        labels = labels_of(context, shipped.labeler, images)
        return images.images, images.labels, labels.source(temperature=shipped.labeler.temperature)

    return Row(
        scheme="labeler",
        images=material.method,
        label_bytes=shipped.bytes,
        key={"images": images.content_hash, "labeler": shipped.sha256},
        open=open_row,
    )


def _searched(context: Context, material: Material) -> Row:
    return _teacher(context, material, "teacher@searched", material.searched().choice.setting)


def _published(context: Context, material: Material) -> Row:
    return _teacher(context, material, "teacher@published", context.setup.published)


def _teacher(context: Context, material: Material, scheme: str, setting: Setting) -> Row:
    def open_row() -> Opened:
        _, labels = labels_stage(context, material.teacher(), setting.share, material.images)
        source = labels.source(temperature=setting.temperature, logit_scale=setting.logit_scale)
        return material.images.images, material.images.labels, source

    return Row(
        scheme=scheme,
        images=material.method,
        label_bytes=teacher_bytes(material.teacher()),
        key={
            "images": material.images.content_hash,
            "network": material.teacher().stage.hash,
            "setting": f"{setting.share:g} {setting.temperature:g} {setting.logit_scale:g}",
        },
        open=open_row,
    )


def _stored_equal_bytes(context: Context, material: Material) -> Row | None:
    """Float16 labels of as many epochs as fit the label budget; students cycle through them."""
    setup, every = context.setup, context.setup.protocol.epochs(material.images.num_images)
    if not setup.protocol.views.replayable:
        return None
    temperature = material.searched().choice.setting.temperature
    subject = _subject(context, material.images)
    fits = Stored().within(setup.budget_bytes, subject, epochs=every, temperature=temperature)
    return None if fits is None else _stored(context, material, "stored@equal-bytes", fits)


def _learned(context: Context, material: Material) -> Row | None:
    """The soft labels that came with images made elsewhere, one per image, as published."""
    if material.learned is None:
        raise UsageError(f"scheme '{LEARNED}': the images of {material.method} came without soft labels.")
    if not context.setup.protocol.views.replayable:
        return None
    logits = learned_logits(material.learned)
    digest = sha256_bytes(logits.numpy().tobytes())
    static = Static()
    stage = _stored_stage(context, material, LEARNED, static, {"learned": digest}, lambda: logits, 1.0)
    return _stored_row(context, material, LEARNED, static, stage)


def _stored(context: Context, material: Material, scheme: str, stored: Scheme) -> Row | None:
    """The searched teacher's labels, kept as `stored` keeps them; None where a table cannot be made of them."""
    if not context.setup.protocol.views.replayable:
        return None
    setting = material.searched().choice.setting
    images = material.images
    made, labels = labels_stage(context, material.teacher(), setting.share, images)
    table = labels.table
    if table is None:
        return None

    def logits() -> Tensor:
        if stored.of_views:
            return setting.logit_scale * table
        net = material.teacher().open(setting.share).to(context.device)
        source = NetworkSource(net, num_classes=images.num_classes, logit_scale=setting.logit_scale)
        return plain_logits(source, images, device=context.device)

    inputs = {"labels": made.hash, "scale": f"{setting.logit_scale!r}"}
    stage = _stored_stage(context, material, scheme, stored, inputs, logits, setting.temperature)
    return _stored_row(context, material, scheme, stored, stage)


def _subject(context: Context, images: ImageSet) -> Subject:
    setup = context.setup
    seed = setup.config.views.augmentation_seed
    return Subject(images=images, views=setup.protocol.views, augmentation_seed=seed)


def _stored_stage(
    context: Context,
    material: Material,
    scheme: str,
    stored: Scheme,
    inputs: dict[str, str],
    logits: Callable[[], Tensor],
    temperature: float,
) -> StageResult:
    subject = _subject(context, material.images)

    def make(work: StageWork) -> dict[str, Any]:
        folder = work.folder / "labels"
        return {"bytes": stored.write(folder, logits(), subject, temperature=temperature)}

    return context.local.make(
        scheme.replace("@", "-"),
        revision=_STORED_REVISION,
        config={
            "scheme": stored.name,
            "settings": stored.settings(),
            "temperature": temperature,
            "views": subject.views.to_json(),
            "augmentation_seed": subject.augmentation_seed,
        },
        inputs={**inputs, "images": material.images.content_hash},
        build=make,
    )


def _stored_row(context: Context, material: Material, scheme: str, stored: Scheme, stage: StageResult) -> Row:
    images, subject = material.images, _subject(context, material.images)
    return Row(
        scheme=scheme,
        images=material.method,
        label_bytes=stage.record["bytes"],
        key={"images": images.content_hash, "stored": stage.hash},
        open=lambda: (images.images, images.labels, open_labels(stage.folder / "labels", subject)),
        protocol=None if stored.keeps_logits else context.setup.protocol.for_hard_labels(),
    )


SCHEMES: dict[str, Callable[[Context, Material], Row | None]] = {
    "hard": _hard,
    "labeler": _labeler,
    "teacher@searched": _searched,
    "teacher@published": _published,
    "stored@equal-bytes": _stored_equal_bytes,
    LEARNED: _learned,
}
"""Those that are not a way to store labels (`labels.catalog`), nor a network's name (`pipeline.networks`)."""
