"""Hugging Face datasets, from a local folder or from the hub, through `datasets.load_dataset`.

Images are taken from the Arrow table as encoded bytes and decoded by our own code, so that a damaged one
can be named by its row. Nothing of `datasets` is imported before it is needed (0.9 s).
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flashdd.core.errors import DataError, unknown_name
from flashdd.core.files import explain_os_errors
from flashdd.data.listing import Indices, SourceListing, SplitListing, quoted

TEST_SPLITS = ("test", "validation", "val")
"""Names of the test split; the first that exists and has labels is taken."""
LABEL_COLUMNS = ("label", "fine_label")
_LOCAL_FOLDER = "a local folder (class folders under train/ and test/, or parquet files of a dataset)"


def has_dataset_files(folder: Path) -> bool:
    """Whether `folder` is one dataset: parquet files, or what `DatasetDict.save_to_disk` writes.

    Without a README card parquet files count up to one folder deep only: a folder that holds several
    datasets is not one.
    """
    pattern = "**/*.parquet" if (folder / "README.md").is_file() else "*/*.parquet"
    return (
        (folder / "dataset_dict.json").is_file() or any(folder.glob("*.parquet")) or any(folder.glob(pattern))
    )


def list_local(folder: Path, label_column: str | None) -> SourceListing:
    """A dataset folder on this machine: parquet files with or without a README card, or one written by
    `DatasetDict.save_to_disk`. Columns and errors are those of `list_hub`.
    """
    return _list(folder.resolve().name, str(folder.resolve()), label_column)


def list_hub(name: str, label_column: str | None) -> SourceListing:
    """The dataset `OWNER/NAME` of the Hugging Face hub, downloaded into its cache at the first use.

    The image column is the one of type Image. The label column is `label_column` if given, else the only
    one of type ClassLabel, else `label`, else `fine_label`; plain integers and strings are labels too, with
    the sorted distinct values of train as classes. Splits: `train`, and `test`, `validation` or `val`.

    Raises DataError where the hub cannot be reached, the dataset does not exist or cannot be read, a split
    is missing, columns are ambiguous, or a row has no label; UnknownNameError for a `label_column` that
    does not exist.
    """
    return _list(name, name, label_column)


def _list(name: str, location: str, label_column: str | None) -> SourceListing:
    with _quiet():
        splits = _load(name, location)
    if "train" not in splits:
        raise _missing_split(name, "'train'", splits)
    features = splits["train"].features
    images, labels = _image_column(name, features), _label_column(name, features, label_column)
    train = _label_values(name, "train", splits["train"].data.column(labels))
    tests = {split: splits[split].data.column(labels) for split in TEST_SPLITS if split in splits}
    test = next((split for split, column in tests.items() if not _unlabeled(column)), None)
    if test is None:
        raise _missing_split(name, "'test', 'validation' or 'val', with labels,", splits)
    values = {"train": train, test: _label_values(name, test, tests[test])}
    class_names = getattr(features[labels], "names", None)
    keys = range(len(class_names)) if class_names else sorted(set(train))

    def listing(split: str) -> SplitListing:
        where = f"split {split} of {name}"
        return SplitListing(
            labels=_numbered(where, values[split], keys),
            open=_opener(splits[split].data.column(images)),
            describe=lambda row: f"row {row} of {where}",
        )

    return SourceListing(
        kind="hf",
        name=name,
        class_names=tuple(str(key) for key in class_names or keys),
        train=listing("train"),
        test=listing(test),
        fingerprint="/".join(splits[split]._fingerprint for split in ("train", test)),
    )


def _load(name: str, location: str) -> Any:
    """A DatasetDict; whatever goes wrong becomes a sentence."""
    import datasets

    try:
        if (Path(location) / "dataset_dict.json").is_file():
            return datasets.load_from_disk(location)
        return datasets.load_dataset(location)
    except ConnectionError as error:
        raise DataError(
            f"there is no folder '{name}' here, and the Hugging Face hub cannot be reached: connect once, so "
            f"that the dataset is downloaded, or give {_LOCAL_FOLDER}."
        ) from error
    except datasets.exceptions.DatasetNotFoundError as error:
        raise DataError(
            f"'{name}' is neither a folder here nor a dataset that the Hugging Face hub shows you: check the "
            f"spelling, log in with `hf auth login` if it is private or gated, or give {_LOCAL_FOLDER}."
        ) from error
    except Exception as error:  # the library lets through errors of Arrow, fsspec, httpx and its own
        causes = list(_causes(error))
        full = next((e for e in causes if isinstance(e, OSError) and e.errno == errno.ENOSPC), None)
        if full is not None:
            with explain_os_errors(Path(datasets.config.HF_DATASETS_CACHE)):
                raise full from error
        reason = " ".join(str(causes[-1]).split()).rstrip(".")[:300]
        raise DataError(
            f"{name} cannot be read as a Hugging Face dataset ({reason}): repair it, or give {_LOCAL_FOLDER}."
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _missing_split(name: str, expected: str, present: Sequence[str]) -> DataError:
    return DataError(
        f"{name} has the splits {quoted(sorted(present))}, but a split {expected} is needed: rename one or "
        "add it."
    )


def _image_column(name: str, features: Any) -> str:
    import datasets

    found = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(found) == 1:
        return str(found[0])
    have = f"the image columns {quoted(found)}" if found else "no column of type Image"
    raise DataError(
        f"{name} has {have} among its columns {quoted(list(features))}: exactly one of type Image is needed; "
        "drop or cast columns with the datasets library and save it as a local folder."
    )


def _label_column(name: str, features: Any, wanted: str | None) -> str:
    import datasets

    if wanted is not None and wanted not in features:
        raise unknown_name("label column", wanted, features)
    usable = [column for column, feature in features.items() if _is_label(feature)]
    typed = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if wanted is None and len(typed) == 1:
        return str(typed[0])
    candidates = [wanted] if wanted is not None else LABEL_COLUMNS
    found = next((column for column in candidates if column in usable), None)
    if found is not None:
        return found
    if wanted is not None:
        raise DataError(
            f"column '{wanted}' of {name} is of type {features[wanted]}, but a label is a ClassLabel, an "
            f"integer or a string: columns that could serve are {quoted(usable) or 'none'}."
        )
    have = f"several label columns, {quoted(typed)}," if typed else "no column of type ClassLabel"
    raise DataError(
        f"{name} has {have} among its columns {quoted(list(features))}: say which one holds the class with "
        "data.label_column."
    )


def _is_label(feature: Any) -> bool:
    """Whether a column holds ClassLabel, integer or string values."""
    return str(getattr(feature, "dtype", "")).startswith(("int", "uint", "bool", "string", "large_string"))


def _unlabeled(column: Any) -> bool:
    """Whether a split's labels are withheld: no row, or every label null or -1."""
    return all(value in (None, -1) for value in column.unique().to_pylist())


