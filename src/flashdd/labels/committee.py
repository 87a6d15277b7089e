"""Labels of a committee: the weighted mean of several networks' logits.

Equal weights as in G-VBSM (arXiv 2311.17950) and EDC (arXiv 2404.13733), or others. CV-DD's batch-specific soft labels
(BSSL, arXiv 2501.07575, relabelling) normalize with the statistics of the batch instead of those kept from training:
`group` views at a time, 8 as published. A view's label then depends on its company, so such a source cannot be
replayed: no table and no stored scheme takes it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from flashdd.core.device import full_float32
from flashdd.core.errors import UsageError
from flashdd.data.views import ViewBatch
from flashdd.training.source import LabelSource, every_image

BSSL_GROUP = 8


@final
class Committee(nn.Module):
    """Pixels in [0, 1] -> the weighted mean of the members' logits; weights sum to 1."""

    def __init__(self, nets: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        shares = [1.0] * len(nets) if weights is None else list(weights)
        if not nets or len(shares) != len(nets) or min(shares) < 0 or sum(shares) <= 0:
            raise UsageError(
                f"a committee of {len(nets)} networks with the weights {shares}: expected at least one network, and "
                "for each a weight of at least 0, not all 0."
            )
        self.nets = nn.ModuleList(nets)
        self.weights = [share / sum(shares) for share in shares]

    def forward(self, pixels: Tensor) -> Tensor:
        outputs = [weight * net(pixels).float() for weight, net in zip(self.weights, self.nets, strict=True)]
        total: Tensor = torch.stack(outputs).sum(0)
        return total


@final
class CommitteeSource(LabelSource):
    """logit_scale * committee(pixels) in full float32.

    group: None for eval mode. A number of views, at least 2, for statistics of the batch: rows are normalized so many
    at a time, in the order of the batch; a rest below half of that joins the last group. Dropout stays off,
    and statistics kept from training stay as they are (the released code changes both).
    """

    def __init__(
        self,
        committee: Committee,
        *,
        num_classes: int,
        temperature: float = 1.0,
        logit_scale: float = 1.0,
        group: int | None = None,
    ) -> None:
        if group is not None and group < 2:
            raise UsageError(
                f"groups of {group} views have no batch statistics: expected at least 2, published {BSSL_GROUP}."
            )
        self.num_classes = num_classes
        self.temperature = temperature
        self.fixed_temperature = False
        self.replayable = group is None
        self._scale, self._group = logit_scale, group
        self._committee = committee.eval() if group is None else _with_batch_statistics(committee)

    @torch.no_grad()
    def logits(self, views: ViewBatch) -> Tensor:
        groups = [views.pixels] if self._group is None else _groups(views.pixels, self._group)
        with full_float32():
            raw = torch.cat([self._committee(group) for group in groups])
        return self._scale * raw

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        return every_image(epoch, num_images)


def _with_batch_statistics(committee: Committee) -> Committee:
    """A copy, so that kept statistics do not drift, in eval mode but for its batch norms."""
    copied = copy.deepcopy(committee).eval()
    for module in copied.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train()
    return copied


def _groups(pixels: Tensor, group: int) -> list[Tensor]:
    """Consecutive rows, `group` at a time; a rest of one, or of less than half, joins the group before it."""
    if len(pixels) < 2:
        raise UsageError(
            "one view alone has no batch statistics: label at least 2 at a time, or use eval mode."
        )
    count, rest = divmod(len(pixels), group)
    if rest >= max(2, group / 2):
        count += 1
    ends = [group * index for index in range(1, count)]
    return list(torch.tensor_split(pixels, ends))
