"""Stage: the artifact, before any student has been trained from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flashdd import __version__
from flashdd.artifact.write import ArtifactContent, write_artifact
from flashdd.core.errors import ConfigError
from flashdd.core.files import folder_bytes, sha256_file
from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.images.table import settings_of
from flashdd.pipeline.context import Context
from flashdd.pipeline.members import labeler_stage
from flashdd.pipeline.real import Network
from flashdd.pipeline.search import SearchResult, design_of
from flashdd.pipeline.setup import Setup
from flashdd.report.text import counted
from flashdd.training.evaluate import evaluate

_REVISION = 5


def artifact_stage(
    context: Context, data: RealDataset, images: ImageSet, capacity: SearchResult
) -> tuple[StageResult, ArtifactContent]:
    """`artifact/` with images and labeler; the record holds the labeler's facts, its test accuracy among them."""
    setup, choice = context.setup, capacity.choice
    made = labeler_stage(
        context, data, design_of(context, choice.rung, choice.setting.course, capacity.tutor)
    )
    setting = choice.setting
    labeler = made.open(setting.temperature, setting.logit_scale, setting.offsets)
    content = ArtifactContent(
        images=images,
        labeler=labeler,
        views=setup.protocol.views,
        augmentation_seed=setup.config.views.augmentation_seed,
        protocol=setup.protocol.to_json(),
        provenance=_provenance(setup, data, capacity),
        figures={},
        title=setup.config.title or f"{data.name}, {_images_text(setup)}",
    )

    def make(work: StageWork) -> dict[str, Any]:
        context.progress.message("artifact: packing images and labeler")
        folder = work.folder / "artifact"
        write_artifact(content, folder)
        label_bytes = (folder / "labeler.safetensors").stat().st_size
        if label_bytes > setup.budget_bytes:  # the rungs are measured before they are trained: never seen
            raise ConfigError(
                f"the labeler has {label_bytes} bytes, above the budget of {setup.budget_bytes} bytes."
            )
        return {
            "label_bytes": label_bytes,
            "image_bytes": next((folder / "data").iterdir()).stat().st_size,
            "artifact_bytes": folder_bytes(folder),
            "labeler_sha256": sha256_file(folder / "labeler.safetensors"),
            "accuracy": evaluate(labeler.to(context.device), data.test.images, data.test.labels).accuracy,
            "params": labeler.params,
            "bits": labeler.bits,
            "macs": labeler.macs,
        }

    stage = context.local.make(
        "artifact",
        revision=_REVISION,
        config={
            "choice": [str(choice), setup.member_at(setting.course).epochs, *setting.offsets],
            "protocol": content.protocol,
            "provenance": content.provenance,
            "augmentation_seed": content.augmentation_seed,
            "budget": setup.budget_bytes,
            "title": content.title,
        },
        inputs={"images": images.content_hash, "labeler": made.stage.hash},
        build=make,
    )
    return stage, content


def _images_text(setup: Setup) -> str:
    if setup.ipc is None:
        return f"{setup.num_images} images of {setup.facts.num_classes} classes"
    return f"{counted(setup.ipc, 'image')} per class"


def publish(content: ArtifactContent, figures: dict[str, Any], folder: Path) -> None:
    """Write the artifact that is shipped, now with its figures, beside the run's record."""
    write_artifact(replace(content, figures=figures), folder)


def _provenance(setup: Setup, data: RealDataset, capacity: SearchResult) -> dict[str, Any]:
    config = setup.config
    return {
        "flashdd": __version__,
        "data": {
            "name": data.name,
            "codec": data.codec,
            "content_hash": data.content_hash,
            "num_train": len(data.train.labels),
            "mean": list(data.mean),
            "std": list(data.std),
        },
        "images": {"method": setup.method, "ipc": setup.ipc, "settings": image_settings(setup)},
        "teacher": config.teacher.name,
        "labeler_training": _training(setup, capacity),
        "student": setup.student,
        "precision": config.precision,
        "label_column": config.data.label_column,
        "seed": config.seed,
    }


def _training(setup: Setup, capacity: SearchResult) -> dict[str, Any]:
    """Of the labeler's networks, whom they imitate, and whether class offsets of the images are in them."""
    setting = capacity.choice.setting
    return {
        "epochs": setup.member_at(setting.course).epochs,
        "shift": setting.shift,
        **({"class_offsets": True} if setting.offsets else {}),
        **tutor_facts(setup, capacity),
    }


def tutor_facts(setup: Setup, capacity: SearchResult) -> dict[str, Any]:
    """Nothing where nobody is imitated."""
    if capacity.tutor is None:
        return {}
    tutor = capacity.tutor
    facts = {"epochs": tutor.epochs, "shift": tutor.shift, "num_networks": tutor.copies}
    return {"tutor": {"name": setup.config.teacher.name, **facts}}


def image_settings(setup: Setup) -> dict[str, Any]:
    """The dials of the run's image method, as JSON values; none of a set made elsewhere."""
    if setup.foreign:
        return {}
    settings = settings_of(setup.method, setup.config.images)
    return settings if isinstance(settings, dict) else settings.model_dump(mode="json")


def teacher_bytes(teacher: Network) -> int:
    """What shipping the teacher costs: its float32 safetensors on disk."""
    return teacher.path().stat().st_size
