"""Random real images: the baseline that every image method must beat."""

from __future__ import annotations

import numpy as np
import torch

from flashdd.core.errors import DataError
from flashdd.core.seeds import generator
from flashdd.data.dataset import Split
from flashdd.data.imageset import ImageSet


def rows_of_class(split: Split, label: int, name: str, needed: int, what: str) -> torch.Tensor:
    """The row numbers of class `label`; DataError if there are fewer than `needed`."""
    rows = torch.nonzero(split.labels == label).flatten()
    if len(rows) < needed:
        raise DataError(
            f"class '{name}' has {len(rows)} training images after the validation split, but {what} needs {needed}: "
            "lower --ipc or add images to that class."
        )
    return rows


def random_images(train: Split, class_names: tuple[str, ...], *, ipc: int, seed: int) -> ImageSet:
    """`ipc` images of each class, drawn uniformly without replacement from the training split."""
    chosen = []
    for label, name in enumerate(class_names):
        rows = rows_of_class(train, label, name, ipc, f"IPC {ipc}")
        order = torch.randperm(len(rows), generator=generator(seed, "random", label))
        chosen.append(rows[order[:ipc]])
    index = torch.cat(chosen)
    pixels = np.stack([train.images[row] for row in index.tolist()])
    return ImageSet(
        images=torch.from_numpy(pixels), labels=train.labels[index].clone(), class_names=class_names
    )
