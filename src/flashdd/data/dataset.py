"""The real dataset as `prepare` left it on disk: memory-mapped pixels, labels and facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flashdd.core.errors import DataError
from flashdd.core.files import read_json
from flashdd.data.decode import Pixels

FORMAT = 1
FACTS_FILE = "dataset.json"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Split:
    images: Pixels
    """uint8 (N, C, H, W), read-only and memory-mapped: index it in batches, never copy it whole."""
    labels: torch.Tensor
    """int64 (N,)."""


@dataclass(frozen=True, kw_only=True)
class RealDataset:
    name: str
    codec: str
    """Encoding of the source's images, e.g. `JPEG q75`, `JPEG q75-95, PNG`, `raw`."""
    content_hash: str
    """sha256 over the class names, then pixels and labels of train (before the cut) and of test, hex."""
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    mean: tuple[float, ...]
    """Per channel, of the train pixels in 0..1."""
    std: tuple[float, ...]
    """Per channel, as `mean`, always above 0."""
    source: str
    """`digits`, `folder` or `hf`."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


def open_dataset(folder: Path) -> RealDataset:
    """The dataset that `flashdd.data.sources.prepare` wrote into `folder`, its images memory-mapped.

    Raises DataError, naming the file, where something is missing, cut off or of another format. Pixels
    are not hashed again.
    """
    facts = _read_facts(folder / FACTS_FILE)
    splits = {name: _open_split(folder, name, facts) for name in SPLITS}
    return RealDataset(
        name=facts["name"],
        codec=facts["codec"],
        content_hash=facts["content_hash"],
        class_names=tuple(facts["class_names"]),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        source=facts["source"],
        **splits,
    )


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = read_json(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise _damaged(path, f"expected format {FORMAT}")
    expected: dict[str, type] = {"name": str, "source": str, "codec": str, "content_hash": str}
    expected |= {"class_names": list, "shape": list, "mean": list, "std": list, "counts": dict}
    for key, kind in expected.items():
        if not isinstance(facts.get(key), kind):
            raise _damaged(path, f"field '{key}' is missing or not of type {kind.__name__}")
    channels = facts["shape"][0] if len(facts["shape"]) == 3 else None
    if not channels == len(facts["mean"]) == len(facts["std"]):
        raise _damaged(path, "'shape', 'mean' and 'std' do not agree")
    return facts


def _open_split(folder: Path, name: str, facts: dict[str, Any]) -> Split:
    count = facts["counts"].get(name)
    images = _open_array(folder / f"{name}.npy", np.uint8, (count, *facts["shape"]))
    labels = np.array(_open_array(folder / f"{name}_labels.npy", np.int64, (count,)))
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(facts["class_names"]):
        raise _damaged(folder / f"{name}_labels.npy", "a label is no class")
    return Split(images=images, labels=torch.from_numpy(labels))


def _open_array(path: Path, dtype: type, shape: tuple[int, ...]) -> Any:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if array.dtype != dtype or array.shape != shape:
        raise _damaged(path, f"{array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    return array


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"prepared data {path} is missing or damaged ({reason}): delete the folder {path.parent} and start "
        "again, so that the data are prepared anew."
    )


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Of `count` rows, which may lie class by class, `most` at most, int64: every so many-th from the first on."""
    return np.arange(0, count, -(-count // most))
