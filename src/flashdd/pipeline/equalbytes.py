"""Stage: stored labels at equal bytes, the scheme of those that fit whose proxy students are best."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from torch import Tensor

from flashdd.core.stages import StageWork
from flashdd.core.stats import standard_error
from flashdd.data.dataset import RealDataset
from flashdd.labels.catalog import STORED_REVISION, equal_bytes, open_labels, shortlist
from flashdd.labels.scheme import Scheme, Subject
from flashdd.pipeline.context import Context
from flashdd.pipeline.proxies import ProxyJob, proxy_key, train_proxy
from flashdd.training.source import LabelSource

_REVISION = 3
_NAME = "stored-within"


@dataclass(frozen=True, kw_only=True)
class LabelsToStore:
    """What is to be stored: logits (epochs, N, classes) of the first epochs, or more, on demand; their temperature, and
    what they were made of; most_epochs: how many there can be, None for all."""

    logits: Callable[[int], Tensor]
    temperature: float
    inputs: dict[str, str]
    most_epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class BestStored:
    """The chosen scheme, resolved, and the record's facts about the choice (`core.labelfacts.EqualBytes`)."""

    scheme: Scheme
    facts: dict[str, Any]


def best_within(
    context: Context, data: RealDataset, subject: Subject, labels: LabelsToStore, budget: int
) -> BestStored | None:
    """The scheme of stored labels within `budget` bytes with the best proxy students; None where none fits.

    Candidates are those of `labels.catalog.shortlist`, and each is scored as the searches score theirs: by
    `search.seeds` proxy students (`train_proxy`), seeds paired across candidates. The highest mean wins, of
    equal ones the fewest bytes: a rival is given its best, so no standard error is granted to smaller ones. The cost is
    that of at most 8 x `search.seeds` proxy students (16 by default); a killed choice loses one of them.
    """
    epochs = context.setup.protocol.epochs(subject.images.num_images)
    listed = equal_bytes(
        budget, subject, epochs=epochs, temperature=labels.temperature, most_epochs=labels.most_epochs
    )
    candidates = shortlist(listed, subject.images.num_images)
    if not candidates:
        return None
    sizes = [scheme.bytes_of(subject, epochs=epochs, temperature=labels.temperature) for scheme in candidates]
    setup = context.setup

    def make(work: StageWork) -> dict[str, Any]:
        rows = [
            _scored(context, data, subject, labels, scheme, size, work)
            for scheme, size in zip(candidates, sizes, strict=True)
        ]
        return {"candidates": rows, "chosen": best_candidate(rows), "budget_bytes": budget}

    stage = context.local.make(
        _NAME,
        revision=_REVISION,
        config={
            "candidates": [scheme.name for scheme in candidates],
            "stored": STORED_REVISION,
            "budget": budget,
            "temperature": labels.temperature,
            "seeds": setup.config.search.seeds,
            **proxy_key(setup),
        },
        inputs={
            **labels.inputs,
            "images": subject.content_hash,
            "data": data.content_hash,
            "split": f"{len(data.val.labels)}",
        },
        build=make,
    )
    chosen = stage.record["chosen"]
    row = stage.record["candidates"][chosen]
    facts = {"name": row["name"], "bytes": row["bytes"], **stage.record, "seconds": stage.seconds}
    return BestStored(scheme=candidates[chosen], facts=facts)


def best_candidate(rows: list[dict[str, Any]]) -> int:
    """Index of the highest `proxy_mean`; of equal ones that of the fewest bytes, then the first."""
    return max(range(len(rows)), key=lambda index: (rows[index]["proxy_mean"], -rows[index]["bytes"], -index))


def _scored(
    context: Context,
    data: RealDataset,
    subject: Subject,
    labels: LabelsToStore,
    scheme: Scheme,
    size: int,
    work: StageWork,
) -> dict[str, Any]:
    """The record's row of one candidate; its labels are written, and read back, only where a proxy lacks them."""
    protocol = context.setup.protocol

    @cache
    def opened() -> LabelSource:
        folder = work.folder / "checkpoints" / "labels" / scheme.name  # goes when the stage is done
        epochs = protocol.epochs(subject.images.num_images)
        logits = labels.logits(scheme.leading_epochs(subject.size(epochs)))
        scheme.write(folder, logits, subject, temperature=labels.temperature, epochs=epochs)
        return open_labels(folder, subject)

    def train(seed: int) -> float:
        job = ProxyJob(
            stage=_NAME,
            label=scheme.name,
            protocol=protocol if scheme.keeps_logits else protocol.for_hard_labels(),
            source=opened(),
        )
        return train_proxy(context, data, subject.images, work, job, seed).accuracy

    values: list[float] = [
        work.task(f"{scheme.name}-seed{seed}", partial(train, seed))
        for seed in range(context.setup.config.search.seeds)
    ]
    return {
        "name": scheme.name,
        "bytes": size,
        "proxy_mean": statistics.fmean(values),
        "proxy_stderr": standard_error(values),
        "n": len(values),
        "values": values,
    }
