"""Stage: the distilled images."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flashdd.core.config import RunConfig
from flashdd.core.device import full_float32
from flashdd.core.errors import FlashddError, UsageError
from flashdd.core.files import sha256_bytes
from flashdd.core.plugins import own_part
from flashdd.core.progress import Progress
from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.foreign import Expected, ForeignSet, read_foreign
from flashdd.data.imageset import ImageSet, read_parquet, write_parquet
from flashdd.images.classorder import check_class_order
from flashdd.images.table import METHODS, method_of, settings_of
from flashdd.images.task import DistillTask
from flashdd.labels.table import read_table, write_table
from flashdd.pipeline.context import Context
from flashdd.pipeline.proxies import unvalidated_classes
from flashdd.pipeline.real import Network, teacher_network
from flashdd.pipeline.setup import FOREIGN, foreign_hints
from flashdd.pipeline.start import started

_FOREIGN_REVISION = 6
_SOFT_LABELS = "soft_labels.npy"
_BATCH = 500


def distill(
    config: RunConfig, out: Path | str, *, cache: Path | str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Make the distilled images alone: OUT/images.parquet, a Hugging Face dataset file of PNGs with labels.

    A teacher is trained, or taken from the cache, where the method asks for one. Returns {"path", "method", "ipc",
    "num_images", "bytes", "content_hash", "notes"}. Raises as `flashdd.run`, whose stages it shares: `run` on the same
    folder goes on from these images.
    """
    with started(config, out, cache=cache, progress=progress) as (context, data):
        setup = context.setup
        stage = images_stage(context, data, setup.method)
        path = context.out / "images.parquet"
        write_parquet(open_images(stage), path)
        facts: dict[str, Any] = {"path": str(path), "method": setup.method, "ipc": setup.ipc, "notes": []}
        return {**facts, **stage.record}


def images_stage(context: Context, data: RealDataset, method: str) -> StageResult:
    """`images.parquet`: images made by `method` from the training split, or made elsewhere and read in; where they ask
    for a teacher, it is trained before, or taken from the cache."""
    if method == FOREIGN:
        return _foreign_stage(context, data)
    setup, how = context.setup, method_of(method)
    teacher = teacher_network(context, data) if how.teacher else None
    seed = derive(setup.config.seed, "images")
    settings = settings_of(method, setup.config.images)
    ipc = min(setup.image_counts)

    def make(work: StageWork) -> dict[str, Any]:
        task = DistillTask(
            train=data.train,
            class_names=data.class_names,
            ipc=ipc,
            teacher=lambda: _opened(teacher).to(context.device),
            mean=data.mean,
            std=data.std,
            flip=setup.flip,
            seed=seed,
            engine=context.engine,
            progress=context.progress,
            checkpoint=work.folder / "checkpoints" / "images.pt",
            on_step=work.step,
        )
        images = how.make(task, settings) if method in METHODS else _made_by(method, task, settings)
        return _keep(_checked(images, method, data, ipc), work)

    inputs = {"data": data.content_hash, "split": f"{len(data.val.labels)}"}
    if teacher is not None:
        inputs["teacher"] = teacher.stage.hash
    return context.local.make(
        f"images-{method}",
        revision=how.revision,
        config={
            "method": method,
            "ipc": ipc,
            "seed": seed,
            "flip": setup.flip,
            "settings": settings if isinstance(settings, dict) else settings.model_dump(mode="json"),
            **own_part("image method", method),
        },
        inputs=inputs,
        build=make,
    )


