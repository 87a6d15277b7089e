"""Does one label scheme rank image sets as another does: tau-b for every two schemes of a comparison."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from flashdd.core.record import ComparedRow
from flashdd.core.scores import Ranking
from flashdd.core.seeds import generator
from flashdd.pipeline.realrows import REAL
from flashdd.students.ranking import kendall_tau_b, seed_interval

_LEAST_SETS = 3
Values = tuple[float, ...]


def rankings(rows: Sequence[ComparedRow], *, seed: int) -> list[Ranking]:
    """Every two schemes that have rows on the same three image sets or more, of one IPC, student and protocol.

    `seed` drives the resampling of the students' seeds (`students.ranking`).
    """
    cells: dict[tuple[int | None, str, str], dict[str, dict[str, Values]]] = {}
    for row in rows:
        if row.images not in REAL:
            schemes = cells.setdefault((row.ipc, row.student, row.protocol), {})
            schemes.setdefault(row.scheme, {})[row.images] = row.accuracy.values
    found = []
    for (ipc, student, protocol), schemes in cells.items():
        for first, second in itertools.combinations(schemes, 2):
            shared = [images for images in schemes[first] if images in schemes[second]]
            if len(shared) < _LEAST_SETS:
                continue
            a, b = (_accuracies(schemes[name], shared) for name in (first, second))
            stream = generator(seed, "rankings", first, second, str(ipc), student, protocol)
            found.append(_ranking(a, b, stream, (first, second), tuple(shared), (ipc, student, protocol)))
    return found


def _accuracies(cells: dict[str, Values], shared: Sequence[str]) -> torch.Tensor:
    """float64 (sets, seeds)."""
    return torch.tensor([cells[images] for images in shared], dtype=torch.float64)


def _ranking(
    first: torch.Tensor,
    second: torch.Tensor,
    stream: torch.Generator,
    schemes: tuple[str, str],
    images: tuple[str, ...],
    where: tuple[int | None, str, str],
) -> Ranking:
    tau = float(kendall_tau_b(first.mean(1), second.mean(1)))
    low, high = seed_interval(first, second, stream=stream) or (None, None)
    ipc, student, protocol = where
    return Ranking(
        schemes=schemes,
        ipc=ipc,
        student=student,
        protocol=protocol,
        images=images,
        num_sets=len(images),
        tau=None if math.isnan(tau) else tau,
        low=low,
        high=high,
        n=first.shape[1],
    )
