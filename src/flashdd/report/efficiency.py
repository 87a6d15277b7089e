"""How well a family of label schemes uses its bytes: one number, the area under accuracy against log2(bytes)."""

from __future__ import annotations

import math
from collections.abc import Sequence

LOW, HIGH = 2_000, 1_000_000
"""Bytes, 2 KB to 1 MB: the range of sizes over which a design is judged."""


def area(points: Sequence[tuple[int, float]], floor: float, *, low: float = LOW, high: float = HIGH) -> float:
    """Mean over log2(bytes) in `low` .. `high` of the best accuracy within so many bytes, in 0..1.

    points: (label bytes, accuracy) of one family, in any order. floor: accuracy of hard labels, which cost no bytes and
    so are within any. With f(b) = max(floor, accuracies of the points of at most b bytes), a step function, this is
    (integral of f(b) d log2 b from low to high) / log2(high / low). Points above `high` count for nothing.
    ValueError unless 0 < low < high.
    """
    if not 0 < low < high:
        raise ValueError(f"a range from {low} to {high} bytes has no area: expected 0 < low < high.")
    level, start, total = floor, low, 0.0
    for size, accuracy in sorted(points):
        if size >= high:
            break
        if accuracy > level:
            total += level * math.log2(max(size, low) / start)
            level, start = accuracy, max(size, low)
    total += level * math.log2(high / start)
    return total / math.log2(high / low)
