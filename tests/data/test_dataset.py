"""Prepared files that are damaged are refused by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashdd.core.errors import DataError
from flashdd.data.dataset import open_dataset
from flashdd.data.sources import SourceOptions, prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(SourceOptions(source="digits"), tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["dataset.json", "train.npy", "val_labels.npy"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_a_missing_or_cut_file_is_named(folder: Path, name: str, damage: str) -> None:
    whole = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"" if damage == "empty" else whole[:-10])
    with pytest.raises(DataError, match=f"{folder / name} is missing or damaged .*delete the folder"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("format", 2, "expected format 1"),
        ("name", 3, "field 'name' is missing or not of type str"),
        ("std", None, "field 'std' is missing or not of type list"),
        ("mean", [0.1, 0.2], "do not agree"),
        ("shape", [1, 8, 9], r"uint8 \(1221, 1, 8, 8\), expected uint8 \(1221, 1, 8, 9\)"),
        ("counts", {"train": 1221, "val": 216}, "expected uint8"),
        ("class_names", ["0", "1"], "a label is no class"),
    ],
)
def test_facts_that_do_not_fit_are_named(folder: Path, key: str, value: Any, reason: str) -> None:
    file = folder / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(DataError, match=reason):
        open_dataset(folder)


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "test_labels.npy").write_bytes(pickle.dumps(np.load(folder / "test_labels.npy")))
    with pytest.raises(DataError, match=r"test_labels\.npy is missing or damaged"):
        open_dataset(folder)


def test_another_number_type_is_refused(folder: Path) -> None:
    np.save(folder / "test_labels.npy", np.load(folder / "test_labels.npy").astype(np.int32))
    with pytest.raises(DataError, match=r"int32 \(360,\), expected int64 \(360,\)"):
        open_dataset(folder)
