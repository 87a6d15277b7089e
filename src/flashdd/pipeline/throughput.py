"""Labels per second: the labeler against the reference teacher, side by side in one process."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn

from flashdd.core.progress import Progress
from flashdd.labels.flash.labeler import Labeler
from flashdd.models.table import build
from flashdd.pipeline.context import Context
from flashdd.training.normalize import Normalized

_BATCH = 256
_SECONDS = 1.5
_REPEATS = 3


def throughput_stage(context: Context, labeler: Labeler, sha256: str) -> dict[str, Any]:
    """The run's row of `throughput`, measured once for the labeler of that hash: a finished run keeps its figures."""
    stage = context.local.make(
        "throughput",
        revision=1,
        config={"batch": _BATCH},
        inputs={"labeler": sha256},
        build=lambda work: measure_throughput(labeler, context.device, _BATCH, context.progress),
    )
    return dict(stage.record)


def measure_throughput(
    labeler: Labeler, device: torch.device, batch: int, progress: Progress
) -> dict[str, Any]:
    """A row of the record's `throughput`: medians of `_REPEATS` timings of each, taken in turn.

    The reference is a ResNet-18 for such images in eval mode, channels-last, float32, without gradients: its
    weights do not change its speed, so it need not be trained.
    """
    progress.message("throughput: labeler against ResNet-18")
    net = build("resnet18", num_classes=labeler.num_classes, shape=labeler.shape, seed=0)
    mean, std = labeler.statistics
    reference = Normalized(net, mean, std).to(device).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    labeler = labeler.to(device)
    pixels = torch.rand(batch, *labeler.shape, generator=torch.Generator().manual_seed(0)).to(device)
    teacher_rates, labeler_rates = [], []
    for _ in range(_REPEATS):
        teacher_rates.append(_rate(reference, pixels))
        labeler_rates.append(_rate(labeler, pixels))
    teacher_rate, labeler_rate = statistics.median(teacher_rates), statistics.median(labeler_rates)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "batch": batch,
        "dtype": "float32",
        "teacher": "resnet18",
        "teacher_labels_per_second": teacher_rate,
        "labeler_labels_per_second": labeler_rate,
        "ratio": statistics.median(a / b for a, b in zip(labeler_rates, teacher_rates, strict=True)),
        "repeats": _REPEATS,
    }


@torch.inference_mode()
def _rate(model: nn.Module, pixels: torch.Tensor) -> float:
    model(pixels)
    _finish(pixels)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        model(pixels)
        _finish(pixels)
        done += len(pixels)
    return done / (time.perf_counter() - started)


def _finish(pixels: torch.Tensor) -> None:
    if pixels.device.type == "cuda":
        torch.cuda.synchronize(pixels.device)
