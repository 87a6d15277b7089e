"""The record: exact round trips, errors that name the field, statistics against scipy and numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from flashdd.core.errors import ArtifactError
from flashdd.core.record import (
    RECORD_FORMAT,
    Accuracy,
    Bench,
    Comparison,
    Record,
    field_name,
    paired_difference,
)

SAMPLE = Path(__file__).parents[1] / "report" / "record.json"


@pytest.fixture
def content() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(SAMPLE.read_bytes())
    return loaded


def read(content: Any, folder: Path) -> Record:
    path = folder / "record.json"
    path.write_text(json.dumps(content))
    return Record.read(path)


def change(content: dict[str, Any], where: str, value: Any) -> None:
    """Set `where`, such as "students.2.accuracy.n", in place."""
    *parents, last = [int(part) if part.isdecimal() else part for part in where.split(".")]
    target: Any = content
    for part in parents:
        target = target[part]
    target[last] = value


def test_a_file_survives_reading_and_writing_byte_for_byte(tmp_path: Path) -> None:
    Record.read(SAMPLE).write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == SAMPLE.read_bytes()


@pytest.mark.parametrize(
    "where",
    ["wish", "data.wish", "images.wish", "students.0.wish", "students.0.accuracy.wish", "capacity.wish"],
)
def test_keys_that_no_model_knows_survive(where: str, content: dict[str, Any], tmp_path: Path) -> None:
    change(content, where, {"deep": [1, None, "two", {"three": 3.5}]})
    read(content, tmp_path).write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_bytes()) == content


def test_optional_keys_may_be_absent_and_stay_absent(content: dict[str, Any], tmp_path: Path) -> None:
    for key in ("ship", "notes"):
        del content[key]
    record = read(content, tmp_path)
    assert (record.ship, record.notes, record.teacher_search) == (None, (), None)
    record.write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_bytes()) == content


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Record.read(SAMPLE).labeler.bytes = 1


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (
            "students.2.accuracy.mean",
            54.5,
            r"field students\[2\]\.accuracy\.mean is wrong \(.*less than or equal",
        ),
        ("students.2.accuracy.n", 4, r"field students\[2\]\.accuracy is wrong \(.*n is 4, but 5 values"),
        (
            "students.2.accuracy.std",
            None,
            r"field students\[2\]\.accuracy is wrong \(.*std must be null at n = 1",
        ),
        ("students.2.accuracy.mean", 0.2, r"field students\[2\]\.accuracy is wrong \(.*that of the values"),
        ("labeler.bytes", "13408", r"field labeler\.bytes is wrong \(.*valid integer"),
        ("labeler.bytes", True, r"field labeler\.bytes is wrong \(.*valid integer"),
        ("labeler.macs_ratio", 0, r"field labeler\.macs_ratio is wrong \(.*greater than 0"),
        ("data.shape", [3, 32], r"field data\.shape\[2\] is wrong \(Field required"),
        ("capacity.chosen", 11, r"field capacity is wrong \(.*chosen is 11, but there are 11 candidates"),
        ("capacity.candidates", [], r"field capacity\.candidates is wrong"),
        ("capacity.candidates.3.temperature", -1, r"field capacity\.candidates\[3\]\.temperature is wrong"),
        ("seconds.teacher", -1, r"field seconds\.teacher is wrong"),
        ("artifact_bytes", None, r"field artifact_bytes is wrong"),
        ("ship", {"name": "x", "bytes": 1}, r"field ship\.accuracy is wrong \(Field required"),
    ],
)
def test_a_wrong_field_is_named(
    where: str, value: Any, message: str, content: dict[str, Any], tmp_path: Path
) -> None:
    change(content, where, value)
    with pytest.raises(ArtifactError, match=r"record\.json: " + message) as caught:
        read(content, tmp_path)
    assert "run the command that wrote it again" in str(caught.value)


def test_every_key_of_the_design_is_required(content: dict[str, Any], tmp_path: Path) -> None:
    for key in list(content):
        if key in ("ship", "notes", "format"):
            continue
        without = {name: value for name, value in content.items() if name != key}
        with pytest.raises(ArtifactError, match=f"field {key} is wrong"):
            read(without, tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"flashdd": "0.1.0", "for', "record.json is not JSON"),
        (b"\xff\xfe", "record.json is not JSON"),
        (b'{"format": 1, "artifact_bytes": NaN}', r"is not JSON \(NaN is no JSON number\)"),
        (b"[" * 100_000, "record.json is not JSON"),
        (b"[1, 2]", "field format is missing or no integer"),
        (b'{"format": "1"}', "field format is missing or no integer"),
        (b'{"format": true}', "field format is missing or no integer"),
        (b'{"format": 0}', "field format is 0, expected 1 to 1"),
        (
            b'{"format": 2, "flashdd": "9.9"}',
            "has format 2, written by flashdd 9.9; this flashdd reads up to 1: upg",
        ),
    ],
)
def test_damaged_foreign_and_newer_files_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=message):
        Record.read(path)


def test_a_missing_record_means_an_unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"record\.json is missing: .* start the same command again"):
        Record.read(tmp_path / "record.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Record.read(tmp_path)
    with pytest.raises(ArtifactError, match="absent does not exist: give the folder of a finished run"):
        Record.read(tmp_path / "absent" / "record.json")


def test_comparison_and_bench_hold_rows_of_the_same_form(content: dict[str, Any], tmp_path: Path) -> None:
    top = {key: content[key] for key in ("flashdd", "format", "environment")}
    compared = {"config": content["config"], "data": content["data"]}
    rows = [{**row, "ipc": 10} for row in content["students"]]
    for model, held in (
        (Comparison, {**top, **compared, "rows": rows}),
        (Bench, {**top, "rows": content["throughput"]}),
    ):
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(held))
        model.read(path).write(path)
        assert json.loads(path.read_bytes()) == held


def test_what_a_row_says_of_its_labels_is_kept(content: dict[str, Any], tmp_path: Path) -> None:
    """The choice at equal bytes, a committee's members, speeds; a choice that names no candidate is refused."""
    candidate = {
        "name": "vq@16",
        "bytes": 800,
        "proxy_mean": 0.5,
        "proxy_stderr": None,
        "n": 1,
        "values": [0.5],
    }
    choice = {"name": "vq@16", "bytes": 800, "budget_bytes": 900, "candidates": [candidate], "chosen": 0}
    member = {"name": "convnet-3-w8@e2", "bytes": 9000, "weight": 1.0}
    sizes = {"params": 9, "macs": 9, "accuracy": 0.6, "val_accuracy": 0.6, "temperature": 4.0}
    made = {"equal_bytes": {**choice, "seconds": 1.5}, "labels_per_second": 10.5, "seconds_per_epoch": 0.1}
    network = {**sizes, "members": [member], "batch_statistics": 8}
    row = {**content["students"][0], **made, "ipc": None, "network": network}
    top = {key: content[key] for key in ("flashdd", "format", "environment", "config", "data")}
    held = {**top, "rows": [row], "ship": {**content["ship"], "budget_bytes": 300_000}}
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(held))
    Comparison.read(path).write(path)
    assert json.loads(path.read_bytes()) == held
    row["equal_bytes"]["chosen"] = 1
    path.write_text(json.dumps(held))
    with pytest.raises(
        ArtifactError, match=r"rows\[0\]\.equal_bytes is wrong .*chosen is 1, but there are 1 cand"
    ):
        Comparison.read(path)


