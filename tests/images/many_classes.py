"""Distills synthetic data of many classes at 64x64 and prints the peak memory before and after, in bytes.

many_classes.py METHOD CLASSES FOLDER
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import torch

from flashdd.core.config import DmSection, RdedSection, Section
from flashdd.core.progress import Silent
from flashdd.data.dataset import Split
from flashdd.images.table import METHODS
from flashdd.images.task import DistillTask
from flashdd.models.table import build
from flashdd.training.engine import Engine

PER_CLASS = 8
SHAPE = (3, 64, 64)
SETTINGS = {
    "rded": RdedSection(candidates=PER_CLASS, crops=1),
    "dm": DmSection(iterations=1, real_batch=PER_CLASS, network="convnet-4-w4-in"),
}


def peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write(path: Path, classes: int) -> None:
    """Class by class, so that writing leaves no trace in the peak."""
    dice = np.random.default_rng(0)
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (classes * PER_CLASS, *SHAPE)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(classes):
            file.write(dice.integers(0, 256, (PER_CLASS, *SHAPE), dtype=np.uint8).tobytes())


def main(method: str, classes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    write(folder / f"{classes}.npy", classes)
    task = DistillTask(
        train=Split(
            images=np.load(folder / f"{classes}.npy", mmap_mode="r"),
            labels=torch.arange(classes).repeat_interleave(PER_CLASS),
        ),
        class_names=tuple(f"class {label}" for label in range(classes)),
        ipc=1,
        teacher=lambda: build("convnet-4-w4", num_classes=classes, shape=SHAPE, seed=0).eval(),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        flip=True,
        seed=0,
        engine=Engine(torch.device("cpu")),
        progress=Silent(),
    )
    before = peak()
    found = METHODS[method].make(task, SETTINGS.get(method, Section()))
    assert found.num_images == classes
    print(before, peak())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
