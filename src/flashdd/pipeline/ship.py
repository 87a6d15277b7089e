"""Stage: ship-the-classifier, the best network that fits the bytes of the whole artifact.

Whoever could ship the artifact could ship that network instead; no table of results is honest without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flashdd.artifact.read import Artifact
from flashdd.core.files import folder_bytes
from flashdd.core.record import ShipFacts
from flashdd.data.dataset import RealDataset
from flashdd.labels.flash.capacity import Rung
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.models.family import LabelerSpec, ladder, shrink_factor
from flashdd.pipeline.context import Context
from flashdd.pipeline.families import rung_of, widest
from flashdd.pipeline.real import Network, network_stage
from flashdd.pipeline.schemes import SHIP
from flashdd.pipeline.search import SearchResult, member_spec, packed_member
from flashdd.training.evaluate import evaluate


def comparison_ship(
    context: Context,
    data: RealDataset,
    known: ShipFacts | None,
    artifact: Artifact | None,
    teacher: Callable[[], Network],
) -> dict[str, Any] | None:
    """The record's `ship` of a comparison: as its run found it, else, where scheme `ship` asks, found for the artifact.

    None where nothing is known and nothing is asked. To find it trains up to a network per stem, each as the labeler's
    members are, and the teacher; networks that a cache holds cost nothing.
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

    Candidates: every rung that the capacity search trained, if one was made; of each stem, the widest network within
    `artifact_bytes` that costs no more multiply-accumulates than the teacher, trained as the members are; and the
    teacher itself where it is of the family and fits.
    """
    setup = context.setup
    measured = capacity.measured if capacity else []
    rungs = {entry.candidate.rung.name: entry.candidate.rung for entry in measured}
    searched = set(rungs)
    tops = {rung.name: rung for rung in _tops(context, data, artifact_bytes)}
    networks: dict[str, Network] = {}
    of_family = teacher.name.startswith("convnet-") and not teacher.name.endswith("-in")
    if of_family and shrink_factor(data.shape) == 1:
        own = rung_of(member_spec(teacher.name), data.shape, data.num_classes)
        if own.bytes <= artifact_bytes:
            networks[teacher.name], rungs[teacher.name] = teacher, own
            if setup.teacher_recipe == setup.member_recipe:
                tops.pop(own.name, None)  # the same network, trained in the same way
    rungs |= tops
    for name in rungs:
        if name not in networks:
            networks[name] = network_stage(
                context, data, name, setup.member_recipe, setup.config.search.checkpoints
            )
    best = max(networks, key=lambda name: networks[name].accuracy(1.0, "val"))
    labeler = packed_member(networks[best], 1.0)
    return {
        "name": best,
        "bytes": len(labeler_bytes(labeler.cpu())),
        "accuracy": evaluate(labeler.to(context.device), data.test.images, data.test.labels).accuracy,
        "val_accuracy": networks[best].accuracy(1.0, "val"),
        "budget_bytes": artifact_bytes,
        "candidates": [
            {"name": name, "bytes": rung.bytes, "val_accuracy": networks[name].accuracy(1.0, "val")}
            for name, rung in sorted(rungs.items(), key=lambda pair: pair[1].bytes)
        ],
        "seconds": sum(networks[name].stage.seconds for name in tops if name not in searched),
    }


def _tops(context: Context, data: RealDataset, artifact_bytes: int) -> list[Rung]:
    """Per stem, at the ladder's greater depth, the widest network within the bytes and the teacher's operations."""
    deepest: dict[str, LabelerSpec] = {}
    for spec in ladder(data.shape, data.num_classes):
        if spec.stem not in deepest or spec.depth > deepest[spec.stem].depth:
            deepest[spec.stem] = spec
    ceiling = context.setup.teacher_size.macs
    tops = [widest(spec, data.shape, data.num_classes, artifact_bytes, ceiling) for spec in deepest.values()]
    return [rung_of(spec, data.shape, data.num_classes) for spec in tops if spec is not None]
