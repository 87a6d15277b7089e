"""Damage anywhere in any file: `load` raises ArtifactError and nothing else, `verify` reports it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from artifact_samples import FILES, make_artifact, reseal

from flashdd.artifact.format import IMAGES, LABELER
from flashdd.artifact.read import load
from flashdd.artifact.verify import verify
from flashdd.core.errors import ArtifactError


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("sound") / "artifact")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "artifact"))


def damaged(data: bytes, count: int) -> Iterator[bytes]:
    """Damaged copies from all over `data`: `count` flipped bits, then cuts, gaps, repeats, foreign files."""
    draw = random.Random(0)
    for position in range(0, len(data), max(1, len(data) // count)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << draw.randrange(8)
        yield bytes(flipped)
    for _ in range(count // 8):
        start = draw.randrange(len(data))
        stop = draw.randrange(start, len(data)) + 1
        yield data[:start]
        yield data[:start] + data[stop:]
        yield data[:stop] + data[start:]
        yield data[:start] + bytes(stop - start) + data[stop:] if any(data[start:stop]) else data[:start]
        yield data[:start] + b"\xff\xfe" + data[start:]
    yield from (b"", b"\0", b"hello", b"{}", b"PAR1", b"\x80\x04N.", b"PK\x03\x04" + bytes(100))


@pytest.mark.parametrize("name", FILES)
def test_load_refuses_all_damage(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    for changed in damaged(data, 300):
        (folder / name).write_bytes(changed)
        with pytest.raises(ArtifactError, match=str(folder)):
            load(folder)
    (folder / name).write_bytes(data)
    load(folder)


@pytest.mark.parametrize("name", FILES)
def test_verify_reports_all_damage(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    for changed in damaged(data, 40):
        (folder / name).write_bytes(changed)
        assert not verify(folder).ok
    (folder / name).write_bytes(data)
    assert verify(folder).ok


@pytest.mark.parametrize("name", [IMAGES, LABELER])
def test_damage_behind_hashes_made_anew_raises_nothing_else(folder: Path, name: str) -> None:
    """Structural checks stand on their own: what gets past the hashes is refused, or is a sound file."""
    data = (folder / name).read_bytes()
    refused = 0
    for changed in damaged(data, 200):
        (folder / name).write_bytes(changed)
        reseal(folder)
        try:
            found = load(folder)
        except ArtifactError:
            refused += 1
        else:
            assert len(found.images) == 6
            assert found.labeler.num_classes == 3
            verify(folder)
    assert refused > 100


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load(folder)
    assert not verify(folder).ok
