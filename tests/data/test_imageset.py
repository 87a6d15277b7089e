"""The parquet of distilled images: what goes in comes out, and what is damaged is refused by row."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from flashdd.core.errors import ArtifactError, DataError, StorageError
from flashdd.data import imageset
from flashdd.data.imageset import ImageSet, encode_png, read_parquet, sorted_by_class, write_parquet

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
NAMES = ("Boot", "café | <b>", "猫\u2028\x7f")


def make_set(shape: tuple[int, int, int] = (3, 6, 5), per_class: int = 2) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    count = per_class * len(NAMES)
    return ImageSet(
        images=torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator),
        labels=torch.arange(len(NAMES)).repeat_interleave(per_class),
        class_names=NAMES,
    )


def same(one: ImageSet, other: ImageSet) -> bool:
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        and one.class_names == other.class_names
    )


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 5), (1, 1, 1), (3, 1, 40)])
def test_round_trip_is_bitwise(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    images = make_set(shape)
    size = write_parquet(images, tmp_path / "a" / "images.parquet")
    back = read_parquet(tmp_path / "a" / "images.parquet")
    assert size == (tmp_path / "a" / "images.parquet").stat().st_size
    assert same(back, images)
    assert back.images.dtype == torch.uint8
    assert back.labels.dtype == torch.int64
    assert back.content_hash == images.content_hash


def test_many_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imageset, "ROW_GROUP", 4)
    images = make_set(per_class=3)
    write_parquet(images, tmp_path / "images.parquet")
    assert pq.ParquetFile(tmp_path / "images.parquet").num_row_groups == 3
    assert same(read_parquet(tmp_path / "images.parquet"), images)


def test_equal_sets_give_equal_bytes(tmp_path: Path) -> None:
    write_parquet(make_set(), tmp_path / "one.parquet")
    write_parquet(make_set(), tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_columns_features_and_png(tmp_path: Path, channels: int, mode: str) -> None:
    images = make_set((channels, 6, 5))
    write_parquet(images, tmp_path / "images.parquet")
    table = pq.read_table(tmp_path / "images.parquet")
    assert table.schema.field("image").type == IMAGE
    assert table.schema.field("label").type == pa.int64()
    assert json.loads(table.schema.metadata[b"huggingface"]) == {
        "info": {
            "features": {
                "image": {"_type": "Image"},
                "label": {"_type": "ClassLabel", "names": list(NAMES)},
            }
        }
    }
    for row, cell in enumerate(table["image"].to_pylist()):
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            assert (image.format, image.mode, image.size) == ("PNG", mode, (5, 6))
            pixels = np.asarray(image).reshape(6, 5, channels)
        assert np.array_equal(pixels, images.images[row].permute(1, 2, 0).numpy())


def test_png_is_as_small_as_pillow_makes_it() -> None:
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    plain = io.BytesIO()
    Image.fromarray(pixels).save(plain, "PNG", compress_level=1)
    assert len(encode_png(pixels)) < len(plain.getvalue())


def test_content_hash_is_the_one_of_the_format() -> None:
    images = make_set()
    head = json.dumps([[6, 3, 6, 5], list(NAMES)], separators=(",", ":"), ensure_ascii=False).encode()
    body = images.images.numpy().tobytes() + images.labels.numpy().astype("<i8").tobytes()
    assert images.content_hash == hashlib.sha256(head + body).hexdigest()


def test_content_hash_sees_everything() -> None:
    images = make_set((3, 6, 5))
    brighter = images.images.clone()
    brighter[3, 1, 2, 2] ^= 1
    labels = images.labels.clone()
    labels[1] = 1
    others = [
        ImageSet(images=brighter, labels=images.labels, class_names=NAMES),
        ImageSet(images=images.images, labels=labels, class_names=NAMES),
        ImageSet(images=images.images, labels=images.labels, class_names=("a", "b", "c")),
        ImageSet(images=images.images.reshape(6, 3, 5, 6), labels=images.labels, class_names=NAMES),
    ]
    assert len({images.content_hash, *(other.content_hash for other in others)}) == 5


def test_counts() -> None:
    images = make_set(per_class=2)
    assert (images.num_images, images.num_classes, images.shape, images.ipc) == (6, 3, (3, 6, 5), 2)
    uneven = ImageSet(images=images.images, labels=torch.tensor([0, 0, 0, 1, 1, 2]), class_names=NAMES)
    assert uneven.ipc is None
    missing = ImageSet(images=images.images[:2], labels=torch.tensor([0, 1]), class_names=NAMES)
    assert missing.ipc is None


def test_sorted_by_class_keeps_the_order_within_a_class() -> None:
    pixels = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
    images = sorted_by_class(pixels, torch.tensor([2, 0, 1, 0, 2]), NAMES)
    assert images.labels.tolist() == [0, 0, 1, 2, 2]
    assert images.images.flatten().tolist() == [1, 3, 2, 0, 4]


GOOD: dict[str, Any] = {
    "images": torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
    "labels": torch.tensor([0, 1]),
    "class_names": ("a", "b"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 3, 4, 4)}, r"images are torch.float32 of shape \(2, 3, 4, 4\)"),
        ({"images": torch.zeros(2, 4, 4, dtype=torch.uint8)}, r"expected torch.uint8 \(N, C, H, W\)"),
        ({"images": torch.zeros(0, 3, 4, 4, dtype=torch.uint8)}, "has no images"),
        ({"images": torch.zeros(2, 2, 4, 4, dtype=torch.uint8)}, "2 channels"),
        ({"images": torch.zeros(2, 1, 4, 4097, dtype=torch.uint8)}, "4 x 4097 pixels"),
        ({"labels": torch.tensor([0, 1], dtype=torch.int32)}, "labels are torch.int32"),
        ({"labels": torch.tensor([0])}, r"expected torch.int64 \(2,\)"),
        ({"labels": torch.tensor([0, 2])}, "labels span 0 to 2, expected 0 to 1"),
        ({"labels": torch.tensor([-1, 0])}, "labels span -1 to 0"),
        ({"labels": torch.tensor([1, 0])}, "not sorted by class"),
        ({"class_names": ("a",)}, "1 class names, expected 2 to 1,000,000"),
        ({"class_names": ("a", "")}, "class name 1 is ''"),
        ({"class_names": ("a", 3)}, "class name 1 is 3"),
        ({"class_names": ("a", "a")}, "class name 1 .'a'. stands twice"),
        ({"class_names": ("a", "\ud800")}, "not valid Unicode"),
    ],
)
def test_image_set_refuses(change: dict[str, Any], message: str) -> None:
    ImageSet(**GOOD)
    with pytest.raises(DataError, match=message):
        ImageSet(**{**GOOD, **change})


# ---------------------------------------------------------------------------------- damaged and foreign


def png(mode: str = "RGB", size: tuple[int, int] = (5, 6), codec: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, codec)
    return buffer.getvalue()


def write_foreign(
    path: Path,
    payloads: list[bytes | None],
    labels: list[int | None] | None = None,
    names: object = NAMES,
    label_type: Any = None,
) -> Path:
    """A parquet as another tool would write it."""
    cells = [None if payload is None else {"bytes": payload, "path": "x.png"} for payload in payloads]
    columns = {
        "image": pa.array(cells, type=IMAGE),
        "label": pa.array([0] * len(payloads) if labels is None else labels, type=label_type or pa.int64()),
    }
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    metadata = None if names is None else {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def test_reads_what_other_tools_write(tmp_path: Path) -> None:
    codecs = [png(), png(codec="WEBP"), png(codec="JPEG")]
    images = read_parquet(write_foreign(tmp_path / "x.parquet", list(codecs)))
    assert images.images.shape == (3, 3, 6, 5)
    assert not images.images.any()


def broken_png() -> bytes:
    data = bytearray(png(size=(40, 40)))
    data[data.index(b"IDAT") + 8] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    ("payloads", "message"),
    [
        ([png(), b"no image"], "row 1 holds no readable PNG, WebP or JPEG"),
        ([png(), None], "row 1 has no image"),
        ([png(), b""], "row 1 holds no readable"),
        ([png()[:-30]], "row 0 holds no readable"),
        ([broken_png()], "row 0 holds no readable"),
        ([png(codec="GIF")], "row 0 holds no readable"),
        ([png("RGBA")], r"row 0 is of mode RGBA, expected L \(gray\) or RGB"),
        ([png("P")], "row 0 is of mode P"),
        ([png("I;16")], "row 0 is of mode I;16"),
        ([png("1")], "row 0 is of mode 1"),
        ([png(size=(4097, 1))], "row 0: images have 3 channels and 1 x 4097 pixels"),
        ([png(), png(size=(6, 5))], r"row 1 is \(3, 5, 6\) .* where row 0 is \(3, 6, 5\)"),
        ([png(), png("L")], r"row 1 is \(1, 6, 5\) .* where row 0 is \(3, 6, 5\)"),
    ],
)
def test_bad_images_are_named_by_row(tmp_path: Path, payloads: list[bytes | None], message: str) -> None:
    path = write_foreign(tmp_path / "bad.parquet", payloads)
    with pytest.raises(ArtifactError, match=f"bad.parquet: {message}"):
        read_parquet(path)


def huge_png(side: int) -> bytes:
    """A header that promises side x side pixels, as a decompression bomb does."""
    data = bytearray(png())
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("side", [5000, 10_000, 100_000, 2**31 - 1])
def test_huge_images_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    path = write_foreign(tmp_path / "bad.parquet", [huge_png(side)])
    with pytest.raises(ArtifactError, match="row 0"):
        read_parquet(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, None], "row 1 has no image, no label"),
        ([0, 3], "labels span 0 to 3, expected 0 to 2"),
        ([-1, 0], "labels span -1 to 0"),
        ([1, 0], "not sorted by class"),
    ],
)
def test_bad_labels(tmp_path: Path, labels: list[int | None], message: str) -> None:
    path = write_foreign(tmp_path / "bad.parquet", [png(), png()], labels)
    with pytest.raises(ArtifactError, match=f"bad.parquet.*{message}"):
        read_parquet(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "'huggingface' has no class names"),
        ("abc", "they are str"),
        (["a"], "1 class names"),
        (["a", "a"], "stands twice"),
        (["a", 7], "class name 1 is 7"),
    ],
)
def test_bad_class_names(tmp_path: Path, names: object, message: str) -> None:
    path = write_foreign(tmp_path / "bad.parquet", [png()], names=names)
    with pytest.raises(ArtifactError, match=f"bad.parquet.*{message}"):
        read_parquet(path)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"pixels": [1]}), path)
    with pytest.raises(ArtifactError, match=r"bad.parquet: column 'image' must be .*\(pixels: int64\)"):
        read_parquet(path)
    write_foreign(path, [png()], label_type=pa.int32())
    with pytest.raises(ArtifactError, match="column 'label' must be int64"):
        read_parquet(path)


def test_empty_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none.parquet is missing"):
        read_parquet(tmp_path / "none.parquet")
    with pytest.raises(ArtifactError, match=r"is missing"):
        read_parquet(tmp_path)
    (tmp_path / "text.parquet").write_bytes(b"hello")
    with pytest.raises(ArtifactError, match=r"text.parquet is damaged or no parquet file"):
        read_parquet(tmp_path / "text.parquet")
    with pytest.raises(ArtifactError, match="says that it has 0 rows"):
        read_parquet(write_foreign(tmp_path / "bad.parquet", []))


def test_more_rows_than_bytes_are_refused_before_allocation(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "bad.parquet", [None] * 100_000)
    with pytest.raises(ArtifactError, match="100000 rows, which its"):
        read_parquet(path)


def is_refused(path: Path, data: bytes, original: ImageSet) -> bool:
    """Whether the reader refuses `data`; if not, pixels and labels must be the original ones."""
    path.write_bytes(data)
    try:
        found = read_parquet(path)
    except ArtifactError:
        return True
    assert torch.equal(found.images, original.images)
    assert torch.equal(found.labels, original.labels)
    return False


def test_damaged_bytes_never_give_other_images(tmp_path: Path) -> None:
    """Pages carry checksums. Names lie in the footer, which has none: for them there is flashdd.json."""
    original = make_set((1, 4, 4), per_class=1)
    path = tmp_path / "images.parquet"
    write_parquet(original, path)
    data = path.read_bytes()
    refused = []
    for position in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        refused.append(is_refused(path, bytes(flipped), original))
    assert sum(refused) > len(refused) // 2


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    original = make_set((1, 4, 4), per_class=1)
    path = tmp_path / "images.parquet"
    write_parquet(original, path)
    data = path.read_bytes()
    assert all(is_refused(path, data[:size], original) for size in range(0, len(data), 17))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    encode: Callable[..., bytes] = imageset.encode_png
    calls = []

    def fail(pixels: Any) -> bytes:
        calls.append(1)
        if len(calls) == 3:
            raise error
        return encode(pixels)

    monkeypatch.setattr(imageset, "encode_png", fail)
    expected = StorageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_parquet(make_set(), tmp_path / "images.parquet")
    assert list(tmp_path.iterdir()) == []
