"""Stages: what tutors say of real images, and of the distilled ones, for the networks that imitate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flashdd.core.seeds import derive
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewMaker, ViewSpec
from flashdd.labels.committee import Committee
from flashdd.labels.table import Labels, make_labels, most_epochs, read_table, tabled, write_table
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import labels_stage
from flashdd.pipeline.real import Network
from flashdd.training.classifier import ClassifierRecipe, Rehearsal, Tutor, shifted_views

_TUTOR_REVISION = 1
TUTOR_EPOCHS = 8
"""Views of every real image that tutors label at most; longer trainings see them again. There are 18 of an image that
moves by a pixel at most and may be mirrored."""
TUTOR_TEMPERATURE = 4.0


@dataclass(frozen=True, kw_only=True)
class Tutors:
    """Networks whose mean is imitated."""

    networks: tuple[Network, ...]

    @property
    def name(self) -> str:
        return self.networks[0].name

    @property
    def hash(self) -> str:
        return " ".join(network.hash for network in self.networks)

    def open(self) -> Committee:
        """In eval mode: pixels in [0, 1] -> the mean of their logits."""
        return Committee([network.open() for network in self.networks]).eval()


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """The distilled images on whose views a network imitates its tutors, too; share: so many views per real image."""

    images: ImageSet
    share: float


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
                Tutors(networks=tuple(tutors)).open(),
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
        revision=_TUTOR_REVISION,
        config={"views": spec.to_json(), "augmentation_seed": seed, "epochs": epochs},
        inputs={**hashes("network", tutors), "data": data.content_hash},
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


def hashes(word: str, networks: Sequence[Network]) -> dict[str, str]:
    """By `word` for the first, `word`-1 for the second, and so on."""
    return {f"{word}-{i}" if i else word: network.stage.hash for i, network in enumerate(networks)}


def imitated(
    context: Context, tutors: Sequence[Network], recipe: ClassifierRecipe, rehearsed: Rehearsed | None
) -> Tutor:
    together = Tutors(networks=tuple(tutors))
    path = tutor_stage(context, tutors, recipe).folder / "logits.npy"
    table = read_table(path) if path.exists() else None
    net = together.open().to(context.device) if table is None else None
    labels = Labels(num_classes=tutors[0].data.num_classes, table=table, net=net)
    return Tutor(
        source=labels.source(temperature=TUTOR_TEMPERATURE),
        augmentation_seed=_tutor_seed(context),
        epochs=TUTOR_EPOCHS,
        rehearsal=_rehearsal(context, together, recipe, rehearsed) if rehearsed else None,
    )


def _rehearsal(context: Context, tutors: Tutors, recipe: ClassifierRecipe, rehearsed: Rehearsed) -> Rehearsal:
    labels = rehearsal_stage(context, tutors, recipe, rehearsed)[1]
    seed = context.setup.config.views.augmentation_seed
    spec = context.setup.protocol.views
    return Rehearsal(
        views=ViewMaker(rehearsed.images.images, spec, seed=seed, device=context.device),
        source=labels.source(temperature=TUTOR_TEMPERATURE),
        epochs=_different_epochs(context),
        per_batch=per_batch(recipe, rehearsed.share),
    )


def rehearsal_stage(
    context: Context, tutors: Tutors, recipe: ClassifierRecipe, rehearsed: Rehearsed
) -> tuple[StageResult, Labels]:
    """The tutors' labels of as many epochs of the distilled images' views as the run's longest training asks for."""
    num_train = len(tutors.networks[0].data.train.labels)
    first = rehearsed_epochs(context, num_train, recipe, rehearsed.share)
    return labels_stage(context, tutors, rehearsed.images, first=first)


def rehearsed_epochs(context: Context, num_train: int, recipe: ClassifierRecipe, share: float) -> int:
    """Epochs of the distilled images' views that `recipe`, or a longer training of the run's labelers, rehearses on;
    0 without a share."""
    if not share:
        return 0
    longest = replace(recipe, epochs=max(recipe.epochs, context.setup.longest_training))
    views = longest.steps(num_train) * per_batch(recipe, share)
    return min(_different_epochs(context), -(-views // context.setup.num_images))


def rehearsal_config(context: Context, rehearsed: Rehearsed) -> dict[str, Any]:
    """What decides which views are rehearsed on, but for the images themselves."""
    return {
        "share": rehearsed.share,
        "views": context.setup.protocol.views.to_json(),
        "augmentation_seed": context.setup.config.views.augmentation_seed,
        "epochs": _different_epochs(context),
    }


def per_batch(recipe: ClassifierRecipe, share: float) -> int:
    """Views of the distilled images beside a batch of real ones, one at least."""
    return max(1, round(share * recipe.batch_size))


def _different_epochs(context: Context) -> int:
    """Epochs of the distilled images' views that differ: those of a student, or fewer where a table of labels holds
    fewer; one that holds none is not made."""
    setup = context.setup
    student = setup.protocol.epochs(setup.num_images)
    return min(student, most_epochs(setup.num_images, setup.facts.num_classes) or student)


def _tutor_seed(context: Context) -> int:
    return derive(context.setup.config.seed, "tutor", "augmentation")
