"""Proxy students: small ones that train in place of the run's own, so that labels can be chosen without test data."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flashdd.core.errors import DataError
from flashdd.core.files import sha256_bytes
from flashdd.core.plugins import own_part
from flashdd.core.seeds import derive
from flashdd.core.stages import StageWork
from flashdd.data.dataset import RealDataset, Split
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.offsets import fit_offsets
from flashdd.pipeline.context import Context
from flashdd.pipeline.setup import Setup
from flashdd.report.text import percent_text
from flashdd.students.train import StudentTask, trained_student
from flashdd.training.evaluate import logits_of
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource

_IMAGES = 5000
"""Real training images that validate, and to which class offsets are fitted, at most; or 10 per class, where that is
more."""
_IMAGES_PER_CLASS = 10
_READ_AT_ONCE = 1000
_FOLDS = 5
_DECIMALS = 4
"""Of class offsets, in logits."""


@dataclass(frozen=True, kw_only=True)
class ProxyJob:
    """Proxy students of one candidate: the stage that asks, the candidate's name in it, and what they learn from.

    corrected: whether class offsets are fitted to each.
    """

    stage: str
    label: str
    protocol: Protocol
    source: LabelSource
    corrected: bool = False


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """Accuracy of a proxy student on the images that validate: as it is, and of its logits with the class offsets
    (`fit_offsets`) that real training images ask for, each judged by those that others ask for; None and no offsets
    where it was not corrected."""

    accuracy: float
    corrected: float | None = None
    offsets: tuple[float, ...] = ()

    @property
    def score(self) -> float:
        """What candidates are compared by."""
        return self.accuracy if self.corrected is None else self.corrected

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(held: dict[str, Any]) -> Proxy:
        return Proxy(accuracy=held["accuracy"], corrected=held["corrected"], offsets=tuple(held["offsets"]))


def train_proxy(
    context: Context, data: RealDataset, images: ImageSet, work: StageWork, job: ProxyJob, seed: int
) -> Proxy:
    """The proxy student `seed`, trained for the protocol's whole length.

    It is validated on the images that were held out and on as many training images as `training_rows` says, all but its
    own: labelers have seen these, it has not, and a few hundred held-out images alone tell labelers a point apart by
    chance (docs/LOG.md, 2026-11-30). Equal seeds see the same initialization and order, whatever the candidate: they
    are pairs. Raises DataError where no such image is left.
    """
    student = _trained(context, data, images, work, job, seed)
    held, trained = (_judged(student, split, rows, images) for split, rows in _validators(data))
    classes = torch.cat([held.classes, trained.classes])
    if not len(classes):
        raise DataError(
            f"all real images of {data.name} that could validate are among the distilled ones: give fewer of these."
        )
    proxy = Proxy(accuracy=_share(torch.cat([held.logits, trained.logits]), classes))
    told = f"{percent_text(proxy.accuracy)} % of {len(classes):,} real images"
    if job.corrected:
        offsets = fit_offsets(trained.logits, trained.classes)
        corrected = torch.cat([held.logits + offsets, _corrected(trained)])
        proxy = replace(proxy, corrected=_share(corrected, classes), offsets=tuple(offsets.tolist()))
        told += f", {percent_text(proxy.score)} % corrected by class offsets of its own"
    context.progress.finish(told)
    return proxy


def mean_offsets(proxies: Sequence[Proxy]) -> tuple[float, ...]:
    """The mean of the class offsets that these ask for, in logits."""
    asked = zip(*(proxy.offsets for proxy in proxies), strict=True)
    return tuple(round(statistics.fmean(values), _DECIMALS) for values in asked)


def proxy_key(setup: Setup) -> dict[str, Any]:
    """What a stage of proxies says in its key of how they are trained, beside the labels.

    Another way to validate raises the revisions of all stages of proxies: those of `search`, all three, of `offsets`
    and of `equalbytes`; another way to fit offsets all of these but the last, whose proxies are not corrected.
    """
    return {
        "protocol": setup.protocol.to_json(),
        "proxy": [setup.proxy, own_part("model", setup.proxy)],
        "seed": setup.config.seed,
        "augmentation_seed": setup.config.views.augmentation_seed,
        "precision": setup.config.precision,
    }


def training_rows(num_train: int, num_classes: int) -> np.ndarray:
    """Real training images that proxies are run on beside those that were held out, int64, evenly spaced: they may
    lie class by class."""
    count = min(num_train, max(_IMAGES, _IMAGES_PER_CLASS * num_classes))
    return np.arange(count) * num_train // count


def unvalidated_classes(data: RealDataset, images: ImageSet) -> list[str]:
    """Names of the classes of which all real images that could validate are among the distilled ones."""
    left = torch.zeros(data.num_classes, dtype=torch.int64)
    for split, rows in _validators(data):
        unseen = torch.cat([unseen for _, unseen in _read(split, rows, images)])
        left += split.labels[rows][unseen].bincount(minlength=data.num_classes)
    return [name for name, count in zip(data.class_names, left.tolist(), strict=True) if not count]


def _validators(data: RealDataset) -> tuple[tuple[Split, np.ndarray], ...]:
    """Splits of real images, and the rows that proxies are run on."""
    rows = training_rows(len(data.train.labels), data.num_classes)
    return (data.val, np.arange(len(data.val.labels))), (data.train, rows)


def _read(split: Split, rows: np.ndarray, images: ImageSet) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Real images, and which are not among the distilled ones, as methods that select real ones leave; in parts, for
    images may be large."""
    own = set(_hashes(images.images.numpy()))
    for start in range(0, len(rows), _READ_AT_ONCE):
        pixels = split.images[rows[start : start + _READ_AT_ONCE]]
        yield pixels, torch.tensor([image not in own for image in _hashes(pixels)])


