"""Class-by-class matrices: shares, legible tones, the picture of many classes."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from flashdd.report.files import Matrix
from flashdd.report.heat import MAX_TABLE, heat_of


def matrix_of(values: np.ndarray) -> Matrix:
    names = tuple(f"class {number}" for number in range(len(values)))
    return Matrix(class_names=names, matrix=tuple(tuple(map(float, row)) for row in values))


def test_rows_become_shares() -> None:
    heat = heat_of(matrix_of(np.array([[8, 2, 0], [1, 2, 1], [0, 0, 0]])))
    assert [[cell.text for cell in row] for row in heat.cells] == [
        ["80", "20", ""],
        ["25", "50", "25"],
        ["", "", ""],
    ]
    assert [row[0].tone for row in heat.cells] == ["strong", "", ""]
    assert heat.png is None
    assert heat.diagonal == (0.8 + 0.5 + 0) / 3


def test_the_largest_mistakes_come_first() -> None:
    heat = heat_of(matrix_of(np.array([[8, 2, 0], [1, 2, 1], [3, 0, 3]])))
    assert [(pair.row, pair.column, pair.share) for pair in heat.pairs] == [
        ("class 2", "class 0", 0.5),
        ("class 1", "class 0", 0.25),
        ("class 1", "class 2", 0.25),
        ("class 0", "class 1", 0.2),
    ]


def test_many_classes_are_a_picture_with_one_pixel_for_each_cell() -> None:
    num = MAX_TABLE + 1
    values = np.eye(num)
    values[0, 0], values[0, 5] = 3, 1
    heat = heat_of(matrix_of(values))
    assert heat.cells == ()
    assert heat.png is not None
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(heat.png))))[..., 3]
    assert alpha.shape == (num, num)
    assert (alpha[1, 1], alpha[0, 0], alpha[0, 5], alpha[5, 0]) == (255, round(255 * 0.75**0.5), 128, 0)
    assert [(pair.row, pair.column) for pair in heat.pairs] == [("class 0", "class 5")]
