"""Distilled images: a set in memory, and the parquet file that holds it (FORMAT.md, section "Artifact").

The file is a Hugging Face dataset in itself: `datasets.load_dataset` reads it without flashdd, and flashdd
reads it with pyarrow and Pillow alone. Lossless PNG inside; nothing here unpickles anything.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from flashdd.core.errors import ArtifactError, DataError
from flashdd.core.files import atomic_file, canonical_json

MAX_SIDE = 4096
"""Pixels: the largest height or width; bounds what a damaged or hostile file can make a reader allocate."""
MAX_CLASSES = 1_000_000
ROW_GROUP = 1000
"""Rows per parquet row group: 100 MB of 224-pixel PNGs, so that a large set is written and read in pieces."""
_SMALLEST_PNG = 67  # bytes of a PNG of one pixel: a file cannot hold more rows than its size over this
_CODECS = ("PNG", "WEBP", "JPEG")
_COLUMNS = ["image", "label"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Distilled images with their classes; the row number is the image id, rows are sorted by class.

    images: uint8 (N, C, H, W), N >= 1, C in {1, 3}, H and W in 1..4096.
    labels: int64 (N,), non-decreasing, in 0..len(class_names) - 1.
    class_names: 2 to 1,000,000 unique non-empty strings.
    Raises DataError where one of these does not hold.
    """

    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        problem = (
            class_names_problem(self.class_names)
            or _images_problem(self.images)
            or _labels_problem(self.labels, len(self.images), len(self.class_names))
        )
        if problem:
            raise DataError(f"cannot make an image set: {problem}.")

    @property
    def num_images(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def ipc(self) -> int | None:
        """Images per class, None where classes differ."""
        counts = torch.bincount(self.labels.cpu(), minlength=self.num_classes)
        return int(counts[0]) if bool((counts == counts[0]).all()) else None

    @property
    def content_hash(self) -> str:
        """SHA-256, hexadecimal, over shape and class names (canonical JSON), pixel bytes and labels."""
        digest = hashlib.sha256(canonical_json([list(self.images.shape), list(self.class_names)]))
        digest.update(np.ascontiguousarray(self.images.cpu().numpy()).data)
        digest.update(np.ascontiguousarray(self.labels.cpu().numpy(), dtype="<i8").data)
        return digest.hexdigest()


def sorted_by_class(images: torch.Tensor, labels: torch.Tensor, class_names: tuple[str, ...]) -> ImageSet:
    """The set with its rows in the order of classes; rows of one class keep their order."""
    order = torch.argsort(labels, stable=True)
    return ImageSet(images=images[order], labels=labels[order], class_names=class_names)


def class_names_problem(names: Sequence[object]) -> str | None:
    """What is wrong with these class names, as the end of a sentence; None if nothing is."""
    if not 2 <= len(names) <= MAX_CLASSES:
        return f"there are {len(names)} class names, expected 2 to {MAX_CLASSES:,}"
    seen: set[str] = set()
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name:
            return f"class name {index} is {name!r}, expected a non-empty string"
        if any("\ud800" <= char <= "\udfff" for char in name):
            return f"class name {index} ({name!r}) is not valid Unicode, expected text that UTF-8 can hold"
        if name in seen:
            return f"class name {index} ({name!r}) stands twice, expected unique names"
        seen.add(name)
    return None


def _images_problem(images: torch.Tensor) -> str | None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        return f"images are {images.dtype} of shape {tuple(images.shape)}, expected torch.uint8 (N, C, H, W)"
    count, channels, height, width = images.shape
    if count < 1:
        return "it has no images, expected at least one"
    return shape_problem((channels, height, width))


def shape_problem(shape: tuple[int, int, int]) -> str | None:
    """What is wrong with an image shape (C, H, W), as the end of a sentence; None if nothing is."""
    channels, height, width = shape
    if channels not in (1, 3) or not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        return (
            f"images have {channels} channels and {height} x {width} pixels, "
            f"expected 1 or 3 channels and sides of 1 to {MAX_SIDE} pixels"
        )
    return None


def _labels_problem(labels: torch.Tensor, num_images: int, num_classes: int) -> str | None:
    if labels.dtype != torch.int64 or tuple(labels.shape) != (num_images,):
        return (
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}, expected torch.int64 ({num_images},)"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        return f"labels span {low} to {high}, expected 0 to {num_classes - 1}"
    if num_images > 1 and not bool((labels[1:] >= labels[:-1]).all()):
        return "rows are not sorted by class, expected non-decreasing labels"
    return None


# ---------------------------------------------------------------------------------------------- writing


def write_parquet(images: ImageSet, path: Path) -> int:
    """Write the set as one parquet file of PNGs; equal sets give equal bytes (same pyarrow and zlib).

    Returns the bytes on disk. Atomic: `path` is whole or absent. Raises OutputError or StorageError.
    """
    with atomic_file(path) as file:  # piece by piece: a large set is never all in memory
        _write_rows(images, file)
    return path.stat().st_size


def _write_rows(images: ImageSet, file: BinaryIO) -> None:
    import pyarrow.parquet as pq

    schema = _schema(images.class_names)
    writer = pq.ParquetWriter(
        file,
        schema,
        compression={"image.bytes": "none", "image.path": "none", "label": "zstd"},  # PNGs do not compress
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,
    )
    with writer:
        writer.add_key_value_metadata(schema.metadata)
        for start in range(0, images.num_images, ROW_GROUP):
            writer.write_table(_table(images, slice(start, start + ROW_GROUP), schema))


def _table(images: ImageSet, rows: slice, schema: Any) -> Any:
    import pyarrow as pa

    pixels = images.images[rows].permute(0, 2, 3, 1).cpu().numpy()
    cells = [{"bytes": encode_png(image), "path": None} for image in pixels]
    labels = images.labels[rows].cpu().numpy()
    return pa.Table.from_arrays(
        [pa.array(cells, type=schema.field("image").type), pa.array(labels)], schema=schema
    )


def encode_png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """PNG bytes of one image, uint8 (H, W, 1) as mode L or (H, W, 3) as mode RGB."""
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, compress_level=9)
    return buffer.getvalue()


