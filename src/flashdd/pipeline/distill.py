"""Stage: the distilled images."""

from __future__ import annotations

from typing import Any

from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet, read_parquet, write_parquet
from flashdd.images.random import random_images
from flashdd.images.rded import RdedSettings, rded_images
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import Network

_REVISION = 1


def images_stage(context: Context, data: RealDataset, teacher: Network, method: str) -> StageResult:
    """`images.parquet` with IPC images per class, made by `method` from the training split."""
    config = context.setup.config
    seed = derive(config.seed, "images")
    settings = RdedSettings(
        ipc=config.images.ipc,
        factor=context.setup.factor,
        candidates=config.images.candidates,
        crops=config.images.crops,
    )

    def make(work: StageWork) -> dict[str, Any]:
        if method == "random":
            images = random_images(data.train, data.class_names, ipc=config.images.ipc, seed=seed)
        else:
            net = teacher.open(1.0).to(context.device)
            images = rded_images(
                data.train, data.class_names, net, settings, seed=seed, progress=context.progress
            )
        num_bytes = write_parquet(images, work.folder / "images.parquet")
        return {"bytes": num_bytes, "content_hash": images.content_hash, "num_images": images.num_images}

    inputs = {"data": data.content_hash, "split": f"{len(data.val.labels)}"}
    parameters: dict[str, Any] = {"method": method, "ipc": config.images.ipc, "seed": seed}
    if method == "rded":
        inputs["teacher"] = teacher.stage.hash
        parameters |= {"factor": settings.factor, "candidates": settings.candidates, "crops": settings.crops}
    return context.local.make(
        f"images-{method}", revision=_REVISION, config=parameters, inputs=inputs, build=make
    )


def open_images(stage: StageResult) -> ImageSet:
    return read_parquet(stage.folder / "images.parquet")
