"""What a search compares: labels of a network of some size, trained in some way, softened so much."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from flashdd.core.stats import standard_error


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A capacity: `num_members` networks `name` with weights of `bits` that label together.

    bytes: at most so many on disk as shipped; params, macs: of all members, macs per image.
    """

    name: str
    params: int
    bytes: int
    macs: int
    bits: int = 8
    num_members: int = 1


@dataclass(frozen=True, kw_only=True)
class Course:
    """How networks are trained. length: factor on their epochs, with a schedule of its own; shift: share of the side by
    which the real images they see are moved at most (`ClassifierRecipe.shift`)."""

    length: float
    shift: float


@dataclass(frozen=True, kw_only=True)
class Setting:
    """length, shift: of the course; temperature and logit_scale: of labels; offsets: one per class, added to their
    logits after the scale, or none."""

    length: float
    shift: float
    temperature: float
    logit_scale: float
    offsets: tuple[float, ...] = ()

    @property
    def course(self) -> Course:
        return Course(length=self.length, shift=self.shift)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    rung: Rung
    setting: Setting

    def __str__(self) -> str:
        """Such as `conv-3-w8-b8-m1@1-s3.125-t4-x1`, the shift in percent, `-offsets` behind it where there are any: no
        two of a search are alike."""
        rung, setting = self.rung, self.setting
        dials = (
            f"{setting.length:g}-s{100 * setting.shift:g}-t{setting.temperature:g}-x{setting.logit_scale:g}"
        )
        offsets = "-offsets" if setting.offsets else ""
        return f"{rung.name}-b{rung.bits}-m{rung.num_members}@{dials}{offsets}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """values: accuracy of the proxy students of seeds 0, 1, 2, ..."""

    candidate: Candidate
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def stderr(self) -> float:
        return standard_error(self.values)
