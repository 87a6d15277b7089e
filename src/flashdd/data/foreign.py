"""Image sets that others made: folders, tensor files and parquet, in the layouts in which they are published.

* folders of JPEG or PNG, one per class: named as the classes, or numbered (SRe2L and CV-DD `new000`, RDED and EDC
  `00000`); numbers are read as numbers, never sorted as text
* DM, DC and DSA: one `.pt` {"data": [[images, labels], ...]}, an entry per experiment
* MTT and DATM: `images_best.pt` with `labels_best.pt` beside it, hard labels or learned soft ones
* ours: {"images", "labels"[, "soft_labels", "mean", "std"]} in any of the tensor files; parquet
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flashdd.core.errors import DataError
from flashdd.data.decode import decode_image, read_header
from flashdd.data.folder import image_files
from flashdd.data.imageset import ImageSet, read_parquet, sorted_by_class
from flashdd.data.listing import SplitListing, quoted
from flashdd.data.normalization import Statistics, check_values, to_pixels
from flashdd.data.tensorfile import SUFFIXES, read_tensors


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The real dataset that the images stand for."""

    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a file does not say itself: a file of labels, and what the images were normalized with."""

    labels: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignSet:
    """images: in the order of classes. soft_labels: float32 (N, classes) as published, in the images' order, or None.
    notes: what was read and what was assumed, a phrase each."""

    images: ImageSet
    soft_labels: Tensor | None
    notes: tuple[str, ...]


def read_foreign(path: Path, expected: Expected, hints: Hints | None = None) -> ForeignSet:
    """The image set at `path`, a folder or a file, as images of the dataset `expected`.

    Folders' images are resized as the dataset's are. Raises DataError where it is missing, damaged, unsafe to read,
    of other classes or another shape, or where its normalization cannot be told.
    """
    if path.is_dir():
        return _read_folder(path, expected)
    if path.suffix == ".parquet":
        return _read_parquet(path, expected.class_names, expected.shape)
    return _read_tensor_file(path, expected, hints or Hints())


def count_foreign(
    path: Path, class_names: tuple[str, ...], shape: tuple[int, int, int], hints: Hints | None = None
) -> list[int]:
    """Images per class of the set at `path`, from a look that takes no pixel for granted; raises as `read_foreign`."""
    if path.is_dir():
        return [len(files) for files in _class_files(path, class_names)[0]]
    if path.suffix == ".parquet":
        labels = _read_parquet(path, class_names, shape).images.labels
    else:
        labels = _checked_content(path, class_names, shape, hints or Hints()).labels
    return torch.bincount(labels, minlength=len(class_names)).tolist()


def has_soft_labels(
    path: Path, class_names: tuple[str, ...], shape: tuple[int, int, int], hints: Hints | None = None
) -> bool:
    """Whether soft labels stand beside the images at `path`; raises as `read_foreign`."""
    if path.is_dir() or path.suffix == ".parquet":
        return False
    return _checked_content(path, class_names, shape, hints or Hints()).soft_labels is not None


# ---------------------------------------------------------------------------------------------- folders


def _read_folder(path: Path, expected: Expected) -> ForeignSet:
    classes, how = _class_files(path, expected.class_names)
    files = [file for found in classes for file in found]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(found) for found in classes])
    split = SplitListing(
        labels=labels, open=lambda index: Image.open(files[index]), describe=lambda index: files[index]
    )
    channels, side, _ = expected.shape
    rows = range(len(files))
    sizes = {(header.height, header.width) for header in (read_header(split, row) for row in rows)}
    resized = "" if sizes == {(side, side)} else f", resized to {side} pixels"
    pixels = np.stack([decode_image(split, row, channels=channels, resolution=side) for row in rows])
    images = ImageSet(
        images=torch.from_numpy(pixels), labels=torch.from_numpy(labels), class_names=expected.class_names
    )
    return ForeignSet(images=images, soft_labels=None, notes=(f"class folders, {how}{resized}",))


def _class_files(path: Path, class_names: tuple[str, ...]) -> tuple[list[list[str]], str]:
    """The image files of every class, in the order of classes, and how the classes were told."""
    root = path / "train" if (path / "train").is_dir() else path
    names = sorted(e.name for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    order, how = class_order(names, class_names, root)
    found = [image_files(root / name) for name in order]
    for name, files in zip(order, found, strict=True):
        if not files:
            raise DataError(f"class folder {root / name} holds no images: copy the image set again.")
    return found, how


def class_order(folders: Sequence[str], class_names: Sequence[str], root: Path) -> tuple[list[str], str]:
    """The class folders in the order of classes, and how they were told: by name, or by number.

    A number is the digits at the end of a folder's name; numbers count from 0. Raises DataError where folders and
    classes do not match one to one.
    """
    if len(folders) != len(class_names):
        raise DataError(
            f"{root} has {len(folders)} class folders ({quoted(list(folders)) or 'none'}), the data have "
            f"{len(class_names)} classes: both must be the same classes."
        )
    plain = {_plain(name): name for name in folders}
    if len(plain) == len(folders) and all(_plain(name) in plain for name in class_names):
        return [plain[_plain(name)] for name in class_names], "told by name"
    numbers = {int(match[1]): name for name in folders if (match := re.search(r"(\d+)$", name))}
    if sorted(numbers) == list(range(len(class_names))):
        return [numbers[label] for label in range(len(class_names))], "told by number"
    raise DataError(
        f"the class folders of {root} ({quoted(list(folders))}) are neither the data's classes "
        f"({quoted(list(class_names))}) nor numbered from 0 to {len(class_names) - 1}: rename them."
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


# ---------------------------------------------------------------------------------------------- files


def _read_parquet(path: Path, class_names: tuple[str, ...], shape: tuple[int, int, int]) -> ForeignSet:
    images = read_parquet(path)
    if images.shape != shape:
        raise _other_shape(path, images.shape, shape)
    if images.class_names == class_names:
        return ForeignSet(images=images, soft_labels=None, notes=("parquet",))
    plain = [_plain(name) for name in class_names]
    if sorted(map(_plain, images.class_names)) != sorted(plain):
        raise DataError(
            f"{path} has the classes {quoted(list(images.class_names))}, the data {quoted(list(class_names))}: "
            "both must be the same."
        )
    place = torch.tensor([plain.index(_plain(name)) for name in images.class_names])
    moved = sorted_by_class(images.images, place[images.labels], class_names)
    return ForeignSet(images=moved, soft_labels=None, notes=("parquet, classes put in the data's order",))


@dataclass(frozen=True, kw_only=True)
class _Content:
    images: Tensor
    labels: Tensor
    soft_labels: Tensor | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    layout: str


def _read_tensor_file(path: Path, expected: Expected, hints: Hints) -> ForeignSet:
    content = _checked_content(path, expected.class_names, expected.shape, hints)
    stated = _stated(path, content, hints, expected.shape[0])
    data = Statistics(name="the data's own", mean=expected.mean, std=expected.std)
    try:
        pixels, how = to_pixels(content.images, data=data, stated=stated)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    order = torch.argsort(content.labels, stable=True)
    soft = content.soft_labels
    notes = [content.layout, how]
    if soft is not None:
        notes.append("soft labels beside them")
    return ForeignSet(
        images=sorted_by_class(pixels.contiguous(), content.labels, expected.class_names),
        soft_labels=None if soft is None else soft[order],
        notes=tuple(notes),
    )


def _checked_content(
    path: Path, class_names: tuple[str, ...], shape: tuple[int, int, int], hints: Hints
) -> _Content:
    """What the file holds, its labels as class numbers int64 (N,): all checked but whether its values are pixels."""
    if path.exists() and path.suffix not in SUFFIXES:
        raise DataError(
            f"{path} is no image set: expected a folder of class folders, or a file ending in .parquet, "
            f"{', '.join(SUFFIXES)}."
        )
    content = _content(path, read_tensors(path), hints)
    found = tuple(content.images.shape)
    if len(found) != 4:
        raise DataError(f"{path}: the images have the shape {found}: expected (N, C, H, W).")
    if found[1:] != shape:
        raise _other_shape(path, found[1:], shape)
    _stated(path, content, hints, shape[0])  # raises what is wrong with it
    _check_values(path, content.images)
    labels, soft = _labels(path, content, found[0], len(class_names))
    missing = sorted(set(range(len(class_names))) - set(labels.tolist()))
    if missing:
        raise DataError(
            f"{path} has no image of class {quoted([class_names[label] for label in missing])}: every class needs one."
        )
    return replace(content, labels=labels, soft_labels=soft)


def _check_values(path: Path, images: Tensor) -> None:
    try:
        check_values(images)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _content(path: Path, held: Any, hints: Hints) -> _Content:
    """Images and labels out of one of the layouts that the module's text lists."""
    found = _Content(
        images=torch.empty(0), labels=torch.empty(0), soft_labels=None, mean=None, std=None, layout=""
    )
    if isinstance(held, dict) and isinstance(held.get("data"), list) and held["data"]:
        last = held["data"][-1]
        if isinstance(last, list | tuple) and len(last) == 2:
            count = len(held["data"])
            which = f"experiment {count} of {count}" if count > 1 else "one experiment"
            found = replace(found, images=last[0], labels=last[1], layout=f"DM's layout, {which}")
    elif isinstance(held, dict) and "images" in held:
        labels = held["labels"] if "labels" in held else _labels_beside(path, hints)
        found = replace(
            found,
            images=held["images"],
            labels=labels,
            soft_labels=held.get("soft_labels"),
            mean=_numbers(path, "mean", held.get("mean")),
            std=_numbers(path, "std", held.get("std")),
            layout="a dict of images and labels",
        )
    elif isinstance(held, list | tuple) and len(held) == 2:
        found = replace(found, images=held[0], labels=held[1], layout="a pair of images and labels")
    elif isinstance(held, Tensor):
        found = replace(
            found, images=held, labels=_labels_beside(path, hints), layout="images, labels beside them"
        )
    if not found.layout or not all(isinstance(part, Tensor) for part in (found.images, found.labels)):
        keys = f" with the keys {quoted(sorted(map(str, held)))}" if isinstance(held, dict) else ""
        raise DataError(
            f"{path} holds a {type(held).__name__}{keys}: expected a dict with 'images' and 'labels', a pair of the "
            "two, DM's {'data': [[images, labels]]}, or a tensor of images with a file of labels beside it."
        )
    if found.soft_labels is not None and not isinstance(found.soft_labels, Tensor):
        raise DataError(f"{path}: 'soft_labels' must be a tensor (N, classes).")
    return found


