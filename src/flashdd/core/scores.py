"""What stands in comparison.json beside its rows: DD-Ranking's scores, and how far two label schemes rank alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from flashdd.core.facts import Amount, Facts, Positive

Correlation = Annotated[float, Field(ge=-1, le=1)]

PLAIN = "@plain"
"""Ends the name of a protocol whose students see the images as they are."""


class Spread(Facts):
    """A figure over seeds, of either sign; `std` has ddof 1 and is None at n = 1."""

    noun: ClassVar[str] = "a score"
    mean: float
    std: Amount | None
    n: Positive
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """From one figure per seed. Raises ValueError where there is none."""
        if not values:
            raise ValueError(f"{cls.noun} of no values: give one per seed.")
        exact = tuple(float(value) for value in values)
        std = statistics.stdev(exact) if len(exact) > 1 else None
        return cls(mean=statistics.fmean(exact), std=std, n=len(exact), values=exact)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.n != len(self.values):
            raise ValueError(f"n is {self.n}, but {len(self.values)} values are given")
        if (self.std is None) != (self.n == 1):
            raise ValueError("std must be null at n = 1, and only there")
        if abs(self.mean - statistics.fmean(self.values)) > 1e-6:
            raise ValueError(
                f"mean is {self.mean}, but that of the values is {statistics.fmean(self.values)}"
            )
        return self


class Score(Facts):
    """DD-Ranking's scores of one row; None where a row that they need is not in the comparison."""

    scheme: str
    images: str
    ipc: Positive | None
    student: str
    protocol: str
    hlr: Spread | None  # -1..1, small is good
    ior: Spread | None  # -1..1
    lrs: Spread | None  # 0..1
    ars: Spread | None  # 0..1


class Ranking(Facts):
    """Kendall's tau-b between the image sets' mean accuracies under two label schemes."""

    schemes: tuple[str, str]
    ipc: Positive | None
    student: str
    protocol: str
    images: tuple[str, ...]
    num_sets: Positive
    tau: Correlation | None  # None where one of the schemes gives every set the same accuracy
    low: Correlation | None  # 95 % interval over resampled seeds; None at n = 1
    high: Correlation | None
    n: Positive  # seeds

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.num_sets != len(self.images):
            raise ValueError(f"num_sets is {self.num_sets}, but {len(self.images)} images are named")
        return self
