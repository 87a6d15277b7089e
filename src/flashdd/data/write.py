"""Decoding a listing into the `.npy` files of a RealDataset, in bounded memory.

Arrays are written front to back with plain writes, not through a writable memory map: where the disk is
full, a plain write fails with an error that can be explained, a memory map kills the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from flashdd.core.errors import DataError
from flashdd.core.files import canonical_json, explain_os_errors, pretty_json, write_atomic
from flashdd.data.dataset import FACTS_FILE, FORMAT
from flashdd.data.decode import Pixels, decode_image
from flashdd.data.listing import Indices, SourceListing, SplitListing

T = TypeVar("T")
Shape = tuple[int, int, int]

MOST_WORKERS = min(16, os.cpu_count() or 1)
_SMALL = 128 * 128
"""Pixels below which a second thread gains nothing: measured, 32x32 and 64x64 gain nothing, 256x256 60 %."""
_CHUNK_BYTES = 8_000_000
_TASK = 32
"""Images per task of a worker, so that handing out work costs little beside small images."""


def in_order(function: Callable[[int], T], count: int, *, chunk: int, workers: int) -> Iterator[T]:
    """`function(0), ..., function(count - 1)`, in order, computed by threads at most `chunk` ahead.

    Pillow decodes without the interpreter lock, so threads serve. The first failing index raises.
    """

    def task(start: int, stop: int) -> list[T]:
        return [function(index) for index in range(start, stop)]

    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, count, chunk):
            last = min(first + chunk, count)
            starts = range(first, last, _TASK)
            for part in pool.map(task, starts, [min(start + _TASK, last) for start in starts]):
                yield from part


def validation_rows(labels: Indices, fraction: float, seed: int = 0) -> Indices:
    """The rows of train that go to validation, sorted: ceil(fraction * N), stratified by class.

    Each class gives its share rounded by largest remainders, at least 1 image and at most all but one; so
    every class of two images or more serves (scikit-learn's splitter refuses small classes). The draw is
    numpy's RandomState, whose stream is frozen for good.
    """
    counts = np.bincount(labels)
    quotas = counts * fraction
    taken = np.clip(np.floor(quotas).astype(np.int64), 1, counts - 1)
    for _ in range(math.ceil(fraction * len(labels)) - int(taken.sum())):
        taken[np.argmax(np.where(taken < counts - 1, quotas - taken, -np.inf))] += 1
    draw = np.random.RandomState(seed)
    chosen = [
        draw.permutation(np.flatnonzero(labels == index))[:number] for index, number in enumerate(taken)
    ]
    return np.sort(np.concatenate(chosen))


def write_dataset(
    listing: SourceListing, folder: Path, *, shape: Shape, codec: str, validation: float, most_pixels: int
) -> None:
    """Write train, val and test of `listing` into `folder`; `dataset.json` last.

    `most_pixels`, the area of the largest source image, decides only how many threads decode.
    Raises DataError for an image that cannot be decoded and for a constant channel, StorageError or
    OutputError where the folder cannot be written.
    """
    is_val = np.zeros(len(listing.train), dtype=np.bool_)
    is_val[validation_rows(listing.train.labels, validation)] = True
    sizes = [len(listing.train), len(listing.test), *shape]
    digest = hashlib.sha256(canonical_json([list(listing.class_names), sizes]))
    histogram = np.zeros((shape[0], 256), dtype=np.int64)
    workers = MOST_WORKERS if most_pixels > _SMALL else 1
    counts = {"train": int((~is_val).sum()), "val": int(is_val.sum()), "test": len(listing.test)}

    with explain_os_errors(folder), contextlib.ExitStack() as files:
        out = {
            name: files.enter_context(_array_file(folder / f"{name}.npy", (count, *shape)))
            for name, count in counts.items()
        }
        for start, pixels in _decoded(listing.train, shape, workers):
            digest.update(pixels.data)
            to_val = is_val[start : start + len(pixels)]
            histogram += _histogram(pixels[~to_val])
            out["train"].write(pixels[~to_val].tobytes())
            out["val"].write(pixels[to_val].tobytes())
        digest.update(listing.train.labels.astype("<i8").tobytes())
        for _, pixels in _decoded(listing.test, shape, workers):
            digest.update(pixels.data)
            out["test"].write(pixels.tobytes())
        digest.update(listing.test.labels.astype("<i8").tobytes())
        labels = {"train": listing.train.labels[~is_val], "val": listing.train.labels[is_val]}
        for name, values in (labels | {"test": listing.test.labels}).items():
            np.save(folder / f"{name}_labels.npy", values.astype(np.int64), allow_pickle=False)
    mean, std = _moments(histogram, listing.name)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "name": listing.name,
        "source": listing.kind,
        "codec": codec,
        "content_hash": digest.hexdigest(),
        "class_names": list(listing.class_names),
        "shape": list(shape),
        "counts": counts,
        "mean": mean,
        "std": std,
    }
    write_atomic(folder / FACTS_FILE, pretty_json(facts))


def _decoded(split: SplitListing, shape: Shape, workers: int) -> Iterator[tuple[int, Pixels]]:
    """Pairs (first row, uint8 pixels (n, C, H, W)) that cover `split` in order."""
    channels, resolution, _ = shape
    chunk = max(1, _CHUNK_BYTES // math.prod(shape))

    def decode(index: int) -> Pixels:
        return decode_image(split, index, channels=channels, resolution=resolution)

    images = in_order(decode, len(split), chunk=chunk, workers=workers)
    for start in range(0, len(split), chunk):
        yield start, np.stack(list(itertools.islice(images, chunk)))


@contextlib.contextmanager
def _array_file(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A new `.npy` file of uint8 whose header is written and whose bytes are to follow, front to back."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def _histogram(pixels: Pixels) -> npt.NDArray[np.int64]:
    """How often each channel has each value, int64 (C, 256)."""
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in pixels.swapaxes(0, 1)])


def _moments(histogram: npt.NDArray[np.int64], name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, in 0..1, exact up to the last rounding to float64."""
    levels = np.arange(256)
    mean, std = [], []
    for channel, counts in enumerate(histogram):
        number = int(counts.sum())
        total, squares = int((counts * levels).sum()), int((counts * levels**2).sum())
        variance = number * squares - total * total  # times number**2, in exact integers
        if not variance:
            raise DataError(
                f"channel {channel} of all training images of {name} is constant ({total // number}): images "
                "that do not differ hold nothing to learn; check how they were made."
            )
        mean.append(total / (number * 255))
        std.append(math.sqrt(variance) / (number * 255))
    return mean, std
