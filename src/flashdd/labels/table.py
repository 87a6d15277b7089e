"""Logits of a deterministic source, made once per (source, images, views) and used by every student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from flashdd.core.errors import UsageError
from flashdd.data.views import ViewBatch, ViewMaker, ViewSpec
from flashdd.labels.network import NetworkSource, with_offsets
from flashdd.training.source import LabelSource

# Part of every stage's key: raised whenever the same network gives other logits.
LABELS_REVISION = 2
# Rows of a canonical chunk: fixed, for logits are bitwise equal only in chunks of the same size.
CHUNK = 500
# Bytes above which a table is not made; its labels are then made at every step.
LARGEST_TABLE = 2_000_000_000


def canonical_chunks(epochs: int, num_images: int) -> list[tuple[Tensor, Tensor]]:
    """All (epoch, image id) pairs, ordered by epoch, then id, in chunks of `CHUNK` pairs."""
    flat = torch.arange(epochs * num_images)
    return [(rows // num_images, rows % num_images) for rows in torch.split(flat, CHUNK)]


def make_logits(
    source: LabelSource, views: ViewMaker, epochs: int, *, on_chunk: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Float32 (epochs, N, classes): the logits of `source` on every view of `epochs` epochs, made id by id.

    UsageError for a source, or views, that give a view another label in other company.
    """
    if not (source.replayable and views.spec.replayable):
        raise UsageError(
            "these labels depend on the batch that a view is in, so no table can hold them: use a teacher in eval mode "
            "and views.mix 'cutmix', or make labels at every step."
        )
    table = torch.empty(epochs * views.num_images, source.num_classes)
    done = 0
    for rows in canonical_chunks(epochs, views.num_images):
        chunk = source.logits(views.make(*rows)).cpu()
        table[done : done + len(chunk)] = chunk
        done += len(chunk)
        on_chunk(done)
    return table.view(epochs, views.num_images, source.num_classes)


@final
class TableSource(LabelSource):
    """Logits looked up by (epoch, image id); `table` is (epochs, N, classes), float32 or float16.

    With fewer epochs than the student trains, the epochs are cycled: epoch e shows the views, and the labels, of
    epoch e modulo the table's length.
    """

    def __init__(
        self,
        table: Tensor,
        *,
        temperature: float = 1.0,
        logit_scale: float = 1.0,
        offsets: Sequence[float] = (),
    ) -> None:
        self.num_classes = table.shape[2]
        self.temperature = temperature
        self.fixed_temperature = False
        self._table = table
        self._scale = logit_scale
        self._offsets = tuple(offsets)

    def logits(self, views: ViewBatch) -> Tensor:
        rows = self._table[views.epoch.cpu(), views.image_ids.cpu()]
        return with_offsets(self._scale * rows.to(views.pixels.device).float(), self._offsets)

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        shown = torch.full((num_images,), epoch % self._table.shape[0], dtype=torch.int64)
        return shown, torch.arange(num_images)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a network says of every view, before scale and offsets.

    A table, or the network itself where the table would be too big or views depend on their batch.
    """

    num_classes: int
    table: Tensor | None
    net: nn.Module | None

    def source(
        self, *, temperature: float, logit_scale: float = 1.0, offsets: Sequence[float] = ()
    ) -> LabelSource:
        """The labels at a temperature and scale, with class offsets; none needs the network again."""
        if self.table is not None:
            return TableSource(self.table, temperature=temperature, logit_scale=logit_scale, offsets=offsets)
        assert self.net is not None, "labels are a table or a network"
        return NetworkSource(
            self.net,
            num_classes=self.num_classes,
            temperature=temperature,
            logit_scale=logit_scale,
            offsets=offsets,
        )


def most_epochs(num_images: int, num_classes: int) -> int:
    """Epochs of views whose table is not too big."""
    return LARGEST_TABLE // (4 * num_images * num_classes)


def tabled(spec: ViewSpec, *, epochs: int, num_images: int, num_classes: int) -> bool:
    """Whether the labels of such views are made beforehand, as a table: they replay, and it is not too big."""
    return spec.replayable and epochs <= most_epochs(num_images, num_classes)


def make_labels(
    net: nn.Module,
    views: ViewMaker,
    *,
    epochs: int,
    num_classes: int,
    on_chunk: Callable[[int], None] = lambda done: None,
) -> Labels:
    """The labels of `net` (pixels in [0, 1] -> logits, on the device of `views`) for `epochs` epochs of views."""
    net = net.to(views.device).eval()
    table = None
    if tabled(views.spec, epochs=epochs, num_images=views.num_images, num_classes=num_classes):
        table = make_logits(NetworkSource(net, num_classes=num_classes), views, epochs, on_chunk=on_chunk)
    return Labels(num_classes=num_classes, table=table, net=net)


def write_table(table: Tensor, path: Path) -> None:
    """Keep a table as `.npy`."""
    np.save(path, table.numpy(), allow_pickle=False)


def read_table(path: Path) -> Tensor:
    """A table kept by `write_table`, in memory."""
    return torch.from_numpy(np.load(path, allow_pickle=False))
