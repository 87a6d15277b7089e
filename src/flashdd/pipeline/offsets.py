"""Stage: class offsets of labels to which no search has given those of these images."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from flashdd.core.files import file_name
from flashdd.core.stages import StageWork
from flashdd.core.stats import standard_error
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.table import Labels
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import TABLE_REVISION
from flashdd.pipeline.proxies import Proxy, ProxyJob, mean_offsets, proxy_key, train_proxy
from flashdd.pipeline.rows import LONGEST_NAME

_REVISION = 4
_NAME = "offsets"


@dataclass(frozen=True, kw_only=True)
class Unfitted:
    """Labels of a set of images, and what progress calls them. inputs: all that decides what they are."""

    name: str
    labels: Callable[[], Labels]
    temperature: float
    logit_scale: float = 1.0
    inputs: Mapping[str, str]


def fitted_offsets(
    context: Context, data: RealDataset, images: ImageSet, unfitted: Unfitted, seeds: int
) -> dict[str, Any]:
    """The class offsets that labels lack on `images`, as facts of a row (`core.labelfacts.FittedOffsets`).

    As a search finds them for its choice (`labels.flash.capacity.search`, 8.): the mean of those that `seeds` proxy
    students ask for, kept if the same proxies, trained with them, gain more than one standard error; else there are
    none. seeds: at least 2. A killed stage loses one proxy.
    """

    def make(work: StageWork) -> dict[str, Any]:
        labels = cache(unfitted.labels)

        def proxy(offsets: tuple[float, ...], seed: int) -> Proxy:
            name = f"{file_name(unfitted.name)[:LONGEST_NAME]}-{'with' if offsets else 'without'}-offsets"

            def train() -> dict[str, Any]:
                source = labels().source(
                    temperature=unfitted.temperature, logit_scale=unfitted.logit_scale, offsets=offsets
                )
                job = ProxyJob(
                    stage=_NAME,
                    label=name,
                    protocol=context.setup.protocol,
                    source=source,
                    corrected=not offsets,
                )
                return train_proxy(context, data, images, work, job, seed).to_json()

            return Proxy.from_json(work.task(f"{name}-seed{seed}", train))

        without = [proxy((), seed) for seed in range(seeds)]
        asked = mean_offsets(without)
        having = [proxy(asked, seed) for seed in range(seeds)]
        gains = [new.accuracy - old.accuracy for new, old in zip(having, without, strict=True)]
        gain, stderr = statistics.fmean(gains), standard_error(gains)
        return {
            "offsets": list(asked) if gain > stderr else [],
            "gain": gain,
            "gain_stderr": stderr,
            "n": seeds,
        }

    stage = context.local.make(
        _NAME,
        revision=_REVISION,
        config={
            **proxy_key(context.setup),
            "seeds": seeds,
            "setting": [unfitted.temperature, unfitted.logit_scale],
            "labels": TABLE_REVISION,
        },
        inputs={
            **unfitted.inputs,
            "images": images.content_hash,
            "data": data.content_hash,
            "split": f"{len(data.val.labels)}",
        },
        build=make,
    )
    return {**stage.record, "seconds": stage.seconds}