def _labels_beside(path: Path, hints: Hints) -> Any:
    """The labels in the file that is named, or beside `path`: images -> labels in its name, or `labels.*`."""
    if hints.labels is not None:
        return _only(hints.labels, read_tensors(hints.labels))
    suffixes = dict.fromkeys((path.suffix, *SUFFIXES))
    names = [path.name.replace("images", "labels"), *(f"labels{suffix}" for suffix in suffixes)]
    for name in names:
        beside = path.with_name(name)
        if beside != path and beside.is_file():
            return _only(beside, read_tensors(beside))
    wanted = next(name for name in names if name != path.name)
    raise DataError(
        f"{path} holds images alone: put their labels beside it as {wanted}, or name the file with "
        "--set images.labels=PATH."
    )


def _only(path: Path, held: Any) -> Any:
    if isinstance(held, dict):
        if "labels" in held:
            return held["labels"]
        if len(held) == 1:
            return next(iter(held.values()))
        raise DataError(
            f"{path} holds {quoted(sorted(map(str, held)))}: expected one array, or a key 'labels'."
        )
    return held


def _labels(path: Path, content: _Content, count: int, classes: int) -> tuple[Tensor, Tensor | None]:
    """Class numbers int64 (N,), and soft labels if there are any; then a class is where the largest is."""
    labels, soft = content.labels, content.soft_labels
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels, soft = labels.argmax(1), labels
    labels = labels.flatten()
    if soft is not None:
        soft = soft.float()
        if tuple(soft.shape) != (count, classes) or not torch.isfinite(soft).all():
            raise DataError(
                f"{path}: soft labels have the shape {tuple(soft.shape)} or hold NaN: expected finite numbers "
                f"({count}, {classes})."
            )
    whole = labels.is_floating_point() and bool((labels == labels.round()).all())
    if len(labels) != count or (labels.is_floating_point() and not whole):
        raise DataError(
            f"{path}: labels are {labels.dtype} of shape {tuple(content.labels.shape)}: expected {count} class "
            f"numbers, or soft labels ({count}, {classes})."
        )
    labels = labels.long()
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        shifted = ": subtract 1" if (int(labels.min()), int(labels.max())) == (1, classes) else ""
        raise DataError(
            f"{path}: labels span {int(labels.min())} to {int(labels.max())}, the data have classes 0 to "
            f"{classes - 1}{shifted}."
        )
    return labels, soft


