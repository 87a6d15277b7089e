"""The embedded dataset: scikit-learn's 1,797 real handwritten digits, 8x8 pixels, no download."""

from __future__ import annotations

import numpy as np
from PIL import Image

from flashdd.data.listing import Indices, SourceListing, SplitListing

TEST_FRACTION = 0.2
SPLIT_SEED = 0


def list_digits() -> SourceListing:
    """1,437 train and 360 test images, stratified by class with a fixed seed, each in original order.

    The values 0..16 become uint8 by round(v * 255 / 16). Source: E. Alpaydin and C. Kaynak, Optical
    Recognition of Handwritten Digits, UCI 1998, as bundled by `sklearn.datasets.load_digits`.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_FRACTION, random_state=SPLIT_SEED, stratify=labels
    )

    def split(rows: Indices) -> SplitListing:
        rows = np.sort(rows)
        return SplitListing(
            labels=labels[rows],
            open=lambda index: Image.fromarray(pixels[rows[index]]),
            describe=lambda index: f"digit {rows[index]}",
        )

    return SourceListing(
        kind="digits",
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
        train=split(train),
        test=split(test),
    )
