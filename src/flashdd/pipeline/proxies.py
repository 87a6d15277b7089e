"""Proxy students: small ones that train in place of the run's own, so that labels can be chosen without test data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from flashdd.core.seeds import derive
from flashdd.core.stages import StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.offsets import fit_offsets
from flashdd.pipeline.context import Context
from flashdd.report.text import percent_text
from flashdd.students.train import StudentTask, trained_student
from flashdd.training.evaluate import evaluate, logits_of
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource

_FIT_IMAGES, _FIT_IMAGES_PER_CLASS = (
    5000,
    10,
)  # real training images to which offsets are fitted: the more of these two


@dataclass(frozen=True, kw_only=True)
class ProxyJob:
    """Proxy students of one candidate: the stage that asks, the candidate's name in it, and what they learn from."""

    stage: str
    label: str
    protocol: Protocol
    source: LabelSource


def train_proxy(
    context: Context, data: RealDataset, images: ImageSet, work: StageWork, job: ProxyJob, seed: int
) -> float:
    """Validation accuracy of the proxy student `seed`, trained for the protocol's whole length.

    Equal seeds see the same initialization and order, whatever the candidate: they are pairs.
    """
    accuracy = evaluate(
        _trained(context, data, images, work, job, seed), data.val.images, data.val.labels
    ).accuracy
    context.progress.finish(f"{percent_text(accuracy)} % of the validation images")
    return accuracy


def fit_proxy_offsets(
    context: Context, data: RealDataset, images: ImageSet, work: StageWork, job: ProxyJob, seed: int
) -> list[float]:
    """The class offsets that fit the proxy student `seed`, one per class, by real training images."""
    student, train = _trained(context, data, images, work, job, seed), data.train
    most = max(_FIT_IMAGES, _FIT_IMAGES_PER_CLASS * data.num_classes)
    # evenly spaced, for they may lie class by class
    rows = np.arange(0, len(train.labels), -(-len(train.labels) // most))
    offsets: list[float] = fit_offsets(logits_of(student, train.images[rows]), train.labels[rows]).tolist()
    context.progress.finish(f"class offsets of {min(offsets):.2f} to {max(offsets):.2f}")
    return offsets


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
        evaluate_on=(data.val.images, data.val.labels),
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
