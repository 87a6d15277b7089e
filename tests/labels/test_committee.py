"""Committees against the loop over their members."""

from __future__ import annotations

import pytest
import torch
from label_samples import CLASSES, NUM_IMAGES, SEED, VIEWS, make_images, view_batch
from torch import Tensor, nn

from flashdd.core.errors import UsageError
from flashdd.core.seeds import generator
from flashdd.data.views import ViewBatch, ViewMaker, ViewSpec
from flashdd.labels.committee import Committee, CommitteeSource
from flashdd.labels.network import NetworkSource
from flashdd.labels.table import make_logits
from flashdd.models.table import build
from flashdd.training.normalize import Normalized


def _net(seed: int) -> nn.Module:
    net = Normalized(build("convnet-2-w4", num_classes=CLASSES, shape=(1, 8, 8), seed=seed), [0.5], [0.2])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.uniform_(-1, 1, generator=generator(seed, "mean"))
    return net.eval()


def _batch() -> ViewBatch:
    return view_batch(torch.zeros(NUM_IMAGES, dtype=torch.int64), torch.arange(NUM_IMAGES))


@torch.no_grad()
def test_logits_are_the_weighted_mean() -> None:
    nets = [_net(seed) for seed in range(3)]
    batch = _batch()
    source = CommitteeSource(
        Committee(nets, [1, 0, 3]), num_classes=CLASSES, temperature=4.0, logit_scale=2.0
    )
    expected = 2.0 * (0.25 * nets[0](batch.pixels) + 0.75 * nets[2](batch.pixels))
    assert torch.allclose(source.logits(batch), expected, atol=1e-6)
    mean = CommitteeSource(Committee(nets), num_classes=CLASSES).logits(batch)
    assert torch.allclose(mean, sum(net(batch.pixels) for net in nets) / torch.tensor(3.0), atol=1e-6)
    # The first source lays out the weights of both, and the layout decides the last bits.
    single = NetworkSource(nets[0], num_classes=CLASSES)
    alone = CommitteeSource(Committee(nets[:1]), num_classes=CLASSES)
    assert torch.equal(alone.logits(batch), single.logits(batch))
    assert alone.replayable


def test_weights_that_cannot_be_used_are_refused() -> None:
    for wrong in ([], [1.0], [-1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(UsageError, match="expected at least one network, and for each a weight"):
            Committee([_net(0), _net(1)], wrong)
    with pytest.raises(UsageError, match="a committee of 0 networks"):
        Committee([])


def _with_statistics_of(net: nn.Module, pixels: Tensor) -> Tensor:
    """What `net` says when its batch norms are in train mode, its kept statistics put back afterwards."""
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    with torch.no_grad():
        logits: Tensor = net(pixels)
    net.load_state_dict(kept)
    net.eval()
    return logits


@pytest.mark.parametrize(
    ("group", "parts"), [(4, [4, 5]), (5, [5, 4]), (8, [9]), (2, [2, 2, 2, 3]), (100, [9])]
)
def test_batch_statistics_are_those_of_the_group(group: int, parts: list[int]) -> None:
    nets, batch = [_net(0), _net(1)], _batch()
    before = {name: value.clone() for name, value in nets[0].state_dict().items()}
    source = CommitteeSource(Committee(nets), num_classes=CLASSES, group=group)
    expected = [
        sum(_with_statistics_of(net, pixels) for net in nets) / 2
        for pixels in torch.split(batch.pixels, parts)
    ]
    for _ in range(2):  # nothing drifts
        assert torch.allclose(source.logits(batch), torch.cat(expected), atol=1e-5)  # type: ignore[arg-type]
    for name, value in nets[0].state_dict().items():
        assert torch.equal(value, before[name]), name
    in_eval_mode = CommitteeSource(Committee(nets), num_classes=CLASSES).logits(batch)
    assert not torch.allclose(in_eval_mode, torch.cat(expected), atol=1e-2)  # type: ignore[arg-type]


def test_dropout_stays_off_beside_batch_statistics() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES), nn.BatchNorm1d(CLASSES), nn.Dropout(0.9))
    source = CommitteeSource(Committee([net]), num_classes=CLASSES, group=9)
    assert torch.equal(source.logits(_batch()), source.logits(_batch()))
    assert int((source.logits(_batch()) == 0).sum()) == 0


def test_labels_of_the_batch_cannot_be_kept() -> None:
    views = ViewMaker(make_images().images, VIEWS, seed=SEED)
    source = CommitteeSource(Committee([_net(0)]), num_classes=CLASSES, group=8)
    assert not source.replayable
    with pytest.raises(UsageError, match="depend on the batch that a view is in"):
        make_logits(source, views, 2)
    batchwise = ViewMaker(make_images().images, ViewSpec(mix="cutmix-batch"), seed=SEED)
    with pytest.raises(UsageError, match="depend on the batch that a view is in"):
        make_logits(NetworkSource(_net(0), num_classes=CLASSES), batchwise, 2)
    whole = CommitteeSource(Committee([_net(0)]), num_classes=CLASSES)
    assert make_logits(whole, views, 2).shape == (2, NUM_IMAGES, CLASSES)


def test_groups_without_statistics_are_refused() -> None:
    with pytest.raises(UsageError, match="groups of 1 views have no batch statistics"):
        CommitteeSource(Committee([_net(0)]), num_classes=CLASSES, group=1)
    source = CommitteeSource(Committee([_net(0)]), num_classes=CLASSES, group=8)
    with pytest.raises(UsageError, match="one view alone has no batch statistics"):
        source.logits(view_batch(torch.tensor([0]), torch.tensor([3])))
