"""Stages: labels of the teacher, and the search for settings (teacher) and for capacity (labeler).

Both searches score a candidate by proxy students trained on the distilled images for the protocol's own length,
validated on held-out real training images. Test data are never read here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from torch import nn

from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewMaker
from flashdd.labels.flash.capacity import Candidate, Measured, Rung, SearchBudget, Setting, search
from flashdd.labels.flash.labeler import Labeler, quantize_member
from flashdd.labels.table import Labels, make_labels, read_table, tabled, write_table
from flashdd.models.family import LabelerSpec
from flashdd.models.labelernet import LabelerNet, labeler_net
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import Network, network_stage
from flashdd.students.train import StudentTask, train_student
from flashdd.training.protocols import Protocol
from flashdd.training.source import LabelSource

_STAGE_REVISION = 1
_SEARCH_REVISION = 2


def labels_of(
    context: Context, net: nn.Module, images: ImageSet, on_chunk: Callable[[int], None] = lambda done: None
) -> Labels:
    """The labels of `net` for every view of the run's protocol on `images`."""
    protocol = context.setup.protocol
    seed = context.setup.config.views.augmentation_seed
    views = ViewMaker(images.images, protocol.views, seed=seed, device=context.device)
    epochs = protocol.epochs(images.num_images)
    return make_labels(net, views, epochs=epochs, num_classes=images.num_classes, on_chunk=on_chunk)


def labels_wait(context: Context, images: ImageSet) -> bool:
    """Whether a network's labels on `images` are made beforehand, so that a student's own time lacks them."""
    protocol = context.setup.protocol
    epochs = protocol.epochs(images.num_images)
    return tabled(protocol.views, epochs=epochs, num_images=images.num_images, num_classes=images.num_classes)


def labels_stage(
    context: Context, network: Network, share: float, images: ImageSet
) -> tuple[StageResult, Labels]:
    """The teacher's labels, made once per checkpoint and shared by all students and settings."""
    protocol = context.setup.protocol
    epochs = protocol.epochs(images.num_images)

    def make(work: StageWork) -> dict[str, Any]:
        context.progress.start(f"labels of {network.name} at {share:g}", epochs * images.num_images)
        labels = labels_of(context, network.open(share), images, work.step)
        if labels.table is not None:
            write_table(labels.table, work.folder / "logits.npy")
        return {"share": share}

    stage = context.local.make(
        "labels",
        revision=_STAGE_REVISION,
        config={
            "share": share,
            "views": protocol.views.to_json(),
            "epochs": epochs,
            "augmentation_seed": context.setup.config.views.augmentation_seed,
        },
        inputs={"images": images.content_hash, "network": network.stage.hash},
        build=make,
    )
    path = stage.folder / "logits.npy"
    table = read_table(path) if path.exists() else None
    net = None if table is not None else network.open(share).to(context.device)
    return stage, Labels(num_classes=images.num_classes, table=table, net=net)


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """measured: every candidate, by capacity; chosen: its index; facts: rows of the record; rungs: their networks."""

    stage: StageResult
    measured: list[Measured]
    chosen: int
    facts: list[dict[str, Any]]

    @property
    def choice(self) -> Candidate:
        return self.measured[self.chosen].candidate


def teacher_search(context: Context, data: RealDataset, images: ImageSet, teacher: Network) -> SearchResult:
    """The full teacher's best settings, by the labeler's own search over checkpoint, temperature and scale."""
    size = context.setup.teacher_size
    rung = Rung(name=teacher.name, params=size.params, bytes=teacher.path(1.0).stat().st_size, macs=size.macs)

    @lru_cache(maxsize=2)
    def labels(name: str, share: float) -> Labels:
        return labels_stage(context, teacher, share, images)[1]

    return _search_stage(
        context,
        data,
        images,
        name="teacher-search",
        families=[[[rung]]],
        prepare=labels,
        labels=labels,
        accuracy=lambda name, share: teacher.accuracy(share, "val"),
        inputs={"network": teacher.stage.hash},
        epochs=context.setup.config.teacher.epochs,
    )


