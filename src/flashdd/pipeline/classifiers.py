"""Stage: a network trained on the real dataset, to tell its classes or to imitate tutors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from flashdd.core.files import write_atomic
from flashdd.core.plugins import own_part
from flashdd.core.seeds import derive
from flashdd.core.stages import StageWork
from flashdd.data.dataset import RealDataset
from flashdd.labels.flash.capacity import Course
from flashdd.models.table import build
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import Network, snapshot_file
from flashdd.pipeline.tutors import (
    TUTOR_EPOCHS,
    TUTOR_TEMPERATURE,
    Rehearsed,
    hashes,
    imitated,
    rehearsal_config,
)
from flashdd.training.classifier import ClassifierRecipe, fit_classifier, state_on_cpu
from flashdd.training.evaluate import evaluate
from flashdd.training.normalize import Normalized

NETWORK_REVISION = 2


def network_stage(
    context: Context,
    data: RealDataset,
    name: str,
    recipe: ClassifierRecipe,
    *,
    replica: int = 0,
    tutors: Sequence[Network] = (),
    rehearsed: Rehearsed | None = None,
) -> Network:
    """Train `name` on the real training split; every `replica` starts from weights, and sees views, of its own.

    With tutors it learns the mean of their logits instead of the classes, on views that all who have tutors share, and
    on views of distilled images as `rehearsed` says.
    """
    keys = (name,) if replica == 0 else (name, replica)
    seed = derive(context.setup.config.seed, "network", *keys)
    num_images = len(data.train.labels)
    ends = recipe.ends(num_images)
    imitation: dict[str, Any] = {}
    if tutors:
        imitation = {"tutor_temperature": TUTOR_TEMPERATURE, "tutor_epochs": TUTOR_EPOCHS}
    if rehearsed:
        imitation["rehearsal"] = rehearsal_config(context, rehearsed)

    def make(work: StageWork) -> list[dict[str, float]]:
        net = build(name, num_classes=data.num_classes, shape=data.shape, seed=derive(seed, "initialization"))

        def visit(step: int, model: nn.Module) -> dict[str, float]:
            write_atomic(work.folder / snapshot_file(ends.index(step)), save(state_on_cpu(model)))
            work.tick()
            return {split: _accuracy(model, data, split) for split in ("val", "test")}

        with work.paused():  # labeling the real images is a stage of its own
            tutor = imitated(context, tutors, recipe, rehearsed) if tutors else None
        context.progress.start(f"train {name}", recipe.steps(num_images))
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
        return [value for _, value in fitted.visited]

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
            **hashes("tutor", tutors),
            **({"distilled": rehearsed.images.content_hash} if rehearsed else {}),
        },
        build=make,
    )
    return Network(name=name, stage=stage, data=data)


def teacher_network(context: Context, data: RealDataset, course: Course | None = None) -> Network:
    """The run's teacher, trained in that course; by default as its recipe says."""
    setup = context.setup
    recipe = setup.teacher_at(course) if course else setup.teacher_recipe
    return network_stage(context, data, setup.config.teacher.name, recipe)


def _accuracy(model: nn.Module, data: RealDataset, split: str) -> float:
    part = data.val if split == "val" else data.test
    labels: Tensor = part.labels
    return evaluate(model, part.images, labels).accuracy
