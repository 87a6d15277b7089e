"""From an encoded image to uint8 pixels, by Pillow alone.

Every mode that Pillow reads is accepted; what is done to it is stated at `decode_image`.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from flashdd.core.errors import DataError
from flashdd.data.listing import SplitListing

Pixels = npt.NDArray[np.uint8]

_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
GREY_MODES = _DEEP_MODES | {"1", "L", "LA", "La"}

# Annex K.1 of the JPEG standard (ITU-T T.81): luminance; libjpeg scales it by the quality.
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image's header tells without decoding its pixels."""

    width: int
    height: int
    grey: bool
    codec: str
    """Pillow's name of the format, `raw` for an image that never was encoded."""
    quality: int | None
    """1..100 for JPEG, else None."""


def read_header(split: SplitListing, index: int) -> Header:
    """The header of image `index`. Raises DataError, naming the image, where it is no image."""
    with _naming(split, index), split.open(index) as image:
        codec, quality = image.format or "raw", None
        if isinstance(image, JpegImageFile):  # also MPO, which is JPEG with more pictures behind the first
            codec, quality = "JPEG", jpeg_quality(tuple(image.quantization[min(image.quantization)]))
        return Header(
            width=image.width,
            height=image.height,
            grey=image.mode in GREY_MODES,
            codec=codec,
            quality=quality,
        )


def decode_image(split: SplitListing, index: int, *, channels: int, resolution: int) -> Pixels:
    """Image `index` as uint8 (channels, resolution, resolution); channels 1 is grey, 3 is RGB.

    In this order: turned as its EXIF orientation says; 16-bit grey (`I;16`, `I`) scaled by round(v / 257),
    float grey (`F`) by 255 where all values are in 0..1, else rounded as values in 0..255; transparency
    composited on white; palette, CMYK and others converted to RGB; the shorter side resized to `resolution`
    (bicubic, antialiased by Pillow) and the center cropped. An image of exactly that size keeps its pixels
    bit by bit. Pillow itself reads 16-bit *color* files by their high bytes.

    Raises DataError, naming the image, where it is damaged or cut off, or where a 32-bit image has values
    outside those ranges.
    """
    with _naming(split, index), split.open(index) as image:
        ImageOps.exif_transpose(image, in_place=True)
        flat = _flatten(image).convert("L" if channels == 1 else "RGB")
        square = _resize_and_crop(flat, resolution)
        pixels = np.asarray(square, dtype=np.uint8).reshape(resolution, resolution, channels)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@functools.cache
def jpeg_quality(table: tuple[int, ...]) -> int:
    """The libjpeg quality 1..100 whose luminance table lies nearest to `table` (64 values, any order).

    Only sums are compared: they fall strictly with the quality and do not depend on the table's order,
    which differs between versions of Pillow.
    """
    total = sum(table)
    return min(range(1, 101), key=lambda quality: abs(_table_sum(quality) - total))


def describe_codecs(headers: Iterable[tuple[str, int | None]]) -> str:
    """The encodings in words, e.g. `JPEG q75-95, PNG`, of pairs (codec, quality)."""
    qualities: dict[str, set[int]] = {}
    for codec, quality in headers:
        qualities.setdefault(codec, set()).update([] if quality is None else [quality])
    words = []
    for codec, values in sorted(qualities.items()):
        span = f"{min(values)}-{max(values)}" if len(values) > 1 else "".join(map(str, values))
        words.append(f"{codec} q{span}" if span else codec)
    return ", ".join(words)


@functools.cache
def _table_sum(quality: int) -> int:
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sum(min(255, max(1, (value * scale + 50) // 100)) for value in _LUMINANCE)


@contextlib.contextmanager
def _naming(split: SplitListing, index: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error and more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{split.describe(index)} cannot be decoded ({reason}): repair or remove that image, and start "
            "again."
        ) from error


def _flatten(image: Image.Image) -> Image.Image:
    """`image` with 8 bits per channel and without transparency."""
    if image.mode in _DEEP_MODES:
        return Image.fromarray(_to_eight_bits(image))
    if not image.has_transparency_data:
        return image
    grey = image.mode in GREY_MODES
    layered = image.convert("LA" if grey else "RGBA")
    background = Image.new("L" if grey else "RGB", image.size, "white")
    background.paste(layered, mask=layered.getchannel("A"))
    return background


def _to_eight_bits(image: Image.Image) -> Pixels:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    pixels: Pixels
    if image.mode == "F":
        if not 0 <= low <= high <= 255:  # also false for NaN
            raise ValueError(f"float values from {low} to {high}, expected 0..1 or 0..255")
        pixels = np.rint(values * 255 if high <= 1 else values).astype(np.uint8)
    else:
        if not 0 <= low <= high <= 65535:
            raise ValueError(f"32-bit values from {low} to {high}, expected 0..65535")
        pixels = ((values.astype(np.int64) + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # a PNG's tRNS chunk: the one value that is see-through
        pixels[values == transparent] = 255
    return pixels


def _resize_and_crop(image: Image.Image, resolution: int) -> Image.Image:
    width, height = image.size
    if (width, height) == (resolution, resolution):
        return image
    short = min(width, height)
    width, height = ((side * resolution + short // 2) // short for side in (width, height))
    left, top = (width - resolution) // 2, (height - resolution) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + resolution, top + resolution))


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings (odd EXIF data, very large images) for one pass over a source."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
