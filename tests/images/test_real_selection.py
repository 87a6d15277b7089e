"""Herding and k-means against naive references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tasks import split_of, task_of
from torch import Tensor, nn

from flashdd.core.config import Section
from flashdd.core.seeds import generator
from flashdd.images.herding import herd, herding_images
from flashdd.images.kmeans import kmeans_images, nearest_to_centroids
from flashdd.images.task import penultimate, penultimate_features


def _points(count: int, dimensions: int) -> Tensor:
    return torch.randn(count, dimensions, generator=generator(0, "points"))


class Teacher(nn.Module):
    """Two linear layers: the features are what the second reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 5), nn.Linear(5, 2)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator(1, *weight.shape)))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.last(self.first(pixels.flatten(1)))
        return logits


def test_features_are_what_the_last_linear_layer_reads() -> None:
    split, teacher = split_of(), Teacher()
    rows = torch.tensor([3, 0, 11])
    pixels = torch.from_numpy(split.images[rows.numpy()]).float() / 255
    found = penultimate_features(task_of(split, ipc=1), teacher, rows)
    assert torch.allclose(found, teacher.first(pixels.flatten(1)).detach())
    assert not teacher.last._forward_pre_hooks
    pixels.requires_grad_()
    assert penultimate(teacher, pixels).requires_grad


def test_herding_is_algorithm_four() -> None:
    """The naive loop: over every free row, the distance of the new mean, of unit length, to the class mean."""
    features = _points(30, 6).double()
    unit = features / features.norm(dim=1, keepdim=True)
    mean = unit.mean(0) / unit.mean(0).norm()
    picked: list[int] = []
    for k in range(1, 11):
        costs = {}
        for row in set(range(30)) - set(picked):
            candidate = (unit[row] + sum((unit[p] for p in picked), torch.zeros(6))) / k
            costs[row] = float((mean - candidate / candidate.norm()).norm())
        picked.append(min(costs, key=costs.__getitem__))
    assert herd(features.float(), 10).tolist() == picked


def test_herding_never_takes_a_row_twice() -> None:
    same = torch.ones(4, 3)
    assert sorted(herd(same, 4).tolist()) == [0, 1, 2, 3]
    assert sorted(herd(_points(7, 2), 7).tolist()) == list(range(7))


def test_kmeans_finds_the_best_partition_of_separate_groups() -> None:
    """Against every partition of eight points into two: least squares, then the member nearest to each centroid."""
    points = _points(8, 2)
    points[[1, 4, 6]] += 9.0
    best: tuple[float, list[list[int]]] | None = None
    for size in range(1, 8):
        for chosen in itertools.combinations(range(8), size):
            parts = [list(chosen), [row for row in range(8) if row not in chosen]]
            cost = sum(float((points[p] - points[p].mean(0)).square().sum()) for p in parts)
            if best is None or cost < best[0]:
                best = (cost, parts)
    assert best is not None
    groups = sorted(best[1], key=len, reverse=True)
    expected = [part[int((points[part] - points[part].mean(0)).norm(dim=1).argmin())] for part in groups]
    assert nearest_to_centroids(points, 2, seed=0).tolist() == expected
    assert len(groups[0]) == 5  # the larger cluster stands first


def test_kmeans_gives_distinct_rows_even_of_equal_points() -> None:
    points = torch.tensor([[0.0], [0.0], [0.0], [5.0], [1.0]])
    assert sorted(nearest_to_centroids(points, 5, seed=0).tolist()) == [0, 1, 2, 3, 4]
    assert len(set(nearest_to_centroids(points, 4, seed=0).tolist())) == 4


@pytest.mark.parametrize("method", [herding_images, kmeans_images])
def test_chosen_images_are_rows_of_their_class(method: object) -> None:
    assert callable(method)
    split = split_of()
    images = method(task_of(split, ipc=3, teacher=Teacher()), Section())
    rows = {row.tobytes(): int(label) for row, label in zip(split.images, split.labels, strict=True)}
    keys = [np.asarray(image).tobytes() for image in images.images]
    assert len(set(keys)) == 6
    assert [rows[key] for key in keys] == images.labels.tolist() == [0] * 3 + [1] * 3
    again = method(task_of(split, ipc=3, teacher=Teacher()), Section())
    assert again.content_hash == images.content_hash


def test_the_class_mean_leads_the_order_of_herding() -> None:
    features = _points(12, 4)
    unit = F.normalize(features, dim=1)
    first = int((unit @ F.normalize(unit.mean(0), dim=0)).argmax())
    assert int(herd(features, 1)) == first
