"""What labels of many classes cost in bytes and time, without training anything: random logits, random weights."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flashdd import __version__
from flashdd.core.device import environment
from flashdd.core.errors import FlashddError, UsageError
from flashdd.core.progress import Progress, Silent
from flashdd.core.record import RECORD_FORMAT, Simulation
from flashdd.core.seeds import derive, generator
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewBatch, ViewSpec
from flashdd.labels.catalog import equal_bytes, num_labels, open_labels, parse_scheme
from flashdd.labels.flash.labeler import Labeler, quantize_member
from flashdd.labels.flash.pack import read_labeler, write_labeler
from flashdd.labels.scheme import Scheme, Subject
from flashdd.models.count import Size, reference
from flashdd.models.family import LabelerSpec
from flashdd.models.labelernet import LabelerNet
from flashdd.models.table import build
from flashdd.pipeline.start import source_commit
from flashdd.pipeline.throughput import measure_throughput
from flashdd.training.source import LabelSource

SCHEMES = ("static", "stored", "stored@4bit", "lpld@40x", "lpqld@80x", "hald", "lowrank@r16-int8", "vq@256")
LABELERS = ("strided-4-w8-gap-r5", "strided-4-w64-gap-r64")
"""At 1,000 classes one of 0.03 % of a ResNet-18, and one of 0.6 %; both read views at 56 of 224 pixels."""
_VIEWS = ViewSpec(crop_scale=(0.08, 1.0), flip=True, mix="cutmix")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TEMPERATURE = 20.0
_SIDE = 8  # pixels of the labelled images: nothing about stored labels depends on them
_LABELER_BATCH = 32  # a ResNet-18 at 224 pixels holds some 30 MB per image
_CHUNK = 1000  # rows of random logits drawn at a time
_READING_SECONDS = 0.5
_REPEATS = 3
Shape = tuple[int, int, int]


def simulate(
    *,
    num_classes: int = 1000,
    ipc: int = 10,
    epochs: int = 300,
    measured_epochs: int = 2,
    side: int = 224,
    batch: int = 100,
    seed: int = 0,
    schemes: tuple[str, ...] = SCHEMES,
    labelers: tuple[str, ...] = LABELERS,
    progress: Progress | None = None,
) -> Simulation:
    """Bytes and times of `schemes` for a student of `epochs` epochs, and of `labelers` beside a ResNet-18 (CPU).

    Every scheme writes random logits of `measured_epochs` epochs; what lies on disk must be what its formula says, and
    the same formula gives the bytes of all `epochs` (`hald`: of 10 soft labels per image, or as many as there are).
    side: pixels of what the labelers and the ResNet-18 see; above 64 it has the ImageNet stem. Nothing is trained and
    no accuracy is claimed. Raises UsageError for numbers below 1 and for schemes and networks that cannot be had,
    FlashddError where a file has other bytes than its formula.
    """
    _check_positive(
        num_classes=num_classes,
        ipc=ipc,
        epochs=epochs,
        measured_epochs=measured_epochs,
        side=side,
        batch=batch,
    )
    progress, started = progress or Silent(), time.perf_counter()
    shape, batch = (3, side, side), min(batch, num_classes * ipc)
    subject = Subject(images=_images(num_classes, ipc), views=_VIEWS, augmentation_seed=seed)
    logits = _random_logits(measured_epochs, subject, seed)
    rows = []
    for name in schemes:
        progress.message(f"labels: {name}")
        rows.append(_stored(parse_scheme(name), subject, logits, epochs=epochs, batch=batch))
    del logits
    made = [
        row | {"stored_within": _stored_within(row["bytes"], subject, epochs)}
        for row in (_labeler(name, num_classes, shape, seed, progress) for name in labelers)
    ]
    yardstick = reference(num_classes, shape)
    return Simulation.model_validate(
        {
            "flashdd": __version__,
            "format": RECORD_FORMAT,
            "environment": environment(torch.device("cpu"), commit=source_commit()),
            "simulated": {
                "num_classes": num_classes,
                "ipc": ipc,
                "num_images": num_classes * ipc,
                "epochs": epochs,
                "measured_epochs": measured_epochs,
                "shape": shape,
                "batch": batch,
                "seed": seed,
            },
            "reference": _size(yardstick),
            "schemes": rows,
            "labelers": made,
            "seconds": time.perf_counter() - started,
            "notes": ["Random logits and random weights: bytes and times, no accuracy."],
        }
    )


def _check_positive(**numbers: int) -> None:
    """UsageError for the first number below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise UsageError(f"{name} is {number}: expected 1 or more.")


def _images(num_classes: int, ipc: int) -> ImageSet:
    labels = torch.arange(num_classes).repeat_interleave(ipc)
    pixels = torch.zeros(len(labels), 3, _SIDE, _SIDE, dtype=torch.uint8)
    return ImageSet(images=pixels, labels=labels, class_names=tuple(f"class {i}" for i in range(num_classes)))


