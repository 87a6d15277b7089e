"""What every scheme of stored labels is: settings that can be written, sized, and fitted to a budget.

A scheme turns the float32 logits of a teacher, (epochs, N, classes) from `labels.table.make_logits`, into a folder
(`labels.payload`), and the folder into a label source. Views replay from the augmentation seed, so no coordinates are
stored; what stands in the folder is all that is needed besides the images.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor

from flashdd.core.errors import UsageError
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewBatch, ViewSpec
from flashdd.labels.payload import SCHEMA, Part, Section, manifest_bytes, write_folder
from flashdd.labels.placement import Cycled, Placement
from flashdd.training.source import LabelSource
from flashdd.training.temperature import TemperatureRule


@dataclass(frozen=True, kw_only=True)
class TableSize:
    """How many labels a teacher gave."""

    epochs: int
    num_images: int
    num_classes: int

    @property
    def labels(self) -> int:
        return self.epochs * self.num_images


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What labels are about: images, and the views of them that students see.

    Raises UsageError for views that depend on their batch: no label can be stored for them.
    """

    images: ImageSet
    views: ViewSpec
    augmentation_seed: int

    def __post_init__(self) -> None:
        if not self.views.replayable:
            raise UsageError(
                f"views with mix '{self.views.mix}' depend on their batch, so no labels can be stored for them: use "
                "views.mix 'cutmix', or labels that are made at every step."
            )

    @cached_property
    def content_hash(self) -> str:
        return self.images.content_hash

    def size(self, epochs: int) -> TableSize:
        return TableSize(
            epochs=epochs, num_images=self.images.num_images, num_classes=self.images.num_classes
        )


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A folder of labels that was checked: its sections by name, and what its manifest says."""

    parts: Mapping[str, Part]
    size: TableSize
    subject: Subject
    temperature: float


@dataclass(frozen=True, kw_only=True)
class Scheme(ABC):
    """Settings of one scheme. What is None in them follows from the table: `resolve` fills it in."""

    kind: ClassVar[str]
    """bare name"""
    forms: ClassVar[tuple[str, ...]]
    """spellings, as an error message shows them"""
    of_views: ClassVar[bool] = True
    """whether the labels are those of views, not of the images themselves"""
    training_revision: ClassVar[int] = 0
    """raised when the same bytes train students otherwise; part of a student's key"""

    @classmethod
    @abstractmethod
    def parse(cls, variant: str) -> Self | None:
        """The scheme whose name has `variant` after `@`, or nothing; None for what means nothing to it."""

    @property
    @abstractmethod
    def variant(self) -> str:
        """What stands after `@`; empty where nothing does."""

    @abstractmethod
    def resolve(self, size: TableSize) -> Self:
        """These settings for a table, none of them open; UsageError where they do not suit it."""

    @abstractmethod
    def sections(self, size: TableSize) -> tuple[Section, ...]:
        """The payload of resolved settings, float16 first."""

    @abstractmethod
    def encode(self, logits: Tensor, *, temperature: float, seed: int) -> tuple[Tensor, ...]:
        """The sections' numbers, from finite float32 `logits` (epochs, N, classes); settings are resolved."""

    @abstractmethod
    def source(self, opened: Opened) -> LabelSource:
        """The labels of an opened folder; ArtifactError where its numbers do not make sense together."""

    @abstractmethod
    def with_amount(self, amount: int) -> Self:
        """These resolved settings with so many epochs, or labels."""

    @abstractmethod
    def largest_amount(self, size: TableSize) -> int:
        """The most epochs, or labels, that a table gives."""

    @property
    def keeps_logits(self) -> bool:
        """Whether the labels are the teacher's own logits, so that a loss may compare logits with them."""
        return False

    @final
    @property
    def name(self) -> str:
        """As tables and `parse_scheme` spell it."""
        return f"{self.kind}@{self.variant}" if self.variant else self.kind

    @final
    def write(
        self, folder: Path, logits: Tensor, subject: Subject, *, temperature: float, epochs: int | None = None
    ) -> int:
        """Write the labels; returns bytes on disk, payload and manifest.

        logits: float32 (epochs, N, classes), made in canonical chunks; row of an image is its id. temperature: of the
        labels, kept in the manifest. epochs: of the whole table, where `logits` has its first `leading_epochs` alone.
        UsageError for logits of another shape, or that float16 cannot hold, and where the settings do not suit the
        table.
        """
        if not (math.isfinite(temperature) and temperature > 0):
            raise UsageError(f"labels cannot have the temperature {temperature}: expected a number above 0.")
        shape = (len(logits), subject.images.num_images, subject.images.num_classes)
        if tuple(logits.shape) != shape or (not self.of_views and len(logits) != 1):
            expected = "(epochs, " if self.of_views else "(1, "
            raise UsageError(
                f"logits of shape {tuple(logits.shape)} are not those of the images: expected {expected}"
                f"{subject.images.num_images}, {subject.images.num_classes}), one row for every image."
            )
        float_logits = logits.float().cpu()
        if not bool(torch.isfinite(float_logits).all()):
            raise UsageError("logits that are not finite cannot be stored: look for NaN in the teacher.")
        size = subject.size(len(logits) if epochs is None else epochs)
        scheme = self.resolve(size)
        if not scheme.leading_epochs(size) <= len(logits) <= size.epochs:
            raise UsageError(
                f"labels {scheme.name} of a table of {size.epochs} epochs need the first "
                f"{scheme.leading_epochs(size)} of them or more; logits have {len(logits)}."
            )
        tensors = scheme.encode(float_logits, temperature=temperature, seed=subject.augmentation_seed)
        facts = scheme._facts(subject, size, temperature)
        return write_folder(folder, facts, scheme.sections(size), tensors)

    @final
    def leading_epochs(self, size: TableSize) -> int:
        """So many epochs of a table hold every label that the scheme keeps."""
        if not self.of_views:
            return 1
        settings = self.resolve(size).settings()
        if "labels" in settings:
            return -(-int(settings["labels"]) // size.num_images)
        return int(settings["per_image" if "per_image" in settings else "epochs"])

    @final
    def of_first(self, most_epochs: int | None, size: TableSize) -> Self:
        """These resolved settings with as many labels as the first `most_epochs` of a table hold; None: of all."""
        if most_epochs is None or self.leading_epochs(size) <= most_epochs:
            return self
        return self.with_amount(most_epochs * (size.num_images if "labels" in self.settings() else 1))

    @final
    def bytes_of(self, subject: Subject, *, epochs: int, temperature: float) -> int:
        """Bytes that `write` would leave on disk for a table of `epochs` epochs; touches no disk."""
        size = subject.size(epochs)
        scheme = self.resolve(size)
        payload = sum(section.num_bytes for section in scheme.sections(size))
        return payload + manifest_bytes(scheme._facts(subject, size, temperature))

    @final
    def within(self, budget: int, subject: Subject, *, epochs: int, temperature: float) -> Self | None:
        """This scheme with as many epochs or labels, out of a table of `epochs` epochs, as `budget` bytes hold.

        None where not even one fits. Everything else about the scheme stays.
        """
        size = subject.size(epochs)
        scheme = self.resolve(size)

        def size_of(amount: int) -> int:
            return scheme.with_amount(amount).bytes_of(subject, epochs=epochs, temperature=temperature)

        fits = bisect_right(range(1, self.largest_amount(size) + 1), budget, key=size_of)
        return scheme.with_amount(fits) if fits else None

    @final
    def settings(self) -> dict[str, Any]:
        """Resolved settings as the manifest has them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @final
    def _facts(self, subject: Subject, size: TableSize, temperature: float) -> dict[str, Any]:
        return {
            "augmentation_seed": subject.augmentation_seed,
            "content_hash": subject.content_hash,
            "epochs": size.epochs,
            "num_classes": size.num_classes,
            "num_images": size.num_images,
            "schema": SCHEMA,
            "scheme": self.kind,
            "settings": self.settings(),
            "temperature": float(temperature),
            "views": subject.views.to_json(),
        }


@final
class RowSource(LabelSource):
    """Labels looked up by view: `placement` finds the row, `decode` gives its float32 logits (M, classes)."""

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor],
        placement: Placement,
        *,
        num_classes: int,
        temperature: float,
        rule: TemperatureRule | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.temperature = temperature
        self.fixed_temperature = False
        self.rule = rule or TemperatureRule()
        self._decode, self._placement = decode, placement

    def logits(self, views: ViewBatch) -> Tensor:
        rows = self._placement.checked_rows(views.epoch, views.image_ids)
        return self._decode(rows).to(views.pixels.device)

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        return self._placement.schedule(epoch, num_images)


@dataclass(frozen=True, kw_only=True)
class EpochScheme(Scheme):
    """Labels of every image in each of so many epochs, which students cycle through.

    epochs: of views that have labels, from the first on; None: all of the table.
    """

    epochs: int | None = None

    @final
    def with_amount(self, amount: int) -> Self:
        return dataclasses.replace(self, epochs=amount)

    @final
    def largest_amount(self, size: TableSize) -> int:
        return size.epochs

    @final
    def cycled(self, opened: Opened, decode: Callable[[Tensor], Tensor]) -> LabelSource:
        """The source of resolved settings whose rows `decode` gives as float32 logits (M, classes)."""
        assert self.epochs is not None, "resolved"
        return RowSource(
            decode,
            Cycled(self.epochs, opened.size.num_images),
            num_classes=opened.size.num_classes,
            temperature=opened.temperature,
        )


def one_of_range(value: int | None, default: int, what: str, high: int, kind: str) -> int:
    """`value`, or `default` where it is None; UsageError outside 1..high."""
    amount = default if value is None else value
    if not 1 <= amount <= high:
        raise UsageError(f"label scheme '{kind}': {amount} {what}: the teacher's table gives 1 to {high}.")
    return amount
