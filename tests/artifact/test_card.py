"""The dataset card: a header that the Hub's tools read, tables that hold what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from artifact_samples import STUDENT, make_artifact, make_images, make_labeler
from huggingface_hub import metadata_load

from flashdd.artifact.format import CARD, IMAGES, LABELER


def header(folder: Path) -> dict[str, Any]:
    return dict(metadata_load(folder / CARD) or {})


def test_header(tmp_path: Path) -> None:
    assert header(make_artifact(tmp_path / "artifact", title="Cats: a | 'set'\n")) == {
        "license": "other",
        "pretty_name": "Cats: a | 'set'",
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", "flashdd"],
        "size_categories": ["n<1K"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]},
        ],
        "dataset_info": {
            "features": [
                {"name": "image", "dtype": "image"},
                {"name": "label", "dtype": {"class_label": {"names": {"0": "cat", "1": "dog", "2": "猫"}}}},
            ]
        },
    }


@pytest.mark.parametrize(("per_class", "size"), [(499, "n<1K"), (500, "1K<n<10K")])
def test_size_category(tmp_path: Path, per_class: int, size: str) -> None:
    images = make_images(names=("a", "b"), shape=(1, 8, 8), per_class=per_class)
    labeler = make_labeler(num_classes=2, shape=(1, 8, 8))
    folder = make_artifact(tmp_path / "artifact", images=images, labeler=labeler)
    assert header(folder)["size_categories"] == [size]


def test_body(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact")
    text = (folder / CARD).read_text(encoding="utf-8")
    sizes = {name: (folder / name).stat().st_size for name in (IMAGES, LABELER)}
    lines = text.split("---\n", 2)[2].splitlines()
    assert "# Two cats, two dogs" in lines
    assert lines[3].startswith("6 RGB images of 8 x 8 pixels in 3 classes, distilled")
    assert f"| `{IMAGES}` | {sizes[IMAGES]} | 6 images as PNG, with labels |" in lines
    assert any(
        line.startswith(f"| `{LABELER}` | {sizes[LABELER]} | the labeler: 1 network, ") for line in lines
    )
    assert "| labeler | rded | convnet-3-w32 | flash | 1234 | 98.77 ± 0.12 | 3 |" in lines
    assert "| data | digits |" in lines
    assert "| batch_size | 100 |" in lines
    assert "| temperature | null |" in lines
    assert 'artifact = flashdd.load("PATH")' in lines
    assert 'images = datasets.load_dataset("PATH", split="train")' in lines


def test_one_student_has_no_spread(tmp_path: Path) -> None:
    row = {**STUDENT, "accuracy": {"mean": 0.5, "std": None, "n": 1}}
    text = (make_artifact(tmp_path / "artifact", figures={"students": [row]}) / CARD).read_text(
        encoding="utf-8"
    )
    assert "| 1234 | 50.00 | 1 |" in text


@pytest.mark.parametrize("figures", [{}, {"students": []}, {"students": None}, {"students": ["x", 3]}])
def test_without_students(tmp_path: Path, figures: dict[str, Any]) -> None:
    text = (make_artifact(tmp_path / "artifact", figures=figures) / CARD).read_text(encoding="utf-8")
    assert "No student was trained when this artifact was written." in text


def test_values_cannot_break_tables_or_start_html(tmp_path: Path) -> None:
    provenance = {"data": "a|b\n\n# c <script>", "list": [1, "x"], "nested": {"a": None}}
    text = (make_artifact(tmp_path / "artifact", provenance=provenance) / CARD).read_text(encoding="utf-8")
    assert "| data | a\\|b # c &lt;script> |" in text
    assert '| list | [1, "x"] |' in text
    assert '| nested | {"a": null} |' in text


@pytest.mark.parametrize(
    ("training", "said"), [({"class_offsets": True}, 1), ({"epochs": 4}, 0), ({"class_offsets": "yes"}, 0)]
)
def test_class_offsets_are_explained(tmp_path: Path, training: dict[str, Any], said: int) -> None:
    folder = make_artifact(tmp_path / "artifact", provenance={"labeler_training": training})
    assert (folder / CARD).read_text(encoding="utf-8").count("The labeler has class offsets: ") == said
