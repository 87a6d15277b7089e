"""The batch that proves an artifact alive: view parameters, and the labeler's logits on these views."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import torch

from flashdd.artifact.format import REPLAYED_IMAGES, Replay
from flashdd.core.errors import DataError
from flashdd.core.files import canonical_json
from flashdd.data.imageset import ImageSet
from flashdd.data.viewparams import ViewParams
from flashdd.data.views import ViewMaker
from flashdd.data.viewspec import ViewSpec
from flashdd.labels.flash.pack import Labeler

LOGITS_TOLERANCE = 1e-3


def replay(images: ImageSet, spec: ViewSpec, augmentation_seed: int, labeler: Labeler) -> Replay | None:
    """Views of epoch 0, ids 0..min(16, N) - 1: digest of their parameters, logits rounded to 5 decimals.

    None where the views cannot be replayed (one CutMix box per batch). Raises DataError where a logit is not
    finite.
    """
    if not spec.replayable:
        return None
    maker = ViewMaker(images.images, spec, seed=augmentation_seed)
    logits = replayed_logits(maker, labeler)
    if not bool(torch.isfinite(logits).all()):
        raise DataError("the labeler gives logits that are not finite: train it again with a smaller step.")
    rows = [[round(value, 5) for value in row] for row in logits.double().tolist()]
    return Replay(
        params_sha256=params_digest(maker.params(*replay_ids(images.num_images))),
        logits=tuple(tuple(row) for row in rows),
    )


def replay_ids(num_images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Epochs (all 0) and image ids of the replayed views, int64 (min(16, N),) each."""
    ids = torch.arange(min(REPLAYED_IMAGES, num_images))
    return torch.zeros_like(ids), ids


def replayed_logits(maker: ViewMaker, labeler: Labeler) -> torch.Tensor:
    """float32 (min(16, N), classes): the labeler's logits on the replayed views."""
    with torch.no_grad():
        return labeler.logits_of(maker.make(*replay_ids(maker.num_images)).pixels)


def params_digest(params: ViewParams) -> str:
    """SHA-256, hexadecimal, over the parameters' tensors in the order of their names.

    Of each tensor: the canonical JSON of [name, shape], then its values as little-endian int64 in row-major
    order. Parameters that are None (the operation is off) are left out.
    """
    digest = hashlib.sha256()
    for name in sorted(field.name for field in dataclasses.fields(params)):
        value = getattr(params, name)
        if isinstance(value, torch.Tensor):
            digest.update(canonical_json([name, list(value.shape)]))
            digest.update(np.ascontiguousarray(value.cpu().numpy(), dtype="<i8").data)
    return digest.hexdigest()
