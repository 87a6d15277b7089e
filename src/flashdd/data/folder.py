"""Class folders of image files: `train/CLASS/*.png` and `test/CLASS/*.png`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from flashdd.core.errors import DataError
from flashdd.data.listing import SourceListing, SplitListing, quoted

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"},
)
TRAIN_FOLDER = "train"
TEST_FOLDERS = ("test", "val", "validation")
"""Accepted names of the test folder, the first that exists is taken."""


def has_class_folders(root: Path) -> bool:
    """Whether `root` is laid out as class folders: a `train/` that holds folders."""
    return bool(_class_folders(root / TRAIN_FOLDER))


def list_folder(root: Path) -> SourceListing:
    """The images below `root`, classes by sorted folder name, files by sorted path within their class.

    A class folder is read with its sub-folders. Hidden files and folders (names that start with a dot) and
    files without an image's extension are passed over.
    Raises DataError for a missing split, an empty class folder, and classes that differ between splits.
    """
    train = root / TRAIN_FOLDER
    test = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        held = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
        raise DataError(
            f"{root} has no {TRAIN_FOLDER + '/' if not train.is_dir() else 'test/'} folder (it holds "
            f"{quoted(held) or 'nothing'}): expected train/ and test/ (or val/, validation/), each with one "
            "folder of images per class."
        )
    class_names = _class_folders(train)
    _check_same_classes(train, class_names, test, _class_folders(test))
    return SourceListing(
        kind="folder",
        name=root.resolve().name,
        class_names=class_names,
        train=_list_split(train, class_names),
        test=_list_split(test, class_names),
    )


def _class_folders(split: Path) -> tuple[str, ...]:
    if not split.is_dir():
        return ()
    return tuple(sorted(e.name for e in split.iterdir() if e.is_dir() and not e.name.startswith(".")))


def _check_same_classes(train: Path, in_train: tuple[str, ...], test: Path, in_test: tuple[str, ...]) -> None:
    parts = [
        f"{quoted(sorted(only))} only in {where.name}/"
        for where, only in ((train, set(in_train) - set(in_test)), (test, set(in_test) - set(in_train)))
        if only
    ]
    if parts:
        raise DataError(
            f"train and test of {train.parent} have different classes ({'; '.join(parts)}): both need the "
            "same class folders."
        )


def _list_split(split: Path, class_names: tuple[str, ...]) -> SplitListing:
    files: list[str] = []
    counts: list[int] = []
    for name in class_names:
        found = image_files(split / name)
        if not found:
            kinds = " ".join(sorted(extension[1:] for extension in EXTENSIONS))
            raise DataError(
                f"class folder {split / name} holds no images: put some there or remove the folder; files "
                f"ending in {kinds} are read."
            )
        files += found
        counts.append(len(found))
    return SplitListing(
        labels=np.repeat(np.arange(len(class_names), dtype=np.int64), counts),
        open=lambda index: Image.open(files[index]),
        describe=lambda index: files[index],
    )


def image_files(folder: Path) -> list[str]:
    found: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS
        ]
    return sorted(found)
