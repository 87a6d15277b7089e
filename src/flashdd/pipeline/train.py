"""Students from an artifact alone, for whoever received one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from flashdd.artifact.read import Artifact, load
from flashdd.core.config import DataSection, RunConfig
from flashdd.core.device import deterministic, resolve_device, training_precision
from flashdd.core.errors import DataError
from flashdd.core.files import explain_os_errors, file_name, write_atomic
from flashdd.core.plugins import is_plugin
from flashdd.core.progress import Progress, Silent
from flashdd.core.record import Accuracy
from flashdd.core.seeds import derive
from flashdd.data.dataset import RealDataset, open_dataset
from flashdd.data.sources import check_source, prepare
from flashdd.models.table import default_student, size_of_name
from flashdd.pipeline.setup import source_options
from flashdd.report.text import percent_text
from flashdd.students.from_artifact import artifact_source, fit_from_artifact
from flashdd.training.classifier import state_on_cpu
from flashdd.training.engine import Engine
from flashdd.training.evaluate import evaluate


def train_from_artifact(
    path: Path,
    *,
    student: str | None = None,
    seeds: int = 3,
    seed: int = 0,
    test: str | None = None,
    out: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train `seeds` students from the artifact at `path` under its own protocol.

    `test` names real data (as `data.source` of a recipe does) for a test accuracy; without it none is reported.
    `out` keeps the students as safetensors files of a network on normalized pixels. Raises ArtifactError for a
    damaged artifact, UnknownNameError for a student that no table holds, OutputError where `out` cannot be written,
    all before any training, and DataError for test data of other classes.
    """
    progress = progress or Silent()
    artifact = load(path)
    name = student or _named_student(artifact)
    images = artifact.image_set
    size_of_name(
        name, num_classes=images.num_classes, shape=images.shape
    )  # raises what is wrong with the name
    if out is not None:
        with explain_os_errors(out):  # before the first student, not after it
            out.mkdir(parents=True, exist_ok=True)
    real = None if test is None else _test_data(artifact, test, progress)
    with deterministic():
        where = resolve_device(device)
        precision = training_precision(str(artifact.provenance.get("precision", "auto")), where)
        engine = Engine(where, precision=precision)
        progress.message("labels: made once for all students")
        source = artifact_source(artifact, engine.device)
        files, values = [], []
        for index in range(seeds):
            progress.start(f"student {index + 1} of {seeds}", artifact.protocol["steps"])
            model = fit_from_artifact(
                artifact, source, name, engine, seed=derive(seed, "student", index), on_step=progress.update
            )
            if real is not None:
                values.append(evaluate(model, *real).accuracy)
                progress.finish(f"{percent_text(values[-1])} % of the test images")
            if out is not None:
                files.append(out / f"{file_name(name)}-seed{index}.safetensors")
                write_atomic(files[-1], save(state_on_cpu(model)))
    progress.close()
    return {
        "student": name,
        "protocol": artifact.protocol["name"],
        "accuracy": Accuracy.of(values).model_dump(mode="json") if values else None,
        "files": [str(file) for file in files],
    }


def _named_student(artifact: Artifact) -> str:
    """The student that the artifact was evaluated with; the default where that was somebody's own code.

    A name in an artifact is a stranger's: it never makes this process import a module.
    """
    named = artifact.provenance.get("student")
    if isinstance(named, str) and not is_plugin("model", named):
        return named
    return default_student(artifact.image_set.shape)


def _test_data(artifact: Artifact, source: str, progress: Progress) -> tuple[torch.Tensor, torch.Tensor]:
    """Test images and labels; DataError unless classes and shape are the artifact's."""
    channels, height, _ = artifact.image_set.shape
    column = artifact.provenance.get("label_column")
    section = DataSection(source=source, resolution=height, classes=artifact.class_names, label_column=column)
    options = source_options(RunConfig(data=section))
    facts = check_source(options)
    if facts.class_names != artifact.class_names:
        raise DataError(
            f"--test {source}: its classes are {', '.join(facts.class_names[:5])}, ..., the artifact's are "
            f"{', '.join(artifact.class_names[:5])}, ...: give the data that the artifact was made from."
        )
    progress.message(f"test data: decoding {facts.name}")
    folder = Path(tempfile.mkdtemp(prefix="flashdd-"))
    try:
        prepare(options, folder)
        data: RealDataset = open_dataset(folder)
        if data.shape[0] != channels:
            raise DataError(
                f"--test {source}: its images have {data.shape[0]} channels, the artifact's {channels}."
            )
        return torch.from_numpy(data.test.images.copy()), data.test.labels.clone()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
