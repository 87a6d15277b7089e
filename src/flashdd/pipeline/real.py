"""Stages on the real dataset: decoding it, and training a network on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor, nn

from flashdd.core.files import canonical_json, sha256_bytes, write_atomic
from flashdd.core.plugins import own_part
from flashdd.core.progress import Progress
from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork, Store
from flashdd.data.dataset import RealDataset, open_dataset
from flashdd.data.sources import SourceFacts, SourceOptions, prepare
from flashdd.data.views import ViewMaker, ViewSpec
from flashdd.labels.committee import Committee
from flashdd.labels.flash.candidates import Course
from flashdd.labels.table import Labels, make_labels, read_table, tabled, write_table
from flashdd.models.table import build
from flashdd.pipeline.context import Context
from flashdd.report.text import percent_text
from flashdd.training.classifier import (
    ClassifierRecipe,
    Tutor,
    fit_classifier,
    shifted_views,
    state_on_cpu,
)
from flashdd.training.evaluate import evaluate
from flashdd.training.normalize import Normalized

_DATA_REVISION = 1
NETWORK_REVISION = 2
TUTOR_REVISION = 1
"""As LABELS_REVISION, of a tutor's labels of the real images; whoever raises it raises NETWORK_REVISION, too."""
TUTOR_EPOCHS = 8
"""Views of every real image that tutors label at most; longer trainings see them again. There are 18 of an image that
moves by a pixel at most and may be mirrored."""
TUTOR_TEMPERATURE = 4.0


def data_stage(store: Store, options: SourceOptions, facts: SourceFacts, progress: Progress) -> StageResult:
    """The real dataset, decoded; made again when the source's files change."""

    def make(work: StageWork) -> dict[str, Any]:
        progress.message(f"data: decoding {facts.name}")
        folder = work.folder / "data"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        prepare(options, folder)
        return {"content_hash": open_dataset(folder).content_hash}

    config = {
        "source": facts.name,
        "kind": facts.source,
        "fingerprint": [facts.fingerprint, _fingerprint(options.source)],
        "class_names": list(facts.class_names),
        "counts": [list(facts.class_counts), facts.num_test],
        "resolution": options.resolution,
        "classes": options.classes,
        "validation": options.validation,
        "label_column": options.label_column,
    }
    return store.make("data", revision=_DATA_REVISION, config=config, inputs={}, build=make)


def _fingerprint(source: str) -> str:
    """Stands for a folder's files, links followed: names, sizes and times; empty for data that no folder holds."""
    lines = []
    for folder, _, names in os.walk(source, followlinks=True):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                facts = path.stat()
                lines.append(f"{path.relative_to(source)}|{facts.st_size}|{facts.st_mtime_ns}")
    return sha256_bytes(canonical_json(sorted(lines)))


