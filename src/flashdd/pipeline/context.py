"""What every stage of a run shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flashdd.core.device import environment
from flashdd.core.files import read_json
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

    def environment(self, file: str, *, commit: str | None) -> dict[str, Any]:
        """Of this process, for OUT/`file`; where it found every stage made, that of the one which wrote the file."""
        path = self.out / file
        if not (self.shared.built or self.local.built) and path.exists():
            kept: dict[str, Any] = read_json(path)["environment"]
            return kept
        return environment(self.device, commit=commit)
