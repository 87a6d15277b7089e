"""Stage: class offsets of labels that no search has chosen."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from flashdd.core.stages import StageResult, StageWork
from flashdd.core.stats import standard_error
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.table import Labels
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import TABLE_REVISION
from flashdd.pipeline.proxies import Proxy, ProxyJob, mean_offsets, proxy_key, train_proxy

_REVISION = 1
_NAME = "offsets"


@dataclass(frozen=True, kw_only=True)
class Unadjusted:
    """Labels of a set of images before class offsets. inputs: all that decides what they are."""

    labels: Callable[[], Labels]
    temperature: float
    logit_scale: float = 1.0
    inputs: Mapping[str, str]


def offsets_stage(
    context: Context, data: RealDataset, images: ImageSet, found: Unadjusted, seeds: int
) -> StageResult:
    """Its record has the class `offsets` that `found` lacks on `images`; none where they gain nothing.

    As a search does for its choice (`labels.flash.capacity.search`, 8.): the mean of those that `seeds` proxy students
    ask for, kept if the same proxies, trained with them, gain more than one standard error. seeds: at least 2.
    """

    def make(work: StageWork) -> dict[str, Any]:
        labels = cache(found.labels)

        def proxy(label: str, offsets: tuple[float, ...], seed: int) -> Proxy:
            def train() -> dict[str, Any]:
                source = labels().source(
                    temperature=found.temperature, logit_scale=found.logit_scale, offsets=offsets
                )
                protocol = context.setup.protocol
                job = ProxyJob(
                    stage=_NAME, label=label, protocol=protocol, source=source, corrected=not offsets
                )
                return train_proxy(context, data, images, work, job, seed).to_json()

            return Proxy.from_json(work.task(f"{label}-seed{seed}", train))

        plain = [proxy("plain", (), seed) for seed in range(seeds)]
        asked = mean_offsets(plain)
        applied = [proxy("with-offsets", asked, seed) for seed in range(seeds)]
        gains = [new.accuracy - old.accuracy for new, old in zip(applied, plain, strict=True)]
        return {"offsets": list(asked) if statistics.fmean(gains) > standard_error(gains) else []}

    return context.local.make(
        _NAME,
        revision=_REVISION,
        config={
            **proxy_key(context.setup),
            "seeds": seeds,
            "setting": [found.temperature, found.logit_scale],
            "labels": TABLE_REVISION,
        },
        inputs={
            **found.inputs,
            "images": images.content_hash,
            "data": data.content_hash,
            "split": f"{len(data.val.labels)}",
        },
        build=make,
    )
