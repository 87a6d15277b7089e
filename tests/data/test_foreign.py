"""Other people's image sets, laid out exactly as they publish them, and files that must be refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from flashdd.core.errors import DataError, FlashddError
from flashdd.core.seeds import generator
from flashdd.data.foreign import Expected, Hints, class_order, count_foreign, read_foreign
from flashdd.data.imageset import ImageSet, write_parquet
from flashdd.data.normalization import USUAL, Statistics, to_pixels

NAMES = ("airplane", "cat", "dog")
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def _pixels(count: int = 6) -> Tensor:
    """Natural enough: around the mean, inside the range."""
    values = torch.randn(count, 3, 8, 8, generator=generator(0, "pixels")) * 50 + 120
    return values.round().clamp(0, 255).to(torch.uint8)


def _statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    unit = pixels.float() / 255
    return tuple(unit.mean((0, 2, 3)).tolist()), tuple(unit.std((0, 2, 3)).tolist())


MEAN, STD = _statistics(_pixels())
EXPECTED = Expected(class_names=NAMES, shape=(3, 8, 8), mean=MEAN, std=STD)


def _normalized(pixels: Tensor, mean: Any = MEAN, std: Any = STD) -> Tensor:
    shaped = [torch.tensor(part).view(1, -1, 1, 1) for part in (mean, std)]
    return (pixels.float() / 255 - shaped[0]) / shaped[1]


def _check(path: Path, hints: Hints | None = None) -> tuple[str, ...]:
    found = read_foreign(path, EXPECTED, hints)
    assert torch.equal(found.images.images, _pixels())
    assert torch.equal(found.images.labels, LABELS)
    assert found.images.class_names == NAMES
    assert count_foreign(path, NAMES, EXPECTED.shape, hints) == [2, 2, 2]
    return found.notes


def _folders(root: Path, names: list[str], suffix: str = ".png") -> Path:
    for index, image in enumerate(_pixels()):
        folder = root / names[int(LABELS[index])]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"class_id{index:03d}{suffix}")
    return root


# ---------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize(
    "names",
    [
        ["new000", "new001", "new002"],  # SRe2L, CV-DD
        ["00000", "00001", "00002"],  # RDED, EDC
        ["0", "1", "2"],
        ["airplane", "cat", "dog"],
        ["Air plane", "CAT", "dog"],
    ],
)
def test_folders_as_they_are_published(names: list[str], tmp_path: Path) -> None:
    assert "class folders" in _check(_folders(tmp_path / "set", names))[0]


def test_a_train_folder_is_looked_into(tmp_path: Path) -> None:
    _folders(tmp_path / "set" / "train", list(NAMES))
    assert _check(tmp_path / "set") == ("class folders, told by name",)


def test_numbers_are_not_sorted_as_text() -> None:
    folders = sorted(str(number) for number in range(12))
    names = [f"class {letter}" for letter in "abcdefghijkl"]
    assert class_order(folders, names, Path("set"))[0] == [str(number) for number in range(12)]


def test_names_win_over_numbers() -> None:
    """Digits: class names are numbers themselves, and may stand in another order."""
    assert class_order(["0", "1", "2"], ["2", "0", "1"], Path("set")) == (["2", "0", "1"], "told by name")


def test_jpeg_folders_are_read_and_sizes_are_told(tmp_path: Path) -> None:
    _folders(tmp_path / "set", list(NAMES), ".jpg")
    larger = Expected(class_names=NAMES, shape=(3, 16, 16), mean=MEAN, std=STD)
    found = read_foreign(tmp_path / "set", larger)
    assert found.images.shape == (3, 16, 16)
    assert "resized to 16 pixels" in found.notes[0]


# ---------------------------------------------------------------------------------------------- tensors


def test_dm_saves_a_list_of_experiments(tmp_path: Path) -> None:
    older = [_normalized(_pixels()) * 0, LABELS]
    accuracies = {"ConvNet": [np.float64(0.5), 0.25]}
    data = [older, [_normalized(_pixels()), LABELS]]
    torch.save({"data": data, "accs_all_exps": accuracies}, tmp_path / "res_DM_CIFAR10_ConvNet_2ipc.pt")
    notes = _check(tmp_path / "res_DM_CIFAR10_ConvNet_2ipc.pt")
    assert notes[0] == "DM's layout, experiment 2 of 2"
    assert "estimated: the data's own" in notes[1]


def test_mtt_saves_images_and_labels_side_by_side(tmp_path: Path) -> None:
    torch.save(_normalized(_pixels()), tmp_path / "images_best.pt")
    torch.save(LABELS, tmp_path / "labels_best.pt")
    torch.save(torch.tensor(0.01), tmp_path / "lr_best.pt")
    notes = _check(tmp_path / "images_best.pt")
    assert notes[0] == "images, labels beside them"
    assert "estimated: the data's own" in notes[1]


def test_datm_learns_soft_labels(tmp_path: Path) -> None:
    """Rows come back in the order of classes, and their soft labels with them."""
    order = torch.tensor([4, 1, 2, 0, 5, 3])
    soft = torch.nn.functional.one_hot(LABELS, 3) * 5.0 + torch.arange(18).view(6, 3) / 100
    torch.save(_normalized(_pixels()[order]), tmp_path / "images_best.pt")
    torch.save(soft[order], tmp_path / "labels_best.pt")
    found = read_foreign(tmp_path / "images_best.pt", EXPECTED)
    assert found.soft_labels is not None
    assert torch.equal(found.images.labels, LABELS)
    rows = {image.numpy().tobytes(): index for index, image in enumerate(_pixels())}
    for image, label in zip(found.images.images, found.soft_labels, strict=True):
        assert torch.allclose(label, soft[rows[image.numpy().tobytes()]])
    assert "soft labels" in found.notes[2]


Saver = Callable[[dict[str, Tensor], Path], None]


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("set.pt", torch.save),
        (
            "set.npz",
            lambda content, path: np.savez(
                path, names=np.array(["cat"]), **{k: v.numpy() for k, v in content.items()}
            ),
        ),
        ("set.safetensors", save_file),
    ],
)
def test_our_own_layout_in_every_file(name: str, save: Saver, tmp_path: Path) -> None:
    save({"images": _pixels(), "labels": LABELS}, tmp_path / name)
    assert _check(tmp_path / name)[1] == "8-bit pixels"
    imagenet = USUAL[0]
    content = {
        "images": _normalized(_pixels(), imagenet.mean, imagenet.std),
        "labels": LABELS,
        "mean": torch.tensor(imagenet.mean),
        "std": torch.tensor(imagenet.std),
    }
    save(content, tmp_path / name)
    assert "statistics stated" in _check(tmp_path / name)[1]


def test_bare_arrays_with_labels_beside_or_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", _pixels().numpy())
    with pytest.raises(DataError, match=r"labels\.npy, or name the file with --set images\.labels=PATH"):
        read_foreign(tmp_path / "x.npy", EXPECTED)
    np.save(tmp_path / "y.npy", LABELS.numpy())
    _check(tmp_path / "x.npy", Hints(labels=tmp_path / "y.npy"))
    np.save(tmp_path / "labels.npy", LABELS.float().numpy())
    _check(tmp_path / "x.npy")


def test_parquet_with_classes_in_another_order(tmp_path: Path) -> None:
    names = ("dog", "airplane", "cat")
    order = torch.tensor([4, 5, 0, 1, 2, 3])
    held = ImageSet(images=_pixels()[order], labels=LABELS, class_names=names)
    write_parquet(held, tmp_path / "set.parquet")
    assert "data's order" in _check(tmp_path / "set.parquet")[0]


# ---------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("statistics", [*USUAL, Statistics(name="the data's own", mean=MEAN, std=STD)])
def test_statistics_are_told_from_the_real_data(statistics: Statistics) -> None:
    """Images with the real data's own statistics: the right normalization is the one that restores them."""
    pixels = _pixels(200)
    mean, std = _statistics(pixels)
    data = Statistics(name="the data's own", mean=mean, std=std)
    found, note = to_pixels(_normalized(pixels, statistics.mean, statistics.std), data=data, stated=None)
    if statistics.name != "the data's own":
        assert f"estimated: {statistics.name} " in note
        assert torch.equal(found, pixels)