def capacity_search(context: Context, data: RealDataset, images: ImageSet) -> SearchResult:
    """The labeler's capacity, training length, temperature and logit scale."""

    @cache
    def network(name: str) -> Network:
        shares = context.setup.config.search.checkpoints
        return network_stage(context, data, name, context.setup.member_recipe, shares)

    @lru_cache(maxsize=4)
    def labels(name: str, share: float) -> Labels:
        return labels_of(context, packed_member(network(name), share), images)

    return _search_stage(
        context,
        data,
        images,
        name="capacity",
        families=context.setup.families,
        prepare=lambda name, share: network(name),
        labels=labels,
        accuracy=lambda name, share: network(name).accuracy(share, "val"),
        inputs={"data": data.content_hash, "split": f"{len(data.val.labels)}"},
        epochs=context.setup.member_recipe.epochs,
        extra=context.setup.member_recipe.to_json(),
    )


def packed_member(network: Network, share: float, setting: Setting | None = None) -> Labeler:
    """The labeler of one member as it would be shipped: batch norms folded, int8 weights."""
    data = network.data
    spec = member_spec(network.name)
    net = network.open(share).net
    if not isinstance(net, LabelerNet):  # a ConvNet: the same layers in the same order, under other names
        member_net = labeler_net(spec, data.shape, data.num_classes).eval()
        pairs = zip(member_net.state_dict(), net.state_dict().values(), strict=True)
        member_net.load_state_dict(dict(pairs))
        net = member_net
    member = quantize_member(net, spec, data.shape, data.num_classes)
    return Labeler(
        [member],
        shape=data.shape,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        temperature=setting.temperature if setting else 1.0,
        logit_scale=setting.logit_scale if setting else 1.0,
    )


def member_spec(name: str) -> LabelerSpec:
    """The family's name of a network: `convnet-3-w64` (batch norm) is `conv-3-w64`."""
    return LabelerSpec.parse(name.replace("convnet-", "conv-", 1))


def _search_stage(
    context: Context,
    data: RealDataset,
    images: ImageSet,
    *,
    name: str,
    families: Sequence[Sequence[Sequence[Rung]]],
    prepare: Callable[[str, float], Any],
    labels: Callable[[str, float], Labels],
    accuracy: Callable[[str, float], float],
    inputs: dict[str, str],
    epochs: int,
    extra: Any = None,
) -> SearchResult:
    setup = context.setup
    options = setup.config.search
    budget = SearchBudget(
        seeds=options.seeds,
        finalists=options.finalists,
        finalist_seeds=options.finalist_seeds,
        patience=options.patience,
    )

    def make(work: StageWork) -> Any:
        proxies = _Proxies(context, data, images, work, name, prepare, labels)
        measured, chosen = search(families, setup.settings, proxies.score, budget)
        rows = [_facts(entry, accuracy, epochs) for entry in measured]
        return {"rows": rows, "chosen": chosen}

    stage = context.local.make(
        name,
        revision=_SEARCH_REVISION,
        config={
            "families": [[[rung.name for rung in chain] for chain in family] for family in families],
            "settings": [[s.share, s.temperature, s.logit_scale] for s in setup.settings],
            "search": options.model_dump(mode="json"),
            "protocol": setup.protocol.to_json(),
            "proxy": setup.proxy,
            "seed": setup.config.seed,
            "augmentation_seed": setup.config.views.augmentation_seed,
            "precision": setup.config.precision,
            "recipe": extra,
        },
        inputs={"images": images.content_hash, **inputs},
        build=make,
    )
    rungs = {rung.name: rung for family in families for chain in family for rung in chain}
    measured = [_measured(row, rungs) for row in stage.record["rows"]]
    return SearchResult(
        stage=stage, measured=measured, chosen=stage.record["chosen"], facts=stage.record["rows"]
    )


