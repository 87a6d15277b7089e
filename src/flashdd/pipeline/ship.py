"""Stage: ship-the-classifier, the best network that fits the bytes of the whole artifact.

Whoever could ship the artifact could ship that network instead; no table of results is honest without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flashdd.artifact.read import Artifact
from flashdd.core.files import folder_bytes
from flashdd.core.record import ShipFacts
from flashdd.data.dataset import RealDataset
from flashdd.labels.flash.capacity import Rung
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.models.family import LabelerSpec, ladder, shrink_factor
from flashdd.pipeline.context import Context
from flashdd.pipeline.families import Room
from flashdd.pipeline.members import member_spec, single
from flashdd.pipeline.real import Network, network_stage
from flashdd.pipeline.schemes import SHIP
from flashdd.pipeline.search import SearchResult
from flashdd.training.evaluate import evaluate

_FINALISTS = 2
_SHORT = 1 / 8  # of the members' epochs; on CIFAR-10 the order after one epoch of eight was that after all
_SCREENED_FROM = 16  # pixels of a side; below it all train within a minute, and digits need it all


def comparison_ship(
    context: Context,
    data: RealDataset,
    known: ShipFacts | None,
    artifact: Artifact | None,
    teacher: Callable[[], Network],
) -> dict[str, Any] | None:
    """The record's `ship` of a comparison: as its run found it, else, where scheme `ship` asks, found for the artifact.

    None where nothing is known and nothing is asked. To find it trains up to a network per family, each as the
    labeler's members are, and the teacher; networks that a cache holds cost nothing.
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

    Candidates: every rung that the capacity search trained, if one was made and its networks learned the classes; the
    teacher itself where it is of the family and fits; and two of the widest networks of each family within
    `artifact_bytes` that cost no more multiply-accumulates than the teacher, trained on the classes as long as members
    are: the two that are best after an eighth of it, below 16 pixels all of them.
    """
    rungs, screened = _candidates(context, data, teacher, capacity, artifact_bytes)
    recipe = context.setup.member_recipe
    networks = {name: network_stage(context, data, name, recipe) for name in rungs if name != teacher.name}
    if teacher.name in rungs:
        networks[teacher.name] = teacher
    best = max(networks, key=lambda name: networks[name].accuracy("val"))
    labeler = single(networks[best])
    known = {teacher.name, *_searched(capacity)}
    trained = [*(network for name, network in networks.items() if name not in known), *screened]
    return {
        "name": best,
        "bytes": len(labeler_bytes(labeler.cpu())),
        "accuracy": evaluate(labeler.to(context.device), data.test.images, data.test.labels).accuracy,
        "val_accuracy": networks[best].accuracy("val"),
        "budget_bytes": artifact_bytes,
        "candidates": [
            {"name": name, "bytes": rung.bytes, "val_accuracy": networks[name].accuracy("val")}
            for name, rung in sorted(rungs.items(), key=lambda pair: pair[1].bytes)
        ],
        "screened": [{"name": network.name, "val_accuracy": network.accuracy("val")} for network in screened],
        "seconds": sum(network.stage.seconds for network in trained),
    }


def _candidates(
    context: Context,
    data: RealDataset,
    teacher: Network,
    capacity: SearchResult | None,
    artifact_bytes: int,
) -> tuple[dict[str, Rung], list[Network]]:
    """The candidates by name, as packed, and the short trainings by which the widest ones were screened."""
    setup = context.setup
    room = Room(
        shape=data.shape,
        classes=data.num_classes,
        max_bytes=artifact_bytes,
        max_macs=setup.teacher_size.macs,
    )
    rungs = {name: room.rung(LabelerSpec.parse(name)) for name in _searched(capacity)}
    rungs = {name: rung for name, rung in rungs.items() if rung.bytes <= artifact_bytes}
    tops = {rung.name: rung for rung in _tops(room)}
    of_family = teacher.name.startswith("convnet-") and not teacher.name.endswith("-in")
    if of_family and shrink_factor(data.shape) == 1:
        own = room.rung(member_spec(teacher.name))
        if own.bytes <= artifact_bytes:
            rungs[teacher.name] = own
            if setup.teacher_recipe == setup.member_recipe:
                tops.pop(own.name, None)  # the same network, trained in the same way
    finalists, screened = _screened(context, data, [name for name in tops if name not in rungs])
    return rungs | {name: tops[name] for name in finalists}, screened


def _screened(context: Context, data: RealDataset, names: list[str]) -> tuple[list[str], list[Network]]:
    """The names worth a whole training, by validation accuracy after a short one; and the short trainings.

    Wide networks take longer to train than all else in a run on a CPU.
    """
    recipe = context.setup.member_recipe
    epochs = max(1, round(recipe.epochs * _SHORT))
    if len(names) <= _FINALISTS or epochs == recipe.epochs or min(data.shape[1:]) < _SCREENED_FROM:
        return names, []
    short = [network_stage(context, data, name, replace(recipe, epochs=epochs)) for name in names]
    ranked = sorted(short, key=lambda network: network.accuracy("val"), reverse=True)
    return [network.name for network in ranked[:_FINALISTS]], short


def _searched(capacity: SearchResult | None) -> list[str]:
    """The networks that the search trained on the classes, in the order of its table; those with a tutor were not."""
    measured = capacity.measured if capacity and not capacity.tutor else []
    return list(dict.fromkeys(entry.candidate.rung.name for entry in measured))


def _tops(room: Room) -> list[Rung]:
    """Per family, at the ladder's greater depth, the widest network within the bytes and the teacher's operations."""
    deepest: dict[str, LabelerSpec] = {}
    for spec in ladder(room.shape, room.classes):
        if spec.family not in deepest or spec.depth > deepest[spec.family].depth:
            deepest[spec.family] = spec
    tops = [room.widest(spec) for spec in deepest.values()]
    return [room.rung(spec) for spec in tops if spec is not None]