def test_field_names_read_like_code() -> None:
    assert field_name(("students", 2, "accuracy", "mean")) == "students[2].accuracy.mean"
    assert field_name(()) == "(top level)"


def test_accuracy_has_the_spread_of_a_sample() -> None:
    values = [0.51, 0.54, 0.56, 0.49]
    accuracy = Accuracy.of(values)
    assert accuracy.n == 4
    assert accuracy.values == tuple(values)
    assert accuracy.mean == pytest.approx(np.mean(values), abs=1e-15)
    assert accuracy.std == pytest.approx(np.std(values, ddof=1), abs=1e-15)


def test_one_value_has_no_spread() -> None:
    assert Accuracy.of([0.5]) == Accuracy(mean=0.5, std=None, n=1, values=(0.5,))
    with pytest.raises(ValueError, match="accuracy of no values"):
        Accuracy.of([])


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_paired_intervals_agree_with_scipy(n: int) -> None:
    draw = np.random.default_rng(n)
    a, b = draw.uniform(0.4, 0.6, n), draw.uniform(0.4, 0.6, n)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    got = paired_difference(a.tolist(), b.tolist())
    assert got.n == n
    assert got.mean == pytest.approx(np.mean(a - b))
    assert got.low == pytest.approx(expected.low, abs=1e-5)
    assert got.high == pytest.approx(expected.high, abs=1e-5)


def test_paired_differences_of_one_seed_and_of_other_seeds() -> None:
    one = paired_difference([0.5], [0.4])
    assert one.mean == pytest.approx(0.1)
    assert (one.low, one.high, one.n) == (None, None, 1)
    with pytest.raises(ValueError, match="2 values against 1"):
        paired_difference([0.5, 0.6], [0.4])
    with pytest.raises(ValueError, match="0 values against 0"):
        paired_difference([], [])


def test_the_format_number_is_the_one_documented() -> None:
    assert RECORD_FORMAT == 1
