"""Stage: ship-the-classifier, the best network that fits the bytes of the whole artifact.

Whoever could ship the artifact could ship that network instead; no table of results is honest without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flashdd.artifact.read import Artifact
from flashdd.core.errors import UnknownNameError
from flashdd.core.files import folder_bytes
from flashdd.core.record import ShipFacts
from flashdd.data.dataset import RealDataset
from flashdd.labels.flash.candidates import Measured, Rung
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.models.family import LabelerSpec, ladder, shrink_factor
from flashdd.pipeline.context import Context
from flashdd.pipeline.families import Room
from flashdd.pipeline.members import member_spec, single
from flashdd.pipeline.real import Network, network_stage
from flashdd.pipeline.schemes import SHIP
from flashdd.pipeline.search import SearchResult
from flashdd.pipeline.setup import SHORT_FROM
from flashdd.training.evaluate import evaluate

_FINALISTS = 2
_SCREENING_SHARE = 1 / 8
"""Of a whole training. On CIFAR-10 the best four of six networks were in the same order after it as at the end (n = 1),
and all six took 45 of the run's 171 minutes on a CPU. On digits the best was fourth, and all six take 1.5 minutes."""


@dataclass(frozen=True, kw_only=True)
class _Contender:
    """A network, trained to the end, and its size as packed."""

    network: Network
    rung: Rung

    @property
    def val_accuracy(self) -> float:
        return self.network.accuracy("val")


def comparison_ship(
    context: Context,
    data: RealDataset,
    known: ShipFacts | None,
    artifact: Artifact | None,
    teacher: Callable[[], Network],
) -> dict[str, Any] | None:
    """The record's `ship` of a comparison: as its run found it, else, where scheme `ship` asks, found for the artifact.

    None where nothing is known and nothing is asked. To find it trains the teacher and networks of every family
    (`ship_classifier`); those that a cache holds cost nothing.
    """
    if known is not None:
        return known.model_dump(mode="json", exclude_unset=True)
    if artifact is None or SHIP not in context.setup.config.compare.schemes:
        return None
    found = ship_classifier(context, data, teacher(), None, folder_bytes(artifact.path))
    return {key: value for key, value in found.items() if key != "seconds"}


def ship_classifier(
    context: Context,
    data: RealDataset,
    teacher: Network,
    capacity: SearchResult | None,
    artifact_bytes: int,
) -> dict[str, Any]:
    """Name, bytes and test accuracy (as packed, int8) of the candidate with the highest validation accuracy.

    Candidates, all within `artifact_bytes`: the rungs that the capacity search trained, if one was made and its
    networks learned the classes; the teacher, if it is of the labeler's family; and of every family the widest network
    that costs no more multiply-accumulates than the teacher, trained on the classes as long as members are. Of these,
    from 16 pixels on, only the two that are best after an eighth of that, an epoch at least.
    """
    room = Room(
        shape=data.shape,
        classes=data.num_classes,
        max_bytes=artifact_bytes,
        max_macs=context.setup.teacher_size.macs,
    )
    contenders, screened = _contenders(context, data, teacher, capacity, room)
    best = max(contenders, key=lambda entry: entry.val_accuracy)
    labeler = single(best.network)
    counted = _trained_by_search(context, capacity)
    own = [
        entry.network
        for entry in contenders
        if entry.network is not teacher and entry.network.name not in counted
    ]
    return {
        "name": best.network.name,
        "bytes": len(labeler_bytes(labeler.cpu())),
        "accuracy": evaluate(labeler.to(context.device), data.test.images, data.test.labels).accuracy,
        "val_accuracy": best.val_accuracy,
        "budget_bytes": artifact_bytes,
        "candidates": [
            {"name": entry.network.name, "bytes": entry.rung.bytes, "val_accuracy": entry.val_accuracy}
            for entry in sorted(contenders, key=lambda entry: entry.rung.bytes)
        ],
        "screened": [{"name": network.name, "val_accuracy": network.accuracy("val")} for network in screened],
        "seconds": sum(network.stage.seconds for network in [*own, *screened]),
    }


