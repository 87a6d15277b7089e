"""Stage: the real dataset, decoded; and networks that were trained on it, as they lie on disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from flashdd.core.files import canonical_json, sha256_bytes
from flashdd.core.progress import Progress
from flashdd.core.stages import StageResult, StageWork, Store
from flashdd.data.dataset import RealDataset, open_dataset
from flashdd.data.sources import SourceFacts, SourceOptions, prepare
from flashdd.models.table import build
from flashdd.training.normalize import Normalized

_DATA_REVISION = 1


def data_stage(store: Store, options: SourceOptions, facts: SourceFacts, progress: Progress) -> StageResult:
    """The real dataset, decoded; made again when the source's files change."""

    def make(work: StageWork) -> dict[str, Any]:
        progress.message(f"data: decoding {facts.name}")
        folder = work.folder / "data"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        prepare(options, folder)
        return {"content_hash": open_dataset(folder).content_hash}

    config = {
        "source": facts.name,
        "kind": facts.source,
        "fingerprint": [facts.fingerprint, _fingerprint(options.source)],
        "class_names": list(facts.class_names),
        "counts": [list(facts.class_counts), facts.num_test],
        "resolution": options.resolution,
        "classes": options.classes,
        "validation": options.validation,
        "label_column": options.label_column,
    }
    return store.make("data", revision=_DATA_REVISION, config=config, inputs={}, build=make)


def _fingerprint(source: str) -> str:
    """Stands for a folder's files, links followed: names, sizes and times; empty for data that no folder holds."""
    lines = []
    for folder, _, names in os.walk(source, followlinks=True):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                facts = path.stat()
                lines.append(f"{path.relative_to(source)}|{facts.st_size}|{facts.st_mtime_ns}")
    return sha256_bytes(canonical_json(sorted(lines)))


def open_data(stage: StageResult) -> RealDataset:
    return open_dataset(stage.folder / "data")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A trained network: a snapshot at the end of every cycle of its training, validation and test accuracy of each.

    snapshot: counted from 0; -1 is the network at the end.
    """

    name: str
    stage: StageResult
    data: RealDataset

    @property
    def hash(self) -> str:
        return self.stage.hash

    @property
    def num_snapshots(self) -> int:
        return len(self.stage.record)

    def open(self, snapshot: int = -1) -> Normalized:
        """In eval mode: pixels in [0, 1] -> logits."""
        net = build(self.name, num_classes=self.data.num_classes, shape=self.data.shape, seed=0)
        model = Normalized(net, self.data.mean, self.data.std)
        model.load_state_dict(load_file(self.path(snapshot)))
        return model.eval()

    def path(self, snapshot: int = -1) -> Path:
        return self.stage.folder / snapshot_file(snapshot % self.num_snapshots)

    def accuracy(self, split: str, snapshot: int = -1) -> float:
        """`split` is val or test."""
        value: float = self.stage.record[snapshot][split]
        return value


def snapshot_file(snapshot: int) -> str:
    return f"network-{snapshot}.safetensors"
