"""What a search costs, in floating-point operations: by arithmetic over its candidates, whatever a cache saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flashdd.labels.flash.refit import RefitRecipe
from flashdd.models.count import reference
from flashdd.models.table import size_of_name
from flashdd.pipeline.context import Context
from flashdd.pipeline.members import LOSSLESS_BITS
from flashdd.pipeline.proxies import training_rows

_FORWARD = 2
"""Operations of a multiply-accumulate."""
_TRAIN = 3 * _FORWARD
"""A backward pass costs twice the forward one: a product for the inputs' gradient and one for the weights'."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Images that pass through networks: of one epoch of the real training split, for validation of a labeler, for that
    of a proxy, the distilled ones' views of a whole protocol. proxy_macs, reference_macs: per image; refit_images: of
    one member, 0 without refit."""

    train: int
    validation: int
    proxy_validation: int
    views: int
    proxy_macs: int
    reference_macs: int
    refit_images: int

    @staticmethod
    def of(context: Context, num_train: int, num_val: int, num_images: int) -> Workload:
        setup = context.setup
        shape, classes = setup.facts.shape, setup.facts.num_classes
        refit = RefitRecipe(steps=setup.config.labeler.refit_steps)
        return Workload(
            train=num_train,
            validation=num_val,
            proxy_validation=num_val + len(training_rows(num_train, classes)),
            views=setup.protocol.passes(num_images),
            proxy_macs=size_of_name(setup.proxy, num_classes=classes, shape=shape).macs,
            reference_macs=reference(classes, shape).macs,
            refit_images=refit.steps * refit.batch_size,
        )


def search_flops(rows: Iterable[Mapping[str, Any]], work: Workload, *, trained: float | None = None) -> int:
    """Operations of a search over candidates `rows` (of a record): training and labeling of every network and course
    once, and every proxy student with its validation. trained: networks of the whole length at this shift were there
    already, as a teacher is.

    Norms, activations, optimizer steps and the making of views are free, as in `models.count`.
    """
    total = 0
    training: dict[tuple[str, float, float], int] = {}
    refitting: dict[tuple[str, float, float, int], int] = {}
    labeling: dict[tuple[str, float, float, int, int], int] = {}
    for row in rows:
        network = row["name"], row["epochs"], row["shift"]
        bits, members, macs = row["bits"], row["num_members"], row["macs"]  # of all members
        if (row["length"], row["shift"]) != (1, trained):
            passes = round(_TRAIN * macs * row["epochs"] * work.train)
            training[network] = max(training.get(network, 0), passes)
        if bits < LOSSLESS_BITS:
            passes = (_TRAIN + _FORWARD) * macs * work.refit_images  # its own float32 logits are the target
            refitting[*network, bits] = max(refitting.get((*network, bits), 0), passes)
        labeling[*network, bits, members] = _FORWARD * macs * (work.views + work.validation)
        total += row["n"] * work.proxy_macs * (_TRAIN * work.views + _FORWARD * work.proxy_validation)
    return total + sum(training.values()) + sum(refitting.values()) + sum(labeling.values())


def tutor_flops(
    rows: Iterable[Mapping[str, Any]],
    work: Workload,
    macs: int,
    *,
    epochs: int,
    copies: int,
    trained: int,
    views: int | None,
) -> int:
    """Operations of `copies` tutors of so many `macs` per image that label the real images for the networks of `rows`,
    and of the training of `trained` of them, which were not there yet, for `epochs`.

    views: of every image, which they label once for all networks; None: they label at every step of every training.
    """
    asked: dict[tuple[str, float, float], int] = {}
    for row in rows:
        network = row["name"], row["epochs"], row["shift"]
        asked[network] = max(asked.get(network, 0), row["epochs"] * row["num_members"])
    passes = _FORWARD * copies * (sum(asked.values()) if views is None else views)
    return macs * work.train * (passes + _TRAIN * trained * epochs)


def reference_epochs(flops: int, work: Workload) -> float:
    """Epochs for which the reference ResNet-18 could be trained on the real training split instead."""
    return flops / (_TRAIN * work.reference_macs * work.train)