def _contenders(
    context: Context, data: RealDataset, teacher: Network, capacity: SearchResult | None, room: Room
) -> tuple[list[_Contender], list[Network]]:
    """The candidates, and the short trainings by which the widest networks were screened."""
    recipe = context.setup.member_recipe
    own = _teacher_rung(teacher, room)
    searched = [rung for rung in _searched(room, capacity) if rung.bytes <= room.max_bytes]
    same = [own] if own and context.setup.teacher_recipe == recipe else []  # trained as it would be here
    tops = _tops(room, without=[*searched, *same])
    screened = _screened(context, data, tops)
    contenders = [
        _Contender(network=network_stage(context, data, rung.name, recipe), rung=rung)
        for rung in [*searched, *_finalists(tops, screened)]
    ]
    if own is not None:
        contenders.append(_Contender(network=teacher, rung=own))
    return contenders, screened


def _teacher_rung(teacher: Network, room: Room) -> Rung | None:
    """The teacher as packed; None where it is not of the labeler's family, or does not fit."""
    try:
        spec = member_spec(teacher.name)
    except UnknownNameError:
        return None
    if shrink_factor(room.shape) > 1:  # a labeler's network would see smaller views than the teacher did
        return None
    rung = room.rung(spec)
    return rung if rung.bytes <= room.max_bytes else None


def _on_classes(capacity: SearchResult | None) -> Sequence[Measured]:
    """What the search measured of networks that learned the classes: nothing where they have a tutor."""
    return capacity.measured if capacity and not capacity.tutor else ()


def _searched(room: Room, capacity: SearchResult | None) -> list[Rung]:
    """What the search trained on the classes, in the order of its table."""
    names = dict.fromkeys(entry.candidate.rung.name for entry in _on_classes(capacity))
    return [room.rung(LabelerSpec.parse(name)) for name in names]


def _trained_by_search(context: Context, capacity: SearchResult | None) -> set[str]:
    """The networks whose whole training is among the search's own seconds."""
    setup = context.setup
    return {
        entry.candidate.rung.name
        for entry in _on_classes(capacity)
        if setup.member_at(entry.candidate.setting.course) == setup.member_recipe
    }


def _tops(room: Room, *, without: Sequence[Rung]) -> list[Rung]:
    """Per family, at the ladder's greater depth, the widest network within the bytes and the teacher's operations."""
    deepest: dict[str, LabelerSpec] = {}
    for spec in ladder(room.shape, room.classes):
        if spec.family not in deepest or spec.depth > deepest[spec.family].depth:
            deepest[spec.family] = spec
    tops = [room.widest(spec) for spec in deepest.values()]
    names = {rung.name for rung in without}
    return [room.rung(spec) for spec in tops if spec is not None and spec.name not in names]


def _screened(context: Context, data: RealDataset, tops: Sequence[Rung]) -> list[Network]:
    """All of `tops` after a short training; none where that would save nothing."""
    recipe = context.setup.member_recipe
    epochs = max(1, round(recipe.epochs * _SCREENING_SHARE))
    if len(tops) <= _FINALISTS or epochs == recipe.epochs or min(data.shape[1:]) < SHORT_FROM:
        return []
    return [network_stage(context, data, rung.name, replace(recipe, epochs=epochs)) for rung in tops]


def _finalists(tops: Sequence[Rung], screened: Sequence[Network]) -> list[Rung]:
    """Those of `tops` worth a whole training; all where none was screened."""
    if not screened:
        return list(tops)
    ranked = sorted(zip(tops, screened, strict=True), key=lambda pair: pair[1].accuracy("val"), reverse=True)
    return [rung for rung, _ in ranked[:_FINALISTS]]
