"""Views with the labeler's soft labels, as an iterable of batches and as a dataset of single items."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from flashdd.core.errors import UsageError
from flashdd.core.seeds import derive
from flashdd.data.views import ViewMaker
from flashdd.data.viewspec import ViewSpec
from flashdd.labels.flash.pack import Labeler
from flashdd.training.order import BatchOrder
from flashdd.training.source import every_image


def soft_labels(labeler: Labeler, pixels: Tensor) -> Tensor:
    """softmax(logits / temperature) of the labeler, float32 (N, classes), for pixels in [0, 1]."""
    with torch.no_grad():
        return torch.softmax(labeler.logits_of(pixels) / labeler.temperature, dim=1)


class ViewBatches:
    """Batches of (views, soft labels), see `Artifact.batches`; iterating again gives the same batches."""

    def __init__(
        self,
        images: Tensor,
        labeler: Labeler,
        views: ViewSpec,
        *,
        augmentation_seed: int,
        batch_size: int,
        seed: int,
        epochs: int,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value in {"batch_size": batch_size, "epochs": epochs}.items():
            if type(value) is not int or value < 1:
                raise UsageError(f"{name} is {value!r}, expected an integer of at least 1.")
        self.device = torch.device(device)
        self._labeler = copy.deepcopy(labeler).to(self.device)  # `to` moves a module in place
        self._maker = ViewMaker(images, views, seed=augmentation_seed, device=self.device)
        num_images = len(images)
        self._order = BatchOrder(
            lambda epoch: every_image(epoch, num_images),
            batch_size=batch_size,
            seed=derive(seed, "student"),
            span=num_images < batch_size,
            num_pairs=num_images,
        )
        self._passes = num_images * epochs
        self._length = (
            -(-self._passes // batch_size) if self._order.span else epochs * self._order.steps_per_epoch
        )

    def __len__(self) -> int:
        """Batches of all epochs together."""
        return self._length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        left = self._passes
        for step in range(self._length):
            epochs, ids = (values[:left] for values in self._order.pairs(step))
            left -= len(ids)
            pixels = self._maker.make(epochs, ids).pixels
            yield pixels, soft_labels(self._labeler, pixels)


class ViewDataset(Dataset[tuple[Tensor, Tensor]]):
    """Item i is the view of image id i in the current epoch, and its soft label; see `Artifact.dataset`.

    Picklable, so that DataLoader workers can hold it; the epoch lies in shared memory, so that `set_epoch`
    reaches workers that are already running.
    """

    def __init__(
        self, images: Tensor, labeler: Labeler, views: ViewSpec, *, augmentation_seed: int, epoch: int = 0
    ) -> None:
        if not views.replayable:
            raise UsageError(
                f"views of mix '{views.mix}' depend on their batch, so there is no dataset of single views: "
                "use .batches(...) instead."
            )
        self._images, self._labeler = images, labeler
        self._views, self._augmentation_seed = views, augmentation_seed
        self._maker: ViewMaker | None = None
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self.set_epoch(epoch)

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Show the views of this epoch (an integer of at least 0) from now on."""
        if type(epoch) is not int or epoch < 0:
            raise UsageError(f"epoch is {epoch!r}, expected an integer of at least 0.")
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """float32 (C, H, W) in [0, 1], and float32 (classes,)."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """What torch's DataLoader calls for a whole batch: one pass of the labeler instead of many."""
        ids = torch.tensor(indices, dtype=torch.int64)
        if bool(((ids < -len(self)) | (ids >= len(self))).any()):
            raise IndexError(f"index out of range for {len(self)} images")
        ids = ids % len(self)
        if self._maker is None:
            self._maker = ViewMaker(self._images, self._views, seed=self._augmentation_seed)
        pixels = self._maker.make(torch.full_like(ids, self.epoch), ids).pixels
        return list(zip(pixels, soft_labels(self._labeler, pixels), strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maker": None}  # tables that every worker makes for itself