def _random_logits(epochs: int, subject: Subject, seed: int) -> Tensor:
    """float32 (epochs, N, classes), standard deviation 3."""
    stream = generator(seed, "simulated logits")
    table = torch.empty(epochs * subject.images.num_images, subject.images.num_classes)
    for chunk in torch.split(table, _CHUNK):
        chunk.normal_(std=3.0, generator=stream)
    return table.view(epochs, subject.images.num_images, subject.images.num_classes)


def _stored(scheme: Scheme, subject: Subject, logits: Tensor, *, epochs: int, batch: int) -> dict[str, Any]:
    """Write, open and read labels; the row of the record."""
    table, full = (logits, epochs) if scheme.of_views else (logits[:1], 1)
    with tempfile.TemporaryDirectory(prefix="flashdd-") as scratch:
        folder = Path(scratch, "labels")
        started = time.perf_counter()
        written = scheme.write(folder, table, subject, temperature=_TEMPERATURE)
        wrote = time.perf_counter()
        expected = scheme.bytes_of(subject, epochs=len(table), temperature=_TEMPERATURE)
        if written != expected:
            raise FlashddError(
                f"labels {scheme.name}: {written} bytes on disk, {expected} by their formula: this is a fault of "
                "flashdd, please report it."
            )
        source = open_labels(folder, subject)
        opened = time.perf_counter()
        seconds = _seconds_per_batch(source, subject, batch)
    return {
        "scheme": scheme.name,
        "bytes": scheme.bytes_of(subject, epochs=full, temperature=_TEMPERATURE),
        "measured_bytes": written,
        "write_seconds": wrote - started,
        "open_seconds": opened - wrote,
        "read_batch_seconds": seconds,
        "labels_per_second": batch / seconds,
    }


def _stored_within(budget: int, subject: Subject, epochs: int) -> list[dict[str, Any]]:
    """How many labels each scheme of stored labels keeps within so many bytes, those that keep none left out."""
    fitted = equal_bytes(budget, subject, epochs=epochs, temperature=_TEMPERATURE)
    return [
        {"scheme": scheme.name, "labels": num_labels(scheme, subject.images.num_images)} for scheme in fitted
    ]


def _seconds_per_batch(source: LabelSource, subject: Subject, batch: int) -> float:
    """Median over `_REPEATS` readings of the views of a student's first epoch, in an order of its own."""
    num_images = subject.images.num_images
    epochs, ids = source.schedule(0, num_images)
    order = torch.randperm(num_images, generator=generator(subject.augmentation_seed, "reading"))
    batches = [
        ViewBatch(
            pixels=torch.empty(len(rows), 3, 1, 1),  # stored labels look at their device alone
            epoch=epochs[rows],
            image_ids=ids[rows],
            partner_ids=ids[rows].flip(0),
            mix=torch.full((len(rows),), 0.25),
        )
        for rows in torch.split(order, batch)
        if len(rows) == batch
    ]
    source.logits(batches[0])
    return statistics.median(_reading(source, batches) for _ in range(_REPEATS))


def _reading(source: LabelSource, batches: list[ViewBatch]) -> float:
    """Seconds per batch, over `_READING_SECONDS` or more."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < _READING_SECONDS:
        source.logits(batches[done % len(batches)])
        done += 1
    return (time.perf_counter() - started) / done


def _labeler(name: str, num_classes: int, shape: Shape, seed: int, progress: Progress) -> dict[str, Any]:
    """Pack a labeler of random weights, and time it beside a ResNet-18; the row of the record."""
    spec = LabelerSpec.parse(name)
    net = build(name, num_classes=num_classes, shape=shape, seed=derive(seed, "simulated labeler"))
    assert isinstance(net, LabelerNet), name
    member = quantize_member(net.eval(), spec, shape, num_classes)
    labeler = Labeler(
        [member], shape=shape, num_classes=num_classes, mean=_MEAN, std=_STD, temperature=_TEMPERATURE
    )
    with tempfile.TemporaryDirectory(prefix="flashdd-") as scratch:
        path = Path(scratch, "labeler.safetensors")
        num_bytes = write_labeler(labeler, path)
        packed = read_labeler(path)
    speed = measure_throughput(packed, torch.device("cpu"), _LABELER_BATCH, progress)
    yardstick = reference(num_classes, shape)
    return {
        "name": name,
        "params": packed.params,
        "bits": packed.bits,
        "bytes": num_bytes,
        "bytes_ratio": num_bytes / yardstick.bytes,
        "macs": packed.macs,
        "macs_ratio": yardstick.macs / packed.macs,
        "batch": _LABELER_BATCH,
        "labels_per_second": speed["labeler_labels_per_second"],
        "reference_labels_per_second": speed["teacher_labels_per_second"],
        "ratio": speed["ratio"],
    }


def _size(size: Size) -> dict[str, int]:
    return {"params": size.params, "bytes": size.bytes, "macs": size.macs}
