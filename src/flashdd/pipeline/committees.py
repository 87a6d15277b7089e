"""Label schemes that are a committee of networks: the mean of their logits, after matching their scale.

`committee@A+B+C`, or `committee@DIALS@A+B+C`. Members are named as network schemes are (`pipeline.networks`) and may
say their epochs (`convnet-3-w64@e8`). Dials, joined by dashes, are the committee's: `t4` the labels' temperature;
`h2.1` the temperature at which their mean entropy is 2.1 nats; `x2` a factor on the mean logits; `b8` batch norms that
normalize with the statistics of 8 views at a time, as CV-DD does (arXiv 2501.07575, BSSL; `labels.committee`). Such
labels depend on their batch: no table holds them, they do not replay, and every student gets them made anew. `r1` takes
the mean of the logits as they are, the way G-VBSM (arXiv 2311.17950) and EDC (arXiv 2404.13733) do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flashdd.core.errors import UsageError
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.committee import Committee, CommitteeSource
from flashdd.labels.flash.ensemble import matched_weights
from flashdd.labels.table import TableSource
from flashdd.models.table import size_of_name
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import labels_stage, labels_tabled
from flashdd.pipeline.members import validation_spread
from flashdd.pipeline.networks import (
    NetworkScheme,
    check_softness,
    parse_network,
    read_dials,
    softened,
    trained_network,
)
from flashdd.pipeline.real import Network
from flashdd.pipeline.rows import Opened, Row
from flashdd.pipeline.setup import Setup
from flashdd.training.evaluate import evaluate

COMMITTEE = "committee"
COMMITTEE_FORM = "committee@A+B+C"
_DIALS = (
    "temperature (t4), entropy in nats (h2.1), logit scale (x2), views that batch norms see at a time (b8), logits "
    "as they are (r1)"
)
_DIAL = re.compile(r"([thxbr])(\d+(?:\.\d+)?)")
_REVISION = 1


@dataclass(frozen=True, kw_only=True)
class CommitteeScheme:
    """members: at least two that differ; temperature: None for the run's own; at most one of temperature and entropy;
    group: views that batch norms normalize together, None in eval mode; raw: scales are not matched."""

    members: tuple[NetworkScheme, ...]
    names: tuple[str, ...]
    temperature: float | None = None
    entropy: float | None = None
    logit_scale: float = 1.0
    group: int | None = None
    raw: bool = False


def parse_committee(scheme: str) -> CommitteeScheme:
    """The scheme spelled `scheme`; UsageError for wrong dials, and for fewer than two members or equal ones.

    The members' names are not looked up.
    """
    variant = scheme.partition("@")[2]
    head, _, rest = variant.partition("@")
    dialed = bool(rest) and all(re.fullmatch(r"[a-z][\d.]+", part) for part in head.split("-"))
    found = read_dials(scheme, head, _DIAL, _DIALS) if dialed else {}
    names = tuple((rest if dialed else variant).split("+"))
    if len(set(names)) < max(2, len(names)) or "" in names:
        raise UsageError(
            f"label scheme '{scheme}': expected two or more networks that differ, joined by +, as in "
            "committee@convnet-3-w64+conv-3-w16, with dials before them, as in committee@t4@convnet-3-w64+conv-3-w16."
        )
    members = tuple(parse_network(name) for name in names)
    for name, member in zip(names, members, strict=True):
        if member != NetworkScheme(names=member.names, epochs=member.epochs):
            raise UsageError(
                f"label scheme '{scheme}': '{name}' has dials of its own: a member says its epochs (e8) alone, and the "
                f"committee, before its members: {_DIALS}."
            )
    group = found.get("b")
    if found.get("r", 1) != 1:
        raise UsageError(f"label scheme '{scheme}': r{found['r']:g}; r1 is all there is: {_DIALS}.")
    if {"t", "h"} <= found.keys() or (
        group is not None and (group != int(group) or group < 2 or "h" in found)
    ):
        raise UsageError(
            f"label scheme '{scheme}': a temperature or an entropy, not both; with b, a whole number of at least 2, no "
            "entropy, for it is measured on labels that replay."
        )
    return CommitteeScheme(
        members=members,
        names=names,
        temperature=found.get("t"),
        entropy=found.get("h"),
        logit_scale=found.get("x", 1.0),
        group=None if group is None else int(group),
        raw="r" in found,
    )


def check_committee(scheme: str, setup: Setup) -> None:
    """Raise what is wrong with the scheme on these data under this protocol: UsageError, UnknownNameError."""
    wanted = parse_committee(scheme)
    epochs = setup.member_recipe.epochs
    if len({(member.names, member.epochs or epochs) for member in wanted.members}) < len(wanted.members):
        raise UsageError(
            f"label scheme '{scheme}': two members are the same network ({epochs} epochs go without saying): leave one "
            "out."
        )
    for member in wanted.members:
        size_of_name(member.names[0], num_classes=setup.facts.num_classes, shape=setup.facts.shape)
    check_softness(scheme, setup, temperature=wanted.temperature, entropy=wanted.entropy)


def committee_row(context: Context, data: RealDataset, images: ImageSet, method: str, scheme: str) -> Row:
    """The row of students whose labels a committee gives; its facts say how good and how soft they are.

    With s_m the spread of a member's logits on the validation split, the labels are the mean of S / s_m times the
    members' logits, S the geometric mean of the spreads (`labels.flash.ensemble.matched_weights`). Label bytes are
    those of the members' float32 files together. Raw: the mean of the logits.
    """
    setup, wanted = context.setup, parse_committee(scheme)
    networks = [trained_network(context, data, member) for member in wanted.members]
    judged = _judged(context, data, networks, raw=wanted.raw)
    weights, scale = _weights(judged.record["spreads"], raw=wanted.raw)
    logit_scale = wanted.logit_scale * scale
    tabled = wanted.group is None and labels_tabled(context, images)
    table = logit_scale * _mean_table(context, networks, images, weights) if tabled else None
    temperature, softness = softened(
        scheme, setup, table, temperature=wanted.temperature, entropy=wanted.entropy
    )

    def made_online() -> Opened:
        committee = Committee([network.open() for network in networks], weights).to(context.device)
        source = CommitteeSource(
            committee.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            num_classes=images.num_classes,
            temperature=temperature,
            logit_scale=logit_scale,
            group=wanted.group,
        )
        return images.images, images.labels, source

    def open_row() -> Opened:
        if table is None:
            return made_online()
        return images.images, images.labels, TableSource(table, temperature=temperature)

    facts = {**_facts(wanted, networks, weights, judged, setup), "temperature": temperature, **softness}
    return Row(
        scheme=scheme,
        images=method,
        label_bytes=sum(_bytes(network) for network in networks),
        key={
            "images": images.content_hash,
            "networks": " ".join(network.stage.hash for network in networks),
            "weights": " ".join(f"{weight!r}" for weight in weights),
            "setting": f"{temperature!r} {logit_scale!r} {wanted.group}",
        },
        open=open_row,
        online=None if table is None else made_online,
        network=lambda: facts,
    )


def replay_note(row: dict[str, Any]) -> str | None:
    """The sentence about a finished row whose labels depend on their batch; None for all others."""
    group = (row.get("network") or {}).get("batch_statistics")
    if group is None:
        return None
    return (
        f"{row['scheme']} on {row['images']}: batch norms see {group} views at a time, so these labels do not replay; "
        "they were made at every step of every student."
    )


def mean_logits(tables: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of logits of one shape, as `labels.committee.Committee` gives it."""
    total = sum(weights)
    mean = torch.zeros_like(tables[0])
    for table, weight in zip(tables, weights, strict=True):
        mean.add_(table, alpha=weight / total)
    return mean