def _label_values(name: str, split: str, column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    row = next((row for row, value in enumerate(values) if value in (None, -1)), None)
    if row is not None:
        raise DataError(
            f"row {row} of split {split} of {name} has no label ({values[row]}): label or remove that row."
        )
    return values


def _numbered(where: str, values: list[Any], keys: Sequence[Any]) -> Indices:
    number = {key: index for index, key in enumerate(keys)}
    strange = sorted({value for value in values if value not in number})
    if strange:
        raise DataError(
            f"{where} has labels that are no class of its train split: {quoted(list(map(str, strange)))}; "
            "train and test must hold the same classes."
        )
    return np.array([number[value] for value in values], dtype=np.int64)


def _opener(column: Any) -> Callable[[int], Image.Image]:
    """Opens row i of an Arrow column struct<bytes, path>; safe to call from several threads."""
    starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])

    def open_row(row: int) -> Image.Image:
        chunk = int(np.searchsorted(starts, row, side="right")) - 1
        value = column.chunk(chunk)[row - int(starts[chunk])].as_py()
        if value is None or (value["bytes"] is None and value["path"] is None):
            raise ValueError("the row holds no image")
        if value["bytes"] is not None:
            return Image.open(io.BytesIO(value["bytes"]))
        import fsspec  # type: ignore[import-untyped]  # the path may lead into an archive: zip://a.png::/path/of/archive.zip

        with fsspec.open(value["path"], "rb") as file:
            return Image.open(io.BytesIO(file.read()))

    return open_row


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, warnings or log lines of the Hugging Face libraries; their settings come back."""
    with warnings.catch_warnings(), contextlib.ExitStack() as undo:
        warnings.simplefilter("ignore")
        import datasets
        from huggingface_hub import utils as hub

        for library in (datasets, hub):
            if not library.are_progress_bars_disabled():
                library.disable_progress_bars()
                undo.callback(library.enable_progress_bars)
        for name in ("datasets", "huggingface_hub"):
            logger = logging.getLogger(name)
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        yield
