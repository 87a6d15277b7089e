"""`inspect`: what is inside, in bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from artifact_samples import VIEWS, make_artifact, make_labeler

from flashdd.artifact.format import CARD, IMAGES, LABELER, MANIFEST
from flashdd.artifact.inspect import describe
from flashdd.core.errors import ArtifactError


def test_describe(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact", labeler=make_labeler(members=2))
    (folder / "data" / "more.txt").write_text("12345")
    found = describe(folder)
    assert json.loads(json.dumps(found)) == found
    assert found["path"] == str(folder)
    assert (found["format"], found["flashdd"]) == (1, "0.1.0")
    assert found["images"] == {
        "num_images": 6,
        "num_classes": 3,
        "ipc": 2,
        "shape": [3, 8, 8],
        "class_names": ["cat", "dog", "猫"],
    }
    assert found["labeler"]["num_members"] == 2
    assert found["labeler"]["params"] == make_labeler(members=2).params
    assert found["labeler"]["temperature"] == 4.0
    assert found["views"] == VIEWS.to_json()
    assert found["augmentation_seed"] == 7
    assert found["provenance"]["teacher"] == "resnet18"


def test_bytes_by_part(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    (folder / "more.txt").write_text("12345")
    sizes = {name: (folder / name).stat().st_size for name in (IMAGES, LABELER, MANIFEST, CARD)}
    assert describe(folder)["bytes"] == {
        "images": sizes[IMAGES],
        "labeler": sizes[LABELER],
        "manifest": sizes[MANIFEST],
        "card": sizes[CARD],
        "other": 5,
        "total": sum(sizes.values()) + 5,
    }
    (folder / CARD).unlink()
    assert describe(folder)["bytes"]["card"] == 0


def test_a_damaged_artifact_is_refused(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    (folder / LABELER).write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"labeler.safetensors has 1 bytes"):
        describe(folder)
