"""Trains an instance-norm net through the real student path and leaves its losses; run alone or by torchrun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from flashdd.core.seeds import generator
from flashdd.labels.hard import HardSource
from flashdd.models.table import build
from flashdd.training.engine import Engine
from flashdd.training.normalize import Normalized
from flashdd.training.protocols import Setting, resolve_protocol
from flashdd.training.student import fit_student


def main(out: Path) -> None:
    engine = Engine(torch.device("cpu"))
    images = torch.randint(0, 256, (15, 1, 8, 8), dtype=torch.uint8, generator=generator(0, "images"))
    labels = torch.arange(3).repeat_interleave(5)
    # 15 images in batches of 10: the last batch of an epoch has 5 rows, 3 and 2 of them on the two processes
    setting = Setting(
        ipc=5, num_images=15, num_classes=3, flip=True, factor=1, student="convnet", side=8, image_passes=45
    )
    protocol = resolve_protocol("rded", setting)
    net = Normalized(build("convnet-2-w4-in", num_classes=3, shape=(1, 8, 8), seed=0), [0.5], [0.25])
    fitted = fit_student(net, images, HardSource(labels, 3), protocol, engine, seed=0, augmentation_seed=0)
    if engine.rank == 0:
        out.write_text(json.dumps(fitted.losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