def _foreign_stage(context: Context, data: RealDataset) -> StageResult:
    """The images that somebody else made, read before a teacher is trained, and refused if it finds their classes in
    another order."""
    setup = context.setup
    assert setup.foreign is not None
    expected = Expected(class_names=data.class_names, shape=data.shape, mean=data.mean, std=data.std)
    found = read_foreign(setup.foreign, expected, foreign_hints(setup.config))
    teacher = teacher_network(context, data)
    soft = found.soft_labels

    def make(work: StageWork) -> dict[str, Any]:
        for note in found.notes:
            context.progress.message(f"images: {note}")
        agreement = _agreement(context, data, found, teacher)
        if soft is not None:
            write_table(soft, work.folder / _SOFT_LABELS)
        return {
            **_keep(found.images, work),
            "notes": [*found.notes, *_uneven(found.images), *_unvalidated(data, found.images), *agreement],
        }

    return context.local.make(
        f"images-{FOREIGN}",
        revision=_FOREIGN_REVISION,
        config={
            "content": found.images.content_hash,
            "soft_labels": None if soft is None else sha256_bytes(soft.numpy().tobytes()),
            "notes": list(found.notes),
            "checked": setup.config.images.check_classes,
        },
        inputs={"teacher": teacher.stage.hash},
        build=make,
    )


def _agreement(context: Context, data: RealDataset, found: ForeignSet, teacher: Network) -> list[str]:
    """What the teacher, and soft labels, say of the classes of images made elsewhere; DataError where they object."""
    if not context.setup.config.images.check_classes:
        return ["what their labels mean was not checked (images.check_classes = false)"]
    labels = found.images.labels
    net = teacher.open().to(context.device)
    with torch.no_grad(), full_float32():
        pixels = (
            chunk.to(context.device).float() / 255 for chunk in torch.split(found.images.images, _BATCH)
        )
        logits = torch.cat([net(chunk).cpu() for chunk in pixels])
    said = [check_class_order(logits, labels, data.class_names)]
    if found.soft_labels is not None:
        witness = "their soft labels agree"
        said.append(check_class_order(found.soft_labels, labels, data.class_names, witness=witness))
    return said


def _uneven(images: ImageSet) -> list[str]:
    """A set may have classes of different sizes, and half a copy has, too."""
    counts = images.labels.bincount(minlength=images.num_classes)
    return [] if images.ipc else [f"classes hold {int(counts.min())} to {int(counts.max())} images each"]


def _unvalidated(data: RealDataset, images: ImageSet) -> list[str]:
    names = [f"'{name}'" for name in unvalidated_classes(data, images)]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    said = f"all real images of {shown} that could validate proxies are in the set: labels are chosen without them"
    return [said] if names else []


def learned_labels(stage: StageResult) -> Tensor | None:
    """Soft labels (N, classes) that came with images made elsewhere; None where none did."""
    path = stage.folder / _SOFT_LABELS
    return read_table(path) if path.exists() else None


def _opened(teacher: Network | None) -> nn.Module:
    assert teacher is not None, "a method asks for a teacher only where its table says so"
    return teacher.open()


def _made_by(method: str, task: DistillTask, settings: Any) -> object:
    """What a user's own method returns; UsageError, which says where, if it raises anything else."""
    try:
        return method_of(method).make(task, settings)
    except FlashddError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"image method '{method}' failed in {Path(at.filename).name}, line {at.lineno} "
            f"({type(error).__name__}: {error}): correct it."
        ) from error


def _checked(images: object, method: str, data: RealDataset, ipc: int) -> ImageSet:
    """`images`; UsageError unless they are of this dataset and as many as the method was asked for."""
    if not isinstance(images, ImageSet):
        raise UsageError(f"image method '{method}' returned a {type(images).__name__}: expected an ImageSet.")
    if images.shape != data.shape or images.class_names != data.class_names or images.ipc != ipc:
        raise UsageError(
            f"image method '{method}' returned {images.num_images} images {images.shape} of {images.num_classes} "
            f"classes: expected {ipc} of each of the {data.num_classes} classes, {data.shape}."
        )
    return images


def _keep(images: ImageSet, work: StageWork) -> dict[str, Any]:
    num_bytes = write_parquet(images, work.folder / "images.parquet")
    return {"bytes": num_bytes, "content_hash": images.content_hash, "num_images": images.num_images}


def open_images(stage: StageResult) -> ImageSet:
    return read_parquet(stage.folder / "images.parquet")
