"""From a label scheme's name to the row of a result table that it makes on a set of images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flashdd.core.errors import UnknownNameError, UsageError, unknown_name
from flashdd.data.foreign import has_soft_labels
from flashdd.labels import catalog
from flashdd.labels.flash.candidates import Setting
from flashdd.labels.hard import HardSource
from flashdd.labels.network import NetworkSource
from flashdd.labels.scheme import TableSize
from flashdd.pipeline.committees import COMMITTEE, COMMITTEE_FORM, check_committee, committee_row
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import labels_of, labels_stage, labels_tabled
from flashdd.pipeline.material import Material, labeler_facts, teacher_facts
from flashdd.pipeline.networks import check_network, network_row
from flashdd.pipeline.package import teacher_bytes
from flashdd.pipeline.realrows import REAL
from flashdd.pipeline.rows import Opened, Row
from flashdd.pipeline.setup import Setup, foreign_hints
from flashdd.pipeline.storedrows import (
    BY_LABELER,
    EQUAL_BYTES,
    LEARNED,
    learned_row,
    split_origin,
    stored_row,
)

SHIP = "ship"


def check_scheme(scheme: str, setup: Setup, *, has_labeler: bool) -> None:
    """Raise what can be seen to be wrong before any training: UnknownNameError, UsageError."""
    kind = scheme.partition("@")[0]
    base = split_origin(scheme)[0] if kind in catalog.SCHEMES else scheme
    if by_labeler(scheme) and not has_labeler:
        raise UsageError(
            f"scheme '{scheme}' needs a labeler: give the folder of a run or of an artifact (flashdd run makes one)."
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
            none = " (an artifact keeps none: give the set itself)" if setup.foreign else ""
            raise UsageError(f"scheme '{LEARNED}': images of {setup.method} come without soft labels{none}.")
    if scheme in (*_ROWS, *REAL, SHIP) or base == EQUAL_BYTES:
        return
    if kind == COMMITTEE:
        check_committee(scheme, setup)
    elif kind in catalog.SCHEMES:
        epochs = setup.protocol.epochs(setup.num_images)
        size = TableSize(epochs=epochs, num_images=setup.num_images, num_classes=setup.facts.num_classes)
        catalog.parse_scheme(base).resolve(size)
    else:
        _check_network(scheme, setup)


def by_labeler(scheme: str) -> bool:
    """Whether the artifact's labeler makes the labels."""
    return scheme == "labeler" or (scheme.partition("@")[0] in catalog.SCHEMES and split_origin(scheme)[1])


def _check_network(scheme: str, setup: Setup) -> None:
    """As `check_network`; a name that is no network's is told all there are."""
    try:
        check_network(scheme, setup)
    except UnknownNameError:
        forms = (form for kind in catalog.SCHEMES.values() for form in kind.forms)
        known = (*_ROWS, EQUAL_BYTES, *REAL, SHIP, COMMITTEE_FORM, *forms, f"{EQUAL_BYTES}-{BY_LABELER}")
        raise unknown_name("label scheme", scheme, (*known, "NETWORK", "NETWORK@DIALS")) from None


def scheme_row(context: Context, material: Material, scheme: str) -> Row | None:
    """The row of `scheme`, checked before; None where these images cannot have it: labels beyond memory or budget."""
    if scheme in _ROWS:
        return _ROWS[scheme](context, material)
    kind = scheme.partition("@")[0]
    if kind in catalog.SCHEMES:
        return stored_row(context, material, scheme)
    row_of = committee_row if kind == COMMITTEE else network_row
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
    """The labeler as read back from its file, or suited to these images."""
    shipped, images = material.labeler(), material.images

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
        online=online if labels_tabled(context, images) else None,
        network=partial(labeler_facts, context, material.data, shipped),
        facts=shipped.facts,
    )


def _searched(context: Context, material: Material) -> Row:
    return _teacher(context, material, "teacher@searched", material.searched().choice.setting)


def _published(context: Context, material: Material) -> Row:
    return _teacher(context, material, "teacher@published", context.setup.published)


def _teacher(context: Context, material: Material, scheme: str, setting: Setting) -> Row:
    images = material.images

    def open_row() -> Opened:
        _, labels = labels_stage(context, material.teacher(setting.course), images)
        source = labels.source(
            temperature=setting.temperature, logit_scale=setting.logit_scale, offsets=setting.offsets
        )
        return images.images, images.labels, source

    def online() -> Opened:
        net = material.teacher(setting.course).open().to(context.device)
        return images.images, images.labels, NetworkSource(net, num_classes=images.num_classes)

    return Row(
        scheme=scheme,
        images=material.method,
        label_bytes=teacher_bytes(material.teacher(setting.course)) + 4 * len(setting.offsets),  # float32
        key={
            "images": images.content_hash,
            "network": material.teacher(setting.course).stage.hash,
            "setting": " ".join(
                [f"{setting.temperature:g} {setting.logit_scale:g}", *map(repr, setting.offsets)]
            ),
        },
        open=open_row,
        online=online if labels_tabled(context, images) else None,
        network=partial(teacher_facts, context, material, setting),
    )


_ROWS: dict[str, Callable[[Context, Material], Row | None]] = {
    "hard": _hard,
    "labeler": _labeler,
    "teacher@searched": _searched,
    "teacher@published": _published,
    LEARNED: learned_row,
}
"""Those that are not a way to store labels (`labels.catalog`), nor a network's name (`pipeline.networks`)."""
