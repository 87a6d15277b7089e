"""Stage: the distilled images."""

from __future__ import annotations

from typing import Any

from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet, read_parquet, write_parquet
from flashdd.images.table import METHODS, settings_of
from flashdd.images.task import DistillTask
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import Network


def images_stage(context: Context, data: RealDataset, teacher: Network, method: str) -> StageResult:
    """`images.parquet` with IPC images per class, made by `method` from the training split."""
    config, how = context.setup.config, METHODS[method]
    seed = derive(config.seed, "images")
    settings = settings_of(method, config.images)

    def make(work: StageWork) -> dict[str, Any]:
        task = DistillTask(
            train=data.train,
            class_names=data.class_names,
            ipc=config.images.ipc,
            teacher=lambda: teacher.open(1.0).to(context.device),
            mean=data.mean,
            std=data.std,
            flip=context.setup.flip,
            seed=seed,
            engine=context.engine,
            progress=context.progress,
            checkpoint=work.folder / "checkpoints" / "images.pt",
            on_step=work.step,
        )
        images = how.make(task, settings)
        num_bytes = write_parquet(images, work.folder / "images.parquet")
        return {"bytes": num_bytes, "content_hash": images.content_hash, "num_images": images.num_images}

    inputs = {"data": data.content_hash, "split": f"{len(data.val.labels)}"}
    if how.teacher:
        inputs["teacher"] = teacher.stage.hash
    return context.local.make(
        f"images-{method}",
        revision=how.revision,
        config={
            "method": method,
            "ipc": config.images.ipc,
            "seed": seed,
            "flip": context.setup.flip,
            "settings": settings.model_dump(mode="json"),
        },
        inputs=inputs,
        build=make,
    )


def open_images(stage: StageResult) -> ImageSet:
    return read_parquet(stage.folder / "images.parquet")