def _schema(class_names: tuple[str, ...]) -> Any:
    import pyarrow as pa

    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(class_names)},
    }
    return pa.schema(
        [pa.field("image", _image_type()), pa.field("label", pa.int64())],
        metadata={"huggingface": canonical_json({"info": {"features": features}})},
    )


def _image_type() -> Any:
    import pyarrow as pa

    return pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])


# ---------------------------------------------------------------------------------------------- reading


def read_parquet(path: Path) -> ImageSet:
    """Read what `write_parquet` wrote, or any parquet with the same two columns and Hugging Face features.

    Raises ArtifactError, naming the file and, where one is to blame, the row: missing or damaged file, other
    columns, no class names, an image that cannot be decoded, is larger than 4096 pixels, differs in shape
    from row 0 or is neither gray (L) nor RGB, a missing image or label, a label out of range.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ArtifactError(
            f"{path} is missing: expected a parquet file of distilled images, get a full copy."
        )
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            class_names = _class_names(path, file.schema_arrow)
            images, labels = _read_rows(path, file)
    except ArtifactError:
        raise
    except Exception as error:  # a damaged file makes pyarrow raise a dozen classes, MemoryError among them
        raise ArtifactError(
            f"{path} is damaged or no parquet file ({_first_line(error)}): get a fresh copy, or write it "
            "again."
        ) from error
    try:
        return ImageSet(
            images=torch.from_numpy(images), labels=torch.from_numpy(labels), class_names=class_names
        )
    except DataError as error:
        raise ArtifactError(f"{path}: {error} Write the file again from a sound image set.") from error


def _class_names(path: Path, schema: Any) -> tuple[str, ...]:
    """The names in the schema's Hugging Face features, after a check of the columns' types."""
    import pyarrow as pa

    expected = {"image": _image_type(), "label": pa.int64()}
    for column, kind in expected.items():
        fields = [field for field in schema if field.name == column]
        if len(fields) != 1 or fields[0].type != kind:
            got = ", ".join(f"{field.name}: {field.type}" for field in schema) or "none"
            raise ArtifactError(
                f"{path}: column '{column}' must be {kind}, the columns are ({got}): write the images with "
                "flashdd, or with datasets as features Image and ClassLabel."
            )
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path}: schema metadata 'huggingface' has no class names at info.features.label.names: "
            "write the images with flashdd, or with datasets as feature ClassLabel(names=...)."
        ) from error
    problem = class_names_problem(names) if isinstance(names, list) else f"they are {type(names).__name__}"
    if problem:
        raise ArtifactError(f"{path}: schema metadata info.features.label.names: {problem}.")
    return tuple(names)


_Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_Labels = np.ndarray[Any, np.dtype[np.int64]]


def _read_rows(path: Path, file: Any) -> tuple[_Bytes, _Labels]:
    """uint8 (N, C, H, W) and int64 (N,) of all rows."""
    count = file.metadata.num_rows
    if not 1 <= count <= path.stat().st_size // _SMALLEST_PNG:
        raise ArtifactError(
            f"{path} says that it has {count} rows, which its {path.stat().st_size} bytes cannot hold, "
            "or none: get a fresh copy, or write it again."
        )
    labels: _Labels = np.empty(count, dtype=np.int64)
    images: _Bytes | None = None
    row = 0
    for batch in file.iter_batches(batch_size=256, columns=_COLUMNS, use_threads=False):
        payloads = batch.column("image").flatten()[0]  # flatten, not field: a null struct gives null bytes
        for payload, label in zip(payloads, batch.column("label"), strict=True):
            if row >= count or not payload.is_valid or not label.is_valid:
                raise ArtifactError(
                    f"{path}: row {row} has no image, no label or is one too many: write the file again."
                )
            pixels = _decode(path, row, payload.as_py(), None if images is None else images.shape[1:])
            if images is None:
                images = np.empty((count, *pixels.shape), dtype=np.uint8)
            images[row], labels[row] = pixels, label.as_py()
            row += 1
    if images is None or row != count:
        raise ArtifactError(f"{path} ends after {row} of {count} rows: get a fresh copy, or write it again.")
    return images, labels


def _decode(path: Path, row: int, payload: bytes, expected: tuple[int, ...] | None) -> _Bytes:
    """uint8 (C, H, W) of one encoded image; its header is checked before any pixel is decoded."""
    try:
        with Image.open(io.BytesIO(payload), formats=_CODECS) as image:
            shape = ({"L": 1, "RGB": 3}.get(image.mode, 0), image.height, image.width)
            if not shape[0]:
                raise ArtifactError(f"{path}: row {row} is of mode {image.mode}, expected L (gray) or RGB.")
            if problem := shape_problem(shape):
                raise ArtifactError(f"{path}: row {row}: {problem}.")
            if expected is not None and shape != expected:
                raise ArtifactError(
                    f"{path}: row {row} is {shape} (channels, height, width) where row 0 is {expected}: "
                    "all images must have one shape."
                )
            pixels = np.asarray(image)
    except ArtifactError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen classes on damaged bytes
        raise ArtifactError(
            f"{path}: row {row} holds no readable PNG, WebP or JPEG image ({_first_line(error)}): "
            "get a fresh copy, or write the file again."
        ) from error
    return pixels.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