def test_floats_in_the_range_of_pixels_are_pixels() -> None:
    data = Statistics(name="the data's own", mean=MEAN, std=STD)
    for scale in (1.0, 255.0):
        found, note = to_pixels(_pixels().float() / (255 / scale), data=data, stated=None)
        assert torch.equal(found, _pixels())
        assert "taken for pixels" in note


def test_whitened_images_are_refused() -> None:
    data = Statistics(name="the data's own", mean=MEAN, std=STD)
    with pytest.raises(DataError, match="undo the whitening"):
        to_pixels(_normalized(_pixels()) * 8, data=data, stated=None)


# ---------------------------------------------------------------------------------------------- refusals


class Bomb:
    """Unpickled, it leaves the file `trace`."""

    trace = Path()

    def __reduce__(self) -> Any:
        return (Bomb.trace.touch, ())


def _torch(content: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(content, folder / "set.pt")
        return folder / "set.pt"

    return write


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _pickled(folder: Path) -> Path:
    return _bytes("set.pt", pickle.dumps(Bomb()))(folder)


def _object_array(folder: Path) -> Path:
    np.save(folder / "set.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    return folder / "set.npy"


def _cut(folder: Path) -> Path:
    path = _torch({"images": _pixels(), "labels": LABELS})(folder)
    path.write_bytes(path.read_bytes()[:-500])
    return path


def _nan() -> Tensor:
    values = _normalized(_pixels())
    values[2, 1, 3, 4] = float("nan")
    return values


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (_torch({"images": Bomb(), "labels": LABELS}), "safely: it holds objects besides tensors"),
        (_pickled, "cannot be read safely: it holds objects besides tensors"),
        (_torch({"images": _pixels().numpy(), "labels": LABELS}), "besides tensors .numpy's arrays are some"),
        (_object_array, "cannot be read safely: it holds objects besides arrays"),
        (_cut, "cannot be read safely: it is damaged, or another file"),
        (_bytes("set.pt", b""), "cannot be read safely: it is damaged, or another file"),
        (_bytes("set.safetensors", b"\xff" * 40), "cannot be read safely: it is damaged"),
        (_bytes("set.npz", b"PK\x03\x04nothing"), "cannot be read safely: it is damaged"),
        (
            _bytes("set.zip", b""),
            r"is no image set: expected a folder of class folders, or .*\.parquet, \.pt",
        ),
        (lambda folder: folder / "none.pt", "does not exist"),
        (
            _torch({"weights": _pixels()}),
            "holds a dict with the keys 'weights': expected a dict with 'images'",
        ),
        (_torch({"data": [[_pixels()]]}), "holds a dict with the keys 'data'"),
        (_torch([_pixels(), LABELS[:5]]), "expected 6 class numbers"),
        (_torch([_pixels(), LABELS + 1]), "labels span 1 to 3, the data have classes 0 to 2: subtract 1"),
        (_torch([_pixels(), LABELS + 2]), r"labels span 2 to 4, the data have classes 0 to 2\."),
        (_torch([_pixels(), LABELS + 0.5]), "expected 6 class numbers"),
        (_torch([_pixels(), LABELS.clamp(max=1)]), "no image of class 'dog'"),
        (_torch([_pixels(), torch.zeros(6, 4)]), r"soft labels have the shape \(6, 4\)"),
        (_torch([_pixels()[:, :1], LABELS]), "images are 1 x 8 x 8 .* as many channels as the data"),
        (_torch([_pixels().movedim(1, 3), LABELS]), r"images are 8 x 8 x 3 .* save them as \(N, C, H, W\)"),
        (_torch([_pixels()[:, :1].movedim(1, 3), LABELS]), r"8 x 8 x 1 .* save them as \(N, C, H, W\)"),
        (_torch([_pixels()[:, :, :4, :4], LABELS]), "--resolution 4"),
        (_torch([_pixels()[:, :, :4], LABELS]), r"images are 3 x 4 x 8 .* 3 x 8 x 8: resize them\."),
        (_torch([_pixels().flatten(1), LABELS]), r"expected \(N, C, H, W\)"),
        (_torch([_nan(), LABELS]), "NaN or infinity"),
        (_torch([_pixels().double() * 1e300, LABELS]), "NaN or infinity"),  # as float32
        (_torch([_pixels().int(), LABELS]), "expected uint8 or floating point"),
        (_torch({"images": _pixels(), "labels": LABELS, "mean": [0.5]}), "expected 3 numbers each"),
        (_torch({"images": _pixels(), "labels": LABELS, "mean": "half"}), "'mean' must be numbers"),
    ],
)
def test_refused_with_a_sentence(
    write: Callable[[Path], Path], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bomb, "trace", tmp_path / "exploded")
    with pytest.raises(DataError, match=match):
        read_foreign(write(tmp_path), EXPECTED)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["airplane", "cat"], "has 2 class folders"),
        (["airplane", "cat", "horse"], "neither the data's classes .* nor numbered from 0 to 2"),
        (["1", "2", "3"], "nor numbered from 0 to 2"),
    ],
)
def test_other_classes_are_refused(names: list[str], match: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / "set" / name).mkdir(parents=True)
    with pytest.raises(DataError, match=match):
        read_foreign(tmp_path / "set", EXPECTED)


def test_mutated_files_give_a_sentence_or_sound_images(tmp_path: Path) -> None:
    """Any byte of a file may be wrong: the reader ends in an image set or in one of the project's errors."""
    whole = {
        "set.pt": _torch({"images": _pixels(), "labels": LABELS})(tmp_path).read_bytes(),
        "set.npy": b"",
    }
    np.save(tmp_path / "set.npy", _pixels().numpy())
    np.save(tmp_path / "labels.npy", LABELS.numpy())
    whole["set.npy"] = (tmp_path / "set.npy").read_bytes()
    rng = np.random.default_rng(0)
    for name, content in whole.items():
        for _ in range(60):
            mutated = bytearray(content)
            for place in rng.integers(0, min(len(mutated), 1500), 3):
                mutated[place] = int(rng.integers(0, 256))
            (tmp_path / name).write_bytes(bytes(mutated))
            try:
                found = read_foreign(tmp_path / name, EXPECTED)
            except FlashddError:
                continue
            assert found.images.num_images == 6
