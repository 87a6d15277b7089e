"""From a label scheme's name to the row of a result table that it makes on a set of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from flashdd.pipeline.committees import COMMITTEE, COMMITTEE_FORM, check_committee, committee_row
from flashdd.pipeline.context import Context
from flashdd.pipeline.equalbytes import TeacherLabels, best_within
from flashdd.pipeline.networks import check_network, network_row
from flashdd.pipeline.package import teacher_bytes
from flashdd.pipeline.real import Network
from flashdd.pipeline.realrows import REAL
from flashdd.pipeline.rows import Opened, Row
from flashdd.pipeline.search import SearchResult, labels_of, labels_stage, labels_wait
from flashdd.pipeline.setup import Setup, foreign_hints

_STORED_REVISION = 3
LEARNED = "static@learned"
EQUAL_BYTES = "stored@equal-bytes"
SHIP = "ship"
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

    method: the images' name in the table. teacher: trained for that multiple of its epochs; searched: the search for
    its settings on these images; both made on demand. shipped: None where there is no artifact. learned: soft labels
    (N, classes) that came with images made elsewhere.
    """

    data: RealDataset
    images: ImageSet
    method: str
    teacher: Callable[[float], Network]
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
    if scheme == SHIP and not has_labeler:
        raise UsageError(
            f"scheme '{SHIP}' is the best classifier within the bytes of an artifact: give the folder of a run or of "
            "an artifact."
        )
    if scheme == LEARNED:
        hints = foreign_hints(setup.config)
        if not setup.foreign or not has_soft_labels(
            setup.foreign, setup.facts.class_names, setup.facts.shape, hints
        ):
            raise UsageError(f"scheme '{LEARNED}': images of {setup.method} come without soft labels.")
    if scheme in (*SCHEMES, *REAL, SHIP):
        return
    if scheme.partition("@")[0] == COMMITTEE:
        check_committee(scheme, setup)
        return
    if scheme.partition("@")[0] in catalog.SCHEMES:
        epochs = setup.protocol.epochs(setup.num_images)
        size = TableSize(epochs=epochs, num_images=setup.num_images, num_classes=setup.facts.num_classes)
        catalog.parse_scheme(scheme).resolve(size)
        return
    try:
        check_network(scheme, setup)
    except UnknownNameError:
        known = (
            *SCHEMES,
            *REAL,
            SHIP,
            COMMITTEE_FORM,
            *(form for kind in catalog.SCHEMES.values() for form in kind.forms),
        )
        raise unknown_name("label scheme", scheme, (*known, "NETWORK", "NETWORK@DIALS")) from None


def scheme_row(context: Context, material: Material, scheme: str) -> Row | None:
    """The row of `scheme`, checked before; None where these images cannot have it: labels beyond memory or budget."""
    if scheme in SCHEMES:
        return SCHEMES[scheme](context, material)
    if scheme.partition("@")[0] in catalog.SCHEMES:
        return _stored(context, material, scheme, catalog.parse_scheme(scheme))
    row_of = committee_row if scheme.partition("@")[0] == COMMITTEE else network_row
    return row_of(context, material.data, material.images, material.method, scheme)


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

    def online() -> Opened:
        net = shipped.labeler.to(context.device)
        return images.images, images.labels, NetworkSource(net, num_classes=images.num_classes)

    return Row(
        scheme="labeler",
        images=material.method,
        label_bytes=shipped.bytes,
        key={"images": images.content_hash, "labeler": shipped.sha256},
        open=open_row,
        online=online if labels_wait(context, images) else None,
    )


def _searched(context: Context, material: Material) -> Row:
    return _teacher(context, material, "teacher@searched", material.searched().choice.setting)


def _published(context: Context, material: Material) -> Row:
    return _teacher(context, material, "teacher@published", context.setup.published)


def _teacher(context: Context, material: Material, scheme: str, setting: Setting) -> Row:
    images = material.images

    def open_row() -> Opened:
        _, labels = labels_stage(context, material.teacher(setting.length), images)
        source = labels.source(temperature=setting.temperature, logit_scale=setting.logit_scale)
        return images.images, images.labels, source

    def online() -> Opened:
        net = material.teacher(setting.length).open().to(context.device)
        return images.images, images.labels, NetworkSource(net, num_classes=images.num_classes)

    return Row(
        scheme=scheme,
        images=material.method,
        label_bytes=teacher_bytes(material.teacher(setting.length)),
        key={
            "images": images.content_hash,
            "network": material.teacher(setting.length).stage.hash,
            "setting": f"{setting.temperature:g} {setting.logit_scale:g}",
        },
        open=open_row,
        online=online if labels_wait(context, images) else None,
    )


def _stored_equal_bytes(context: Context, material: Material) -> Row | None:
    """The best on validation data of the schemes of stored labels that fit the labeler's bytes.

    Without a labeler, the label budget. The row's facts hold the candidates and their scores.
    """
    if not context.setup.protocol.views.replayable:
        return None
    setting = material.searched().choice.setting
    made, labels = labels_stage(context, material.teacher(setting.length), material.images)
    table = labels.table
    if table is None:
        return None
    teacher = TeacherLabels(
        logits=lambda: setting.logit_scale * table,
        temperature=setting.temperature,
        inputs={"labels": made.hash, "scale": f"{setting.logit_scale!r}"},
    )
    budget = material.shipped.bytes if material.shipped else context.setup.budget_bytes
    found = best_within(context, material.data, _subject(context, material.images), teacher, budget)
    row = None if found is None else _stored(context, material, EQUAL_BYTES, found.scheme)
    if found is None or row is None:
        return None
    assert row.label_bytes <= budget, "candidates are fitted to the budget"
    return replace(row, facts={"equal_bytes": found.facts})


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
    made, labels = labels_stage(context, material.teacher(setting.length), images)
    table = labels.table
    if table is None:
        return None

    def logits() -> Tensor:
        if stored.of_views:
            return setting.logit_scale * table
        net = material.teacher(setting.length).open().to(context.device)
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
    EQUAL_BYTES: _stored_equal_bytes,
    LEARNED: _learned,
}
"""Those that are not a way to store labels (`labels.catalog`), nor a network's name (`pipeline.networks`)."""
