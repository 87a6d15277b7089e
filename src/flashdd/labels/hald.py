"""HALD: few soft labels, then hard ones, then the soft ones again (Cui et al., ICML 2026, arXiv 2512.15647).

Hard labels between two stages of soft labels take back the drift that few soft labels per image bring (the paper's
Soft-Hard-Soft schedule; setting S6 of the released code, half of the epochs hard: of 300, 75 soft, 150 hard, 75 soft).
Hard labels are CutMix labels by area, smoothed: (1 - .8) of them and .8 of the uniform label; cross-entropy at
temperature 1, weighted so that both kinds of labels pull a student equally (`TemperatureRule.weights`; ours). They
cost no bytes, so their stage shows new views in every epoch. The soft stages cycle through the stored epochs; these
are kept as logits, so that their temperature stays open (the released code stores softmax at 20).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from flashdd.data.views import ViewBatch
from flashdd.labels.hard import HardSource
from flashdd.labels.payload import Part, Section, float16
from flashdd.labels.placement import Cycled
from flashdd.labels.scheme import Opened, Scheme, TableSize, one_of_range
from flashdd.training.source import LabelSource
from flashdd.training.temperature import TemperatureRule

SMOOTHING = 0.8
_PUBLISHED_PER_IMAGE = 10


@final
@dataclass(frozen=True, kw_only=True)
class Hald(Scheme):
    """per_image: soft labels of each image, published 1 to 100 (10 at IPC 10 of ImageNet-1K); None: 10, or as many as
    there are."""

    kind: ClassVar[str] = "hald"
    training_revision: ClassVar[int] = 1
    forms: ClassVar[tuple[str, ...]] = ("hald", "hald@1", "hald@10", "hald@100")
    per_image: int | None = None

    @classmethod
    def parse(cls, variant: str) -> Self | None:
        if not variant:
            return cls()
        return cls(per_image=int(variant)) if re.fullmatch(r"\d+", variant) else None

    @property
    def variant(self) -> str:
        return "" if self.per_image is None else str(self.per_image)

    def resolve(self, size: TableSize) -> Self:
        default = min(_PUBLISHED_PER_IMAGE, size.epochs)
        per_image = one_of_range(self.per_image, default, "soft labels per image", size.epochs, self.kind)
        return replace(self, per_image=per_image)

    def sections(self, size: TableSize) -> tuple[Section, ...]:
        assert self.per_image is not None, "resolved"
        return (Section(name="logits", rows=self.per_image * size.num_images, columns=size.num_classes),)

    def encode(self, logits: Tensor, *, temperature: float, seed: int) -> tuple[Tensor, ...]:
        return (float16(logits[: self.per_image].flatten(0, 1)),)

    def source(self, opened: Opened) -> LabelSource:
        assert self.per_image is not None, "resolved"
        return HaldSource(
            opened.parts["logits"],
            per_image=self.per_image,
            epochs=opened.size.epochs,
            labels=opened.subject.images.labels,
            num_classes=opened.size.num_classes,
            temperature=opened.temperature,
        )

    def with_amount(self, amount: int) -> Self:
        return replace(self, per_image=amount)

    def largest_amount(self, size: TableSize) -> int:
        return size.epochs


@final
class HaldSource(LabelSource):
    """Views of the first `per_image` epochs have soft labels, all later ones hard labels.

    epochs: of the student's training, which the three stages divide. labels: int64 (N,), the images' classes.
    """

    def __init__(
        self,
        logits: Part,
        *,
        per_image: int,
        epochs: int,
        labels: Tensor,
        num_classes: int,
        temperature: float,
    ) -> None:
        self.num_classes = num_classes
        self.temperature = temperature
        self.fixed_temperature = False
        self.rule = TemperatureRule(plain_from=per_image)
        self.stages = stages(epochs)
        self._logits, self._soft = logits, Cycled(per_image, len(labels))
        self._hard = HardSource(labels, num_classes)

    def logits(self, views: ViewBatch) -> Tensor:
        hard = torch.softmax(self._hard.logits(views), 1)
        labels = torch.log((1 - SMOOTHING) * hard + SMOOTHING / self.num_classes)
        soft = views.epoch < self._soft.epochs
        rows = self._soft.checked_rows(views.epoch[soft], views.image_ids[soft])
        labels[soft] = self._logits.take(rows).to(labels.device)
        return labels

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        first, hard, _ = self.stages
        if first <= epoch < first + hard:
            shown = self._soft.epochs + epoch - first
            return torch.full((num_images,), shown, dtype=torch.int64), torch.arange(num_images)
        return self._soft.schedule(epoch if epoch < first else epoch - hard, num_images)


def stages(epochs: int) -> tuple[int, int, int]:
    """Epochs of soft, hard and soft labels: a quarter, a half and a quarter; what does not divide goes to the end."""
    hard = epochs // 2
    first = (epochs - hard) // 2
    return first, hard, epochs - hard - first
