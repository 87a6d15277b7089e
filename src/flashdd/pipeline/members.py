"""Stages: a labeler's members, trained and rounded, and the labeler that they make, before its temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset, evenly_spaced
from flashdd.labels.flash.ensemble import logit_spread, matched_weights
from flashdd.labels.flash.labeler import Labeler, Member, quantize_member
from flashdd.labels.flash.pack import read_labeler, write_labeler
from flashdd.labels.flash.refit import RefitRecipe, refit_member
from flashdd.models.family import LabelerSpec
from flashdd.models.labelernet import LabelerNet, labeler_net
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import Network, network_stage
from flashdd.training.evaluate import evaluate, logits_of

MEMBERS_REVISION = 1
"""Of members and the labelers made of them: raised with either, and part of the key of searches over them."""
LOSSLESS_BITS = 8
"""From so many on, rounding alone is enough: no refit."""
_SPREAD_IMAGES = 5000  # at most
_FILE = "labeler.safetensors"


@dataclass(frozen=True, kw_only=True)
class TutorDesign:
    """The run's teacher, trained for so many epochs on images that move by `shift`, a share of their side.

    copies: so many of it, from other weights, whose logits are averaged.
    """

    epochs: int
    shift: float
    copies: int = 1

    def networks(self, context: Context, data: RealDataset) -> tuple[Network, ...]:
        recipe = context.setup.tutor_with(self.epochs, self.shift)
        name = context.setup.config.teacher.name
        return tuple(
            network_stage(context, data, name, recipe, replica=replica) for replica in range(self.copies)
        )


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a labeler is made of. names: the members' architectures, one of each; epochs: of their training; shift:
    share of its side by which a real image moves at most in it, None for the run's own; bits: of their weights; copies:
    every one so many times, from other weights; cycles: every training leaves so many snapshots, each of them a member;
    tutor: whom they imitate.
    """

    names: tuple[str, ...]
    epochs: int
    shift: float | None = None
    bits: int = 8
    copies: int = 1
    cycles: int = 1
    tutor: TutorDesign | None = None

    def __str__(self) -> str:
        """Such as `conv-3-w8@e8-s12.5-b4-m2-d2-k3`: the shift in percent, d the tutors' epochs, k their number."""
        shift = "" if self.shift is None else f"-s{100 * self.shift:g}"
        copies = f"-m{self.copies}" if self.copies > 1 else ""
        cycles = f"-c{self.cycles}" if self.cycles > 1 else ""
        tutor = f"-d{self.tutor.epochs}" if self.tutor else ""
        if self.tutor and self.tutor.copies > 1:
            tutor += f"-k{self.tutor.copies}"
        return f"{'+'.join(self.names)}@e{self.epochs}{shift}-b{self.bits}{copies}{cycles}{tutor}"

    @property
    def alike(self) -> bool:
        """Whether all members have one architecture: equally trained, their logits have one scale."""
        return len(self.names) == 1


@dataclass(frozen=True, kw_only=True)
class Made:
    """A labeler on disk, with temperature and scale 1. parts: the stages of its members and of their networks."""

    design: Design
    stage: StageResult
    parts: tuple[StageResult, ...]

    @property
    def name(self) -> str:
        return str(self.design)

    @property
    def hash(self) -> str:
        return self.stage.hash

    def open(
        self, temperature: float = 1.0, logit_scale: float = 1.0, offsets: Sequence[float] = ()
    ) -> Labeler:
        """With another temperature, a factor on its own scale, and class offsets, one per class or none."""
        held = read_labeler(self.stage.folder / _FILE)
        return held.with_settings(temperature=temperature, logit_scale=logit_scale, offsets=offsets)

    def accuracy(self, split: str) -> float:
        """`split` is val or test."""
        value: float = self.stage.record[split]
        return value


