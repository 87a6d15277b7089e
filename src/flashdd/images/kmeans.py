"""k-means: the real images nearest to the centroids of their class in the teacher's feature space.

The coreset baseline of DC-BENCH (Cui, Wang, Si, Hsieh, NeurIPS 2022, arXiv 2207.09639, section 3), with
scikit-learn's k-means++ and Lloyd's iterations.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from flashdd.core.config import Section
from flashdd.core.seeds import derive
from flashdd.data.imageset import ImageSet
from flashdd.images.task import DistillTask, chosen_images, penultimate_features

_LARGEST_SEED = 2**32


def kmeans_images(task: DistillTask, settings: Section) -> ImageSet:
    """`ipc` training images of each class, one per cluster, those of the largest clusters first."""
    del settings
    teacher = task.teacher()

    def choose(label: int, rows: Tensor) -> Tensor:
        features = penultimate_features(task, teacher, rows)
        return rows[nearest_to_centroids(features, task.ipc, seed=derive(task.seed, "kmeans", label))]

    return chosen_images(task, choose, "kmeans")


def nearest_to_centroids(features: Tensor, count: int, *, seed: int) -> Tensor:
    """Of each of `count` clusters of `features` (N, D) the row nearest to its centroid, largest cluster first.

    A cluster that is left empty, because fewer than `count` rows differ, gives its place to the free row farthest
    from every centroid.
    """
    values = features.double().numpy()
    distinct = len(np.unique(values, axis=0))
    model = KMeans(min(count, distinct), n_init=3, random_state=seed % _LARGEST_SEED).fit(values)
    distances = model.transform(values)
    sizes = np.bincount(model.labels_, minlength=model.n_clusters)
    picked: list[int] = []
    for cluster in np.argsort(-sizes, kind="stable"):
        members = np.flatnonzero(model.labels_ == cluster)
        picked.append(int(members[distances[members, cluster].argmin()]))
    rest = np.argsort(-distances.min(1), kind="stable")
    spare = [int(row) for row in rest if row not in set(picked)]
    return torch.tensor(picked + spare[: count - len(picked)])
