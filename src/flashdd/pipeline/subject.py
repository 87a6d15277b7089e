"""What a comparison starts from: the folder of a run, or an artifact that came from elsewhere."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flashdd.artifact.format import IMAGES, MANIFEST
from flashdd.artifact.read import Artifact, load
from flashdd.core.errors import UsageError
from flashdd.core.plugins import Kind, is_plugin
from flashdd.core.recipe import read_recipe
from flashdd.core.record import Record, ShipFacts
from flashdd.pipeline.setup import FOREIGN
from flashdd.training.protocols import protocol_from_json


@dataclass(frozen=True, kw_only=True)
class Subject:
    """settings: sections of a recipe; artifact: its folder; stages: of the run, where finished work lies; ship: the
    best classifier within the artifact's bytes, where the run found it."""

    settings: dict[str, Any]
    artifact: Path | None = None
    stages: Path | None = None
    ship: ShipFacts | None = None


def compared_subject(path: Path | None, lender: Path | None, data: str | None) -> Subject:
    """What a comparison of `path` (a run, an artifact or a recipe; None: defaults) starts from, on `data` if named.

    lender: a run or artifact whose labeler, finished work and shipped classifier are taken; where it has no finished
    work, that of `path` is. Raises as `open_subject` and `read_recipe` do.
    """
    if path is None:
        held = Subject(settings={})
    elif path.is_dir():
        held = open_subject(path, data)
    elif path.exists() or path.suffix == ".toml":
        held = Subject(settings=read_recipe(path))
    else:
        raise UsageError(
            f"{path} does not exist: give the folder of a run or of an artifact, or a recipe (.toml)."
        )
    if lender is None:
        return held
    lent = read_subject(lender)
    return replace(held, artifact=lent.artifact, stages=lent.stages or held.stages, ship=lent.ship)


def open_subject(path: Path, data: str | None = None) -> Subject:
    """The run or artifact in folder `path`, on `data` or the data that it names.

    Raises UsageError for any other folder, or where data are named that are not here; ArtifactError for a damaged one.
    """
    subject = read_subject(path)
    source = str(subject.settings.get("data", {}).get("source"))
    if data is None and source != "digits" and "/" not in source and not Path(source).exists():
        raise UsageError(
            f"{path} was made from the data '{source}', which are not here under that name: give them with --data."
        )
    return subject


def read_subject(path: Path) -> Subject:
    """The run or artifact in folder `path`, wherever its data are; raises as `open_subject` does."""
    if (path / "record.json").is_file():
        record = Record.read(path / "record.json")
        settings = {key: value for key, value in record.config.items() if key != "resolved"}
        if record.images.method == FOREIGN:  # the recipe's path is not in the record
            settings["images"] |= {"method": str(path / "artifact" / IMAGES)}
        return Subject(
            settings=settings, artifact=path / "artifact", stages=path / "stages", ship=record.ship
        )
    if (path / MANIFEST).is_file():
        return Subject(settings=_settings_of(load(path)), artifact=path)
    if (path / "artifact" / MANIFEST).is_file():
        labeled = load(path / "artifact")
        if not labeled.figures.get("students"):  # as `flashdd label` leaves it, and no run that was killed
            return Subject(settings=_settings_of(labeled), artifact=labeled.path, stages=path / "stages")
    raise UsageError(
        f"{path} is neither the folder of a finished run (record.json) nor of an artifact ({MANIFEST}): give one of "
        "the two, or a recipe (.toml)."
    )


def _settings_of(artifact: Artifact) -> dict[str, Any]:
    """What an artifact says of how it was made; the rest are defaults.

    A name in an artifact is a stranger's: those of somebody's own parts are left out, for they would import a module.
    """
    made = artifact.provenance
    data, images = _object(made.get("data")), _object(made.get("images"))
    protocol: dict[str, Any] = {"name": _ours("protocol", artifact.protocol.get("name"))}
    with contextlib.suppress(KeyError, TypeError, ValueError):  # a protocol may be described freely
        protocol["image_passes"] = protocol_from_json(artifact.protocol).passes(artifact.image_set.num_images)
    settings: dict[str, dict[str, Any]] = {
        "data": {
            "source": data.get("name"),
            "classes": list(artifact.class_names),
            "resolution": artifact.image_set.shape[1],
            "label_column": made.get("label_column"),
        },
        "images": {"method": _image_method(artifact, images.get("method")), "ipc": artifact.image_set.ipc},
        "teacher": {"name": _ours("model", made.get("teacher"))},
        "student": {"name": _ours("model", made.get("student"))},
        "protocol": protocol,
        "views": {
            "augmentation_seed": artifact.augmentation_seed,
            "flip": artifact.views.flip,
            "mix": artifact.views.mix if artifact.views.mix.startswith("cutmix") else None,
        },
    }
    given = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in settings.items()
    }
    top = {key: made[key] for key in ("precision", "seed") if made.get(key) is not None}
    return {**given, **top}


def _image_method(artifact: Artifact, name: object) -> str | None:
    """As a recipe has it: of a set made elsewhere the file in the artifact."""
    return str(artifact.path / IMAGES) if name == FOREIGN else _ours("image method", name)


def _ours(kind: Kind, name: object) -> str | None:
    return name if isinstance(name, str) and not is_plugin(kind, name) else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