def labeler_stage(context: Context, data: RealDataset, design: Design) -> Made:
    """The labeler of `design`; the record holds its params, macs, bits, num_members, and both accuracies.

    Members of one architecture count equally, different ones after their logits' scales are matched on validation
    images (`labels.flash.ensemble`).
    """
    recipe = context.setup.member_with(epochs=design.epochs, shift=design.shift, cycles=design.cycles)
    tutors = design.tutor.networks(context, data) if design.tutor else ()
    networks = {
        (name, replica): network_stage(context, data, name, recipe, replica=replica, tutors=tutors)
        for name in design.names
        for replica in range(design.copies)
    }
    stages = [
        _member_stage(context, network, replica, snapshot, design.bits, recipe.shift)
        for (_, replica), network in networks.items()
        for snapshot in range(design.cycles)
    ]

    def make(work: StageWork) -> dict[str, Any]:
        members = [read_labeler(stage.folder / _FILE).members[0] for stage in stages]
        scale = 1.0
        if not design.alike:
            weights, scale = matched_weights([stage.record["spread"] for stage in stages])
            members = [replace(m, weight=weight) for m, weight in zip(members, weights, strict=True)]
        labeler = _labeler(data, members, scale)
        write_labeler(labeler, work.folder / _FILE)
        labeler = labeler.to(context.device)
        return {
            "params": labeler.params,
            "macs": labeler.macs,
            "bits": labeler.bits,
            "num_members": labeler.num_members,
            "val": evaluate(labeler, data.val.images, data.val.labels).accuracy,
            "test": evaluate(labeler, data.test.images, data.test.labels).accuracy,
        }

    stage = context.shared.make(
        "labeler",
        revision=MEMBERS_REVISION,
        config={"num_members": len(stages), "alike": design.alike},
        inputs={"data": data.content_hash, **{f"member-{i}": stage.hash for i, stage in enumerate(stages)}},
        build=make,
    )
    parts = (*(network.stage for network in networks.values()), *stages)
    return Made(design=design, stage=stage, parts=parts)


def _member_stage(
    context: Context, network: Network, replica: int, snapshot: int, bits: int, shift: float
) -> StageResult:
    """One member alone, as a labeler; the record holds its logits' spread on validation images."""
    data, setup = network.data, context.setup
    steps = 0 if bits >= LOSSLESS_BITS else setup.config.labeler.refit_steps
    recipe = RefitRecipe(steps=steps, flip=setup.flip, shift=shift)

    def make(work: StageWork) -> dict[str, float]:
        if steps:
            context.progress.start(f"refit {network.name} to {bits} bits", steps)
            seed = derive(setup.config.seed, "refit", network.name, replica, snapshot)
            member = _refitted(context, network, snapshot, bits, recipe, seed, work)
        else:
            member = rounded(network, snapshot, bits=bits)
        labeler = _labeler(data, [member])
        write_labeler(labeler, work.folder / _FILE)
        return {"spread": validation_spread(labeler.to(context.device), data)}

    return context.shared.make(
        f"member-{network.name}",
        revision=MEMBERS_REVISION,
        config={
            "bits": bits,
            "snapshot": snapshot,
            "replica": replica,
            "refit": recipe.to_json(),
            "seed": setup.config.seed,
            "precision": setup.config.precision,
        },
        inputs={"network": network.stage.hash, "data": data.content_hash},
        build=make,
    )


def _refitted(
    context: Context,
    network: Network,
    snapshot: int,
    bits: int,
    recipe: RefitRecipe,
    seed: int,
    work: StageWork,
) -> Member:
    data = network.data
    return refit_member(
        _plain_net(network, snapshot),
        member_spec(network.name),
        data.train,
        recipe,
        context.engine,
        bits=bits,
        seed=seed,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        checkpoint=work.folder / "checkpoints" / "refit.pt",
        on_step=work.step,
    )


def validation_spread(model: nn.Module, data: RealDataset) -> float:
    """`logit_spread` of a network's logits on validation images."""
    images = data.val.images
    return logit_spread(logits_of(model, images[evenly_spaced(len(images), _SPREAD_IMAGES)]))


def rounded(network: Network, snapshot: int = -1, *, bits: int = 8) -> Member:
    """The member that a network becomes: batch norms folded, weights rounded to `bits`."""
    data, spec = network.data, member_spec(network.name)
    return quantize_member(_plain_net(network, snapshot), spec, data.shape, data.num_classes, bits=bits)


def single(network: Network) -> Labeler:
    """The labeler of one 8-bit network, as it would be shipped."""
    return _labeler(network.data, [rounded(network)])


def member_spec(name: str) -> LabelerSpec:
    """The family's name of a network: `convnet-3-w64` (batch norm) is `conv-3-w64`."""
    return LabelerSpec.parse(name.replace("convnet-", "conv-", 1))


def _plain_net(network: Network, snapshot: int) -> LabelerNet:
    data, net = network.data, network.open(snapshot).net
    if isinstance(net, LabelerNet):
        return net
    # a ConvNet: the same layers in the same order, under other names
    plain = labeler_net(member_spec(network.name), data.shape, data.num_classes).eval()
    plain.load_state_dict(dict(zip(plain.state_dict(), net.state_dict().values(), strict=True)))
    return plain


def _labeler(data: RealDataset, members: list[Member], logit_scale: float = 1.0) -> Labeler:
    return Labeler(
        members,
        shape=data.shape,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        temperature=1.0,
        logit_scale=logit_scale,
    )
