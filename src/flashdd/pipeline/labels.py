"""Stage: what a network says of the distilled images' views, made once for all students and settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import nn

from flashdd.core.stages import StageResult, StageWork
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewMaker
from flashdd.labels.table import Labels, make_labels, read_table, tabled, write_table
from flashdd.pipeline.context import Context

TABLE_REVISION = 2
"""Also part of the key of searches, which keep no labels."""


class Labeling(Protocol):
    """Whoever labels: a network, several of them, or a labeler before its temperature."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str:
        """Of all that decides what it says."""

    def open(self) -> nn.Module:
        """In eval mode: pixels in [0, 1] -> logits."""


def labels_of(
    context: Context,
    net: nn.Module,
    images: ImageSet,
    on_chunk: Callable[[int], None] = lambda done: None,
    *,
    first: int | None = None,
) -> Labels:
    """The labels of `net` for every view of the run's protocol on `images`, or of its first epochs alone."""
    protocol = context.setup.protocol
    seed = context.setup.config.views.augmentation_seed
    views = ViewMaker(images.images, protocol.views, seed=seed, device=context.device)
    epochs = protocol.epochs(images.num_images) if first is None else first
    return make_labels(net, views, epochs=epochs, num_classes=images.num_classes, on_chunk=on_chunk)


def labels_tabled(context: Context, images: ImageSet) -> bool:
    """Whether a network's labels on `images` are made beforehand, so that a student's own time lacks them."""
    protocol = context.setup.protocol
    epochs = protocol.epochs(images.num_images)
    return tabled(protocol.views, epochs=epochs, num_images=images.num_images, num_classes=images.num_classes)


def labels_stage(
    context: Context, network: Labeling, images: ImageSet, *, first: int | None = None
) -> tuple[StageResult, Labels]:
    """The labels of a network, or of a labeler before its temperature: made once for all students and settings.

    first: of so many epochs alone; None for all of the protocol's.
    """
    protocol = context.setup.protocol
    epochs = protocol.epochs(images.num_images) if first is None else first

    def make(work: StageWork) -> dict[str, Any]:
        context.progress.start(f"labels of {network.name}", epochs * images.num_images)
        labels = labels_of(context, network.open(), images, work.step, first=first)
        if labels.table is not None:
            write_table(labels.table, work.folder / "logits.npy")
        return {}

    stage = context.local.make(
        "labels",
        revision=TABLE_REVISION,
        config={
            "views": protocol.views.to_json(),
            "epochs": epochs,
            "augmentation_seed": context.setup.config.views.augmentation_seed,
        },
        inputs={"images": images.content_hash, "network": network.hash},
        build=make,
    )
    path = stage.folder / "logits.npy"
    table = read_table(path) if path.exists() else None
    net = None if table is not None else network.open().to(context.device)
    return stage, Labels(num_classes=images.num_classes, table=table, net=net)