class _Proxies:
    """Scores candidates; every proxy student is a task, so that a killed search loses one at most."""

    def __init__(
        self,
        context: Context,
        data: RealDataset,
        images: ImageSet,
        work: StageWork,
        name: str,
        prepare: Callable[[str, float], Any],
        labels: Callable[[str, float], Labels],
    ) -> None:
        self.context, self.data, self.images, self.work = context, data, images, work
        self.name, self.prepare, self.labels = name, prepare, labels

    def score(self, candidate: Candidate, seed: int) -> float:
        setting = candidate.setting
        label = f"{candidate.rung.name}@{setting.share:g}-t{setting.temperature:g}-x{setting.logit_scale:g}"
        value: float = self.work.task(f"{label}-seed{seed}", lambda: self._train(candidate, seed, label))
        return value

    def _train(self, candidate: Candidate, seed: int, label: str) -> float:
        with self.work.paused():  # training a rung, or labelling by the teacher, is a stage of its own
            self.prepare(candidate.rung.name, candidate.setting.share)
        labels, setting = self.labels(candidate.rung.name, candidate.setting.share), candidate.setting
        source = labels.source(temperature=setting.temperature, logit_scale=setting.logit_scale)
        job = ProxyJob(stage=self.name, label=label, protocol=self.context.setup.protocol, source=source)
        return train_proxy(self.context, self.data, self.images, self.work, job, seed)


@dataclass(frozen=True, kw_only=True)
class ProxyJob:
    """Proxy students of one candidate: the stage that asks, the candidate's name in it, and what they learn from."""

    stage: str
    label: str
    protocol: Protocol
    source: LabelSource


def train_proxy(
    context: Context, data: RealDataset, images: ImageSet, work: StageWork, job: ProxyJob, seed: int
) -> float:
    """Validation accuracy of the proxy student `seed`, trained for the protocol's whole length.

    Equal seeds see the same initialization and order, whatever the candidate: they are pairs.
    """
    setup = context.setup
    task = StudentTask(
        images=images.images,
        source=job.source,
        protocol=job.protocol,
        student=setup.proxy,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        augmentation_seed=setup.config.views.augmentation_seed,
        evaluate_on=(data.val.images, data.val.labels),
        evaluations=1,
        labels=images.labels,
    )
    context.progress.start(f"{job.stage}: proxy {job.label} seed {seed}", job.protocol.steps)
    checkpoint = work.folder / "checkpoints" / f"{job.label}-seed{seed}.pt"
    result = train_student(
        task,
        context.engine,
        seed=derive(setup.config.seed, "proxy", seed),
        checkpoint=checkpoint,
        on_step=work.step,
    )
    checkpoint.unlink(missing_ok=True)
    value: float = result["accuracy"]
    return value


def _facts(entry: Measured, accuracy: Callable[[str, float], float], epochs: int) -> dict[str, Any]:
    rung, setting = entry.candidate.rung, entry.candidate.setting
    return {
        "name": rung.name,
        "params": rung.params,
        "bytes": rung.bytes,
        "macs": rung.macs,
        "epochs": round(epochs * setting.share, 2),
        "temperature": setting.temperature,
        "logit_scale": setting.logit_scale,
        "checkpoint": setting.share,
        "val_accuracy": accuracy(rung.name, setting.share),
        "proxy_mean": entry.mean,
        "proxy_stderr": entry.stderr,
        "n": len(entry.values),
        "values": list(entry.values),
    }


def _measured(row: dict[str, Any], rungs: dict[str, Rung]) -> Measured:
    setting = Setting(share=row["checkpoint"], temperature=row["temperature"], logit_scale=row["logit_scale"])
    candidate = Candidate(rung=rungs[row["name"]], setting=setting)
    return Measured(candidate=candidate, values=tuple(row["values"]))
