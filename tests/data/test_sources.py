"""`digits` and class folders, from a look to the prepared files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flashdd.core.errors import ConfigError, DataError, StorageError, UnknownNameError
from flashdd.data.dataset import RealDataset, open_dataset
from flashdd.data.decode import Header, read_header
from flashdd.data.listing import SplitListing
from flashdd.data.sources import SourceFacts, SourceOptions, check_source, prepare


def prepared(options: SourceOptions, folder: Path) -> RealDataset:
    folder.mkdir()
    prepare(options, folder)
    return open_dataset(folder)


def make_folder(
    root: Path,
    *,
    classes: tuple[str, ...] = ("ant", "bee"),
    per_class: int = 4,
    size: tuple[int, int] = (8, 8),
    color: bool = True,
    test: str = "test",
) -> Path:
    """Class folders of noise images, `per_class` in train and half as many in test."""
    draw = np.random.default_rng(0)
    width, height = size
    for split, count in (("train", per_class), (test, max(1, per_class // 2))):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                shape = (height, width, 3) if color else (height, width)
                values = draw.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(values).save(root / split / name / f"{number}.png")
    return root


def check(path: Path | str) -> SourceFacts:
    return check_source(SourceOptions(source=str(path)))


def test_digits_are_cut_as_promised(tmp_path: Path) -> None:
    options = SourceOptions(source="digits")
    facts = check_source(options)
    data = prepared(options, tmp_path / "a")
    assert (facts.num_train, facts.num_val, facts.num_test) == (1221, 216, 360)
    assert [len(split.labels) for split in (data.train, data.val, data.test)] == [1221, 216, 360]
    assert data.shape == facts.shape == (1, 8, 8)
    assert (data.name, data.source, data.codec) == ("digits", "digits", "raw")
    assert data.class_names == tuple("0123456789")
    assert data.num_classes == facts.num_classes == 10
    assert {split.images.dtype for split in (data.train, data.val, data.test)} == {np.dtype(np.uint8)}
    assert {split.labels.dtype for split in (data.train, data.val, data.test)} == {torch.int64}
    train = torch.bincount(data.train.labels) + torch.bincount(data.val.labels)
    whole = train + torch.bincount(data.test.labels)
    assert (torch.bincount(data.val.labels) - 0.15 * train).abs().max() < 1
    assert (torch.bincount(data.test.labels) - 0.2 * whole).abs().max() < 1


def test_digits_are_scaled_to_bytes_and_keep_their_order(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    row_of = {
        (tuple(round(value * 255 / 16) for value in image.ravel()), int(label)): row
        for row, (image, label) in enumerate(zip(bunch.images, bunch.target, strict=True))
    }
    assert len(row_of) == 1797
    data = prepared(SourceOptions(source="digits"), tmp_path / "a")
    seen: list[int] = []
    for split in (data.train, data.val, data.test):
        pairs = zip(split.images, split.labels.tolist(), strict=True)
        rows = [row_of[tuple(image.ravel().tolist()), label] for image, label in pairs]
        assert rows == sorted(rows)
        seen += rows
    assert sorted(seen) == list(range(1797))


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    options = SourceOptions(source="digits", resolution=12)
    assert prepared(options, tmp_path / "a").shape == (1, 12, 12)
    prepared(options, tmp_path / "b")
    first, second = (
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (tmp_path / name).iterdir()}
        for name in ("a", "b")
    )
    assert first == second
    assert len(first) == 7


def test_images_are_mapped_and_read_only(tmp_path: Path) -> None:
    data = prepared(SourceOptions(source="digits"), tmp_path / "a")
    assert isinstance(data.train.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0


def test_mean_and_std_are_those_of_the_training_pixels(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", per_class=10)
    data = prepared(SourceOptions(source=str(root)), tmp_path / "a")
    pixels = np.asarray(data.train.images, dtype=np.float64) / 255
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_the_hash_is_that_of_the_decoded_content(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", per_class=10)
    whole = prepared(SourceOptions(source=str(root)), tmp_path / "a")
    other_cut = prepared(SourceOptions(source=str(root), validation=0.5), tmp_path / "b")
    assert len(other_cut.val.labels) == 10
    assert whole.content_hash == other_cut.content_hash
    (root / "test" / "ant" / "4.png").rename(root / "test" / "bee" / "-1.png")
    relabeled = prepared(SourceOptions(source=str(root)), tmp_path / "e")
    np.testing.assert_array_equal(relabeled.test.images, whole.test.images)
    assert relabeled.content_hash != whole.content_hash
    (root / "train" / "ant").rename(root / "train" / "asp")
    (root / "test" / "ant").rename(root / "test" / "asp")
    renamed = prepared(SourceOptions(source=str(root)), tmp_path / "c")
    assert renamed.content_hash != whole.content_hash
    image = root / "test" / "asp" / "0.png"
    Image.fromarray(np.asarray(Image.open(image)) ^ np.uint8(1)).save(image)
    assert prepared(SourceOptions(source=str(root)), tmp_path / "d").content_hash != renamed.content_hash


def test_a_folder_is_read_in_sorted_order_and_cut_in_original_order(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", per_class=6)
    data = prepared(SourceOptions(source=str(root)), tmp_path / "a")
    assert data.name == "data"
    assert (data.source, data.codec, data.class_names) == ("folder", "PNG", ("ant", "bee"))
    files = [root / "train" / name / f"{n}.png" for name in data.class_names for n in range(6)]
    original = [np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files]
    position = {pixels.tobytes(): row for row, pixels in enumerate(original)}
    in_train, in_val = (
        [position[np.ascontiguousarray(image).tobytes()] for image in split.images]
        for split in (data.train, data.val)
    )
    assert in_train == sorted(in_train)
    assert in_val == sorted(in_val)
    assert sorted(in_train + in_val) == list(range(12))
    assert data.train.labels.tolist() == [row // 6 for row in in_train]
    assert data.val.labels.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["val", "validation"])
def test_other_names_of_the_test_folder(tmp_path: Path, name: str) -> None:
    facts = check(make_folder(tmp_path / "data", test=name))
    assert (facts.num_train, facts.num_val, facts.num_test) == (6, 2, 4)
    assert facts.class_counts == (4, 4)


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data")
    (root / "train" / "ant" / ".hidden.png").write_bytes(b"x")
    (root / "train" / "ant" / "notes.txt").write_bytes(b"x")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "ant" / ".thumbs").mkdir()
    (root / "train" / "ant" / ".thumbs" / "0.png").write_bytes(b"x")
    (root / "train" / "ant" / "more").mkdir()
    Image.new("RGB", (8, 8)).save(root / "train" / "ant" / "more" / "0.PNG")
    assert check(root).class_counts == (5, 4)


def test_grey_only_if_every_image_is_grey(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", color=False)
    assert prepared(SourceOptions(source=str(root)), tmp_path / "a").shape == (1, 8, 8)
    Image.new("RGB", (8, 8), (9, 8, 7)).save(root / "test" / "bee" / "9.png")
    data = prepared(SourceOptions(source=str(root)), tmp_path / "b")
    assert data.shape == (3, 8, 8)
    assert data.test.images[-1, :, 0, 0].tolist() == [9, 8, 7]
    np.testing.assert_array_equal(data.train.images[:, 0], data.train.images[:, 2])


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [((8, 8), None, 8), ((64, 64), None, 64), ((72, 72), None, 64), ((9, 8), None, 64), ((8, 8), 16, 16)],
)
def test_the_resolution(tmp_path: Path, size: tuple[int, int], resolution: int | None, expected: int) -> None:
    root = make_folder(tmp_path / "data", size=size)
    options = SourceOptions(source=str(root), resolution=resolution)
    assert check_source(options).shape == (3, expected, expected)
    assert prepared(options, tmp_path / "a").shape == (3, expected, expected)


def test_mixed_sizes_take_64_pixels(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data")
    Image.new("RGB", (30, 20)).save(root / "test" / "ant" / "9.png")
    assert check(root).shape == (3, 64, 64)


def test_mixed_codecs_are_told(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data")
    for quality in (75, 90):
        noise = np.random.default_rng(quality).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "train" / "ant" / f"j{quality}.jpg", quality=quality)
    assert prepared(SourceOptions(source=str(root)), tmp_path / "a").codec == "JPEG q75-90, PNG"


def test_large_images_are_decoded_by_threads_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "data", per_class=40, size=(9, 8))
    one = prepared(SourceOptions(source=str(root), resolution=8), tmp_path / "a")
    monkeypatch.setattr("flashdd.data.write._SMALL", 0)
    monkeypatch.setattr("flashdd.data.write.MOST_WORKERS", 3)
    monkeypatch.setattr("flashdd.data.write._TASK", 2)
    monkeypatch.setattr("flashdd.data.write._CHUNK_BYTES", 7 * 192)
    many = prepared(SourceOptions(source=str(root), resolution=8), tmp_path / "b")
    assert one.content_hash == many.content_hash
    assert (one.mean, one.std) == (many.mean, many.std)
    np.testing.assert_array_equal(one.val.images, many.val.images)


def test_classes_by_name_or_number_keep_their_order(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", classes=("ant", "bee", "2", "dog"))
    options = SourceOptions(source=str(root), classes=("dog", "0"))  # sorted: 2, ant, bee, dog
    data = prepared(options, tmp_path / "a")
    assert data.class_names == check_source(options).class_names == ("2", "dog")
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    first = np.asarray(Image.open(root / "test" / "dog" / "0.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(data.test.images[2], first)
    named = SourceOptions(source=str(root), classes=("2", "1"))  # the name 2 goes before the number 2
    assert check_source(named).class_names == ("2", "ant")
    assert check_source(SourceOptions(source="digits", classes=("8", "1"))).class_names == ("1", "8")


def test_unknown_classes(tmp_path: Path) -> None:
    root = str(make_folder(tmp_path / "data"))
    with pytest.raises(UnknownNameError, match=r"unknown class 'bea': did you mean 'bee'\? .*0\.\.1"):
        check_source(SourceOptions(source=root, classes=("ant", "bea")))
    with pytest.raises(UnknownNameError, match="unknown class '2'"):
        check_source(SourceOptions(source=root, classes=("ant", "2")))
    with pytest.raises(DataError, match="holds the single class 'bee': two classes or more"):
        check_source(SourceOptions(source=root, classes=("bee", "1")))
    with pytest.raises(DataError, match="holds no class"):
        check_source(SourceOptions(source=root, classes=()))


def test_a_long_list_of_classes_is_cut_off_in_messages(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", classes=tuple(f"class{n:03}" for n in range(40)), per_class=2)
    with pytest.raises(UnknownNameError) as caught:
        check_source(SourceOptions(source=str(root), classes=("clas039",)))
    assert "did you mean 'class039'?" in str(caught.value)
    assert str(caught.value).count("class0") < 25


@pytest.mark.parametrize("resolution", [3, 1025, -1])
def test_resolution_out_of_range(resolution: int) -> None:
    with pytest.raises(ConfigError, match=rf"resolution is {resolution}, but must lie in 4\.\.1024"):
        SourceOptions(source="digits", resolution=resolution)


@pytest.mark.parametrize("fraction", [0.0, 0.51, float("nan")])
def test_validation_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ConfigError, match=r"validation fraction is .* above 0 and at most 0\.5"):
        SourceOptions(source="digits", validation=fraction)


@pytest.mark.parametrize("source", ["./nope", "/nope/nope", "~/nope-nope", "a/b/c", "nope/"])
def test_a_missing_folder(source: str) -> None:
    with pytest.raises(DataError, match=f"no such folder: {source}; give a folder that exists"):
        check(source)


def test_an_unknown_word_gets_the_nearest_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"'digit': did you mean 'digits'\? .*OWNER/NAME"):
        check("digit")
    make_folder(tmp_path / "mine")
    assert check("mine").name == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"data\.zip is a file: give a folder"):
        check(tmp_path / "data.zip")


def test_a_folder_without_splits(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no train/ folder \(it holds nothing\): expected train/ and test/"
    ):
        check(tmp_path)
    root = make_folder(tmp_path / "data", test="holdout")
    with pytest.raises(DataError, match=r"has no test/ folder \(it holds 'holdout', 'train'\)"):
        check(root)


def test_an_empty_class_folder(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data")
    for file in (root / "test" / "bee").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=f"class folder {root}/test/bee holds no images"):
        check(root)


def test_different_classes(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", classes=("ant", "bee", "cow"))
    (root / "test" / "bee").rename(root / "test" / "bees")
    with pytest.raises(DataError, match=r"different classes \('bee' only in train/; 'bees' only in test/\)"):
        check(root)


def test_a_single_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data holds the single class 'ant': two classes or more"):
        check(make_folder(tmp_path / "data", classes=("ant",)))


def test_a_class_too_small_to_cut(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", per_class=2)
    assert check(root).num_val == 2
    (root / "train" / "bee" / "0.png").unlink()
    with pytest.raises(DataError, match="class 'bee' of data has 1 image in train, but at least 2"):
        check(root)


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data")
    file = root / "train" / "bee" / "2.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{re.escape(str(file))} cannot be decoded"):
        prepared(SourceOptions(source=str(root)), tmp_path / "a")
    assert not (tmp_path / "a" / "dataset.json").exists()
    file.write_bytes(b"no image at all")
    with pytest.raises(DataError, match=f"{re.escape(str(file))} cannot be decoded"):
        check(root)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", size=(32, 32))
    file = root / "test" / "ant" / "z.jpg"
    Image.open(root / "test" / "ant" / "0.png").save(file, quality=95)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"ant/z\.jpg cannot be decoded .*truncated"):
        prepared(SourceOptions(source=str(root)), tmp_path / "a")


def test_constant_images_are_refused(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data")
    for file in root.rglob("*.png"):
        values = np.array(Image.open(file))
        values[..., 1] = 7
        Image.fromarray(values).save(file)
    with pytest.raises(DataError, match=r"channel 1 of all training images of data is constant \(7\)"):
        prepared(SourceOptions(source=str(root)), tmp_path / "a")


def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StorageError, match="no space left while writing"):
        prepared(SourceOptions(source="digits"), tmp_path / "a")


def test_a_look_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "data", per_class=200, classes=("ant", "bee"))
    opened: list[int] = []

    def counted(split: SplitListing, index: int) -> Header:
        opened.append(index)
        return read_header(split, index)

    monkeypatch.setattr("flashdd.data.sources.read_header", counted)
    monkeypatch.setattr("flashdd.data.write.decode_image", None)
    check(root)
    assert len(opened) == 128
