"""Hugging Face dataset folders and hub names, offline."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from flashdd.core.errors import DataError, StorageError, UnknownNameError
from flashdd.data.dataset import RealDataset, open_dataset
from flashdd.data.sources import SourceOptions, check_source, prepare

CLASSES = ["ant", "bee", "cow"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def jpeg(value: int) -> bytes:
    draw = np.random.default_rng(value)
    buffer = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def table(count: int, *, label_name: str = "label", **changes: Any) -> datasets.Dataset:
    """`count` JPEG images with labels 0, 1, 2, 0, ...; `changes` sets other columns (values, feature)."""
    columns: dict[str, tuple[list[Any], Any]] = {
        "image": ([{"bytes": jpeg(row), "path": None} for row in range(count)], datasets.Image()),
        label_name: ([row % 3 for row in range(count)], datasets.ClassLabel(names=CLASSES)),
    }
    columns |= changes
    return datasets.Dataset.from_dict(
        {name: values for name, (values, _) in columns.items()},
        features=datasets.Features({name: feature for name, (_, feature) in columns.items()}),
    )


def save(root: Path, **splits: datasets.Dataset) -> str:
    (root / "data").mkdir(parents=True)
    for name, rows in splits.items():
        rows.to_parquet(root / "data" / f"{name}-00000-of-00001.parquet")
    lines = [f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in splits]
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{''.join(lines)}---\n"
    (root / "README.md").write_text(card)
    return str(root)


def prepared(options: SourceOptions, folder: Path) -> RealDataset:
    folder.mkdir()
    prepare(options, folder)
    return open_dataset(folder)


def test_a_parquet_folder(tmp_path: Path) -> None:
    source = save(tmp_path / "bugs", train=table(12), test=table(6))
    options = SourceOptions(source=source)
    facts, data = check_source(options), prepared(options, tmp_path / "a")
    assert (data.name, data.source, data.codec) == ("bugs", "hf", "JPEG q75")
    assert data.class_names == facts.class_names == tuple(CLASSES)
    assert facts.class_counts == (4, 4, 4)
    assert (facts.num_train, facts.num_val, facts.num_test) == (9, 3, 6)
    assert data.shape == facts.shape == (3, 8, 8)
    assert data.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    naive = np.stack([np.asarray(Image.open(io.BytesIO(jpeg(row)))).transpose(2, 0, 1) for row in range(6)])
    np.testing.assert_array_equal(data.test.images, naive)


def test_several_parquet_files_are_one_split(tmp_path: Path) -> None:
    source = save(tmp_path / "bugs", train=table(12), test=table(6))
    whole = prepared(SourceOptions(source=source), tmp_path / "a")
    train = tmp_path / "bugs" / "data" / "train-00000-of-00001.parquet"
    table(12).select(range(5)).to_parquet(train)
    table(12).select(range(5, 12)).to_parquet(train.with_name("train-00001-of-00001.parquet"))
    assert prepared(SourceOptions(source=source), tmp_path / "b").content_hash == whole.content_hash


def test_a_folder_saved_to_disk(tmp_path: Path) -> None:
    parquet = save(tmp_path / "bugs", train=table(12), test=table(6))
    datasets.DatasetDict(train=table(12), test=table(6)).save_to_disk(tmp_path / "saved")
    first, second = (
        prepared(SourceOptions(source=str(source)), tmp_path / name)
        for source, name in ((parquet, "a"), (tmp_path / "saved", "b"))
    )
    assert first.content_hash == second.content_hash


def test_images_kept_as_paths(tmp_path: Path) -> None:
    files = []
    for row in range(12):
        files.append({"bytes": None, "path": str(tmp_path / f"{row}.jpg")})
        (tmp_path / f"{row}.jpg").write_bytes(jpeg(row))
    paths = table(12, image=(files, datasets.Image()))
    datasets.DatasetDict(train=paths, test=table(6)).save_to_disk(tmp_path / "saved")
    bytes_too = save(tmp_path / "bugs", train=table(12), test=table(6))
    first, second = (
        prepared(SourceOptions(source=str(source)), tmp_path / name)
        for source, name in ((tmp_path / "saved", "a"), (bytes_too, "b"))
    )
    assert first.content_hash == second.content_hash


def test_classes_are_picked_by_name(tmp_path: Path) -> None:
    source = save(tmp_path / "bugs", train=table(12), test=table(6))
    data = prepared(SourceOptions(source=source, classes=("cow", "ant")), tmp_path / "a")
    assert data.class_names == ("ant", "cow")
    assert data.test.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("name", ["validation", "val"])
def test_other_names_of_the_test_split(tmp_path: Path, name: str) -> None:
    source = save(tmp_path / "bugs", train=table(12), **{name: table(6)})
    assert check_source(SourceOptions(source=source)).num_test == 6


def test_a_test_split_without_labels_is_passed_over(tmp_path: Path) -> None:
    withheld = table(9, label=([-1] * 9, datasets.ClassLabel(names=CLASSES)))
    source = save(tmp_path / "bugs", train=table(12), test=withheld, validation=table(6))
    assert check_source(SourceOptions(source=source)).num_test == 6
    source = save(tmp_path / "none", train=table(12), test=withheld)
    with pytest.raises(DataError, match=r"splits 'test', 'train', but a split 'test', .*with labels"):
        check_source(SourceOptions(source=source))


def test_missing_splits(tmp_path: Path) -> None:
    source = save(tmp_path / "a", train=table(12), extra=table(6))
    with pytest.raises(DataError, match="a has the splits 'extra', 'train', but a split 'test'"):
        check_source(SourceOptions(source=source))
    source = save(tmp_path / "b", extra=table(12), test=table(6))
    with pytest.raises(DataError, match="b has the splits 'extra', 'test', but a split 'train' is needed"):
        check_source(SourceOptions(source=source))


def two_labels(count: int, first: str) -> datasets.Dataset:
    coarse = ([row % 2 for row in range(count)], datasets.ClassLabel(names=["x", "y"]))
    return table(count, label_name=first, coarse_label=coarse)


@pytest.mark.parametrize("first", ["label", "fine_label"])
def test_the_label_column_is_found_among_several(tmp_path: Path, first: str) -> None:
    source = save(tmp_path / "bugs", train=two_labels(12, first), test=two_labels(6, first))
    assert check_source(SourceOptions(source=source)).class_names == tuple(CLASSES)
    coarse = SourceOptions(source=source, label_column="coarse_label")
    assert check_source(coarse).class_names == ("x", "y")
    with pytest.raises(UnknownNameError, match="label column 'coarse_labl': did you mean 'coarse_label'"):
        check_source(SourceOptions(source=source, label_column="coarse_labl"))
    with pytest.raises(DataError, match=r"column 'image' of bugs is of type Image.*could serve are"):
        check_source(SourceOptions(source=source, label_column="image"))


def test_a_label_column_goes_before_the_only_class_label(tmp_path: Path) -> None:
    kinds = (["x", "y"] * 6, datasets.Value("string"))
    source = save(tmp_path / "bugs", train=table(12, kind=kinds), test=table(12, kind=kinds))
    assert check_source(SourceOptions(source=source)).class_names == tuple(CLASSES)
    assert check_source(SourceOptions(source=source, label_column="kind")).class_names == ("x", "y")


def test_ambiguous_columns_are_listed(tmp_path: Path) -> None:
    source = save(tmp_path / "a", train=two_labels(12, "kind"), test=two_labels(6, "kind"))
    with pytest.raises(DataError, match=r"several label columns, 'kind', 'coarse_label'.*data\.label_column"):
        check_source(SourceOptions(source=source))
    picture = ([{"bytes": jpeg(row), "path": None} for row in range(12)], datasets.Image())
    source = save(tmp_path / "b", train=table(12, picture=picture), test=table(12, picture=picture))
    with pytest.raises(DataError, match=r"image columns 'image', 'picture' among its columns"):
        check_source(SourceOptions(source=source))
    numbers = (list(range(12)), datasets.Value("int64"))
    source = save(tmp_path / "c", train=table(12, image=numbers), test=table(12, image=numbers))
    with pytest.raises(DataError, match=r"no column of type Image among its columns 'image', 'label'"):
        check_source(SourceOptions(source=source))


@pytest.mark.parametrize(("kind", "values"), [("string", ["b", "a", "c"]), ("int32", [20, 10, 30])])
def test_plain_labels_become_sorted_classes(tmp_path: Path, kind: str, values: list[Any]) -> None:
    def labels(count: int) -> tuple[list[Any], Any]:
        return [values[row % 3] for row in range(count)], datasets.Value(kind)

    source = save(tmp_path / "bugs", train=table(12, label=labels(12)), test=table(6, label=labels(6)))
    data = prepared(SourceOptions(source=source), tmp_path / "a")
    assert data.class_names == tuple(str(value) for value in sorted(values))
    assert data.test.labels.tolist() == [1, 0, 2, 1, 0, 2]
    strange = (labels(5)[0] + [values[0] * 7], datasets.Value(kind))
    source = save(tmp_path / "odd", train=table(12, label=labels(12)), test=table(6, label=strange))
    with pytest.raises(DataError, match=f"no class of its train split: '{values[0] * 7}'"):
        check_source(SourceOptions(source=source))


def test_a_row_without_label_is_named(tmp_path: Path) -> None:
    labels = ([0, 1, 2, None, 1, 2] * 2, datasets.ClassLabel(names=CLASSES))
    source = save(tmp_path / "bugs", train=table(12, label=labels), test=table(6))
    with pytest.raises(DataError, match="row 3 of split train of bugs has no label"):
        check_source(SourceOptions(source=source))


def test_a_class_that_test_lacks_is_named(tmp_path: Path) -> None:
    source = save(tmp_path / "bugs", train=table(12), test=table(2))
    with pytest.raises(DataError, match="the test split of bugs has no image of 'cow'"):
        check_source(SourceOptions(source=source))
    assert check_source(SourceOptions(source=source, classes=("ant", "bee"))).num_test == 2


@pytest.mark.parametrize("damage", ["cut", "null"])
def test_a_corrupt_row_is_named(tmp_path: Path, damage: str) -> None:
    rows: list[Any] = [{"bytes": jpeg(row), "path": None} for row in range(18)]
    rows[17] = {"bytes": jpeg(17)[:-60], "path": None} if damage == "cut" else None
    source = save(tmp_path / "bugs", train=table(18, image=(rows, datasets.Image())), test=table(6))
    options = SourceOptions(source=source, classes=("bee", "cow"))
    with pytest.raises(DataError, match="row 17 of split train of bugs cannot be decoded"):
        prepared(options, tmp_path / "a")


def test_a_damaged_parquet_file_is_a_sentence(tmp_path: Path) -> None:
    source = save(tmp_path / "bugs", train=table(12), test=table(6))
    (tmp_path / "bugs" / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"bugs cannot be read as a Hugging Face dataset \(.+\): repair it"):
        check_source(SourceOptions(source=source))


def test_a_folder_of_several_datasets_is_none(tmp_path: Path) -> None:
    save(tmp_path / "all" / "bugs", train=table(12), test=table(6))
    with pytest.raises(DataError, match=r"all has no train/ folder \(it holds 'bugs'\)"):
        check_source(SourceOptions(source=str(tmp_path / "all")))


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ConnectionError("Couldn't reach"), DataError, "no folder 'o/n' here, and .* cannot be reached"),
        (datasets.exceptions.DatasetNotFoundError("x"), DataError, "'o/n' is neither a folder here nor"),
        (ValueError("Config name is missing.\n Pick"), DataError, r"o/n .*\(Config name is missing. Pick\)"),
        (OSError(28, "No space left on device"), StorageError, "no space left while writing"),
    ],
)
def test_hub_failures_are_sentences(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], message: str
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(kind, match=message):
        check_source(SourceOptions(source="o/n"))


def test_loading_is_quiet_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "bugs", train=table(12), test=table(6))
    datasets.enable_progress_bars()
    capfd.readouterr()
    real = datasets.load_dataset

    def noisy(path: str) -> Any:
        logging.getLogger("datasets.load").error("noise")
        return real(path)

    monkeypatch.setattr(datasets, "load_dataset", noisy)
    logger = logging.getLogger("datasets")
    level = logger.level
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    logger.addHandler(handler)
    check_source(SourceOptions(source=source))
    logger.removeHandler(handler)
    assert not records
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()
    assert logger.level == level