def open_data(stage: StageResult) -> RealDataset:
    return open_dataset(stage.folder / "data")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A trained network: a snapshot at the end of every cycle of its training, validation and test accuracy of each.

    snapshot: counted from 0; -1 is the network at the end.
    """

    name: str
    stage: StageResult
    data: RealDataset

    @property
    def hash(self) -> str:
        return self.stage.hash

    @property
    def num_snapshots(self) -> int:
        return len(self.stage.record)

    def open(self, snapshot: int = -1) -> Normalized:
        """In eval mode: pixels in [0, 1] -> logits."""
        net = build(self.name, num_classes=self.data.num_classes, shape=self.data.shape, seed=0)
        model = Normalized(net, self.data.mean, self.data.std)
        model.load_state_dict(load_file(self.path(snapshot)))
        return model.eval()

    def path(self, snapshot: int = -1) -> Path:
        return self.stage.folder / _snapshot_file(snapshot % self.num_snapshots)

    def accuracy(self, split: str, snapshot: int = -1) -> float:
        """`split` is val or test."""
        value: float = self.stage.record[snapshot][split]
        return value


def _snapshot_file(snapshot: int) -> str:
    return f"network-{snapshot}.safetensors"


def network_stage(
    context: Context,
    data: RealDataset,
    name: str,
    recipe: ClassifierRecipe,
    *,
    replica: int = 0,
    tutors: Sequence[Network] = (),
) -> Network:
    """Train `name` on the real training split; every `replica` starts from weights, and sees views, of its own.

    With tutors it learns the mean of their logits instead of the classes, on views that all who have tutors share.
    """
    keys = (name,) if replica == 0 else (name, replica)
    seed = derive(context.setup.config.seed, "network", *keys)
    imitation = {"tutor_temperature": TUTOR_TEMPERATURE, "tutor_epochs": TUTOR_EPOCHS} if tutors else {}

    def make(work: StageWork) -> list[dict[str, float]]:
        with work.paused():  # labeling the real images is a stage of its own
            imitated = _imitated(context, tutors, recipe) if tutors else None
        return _train_network(context, data, name, recipe, seed, imitated, work)

    stage = context.shared.make(
        f"network-{name}",
        revision=NETWORK_REVISION,
        config={
            "recipe": recipe.to_json(),
            "seed": seed,
            "precision": context.setup.config.precision,
            **own_part("model", name),
            **imitation,
        },
        inputs={
            "data": data.content_hash,
            "split": f"{len(data.val.labels)}",
            **_hashes("tutor", tutors),
        },
        build=make,
    )
    return Network(name=name, stage=stage, data=data)


def _train_network(
    context: Context,
    data: RealDataset,
    name: str,
    recipe: ClassifierRecipe,
    seed: int,
    tutor: Tutor | None,
    work: StageWork,
) -> list[dict[str, float]]:
    """Write the network at the end of every cycle; validation and test accuracy of each."""
    net = build(name, num_classes=data.num_classes, shape=data.shape, seed=derive(seed, "initialization"))
    ends = recipe.ends(len(data.train.labels))

    def visit(step: int, model: nn.Module) -> dict[str, float]:
        write_atomic(work.folder / _snapshot_file(ends.index(step)), save(state_on_cpu(model)))
        work.tick()
        return {split: _accuracy(model, data, split) for split in ("val", "test")}

    context.progress.start(f"train {name}", recipe.steps(len(data.train.labels)))
    fitted = fit_classifier(
        Normalized(net, data.mean, data.std),
        data.train,
        recipe,
        context.engine,
        seed=seed,
        tutor=tutor,
        visits=ends,
        visit=visit,
        checkpoint=work.folder / "checkpoints" / "training.pt",
        on_step=work.step,
    )
    reached = [value for _, value in fitted.visited]
    context.progress.finish(f"{percent_text(reached[-1]['val'])} % of the validation images")
    return reached


def tutor_stage(context: Context, tutors: Sequence[Network], recipe: ClassifierRecipe) -> StageResult:
    """The mean of the tutors' logits on the first `tabled_epochs` views of every real training image, moved as
    `recipe` says.

    One table for all networks that imitate them. Where it would be too big the stage is empty: the labels then come
    from the tutors themselves, at every step.
    """
    data, seed, name = tutors[0].data, _tutor_seed(context), tutors[0].name
    epochs = tabled_epochs(context, recipe)
    spec = _real_views(data, recipe)

    def make(work: StageWork) -> dict[str, Any]:
        if tutor_tabled(context, data, recipe):
            total = epochs * len(data.train.labels)
            context.progress.start(f"{name} labels the real images", total)
            views = ViewMaker(data.train.images, spec, seed=seed, device=context.device)
            labels = make_labels(
                _committee(tutors),
                views,
                epochs=epochs,
                num_classes=data.num_classes,
                on_chunk=work.step,
            )
            assert labels.table is not None, "seen to fit"
            write_table(labels.table, work.folder / "logits.npy")
        return {}

    return context.shared.make(
        f"tutor-{name}",
        revision=TUTOR_REVISION,
        config={"views": spec.to_json(), "augmentation_seed": seed, "epochs": epochs},
        inputs={**_hashes("network", tutors), "data": data.content_hash},
        build=make,
    )


def tabled_epochs(context: Context, recipe: ClassifierRecipe) -> int:
    """Views of every real image in the table that `recipe` shares with all shorter trainings of the run's labelers."""
    return min(TUTOR_EPOCHS, max(recipe.epochs, context.setup.longest_training))


def tutor_tabled(context: Context, data: RealDataset, recipe: ClassifierRecipe) -> bool:
    """Whether a tutor's labels of the real images are made beforehand."""
    size = {"num_images": len(data.train.labels), "num_classes": data.num_classes}
    return tabled(_real_views(data, recipe), epochs=tabled_epochs(context, recipe), **size)


def _real_views(data: RealDataset, recipe: ClassifierRecipe) -> ViewSpec:
    return shifted_views(data.train.images.shape[2:], recipe.shift, flip=recipe.flip)


def _hashes(word: str, networks: Sequence[Network]) -> dict[str, str]:
    """By `word` for the first, `word`-1 for the second, and so on."""
    return {f"{word}-{i}" if i else word: network.stage.hash for i, network in enumerate(networks)}


def _committee(tutors: Sequence[Network]) -> Committee:
    return Committee([tutor.open() for tutor in tutors]).eval()


def _imitated(context: Context, tutors: Sequence[Network], recipe: ClassifierRecipe) -> Tutor:
    path = tutor_stage(context, tutors, recipe).folder / "logits.npy"
    table = read_table(path) if path.exists() else None
    net = _committee(tutors).to(context.device) if table is None else None
    labels = Labels(num_classes=tutors[0].data.num_classes, table=table, net=net)
    source = labels.source(temperature=TUTOR_TEMPERATURE)
    return Tutor(source=source, augmentation_seed=_tutor_seed(context), epochs=TUTOR_EPOCHS)


def _tutor_seed(context: Context) -> int:
    return derive(context.setup.config.seed, "tutor", "augmentation")


def teacher_network(context: Context, data: RealDataset, course: Course | None = None) -> Network:
    """The run's teacher, trained in that course; by default as its recipe says."""
    setup = context.setup
    recipe = setup.teacher_at(course) if course else setup.teacher_recipe
    return network_stage(context, data, setup.config.teacher.name, recipe)


def _accuracy(model: nn.Module, data: RealDataset, split: str) -> float:
    part = data.val if split == "val" else data.test
    labels: Tensor = part.labels
    return evaluate(model, part.images, labels).accuracy