def _hashes(images: np.ndarray) -> list[str]:
    return [sha256_bytes(image.tobytes()) for image in images]


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A student's logits (N, C) of real images, and the classes (N,) of these."""

    logits: Tensor
    classes: Tensor


def _judged(student: nn.Module, split: Split, rows: np.ndarray, images: ImageSet) -> _Judged:
    """Those `rows` of real images that are not among the distilled ones."""
    parts = [(logits_of(student, pixels), unseen) for pixels, unseen in _read(split, rows, images)]
    logits, kept = (torch.cat(part) for part in zip(*parts, strict=True))
    return _Judged(logits=logits[kept], classes=split.labels[rows][kept])


def _corrected(judged: _Judged) -> Tensor:
    """Logits with class offsets, of every fold those that the other folds ask for: of few images per class an image
    would speak for itself. Every fold has its share of each class, in whatever order these lie."""
    order = judged.classes.argsort(stable=True)
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(order)) % _FOLDS
    corrected = judged.logits.double()
    for index in range(_FOLDS):
        others = fold != index
        corrected[~others] += fit_offsets(judged.logits[others], judged.classes[others])
    return corrected


def _share(logits: Tensor, classes: Tensor) -> float:
    return int((logits.argmax(1) == classes).sum()) / len(classes)


def _trained(
    context: Context, data: RealDataset, images: ImageSet, work: StageWork, job: ProxyJob, seed: int
) -> nn.Module:
    setup = context.setup
    task = StudentTask(
        images=images.images,
        source=job.source,
        protocol=job.protocol,
        student=setup.proxy,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        augmentation_seed=setup.config.views.augmentation_seed,
        labels=images.labels,
    )
    context.progress.start(f"{job.stage}: proxy {job.label} seed {seed}", job.protocol.steps)
    checkpoint = work.folder / "checkpoints" / f"{job.label}-seed{seed}.pt"
    student = trained_student(
        task,
        context.engine,
        seed=derive(setup.config.seed, "proxy", seed),
        checkpoint=checkpoint,
        on_step=work.step,
    )
    checkpoint.unlink(missing_ok=True)
    return student
