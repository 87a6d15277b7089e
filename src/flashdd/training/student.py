"""Training of a student: images, an opened label source, a protocol, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flashdd.core.errors import UsageError
from flashdd.core.seeds import derive
from flashdd.data.views import ViewMaker
from flashdd.training.engine import Engine
from flashdd.training.loop import Fitted, Training, fit
from flashdd.training.losses import loss_value, mixed_classes, soft_targets
from flashdd.training.optim import build_optimizer, rate_of
from flashdd.training.order import BatchOrder
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource
from flashdd.training.temperature import calibrate


def fit_student(
    model: nn.Module,
    images: np.ndarray | Tensor,
    source: LabelSource,
    protocol: Protocol,
    engine: Engine,
    *,
    seed: int,
    augmentation_seed: int,
    labels: Tensor | None = None,
    visits: Sequence[int] = (),
    visit: Callable[[int, nn.Module], Any] = lambda step, model: None,
    checkpoint: Path | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> Fitted:
    """Train `model` (pixels in [0, 1] -> logits) on uint8 `images` (N, C, H, W) with the labels of `source`.

    `seed` drives the order of the views, `augmentation_seed` the views themselves. `labels`: int64 (N,), the classes
    of the images, for losses that look at them beside the source's labels. The temperature is the protocol's where it
    states one and the source allows it, else the source's; the source's rule may move it. UsageError
    where the loss lacks classes or finite logits.
    """
    if protocol.loss.needs_classes and labels is None:
        raise UsageError(
            f"loss '{protocol.loss.name}' looks at the images' classes: give fit_student `labels`."
        )
    views = ViewMaker(images, protocol.views, seed=augmentation_seed, device=engine.device)
    training = Training(
        steps=protocol.steps,
        loss=_loss_of_step(views, source, protocol, engine, seed, labels),
        optimizer=_optimizer(model, protocol),
        lr=rate_of(protocol.rate, protocol.lr, protocol.steps, steps_per_epoch=protocol.rate_steps),
        ema=protocol.ema,
        visits=visits,
        visit=visit,
    )
    return fit(model, training, engine, checkpoint=checkpoint, on_step=on_step)


def _loss_of_step(
    views: ViewMaker,
    source: LabelSource,
    protocol: Protocol,
    engine: Engine,
    seed: int,
    labels: Tensor | None,
) -> Callable[[nn.Module, int], tuple[Tensor, int, int]]:
    """A step's loss on its batch of views, as `Training.loss` wants it."""
    temperature = effective_temperature(source, protocol)
    num_images = views.num_images
    order = BatchOrder(
        lambda epoch: source.schedule(epoch, num_images),
        batch_size=protocol.batch_size,
        seed=derive(seed, "student"),
        span=protocol.span,
        num_pairs=len(source.schedule(0, num_images)[1]),
    )

    def loss(net: nn.Module, step: int) -> tuple[Tensor, int, int]:
        epochs, ids = order.pairs(step)
        own = views.make(engine.share(epochs), engine.share(ids))
        labels_at = source.rule.of_labels(temperature, step, protocol.steps, own.epoch)
        weights = source.rule.weights(temperature, own.epoch)
        with torch.no_grad():
            logits = source.logits(own)
            classes = None
            if labels is not None and protocol.loss.needs_classes:
                classes = mixed_classes(labels, own, source.num_classes)
        value = torch.zeros((), device=own.pixels.device)
        for rows in parts(len(logits), protocol.accumulation):
            at = labels_at[rows] if isinstance(labels_at, Tensor) else labels_at
            seen = None if classes is None else classes[rows]
            counts = None if weights is None else weights[rows]
            part = _part_loss(source, protocol, engine, net(own.pixels[rows]), logits[rows], at, seen, counts)
            value = value + part * (len(logits[rows]) / len(logits))
        return value, len(ids), len(logits)

    return loss


def _part_loss(
    source: LabelSource,
    protocol: Protocol,
    engine: Engine,
    output: Tensor,
    logits: Tensor,
    at: float | Tensor,
    classes: Tensor | None,
    weights: Tensor | None,
) -> Tensor:
    """The loss of some rows of a batch; at: the labels' temperature, the student's too unless it is calibrated."""
    student_at = calibrate(output, soft_targets(logits, at), engine.sum) if source.rule.calibrated else at
    counts = None if weights is None else weights.to(output.device)
    return loss_value(
        protocol.loss, output, logits, at, classes, student_temperature=student_at, weights=counts
    )


def _optimizer(model: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    spec = protocol.optimizer
    return build_optimizer(
        model,
        spec.name,
        lr=protocol.lr,
        weight_decay=protocol.weight_decay,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        decays=spec.decays,
    )


def parts(num_rows: int, count: int) -> list[slice]:
    """`num_rows` rows in `count` runs of equal length, give or take one; fewer where a run would be a single row,
    on which batch norm fails."""
    count = max(1, min(count, num_rows // 2))
    bounds = [num_rows * index // count for index in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def effective_temperature(source: LabelSource, protocol: Protocol) -> float:
    """The temperature of the loss when `source` labels under `protocol`."""
    if protocol.temperature is None or source.fixed_temperature:
        return source.temperature
    return protocol.temperature
