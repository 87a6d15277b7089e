"""Image methods against naive references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tasks import split_of, task_of
from torch import Tensor, nn

from flashdd.core.config import RdedSection, Section
from flashdd.core.errors import DataError
from flashdd.core.seeds import generator
from flashdd.images.random import random_images
from flashdd.images.rded import default_factor, mosaics, random_crop, rded_images


class Brightness(nn.Module):
    """Logit of class 1 grows with the mean pixel: the realism of a crop is its brightness, or its darkness."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, pixels: Tensor) -> Tensor:
        mean = self.weight * pixels.flatten(1).mean(1)
        return torch.stack([-2 * mean, 2 * mean], 1)


def test_random_images_are_distinct_training_rows_of_their_class() -> None:
    split = split_of()
    images = random_images(task_of(split, ipc=5, seed=3), Section())
    assert images.labels.tolist() == [0] * 5 + [1] * 5
    rows = {row.tobytes(): int(label) for row, label in zip(split.images, split.labels, strict=True)}
    found = [image.numpy().tobytes() for image in images.images]
    assert len(set(found)) == 10
    assert [rows[key] for key in found] == images.labels.tolist()
    again, other = (random_images(task_of(split, ipc=5, seed=seed), Section()) for seed in (3, 4))
    assert again.content_hash == images.content_hash != other.content_hash


def test_too_few_images_are_refused_with_the_class() -> None:
    with pytest.raises(DataError, match=r"class 'a' has 8 training images .* IPC 9 needs 9"):
        random_images(task_of(split_of(), ipc=9), Section())
    with pytest.raises(DataError, match="IPC 3, 4 of which make an image, needs 12"):
        rded_images(task_of(split_of(), ipc=3, teacher=Brightness()), RdedSection(factor=2))


def test_rded_keeps_the_best_crop_of_each_image_and_ranks_them() -> None:
    """The naive loop of the paper's section 4, with its own scores."""
    split = split_of()
    task = task_of(split, ipc=2, teacher=Brightness(), seed=1)
    found = rded_images(task, RdedSection(candidates=5, crops=3))
    for label in (0, 1):
        stream = generator(1, "rded", label)
        rows = torch.nonzero(split.labels == label).flatten()
        rows = rows[torch.randperm(len(rows), generator=stream)[:5]]
        kept = []
        for row in rows.tolist():
            crops = [random_crop(torch.from_numpy(split.images[row]), 8, stream) for _ in range(3)]
            realism = [float(crop.float().mean()) * (1 if label else -1) for crop in crops]
            best = int(np.argmax(realism))
            kept.append((realism[best], crops[best]))
        kept.sort(key=lambda pair: -pair[0])
        for image, (_, crop) in zip(found.images[found.labels == label], kept, strict=False):
            assert torch.equal(image, crop)


def test_a_mosaic_shows_patches_k_and_k_plus_ipc() -> None:
    patches = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 2, 2)
    images = mosaics(patches, ipc=3, factor=2)
    assert images.shape == (3, 1, 4, 4)
    for k in range(3):
        corners = images[k, 0][::2, ::2]
        assert corners.tolist() == [[k, k + 3], [k + 6, k + 9]]
        assert all(
            len(set(images[k, 0, r : r + 2, c : c + 2].flatten().tolist())) == 1
            for r in (0, 2)
            for c in (0, 2)
        )


def test_a_mosaic_of_one_patch_is_the_patch() -> None:
    patches = split_of().images
    assert np.array_equal(mosaics(torch.from_numpy(patches), 16, 1).numpy(), patches)


def test_padding_of_small_patches_is_scored_at_the_full_side() -> None:
    sides: list[tuple[int, ...]] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, pixels: Tensor) -> Tensor:
            sides.append(tuple(pixels.shape[2:]))
            border = pixels.clone()
            border[:, :, 2:6, 2:6] = 0
            assert float(border.detach().abs().max()) == 0
            return torch.zeros(len(pixels), 2)

    task = task_of(split_of(), ipc=1, teacher=Watch())
    images = rded_images(task, RdedSection(factor=2, candidates=6, crops=2))
    assert set(sides) == {(8, 8)}
    assert images.images.shape == (2, 1, 8, 8)


def test_crops_stay_inside_and_cover_all_sizes() -> None:
    """On a picture whose pixels are their own coordinates, a crop's corners tell where it came from."""
    ramp = torch.arange(64, dtype=torch.uint8).view(1, 1, 64).expand(1, 64, 64)
    stream = generator(0, "crops")
    spans = []
    for _ in range(300):
        crop = random_crop(ramp, 64, stream)[0, 0].float()
        spans.append(float(crop[-1] - crop[0]) + 1)
        assert 0 <= float(crop.min()) <= float(crop.max()) <= 63
    assert min(spans) < 0.45 * 64 < 0.95 * 64 < max(spans)


def test_the_whole_image_is_a_crop_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.from_numpy(split_of().images[0])
    whole = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    monkeypatch.setattr("flashdd.images.rded.torch.rand", lambda *a, **k: whole)
    assert torch.equal(random_crop(image, 8, torch.Generator()), image)


def test_factors() -> None:
    assert [default_factor(side) for side in (8, 32, 64, 128, 224)] == [1, 1, 1, 2, 2]
