"""Where real data come from: `digits`, a folder of class folders, or a Hugging Face dataset.

`check_source` looks without decoding, `prepare` decodes into files that `flashdd.data.dataset` opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashdd.core.errors import ConfigError, DataError, UnknownNameError, unknown_name
from flashdd.data.decode import Header, describe_codecs, quiet_pillow, read_header
from flashdd.data.digits import list_digits
from flashdd.data.folder import has_class_folders, list_folder
from flashdd.data.hf import has_dataset_files, list_hub, list_local
from flashdd.data.listing import SourceListing, check_listing, pick_classes
from flashdd.data.write import MOST_WORKERS, Shape, in_order, validation_rows, write_dataset

DIGITS = "digits"
MIN_RESOLUTION, MAX_RESOLUTION = 4, 1024
DEFAULT_RESOLUTION = 64
"""Where images differ in size, are not square, or are larger than this."""

_SAMPLE = 64
"""Headers per split that `check_source` reads."""
_HEADER_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What data to take, and how. Raises ConfigError for values out of range."""

    source: str
    """`digits`, a folder, or a hub name `OWNER/NAME`."""
    resolution: int | None = None
    """Side R of the square images, 4..1024: the shorter side is resized to R (bicubic, antialiased), then the
    center is cropped; images of that size already are left alone. None: the images' own size if all are
    equal, square and 4..64 pixels, else 64."""
    classes: tuple[str, ...] | None = None
    """The classes to take, by name or decimal index; None: all."""
    validation: float = 0.15
    """Share of train that is cut off for validation, stratified, in (0, 0.5]."""
    label_column: str | None = None
    """The column of a Hugging Face dataset that holds the class; None: found by type and name."""

    def __post_init__(self) -> None:
        if self.resolution is not None and not MIN_RESOLUTION <= self.resolution <= MAX_RESOLUTION:
            raise ConfigError(
                f"resolution is {self.resolution}, but must lie in {MIN_RESOLUTION}..{MAX_RESOLUTION} pixels."
            )
        if not 0 < self.validation <= 0.5:
            raise ConfigError(
                f"the validation fraction is {self.validation}, but must be above 0 and at most 0.5."
            )


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What a look at a source tells before anything is decoded."""

    name: str
    source: str
    """`digits`, `folder` or `hf`."""
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    """Images per class in train, before the validation split is cut."""
    train_counts: tuple[int, ...]
    """Images per class in train, after."""
    num_train: int
    """After the validation split is cut."""
    num_val: int
    num_test: int
    shape: Shape
    """(C, H, W) after resizing, from the headers of a sample of images: should they differ from the rest
    in size or color, `prepare` may find another one."""
    fingerprint: str = ""
    """Of a Hugging Face dataset: changes with its content."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def check_source(options: SourceOptions) -> SourceFacts:
    """List a source and read some headers, decoding nothing.

    A hub dataset is downloaded if it is not in the Hugging Face cache yet. Raises DataError or
    UnknownNameError for all that shows without decoding: a missing path, split or class, a class that is
    empty, alone or too small, unreadable tables, a file in the sample that is no image.
    """
    listing = _list(options)
    with quiet_pillow():
        survey = _survey(listing, sample=_SAMPLE)
    held_out = validation_rows(listing.train.labels, options.validation)
    classes = len(listing.class_names)
    counts = np.bincount(listing.train.labels, minlength=classes)
    left = counts - np.bincount(listing.train.labels[held_out], minlength=classes)
    return SourceFacts(
        name=listing.name,
        source=listing.kind,
        class_names=listing.class_names,
        class_counts=tuple(int(count) for count in counts),
        train_counts=tuple(int(count) for count in left),
        num_train=len(listing.train) - len(held_out),
        num_val=len(held_out),
        num_test=len(listing.test),
        shape=survey.shape(options.resolution),
        fingerprint=listing.fingerprint,
    )


def prepare(options: SourceOptions, folder: Path) -> None:
    """Decode a source into `folder`, which exists and is empty, in two passes and bounded memory.

    The first pass reads the headers of all images: the dataset is grey (C = 1) only if every image of train
    and test is, else RGB; see `SourceOptions.resolution` for the size. The second pass decodes in chunks.
    Written are `{train,val,test}.npy` (uint8 N, C, H, W), `{train,val,test}_labels.npy` (int64 N), each in
    the source's order, and last `dataset.json`. Equal sources give equal bytes.

    Raises what `check_source` raises, DataError naming an image that cannot be decoded, and OutputError or
    StorageError where `folder` cannot be written.
    """
    listing = _list(options)
    with quiet_pillow():
        survey = _survey(listing, sample=None)
        write_dataset(
            listing,
            folder,
            shape=survey.shape(options.resolution),
            codec=describe_codecs(survey.codecs),
            validation=options.validation,
            most_pixels=max(width * height for width, height in survey.sizes),
        )


@dataclass(frozen=True, kw_only=True)
class _Survey:
    sizes: set[tuple[int, int]]
    grey: bool
    codecs: set[tuple[str, int | None]]

    def shape(self, resolution: int | None) -> Shape:
        if resolution is None:
            width, height = next(iter(self.sizes))
            own = len(self.sizes) == 1 and width == height and MIN_RESOLUTION <= width <= DEFAULT_RESOLUTION
            resolution = width if own else DEFAULT_RESOLUTION
        return (1 if self.grey else 3), resolution, resolution


def _survey(listing: SourceListing, *, sample: int | None) -> _Survey:
    """The headers of all images, or of `sample` images per split, evenly spread."""
    sizes, greys, codecs = set(), set(), set()
    workers = MOST_WORKERS if listing.kind == "folder" else 1  # to wait for several files at once
    for split in (listing.train, listing.test):
        count = len(split)
        rows = range(count) if sample is None else np.unique(np.linspace(0, count - 1, sample).astype(int))

        def header(index: int, split=split, rows=rows) -> Header:  # type: ignore[no-untyped-def]
            return read_header(split, int(rows[index]))

        for found in in_order(header, len(rows), chunk=_HEADER_CHUNK, workers=workers):
            sizes.add((found.width, found.height))
            greys.add(found.grey)
            codecs.add((found.codec, found.quality))
    return _Survey(sizes=sizes, grey=greys == {True}, codecs=codecs)


def _list(options: SourceOptions) -> SourceListing:
    listing = _find(options)
    if options.classes is not None:
        listing = pick_classes(listing, options.classes)
    check_listing(listing)
    return listing


def _find(options: SourceOptions) -> SourceListing:
    """`digits` comes first (say `./digits` for a folder of that name), then a path, then the hub."""
    source = options.source
    if source == DIGITS:
        return list_digits()
    path = Path(source).expanduser()
    if source and path.exists():
        return _list_path(path, options.label_column)
    if source.startswith((".", "/", "~")) or source.endswith("/") or source.count("/") > 1:
        raise DataError(
            f"no such folder: {source}; give a folder that exists, 'digits', or a hub name like OWNER/NAME."
        )
    if source.count("/") == 1:
        return list_hub(source, options.label_column)
    hint = "Anything else is a folder that exists, or a hub name like OWNER/NAME."
    raise UnknownNameError(f"{unknown_name('data source', source, [DIGITS])} {hint}")


def _list_path(path: Path, label_column: str | None) -> SourceListing:
    if not path.is_dir():
        raise DataError(f"{path} is a file: give a folder, with train/ and test/ or with parquet files.")
    if not has_class_folders(path) and has_dataset_files(path):
        return list_local(path, label_column)
    return list_folder(path)
