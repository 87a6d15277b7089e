"""Small artifacts for the tests, and the hand that damages them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flashdd.artifact.format import IMAGES, LABELER, MANIFEST
from flashdd.artifact.write import ArtifactContent, write_artifact
from flashdd.core.files import canonical_json, sha256_bytes
from flashdd.data.imageset import ImageSet
from flashdd.data.viewspec import ViewSpec
from flashdd.labels.flash.labeler import Labeler, Member
from flashdd.models.family import LabelerSpec, spec_layers

NAMES = ("cat", "dog", "猫")
SHAPE = (3, 8, 8)
VIEWS = ViewSpec(padding=1, crop_scale=(0.25, 1.0), flip=True, mix="cutmix")
FILES = (MANIFEST, IMAGES, LABELER)


def make_images(
    names: tuple[str, ...] = NAMES, shape: tuple[int, int, int] = SHAPE, per_class: int = 2
) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    size = (len(names) * per_class, *shape)
    return ImageSet(
        images=torch.randint(0, 256, size, dtype=torch.uint8, generator=generator),
        labels=torch.arange(len(names)).repeat_interleave(per_class),
        class_names=names,
    )


def make_labeler(
    num_classes: int = len(NAMES), shape: tuple[int, int, int] = SHAPE, seed: int = 2, members: int = 1
) -> Labeler:
    generator = torch.Generator().manual_seed(seed)
    spec = LabelerSpec(stem="conv", depth=1, width=2)
    layers = spec_layers(spec, shape, num_classes)
    made = [
        Member(
            spec=spec,
            integers=tuple(
                torch.randint(-127, 128, layer.weight_shape, dtype=torch.int8, generator=generator)
                for layer in layers
            ),
            scales=tuple(torch.full((layer.outputs,), 2**-8, dtype=torch.float16) for layer in layers),
            biases=tuple(torch.rand(layer.outputs, generator=generator).half() for layer in layers),
        )
        for _ in range(members)
    ]
    statistics = [0.5] * shape[0]
    return Labeler(
        made, shape=shape, num_classes=num_classes, mean=statistics, std=statistics, temperature=4.0
    )


def make_content(**changes: Any) -> ArtifactContent:
    fields: dict[str, Any] = {
        "images": make_images(),
        "labeler": make_labeler(),
        "views": VIEWS,
        "augmentation_seed": 7,
        "protocol": {"name": "flash", "batch_size": 100, "temperature": None},
        "provenance": {"data": "digits", "ipc": 2, "teacher": "resnet18"},
        "figures": {"students": [STUDENT]},
        "title": "Two cats, two dogs",
    }
    return ArtifactContent(**{**fields, **changes})


STUDENT = {
    "scheme": "labeler",
    "images": "rded",
    "student": "convnet-3-w32",
    "protocol": "flash",
    "label_bytes": 1234,
    "accuracy": {"mean": 0.98765, "std": 0.00123, "n": 3, "values": [0.98, 0.99, 0.99]},
    "seconds": 1.5,
}


def make_artifact(folder: Path, **changes: Any) -> Path:
    write_artifact(make_content(**changes), folder)
    return folder


def seal(document: dict[str, Any]) -> bytes:
    """The bytes of a flashdd.json with these fields, its hash made anew."""
    fields = {name: value for name, value in document.items() if name != "sha256"}
    covered = canonical_json(fields)[:-1]
    return covered + f',"sha256":"{sha256_bytes(covered)}"}}'.encode()


def reseal(folder: Path, change: Callable[[dict[str, Any]], object] = lambda document: None) -> None:
    """Change flashdd.json, then make every hash and size anew, as somebody would who wants to be believed."""
    document = json.loads((folder / MANIFEST).read_bytes())
    for name in (IMAGES, LABELER):
        data = (folder / name).read_bytes()
        document["files"][name] = {"bytes": len(data), "sha256": sha256_bytes(data)}
    change(document)
    (folder / MANIFEST).write_bytes(seal(document))
