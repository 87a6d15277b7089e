"""Which views make up a step: a pure function of (seed, step), so that a resumed training goes on exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from flashdd.core.seeds import generator

Pairs = tuple[Tensor, Tensor]


def steps_per_epoch(num_pairs: int, batch_size: int) -> int:
    """Batches of an epoch, rounded up; a rest of one row joins the batch before, for batch norm's sake."""
    if num_pairs > batch_size and num_pairs % batch_size == 1:
        return num_pairs // batch_size
    return -(-num_pairs // batch_size)


class BatchOrder:
    """Batches of (epoch, image id) pairs.

    An epoch's pairs come from `schedule(epoch)` and are permuted by (seed, epoch). With `span`, batches run on
    over the ends of epochs and all have `batch_size` rows; without, an epoch's last batch may be shorter.
    """

    def __init__(
        self, schedule: Callable[[int], Pairs], *, batch_size: int, seed: int, span: bool, num_pairs: int
    ) -> None:
        self.batch_size = batch_size
        self.span = span
        self.num_pairs = num_pairs
        self._epoch = lru_cache(maxsize=4)(lambda epoch: _shuffled(schedule(epoch), seed, epoch, num_pairs))

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.num_pairs, self.batch_size)

    def pairs(self, step: int) -> Pairs:
        """Epochs and image ids of step `step`, int64 (batch,) each."""
        if self.span:
            start, stop = step * self.batch_size, (step + 1) * self.batch_size
        else:
            epoch, index = divmod(step, self.steps_per_epoch)
            start = epoch * self.num_pairs + index * self.batch_size
            last = index == self.steps_per_epoch - 1
            stop = (epoch + 1) * self.num_pairs if last else start + self.batch_size
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.num_pairs)
            count = min(stop - start, self.num_pairs - offset)
            epochs, ids = self._epoch(epoch)
            parts.append((epochs[offset : offset + count], ids[offset : offset + count]))
            start += count
        return torch.cat([epochs for epochs, _ in parts]), torch.cat([ids for _, ids in parts])


def _shuffled(pairs: Pairs, seed: int, epoch: int, expected: int) -> Pairs:
    epochs, ids = pairs
    assert len(ids) == expected, "a schedule must list equally many views in every epoch"
    order = torch.randperm(len(ids), generator=generator(seed, "order", epoch))
    return epochs[order], ids[order]
