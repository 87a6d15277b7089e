"""Stage: the labeler for images that it was not made for, its class offsets fitted to these."""

from __future__ import annotations

import statistics
from functools import cache
from typing import Any

from flashdd.core.files import sha256_bytes
from flashdd.core.stages import StageResult, StageWork
from flashdd.core.stats import standard_error
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.labels.table import Labels
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import TABLE_REVISION, labels_of
from flashdd.pipeline.material import Shipped
from flashdd.pipeline.proxies import Proxy, ProxyJob, mean_offsets, proxy_key, train_proxy

SUITED = (
    "On other images than its own the labeler has class offsets that were fitted to these, where they gain "
    "(search.class_offsets)."
)
"""The note beside such rows."""
_REVISION = 1
_NAME = "offsets"


def suited_labeler(context: Context, data: RealDataset, images: ImageSet, shipped: Shipped) -> Shipped:
    """`shipped`, which has class offsets of other images, with those of `images` instead, in as many bytes."""
    offsets = offsets_stage(context, data, images, shipped).record["offsets"]
    if not offsets:
        return shipped
    labeler = shipped.labeler.changed(offsets=offsets)
    packed = labeler_bytes(labeler)
    return Shipped(labeler=labeler, bytes=len(packed), sha256=sha256_bytes(packed))


def offsets_stage(context: Context, data: RealDataset, images: ImageSet, shipped: Shipped) -> StageResult:
    """The class offsets that the labels of `shipped` lack on `images`; none where they gain nothing.

    They are found and verified as a search does for its choice (`labels.flash.capacity.search`, 8.): the mean of those
    that proxy students ask for, kept if the same proxies, trained with them, gain more than one standard error.
    """
    setup, temperature = context.setup, shipped.labeler.temperature
    seeds = max(setup.config.search.seeds, setup.config.search.finalist_seeds)

    def make(work: StageWork) -> dict[str, Any]:
        @cache
        def labels() -> Labels:
            return labels_of(context, shipped.labeler, images)

        def proxy(label: str, offsets: tuple[float, ...], seed: int) -> Proxy:
            def train() -> dict[str, Any]:
                source = labels().source(temperature=temperature, offsets=offsets)
                job = ProxyJob(
                    stage=_NAME, label=label, protocol=setup.protocol, source=source, corrected=not offsets
                )
                return train_proxy(context, data, images, work, job, seed).to_json()

            return Proxy.from_json(work.task(f"{label}-seed{seed}", train))

        plain = [proxy("labeler", (), seed) for seed in range(seeds)]
        asked = mean_offsets(plain)
        applied = [proxy("labeler-offsets", asked, seed) for seed in range(seeds)]
        gains = [new.accuracy - old.accuracy for new, old in zip(applied, plain, strict=True)]
        return {"offsets": list(asked) if statistics.fmean(gains) > standard_error(gains) else []}

    return context.local.make(
        _NAME,
        revision=_REVISION,
        config={**proxy_key(setup), "seeds": seeds, "labels": TABLE_REVISION},
        inputs={
            "images": images.content_hash,
            "labeler": shipped.sha256,
            "data": data.content_hash,
            "split": f"{len(data.val.labels)}",
        },
        build=make,
    )
