"""Pixels of every mode against naive computations, and the encodings in words."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from flashdd.core.errors import DataError
from flashdd.data.decode import decode_image, describe_codecs, jpeg_quality, read_header
from flashdd.data.listing import SplitListing


def encoded(image: Image.Image, codec: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, codec, **options)
    return buffer.getvalue()


def split_of(*images: bytes) -> SplitListing:
    return SplitListing(
        labels=np.zeros(len(images), dtype=np.int64),
        open=lambda index: Image.open(io.BytesIO(images[index])),
        describe=lambda index: f"picture {index}",
    )


def decode(data: bytes, channels: int, resolution: int) -> npt.NDArray[np.uint8]:
    return decode_image(split_of(data), 0, channels=channels, resolution=resolution)


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_an_image_of_the_right_size_keeps_its_pixels(mode: str, channels: int) -> None:
    values = noise(12, 12, channels)
    image = Image.fromarray(values[..., 0] if channels == 1 else values)
    assert image.mode == mode
    pixels = decode(encoded(image), channels, 12)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, values.transpose(2, 0, 1))


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = encoded(Image.fromarray(values))
    assert Image.open(io.BytesIO(data)).mode in {"I;16", "I"}
    naive = [[round(value * 255 / 65535) for value in row] for row in values.tolist()]
    np.testing.assert_array_equal(decode(data, 1, 256)[0], naive)


def test_thirty_two_bit_integers_are_taken_as_sixteen_bits_or_refused() -> None:
    values = np.linspace(0, 65535, 64).astype(np.int32).reshape(8, 8)
    data = encoded(Image.fromarray(values), "TIFF")
    assert Image.open(io.BytesIO(data)).mode == "I"
    naive = [[round(value / 257) for value in row] for row in values.tolist()]
    np.testing.assert_array_equal(decode(data, 1, 8)[0], naive)
    with pytest.raises(DataError, match=r"picture 0 .*32-bit values from 0 to 131070, expected 0\.\.65535"):
        decode(encoded(Image.fromarray(values * 2), "TIFF"), 1, 8)


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floats_are_taken_as_unit_or_byte_range(top: float) -> None:
    values = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    naive = np.rint(values * np.float32(255 / top)).astype(np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(values), "TIFF"), 1, 8)[0], naive)


@pytest.mark.parametrize("bad", [-1.0, 256.0, float("nan")])
def test_floats_out_of_range_are_refused(bad: float) -> None:
    values = np.full((8, 8), 0.5, dtype=np.float32)
    values[3, 3] = bad
    with pytest.raises(DataError, match=r"picture 0 cannot be decoded \(float values"):
        decode(encoded(Image.fromarray(values), "TIFF"), 1, 8)


def test_transparency_becomes_white() -> None:
    values = noise(8, 8, 4)
    values[..., 3] = np.where(np.arange(64).reshape(8, 8) % 2, 255, 0)
    opaque = values[..., 3:] == 255
    rgb = decode(encoded(Image.fromarray(values)), 3, 8).transpose(1, 2, 0)
    np.testing.assert_array_equal(rgb, np.where(opaque, values[..., :3], 255))

    grey_alpha = Image.fromarray(np.ascontiguousarray(values[..., [0, 3]]))
    assert grey_alpha.mode == "LA"
    grey = decode(encoded(grey_alpha), 1, 8)[0]
    np.testing.assert_array_equal(grey, np.where(opaque[..., 0], values[..., 0], 255))


def test_half_transparency_is_blended() -> None:
    image = Image.new("RGBA", (4, 4), (0, 100, 200, 128))
    naive = [round((value * 128 + 255 * 127) / 255) for value in (0, 100, 200)]
    np.testing.assert_array_equal(decode(encoded(image), 3, 4)[:, 0, 0], naive)


def test_palette_with_transparency() -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 8, 4))
    image.paste(0, (0, 4, 8, 8))
    data = encoded(image, transparency=0)
    assert not read_header(split_of(data), 0).grey
    pixels = decode(data, 3, 8)
    np.testing.assert_array_equal(pixels[:, 0, 0], [200, 100, 50])
    np.testing.assert_array_equal(pixels[:, 7, 0], [255, 255, 255])


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_the_transparent_value_of_a_grey_png(depth: type) -> None:
    values: npt.NDArray[np.integer[Any]] = np.full((8, 8), 77, dtype=depth)
    values[0, 0] = 0
    data = encoded(Image.fromarray(values), transparency=77)
    pixels = decode(data, 1, 8)[0]
    assert pixels[0, 0] == 0
    assert (pixels.ravel()[1:] == 255).all()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: encoded(Image.new("1", (4, 4), 1)), (255, 255, 255)),
        (lambda: encoded(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
        (lambda: encoded(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "JPEG", quality=100), (0, 255, 255)),
        (lambda: encoded(Image.new("L", (4, 4), 9)), (9, 9, 9)),
        (lambda: encoded(Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16))), (255, 255, 255)),
        (lambda: encoded(Image.new("LA", (4, 4), (9, 0))), (255, 255, 255)),
    ],
    ids=["1", "CMYK", "CMYK JPEG", "L", "I;16", "LA"],
)
def test_any_mode_becomes_rgb(make: Callable[[], bytes], expected: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(decode(make(), 3, 4)[:, 2, 2], expected)


def test_pa_opened_as_such_is_composited() -> None:
    image = Image.new("PA", (4, 4))
    split = SplitListing(labels=np.zeros(1, np.int64), open=lambda _: image.copy(), describe=str)
    assert not read_header(split, 0).grey
    np.testing.assert_array_equal(decode_image(split, 0, channels=3, resolution=4)[:, 0, 0], [255] * 3)


def test_exif_orientation_is_applied() -> None:
    values = noise(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown by turning it 90 degrees clockwise
    pixels = decode(encoded(Image.fromarray(values), exif=exif), 1, 8)[0]
    np.testing.assert_array_equal(pixels, np.rot90(values, -1))


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (21, 40), (6, 7)])
def test_the_shorter_side_is_resized_and_the_center_cropped(width: int, height: int) -> None:
    image = Image.fromarray(noise(height, width, 3))
    scale = 10 / min(width, height)
    resized = image.resize((int(width * scale + 0.5), int(height * scale + 0.5)), Image.Resampling.BICUBIC)
    array = np.asarray(resized)
    top, left = (array.shape[0] - 10) // 2, (array.shape[1] - 10) // 2
    expected = array[top : top + 10, left : left + 10].transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(encoded(image), 3, 10), expected)


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_named(codec: str) -> None:
    data = encoded(Image.fromarray(noise(64, 64, 3)), codec)
    with pytest.raises(DataError, match=r"picture 1 cannot be decoded .*repair or remove"):
        decode_image(split_of(data, data[: len(data) // 2]), 1, channels=3, resolution=64)


def test_a_file_that_is_no_image_is_named() -> None:
    with pytest.raises(DataError, match="picture 0 cannot be decoded"):
        read_header(split_of(b"not an image"), 0)


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 95, 100])
def test_jpeg_quality_is_found(quality: int) -> None:
    header = read_header(split_of(encoded(Image.fromarray(noise(16, 16, 3)), "JPEG", quality=quality)), 0)
    assert (header.codec, header.quality) == ("JPEG", quality)


def test_jpeg_quality_of_a_foreign_table_is_the_nearest() -> None:
    assert jpeg_quality((1,) * 64) == 100
    assert jpeg_quality((65535,) * 64) == 1


def test_codecs_in_words() -> None:
    assert describe_codecs([("JPEG", 75), ("JPEG", 75)]) == "JPEG q75"
    assert describe_codecs([("PNG", None), ("JPEG", 95), ("JPEG", 75)]) == "JPEG q75-95, PNG"
    assert describe_codecs([("raw", None)]) == "raw"
