"""Class-by-class matrices as shaded HTML tables; large ones as a picture and their largest entries."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from flashdd.report.files import Matrix

MAX_TABLE = 20  # classes that a table on a page still shows
_NUM_PAIRS = 20
_SHADE = (11, 110, 90)  # the accent, its opacity carries the value: reads on light and on dark


@dataclass(frozen=True, kw_only=True)
class Cell:
    text: str
    share: float  # of its row, 0..1
    tone: str  # "", "mid" or "strong": how the page keeps the text legible on the shade


@dataclass(frozen=True, kw_only=True)
class Pair:
    row: str
    column: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Heat:
    """`cells` up to MAX_TABLE classes, else `png`; `pairs` are the largest entries beside the diagonal."""

    class_names: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    png: str | None  # base64
    pairs: tuple[Pair, ...]
    diagonal: float  # mean share on the diagonal


def heat_of(matrix: Matrix) -> Heat:
    """Rows are scaled to sum 1 (rows of zeros stay zero), shades and texts are those shares in percent."""
    values = np.asarray(matrix.matrix, dtype=np.float64)
    sums = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, sums, out=np.zeros_like(values), where=sums > 0)
    small = len(matrix.class_names) <= MAX_TABLE
    return Heat(
        class_names=matrix.class_names,
        cells=tuple(tuple(_cell(float(share)) for share in row) for row in shares) if small else (),
        png=None if small else _picture(shares),
        pairs=_largest_pairs(shares, matrix.class_names),
        diagonal=float(np.diag(shares).mean()),
    )


def _cell(share: float) -> Cell:
    text = f"{100 * share:.0f}"
    # where the contrast of the page's inks crosses, on light paper (strong) and on dark (mid)
    tone = "strong" if share > 0.78 else "mid" if share > 0.55 else ""
    return Cell(text="" if text == "0" else text, share=share, tone=tone)


def _picture(shares: np.ndarray) -> str:
    pixels = np.empty((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3] = _SHADE
    # the square root shows small shares, which are what a reader looks for
    pixels[..., 3] = np.round(255 * np.sqrt(shares)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _largest_pairs(shares: np.ndarray, names: tuple[str, ...]) -> tuple[Pair, ...]:
    beside = shares.copy()
    np.fill_diagonal(beside, 0.0)
    order = np.argsort(-beside, axis=None, kind="stable")[:_NUM_PAIRS]
    rows, columns = np.unravel_index(order, beside.shape)
    pairs = [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]
    return tuple(
        Pair(row=names[row], column=names[column], share=float(beside[row, column]))
        for row, column in pairs
        if beside[row, column] > 0
    )