def _stated(path: Path, content: _Content, hints: Hints, channels: int) -> Statistics | None:
    """Statistics from the command line, else from the file; None if neither states any."""
    mean, std = (hints.mean, hints.std) if hints.mean or hints.std else (content.mean, content.std)
    if mean is None and std is None:
        return None
    if mean is None or std is None or not len(mean) == len(std) == channels or min(std) <= 0:
        raise DataError(
            f"{path}: stated mean {mean} and std {std}: expected {channels} number{'s' * (channels > 1)} each, "
            "deviations above 0."
        )
    return Statistics(name="stated", mean=mean, std=std)


def _numbers(path: Path, name: str, held: Any) -> tuple[float, ...] | None:
    if held is None:
        return None
    try:
        return tuple(float(value) for value in (held.flatten() if isinstance(held, Tensor) else held))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: '{name}' must be numbers, one per channel.") from error


def _other_shape(path: Path, got: tuple[int, ...], expected: tuple[int, int, int]) -> DataError:
    if got[-1] in (1, 3) and got[0] not in (1, 3):
        remedy = "their channels stand last; save them as (N, C, H, W)"
    elif got[0] != expected[0]:
        remedy = "save them with as many channels as the data have"
    elif got[1] == got[2]:
        remedy = f"give the data the images' size with --resolution {got[-1]}, or resize them"
    else:
        remedy = "resize them"
    return DataError(
        f"{path}: images are {' x '.join(map(str, got))} (channels, height, width), the data "
        f"{' x '.join(map(str, expected))}: {remedy}."
    )