def _mean_table(
    context: Context, networks: Sequence[Network], images: ImageSet, weights: Sequence[float]
) -> Tensor:
    """Of the networks' tables, which rows of the networks alone share."""
    tables = [labels_stage(context, network, images)[1].table for network in networks]
    held = [table for table in tables if table is not None]
    assert len(held) == len(networks), "all tables are of one size, and this one fits"
    return mean_logits(held, weights)


def _weights(spreads: Sequence[float], *, raw: bool) -> tuple[tuple[float, ...], float]:
    """Weights of the members, and a factor on their weighted mean."""
    return ((1.0,) * len(spreads), 1.0) if raw else matched_weights(spreads)


def _judged(context: Context, data: RealDataset, networks: Sequence[Network], *, raw: bool) -> StageResult:
    """Spread of each member's logits on the validation split; the committee's own accuracies in eval mode."""

    def make(work: StageWork) -> dict[str, Any]:
        context.progress.message(f"committee: {' + '.join(network.name for network in networks)}")
        nets = [network.open().to(context.device) for network in networks]
        spreads = [validation_spread(net, data) for net in nets]
        committee = Committee(nets, _weights(spreads, raw=raw)[0]).eval()
        return {
            "spreads": spreads,
            "val": evaluate(committee, data.val.images, data.val.labels).accuracy,
            "test": evaluate(committee, data.test.images, data.test.labels).accuracy,
        }

    return context.local.make(
        COMMITTEE,
        revision=_REVISION,
        config={"raw": True} if raw else {},
        inputs={
            "networks": " ".join(network.stage.hash for network in networks),
            "data": data.content_hash,
            "split": f"{len(data.val.labels)}",
        },
        build=make,
    )


def _bytes(network: Network) -> int:
    return network.path().stat().st_size


def _facts(
    wanted: CommitteeScheme,
    networks: Sequence[Network],
    weights: Sequence[float],
    judged: StageResult,
    setup: Setup,
) -> dict[str, Any]:
    """Sizes are sums over the members; accuracies those of the mean of their logits."""
    facts = setup.facts
    sizes = [
        size_of_name(network.name, num_classes=facts.num_classes, shape=facts.shape) for network in networks
    ]
    members = [
        {"name": name, "bytes": _bytes(network), "weight": weight / sum(weights)}
        for name, network, weight in zip(wanted.names, networks, weights, strict=True)
    ]
    return {
        "params": sum(size.params for size in sizes),
        "macs": sum(size.macs for size in sizes),
        "accuracy": judged.record["test"],
        "val_accuracy": judged.record["val"],
        "members": members,
        **({} if wanted.group is None else {"batch_statistics": wanted.group}),
    }
