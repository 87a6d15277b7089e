"""What every stage of a run shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from flashdd.core.progress import Progress
from flashdd.core.stages import Store
from flashdd.pipeline.setup import Setup
from flashdd.training.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Context:
    """shared: stages kept between runs (decoded data, trained networks); local: those of this run."""

    setup: Setup
    out: Path
    shared: Store
    local: Store
    engine: Engine
    progress: Progress

    @property
    def device(self) -> torch.device:
        return self.engine.device
