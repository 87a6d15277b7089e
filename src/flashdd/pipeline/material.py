"""What the rows of a result table are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from flashdd.artifact.format import has_class_offsets, read_manifest
from flashdd.artifact.read import open_labeler
from flashdd.core.files import sha256_file
from flashdd.core.stages import StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.candidates import Course, Setting
from flashdd.labels.flash.labeler import Labeler, rounded_statistics
from flashdd.models.table import size_of_name
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import Network
from flashdd.pipeline.search import SearchResult
from flashdd.training.evaluate import evaluate

_REVISION = 1
LABELER_FILE = "labeler.safetensors"


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A labeler as it lies in the folder of an artifact, or would with other class offsets.

    sha256: of its file. has_offsets: whether it has class offsets of the images that it was made for, as far as the
    artifact says. class_offsets: facts of those that it was tried with for other images.
    """

    labeler: Labeler
    bytes: int
    sha256: str
    has_offsets: bool = False
    class_offsets: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """More to say about the rows that it labels."""
        return {} if self.class_offsets is None else {"class_offsets": self.class_offsets}

    @property
    def name(self) -> str:
        """The architectures of its members, each once: `conv-3-w8`, `conv-3-w8+strided-3-w8`."""
        return "+".join(dict.fromkeys(member.spec.name for member in self.labeler.members))


def shipped_labeler(folder: Path) -> Shipped:
    """The labeler of the artifact in `folder`; raises ArtifactError."""
    path = folder / LABELER_FILE
    return Shipped(
        labeler=open_labeler(folder, None),
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        has_offsets=has_class_offsets(read_manifest(folder).provenance),
    )


@dataclass(frozen=True, kw_only=True)
class Material:
    """What rows are made of.

    method: the images' name in the table. teacher: trained in that course; searched: the search for
    its settings on these images; both made on demand. shipped: None where there is no artifact; suited, on demand: the
    same for these images, where it has class offsets of others. learned: soft labels (N, classes) that came with images
    made elsewhere.
    """

    data: RealDataset
    images: ImageSet
    method: str
    teacher: Callable[[Course], Network]
    searched: Callable[[], SearchResult]
    shipped: Shipped | None
    suited: Callable[[], Shipped] | None = None
    learned: Tensor | None = None

    def labeler(self) -> Shipped:
        """What labels these images."""
        assert self.shipped is not None, "checked before"
        return self.shipped if self.suited is None else self.suited()

    @property
    def statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        return student_statistics(self.shipped, self.data)


def student_statistics(shipped: Shipped | None, data: RealDataset) -> tuple[Sequence[float], Sequence[float]]:
    """The normalization of every student: the labeler's, so that those from the artifact alone are the same."""
    if shipped is not None:
        return shipped.labeler.statistics
    return rounded_statistics(data.mean, data.std)


def teacher_facts(context: Context, material: Material, setting: Setting) -> dict[str, Any]:
    """The record's facts about the teacher behind a row, at the setting of its labels."""
    setup, teacher = context.setup, material.teacher(setting.course)
    size = size_of_name(teacher.name, num_classes=setup.facts.num_classes, shape=setup.facts.shape)
    return {
        "name": teacher.name,
        "epochs": setup.teacher_at(setting.course).epochs,
        "shift": setting.shift,
        "params": size.params,
        "macs": size.macs,
        "accuracy": teacher.accuracy("test"),
        "val_accuracy": teacher.accuracy("val"),
        "temperature": setting.temperature,
        "logit_scale": setting.logit_scale,
        **({"offsets": list(setting.offsets)} if setting.offsets else {}),
    }


def labeler_facts(context: Context, data: RealDataset, shipped: Shipped) -> dict[str, Any]:
    """The record's facts about the labeler behind a row, as a classifier of real images among them."""
    labeler = shipped.labeler

    def make(work: StageWork) -> dict[str, float]:
        net = labeler.to(context.device)
        return {
            "test": evaluate(net, data.test.images, data.test.labels).accuracy,
            "val": evaluate(net, data.val.images, data.val.labels).accuracy,
        }

    stage = context.local.make(
        "labeler-itself",
        revision=_REVISION,
        config={},
        inputs={"labeler": shipped.sha256, "data": data.content_hash, "split": f"{len(data.val.labels)}"},
        build=make,
    )
    return {
        "name": shipped.name,
        "params": labeler.params,
        "macs": labeler.macs,
        "bits": labeler.bits,
        "num_members": labeler.num_members,
        "accuracy": stage.record["test"],
        "val_accuracy": stage.record["val"],
        "temperature": labeler.temperature,
        **({"class_offsets": True} if shipped.has_offsets else {}),
    }
