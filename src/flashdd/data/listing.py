"""What a source holds before any pixel is decoded: class names, labels, and how to open each image."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from flashdd.core.errors import DataError, unknown_name

SourceKind = Literal["digits", "folder", "hf"]
Indices = npt.NDArray[np.int64]

_MOST_NAMES = 20
"""More class names than this make an error message unreadable."""


@dataclass(frozen=True, kw_only=True)
class SplitListing:
    """One split of a source, in its original order."""

    labels: Indices
    """int64 (N,), indices into the class names."""

    open: Callable[[int], Image.Image]
    """Opens image i lazily (header only); may raise whatever Pillow or the file system raises."""

    describe: Callable[[int], str]
    """Image i in words, for messages: a file's path, or `row 17 of split train of NAME`."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Indices, labels: Indices) -> SplitListing:
        """The images `rows` of this split, with new `labels`."""
        return SplitListing(
            labels=labels,
            open=lambda index: self.open(int(rows[index])),
            describe=lambda index: self.describe(int(rows[index])),
        )


@dataclass(frozen=True, kw_only=True)
class SourceListing:
    kind: SourceKind
    name: str
    class_names: tuple[str, ...]
    train: SplitListing
    test: SplitListing
    fingerprint: str = ""
    """Changes when the source's content does, where the source's library keeps one."""


def pick_classes(listing: SourceListing, wanted: Sequence[str]) -> SourceListing:
    """The images of the classes `wanted` only, renumbered from 0 in the original order of the classes.

    A class is given by its name or, where no class has that name, by its decimal index.
    Raises UnknownNameError for a class that does not exist.
    """
    kept = np.array(sorted({_class_index(item, listing.class_names) for item in wanted}), dtype=np.int64)
    new_label = np.full(len(listing.class_names), -1, dtype=np.int64)
    new_label[kept] = np.arange(len(kept))

    def picked(split: SplitListing) -> SplitListing:
        labels = new_label[split.labels]
        rows = np.flatnonzero(labels >= 0)
        return split.take(rows, labels[rows])

    return replace(
        listing,
        class_names=tuple(listing.class_names[index] for index in kept),
        train=picked(listing.train),
        test=picked(listing.test),
    )


def check_listing(listing: SourceListing) -> None:
    """Raise DataError where the classes or their counts cannot serve.

    Needed are two classes or more, each with two images or more in train (one goes to validation) and one
    or more in test.
    """
    names = listing.class_names
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"the class name {name!r} of {listing.name} is not valid UTF-8: rename that class."
            ) from None
    if len(names) < 2:
        held = f"the single class '{names[0]}'" if names else "no class"
        raise DataError(f"{listing.name} holds {held}: two classes or more are needed to tell them apart.")
    in_train = np.bincount(listing.train.labels, minlength=len(names))
    in_test = np.bincount(listing.test.labels, minlength=len(names))
    for name, count in zip(names, in_train, strict=True):
        if count < 2:
            held = {0: "no images", 1: "1 image"}[int(count)]
            raise DataError(
                f"class '{name}' of {listing.name} has {held} in train, but at least 2 are needed, because "
                "one of them goes to the validation split: add images, or leave the class out with "
                "data.classes."
            )
    missing = [name for name, count in zip(names, in_test, strict=True) if not count]
    if missing:
        raise DataError(
            f"the test split of {listing.name} has no image of {quoted(missing)}: train and test must hold "
            "the same classes; add images, or leave the class out with data.classes."
        )


def quoted(names: Sequence[str]) -> str:
    """`'a', 'b'` and so on, cut off after some twenty names."""
    shown = ", ".join(f"'{name}'" for name in names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def _class_index(wanted: str, names: tuple[str, ...]) -> int:
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and wanted.isascii() and int(wanted) < len(names):
        return int(wanted)
    known: Sequence[str] = names
    if len(names) > _MOST_NAMES:
        known = difflib.get_close_matches(wanted, names, n=_MOST_NAMES, cutoff=0.0)
    hint = f"A class is named, or numbered 0..{len(names) - 1}, in data.classes."
    error = unknown_name("class", wanted, known)
    raise type(error)(f"{error} {hint}")
