"""Label sources that no folder holds, against naive references."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flashdd.core.seeds import generator
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewMaker, ViewSpec
from flashdd.labels import table as table_module
from flashdd.labels.hard import HardSource
from flashdd.labels.network import NetworkSource
from flashdd.labels.table import TableSource, make_labels, make_logits, read_table, write_table
from flashdd.models.table import build
from flashdd.training.normalize import Normalized

SPEC = ViewSpec(crop_scale=(0.25, 1.0), flip=True, mix="cutmix")
SEED = 7


def _images(num: int = 6) -> ImageSet:
    pixels = torch.randint(0, 256, (num, 1, 8, 8), dtype=torch.uint8, generator=generator(0, "images"))
    labels = torch.arange(3).repeat_interleave(num // 3)
    return ImageSet(images=pixels, labels=labels, class_names=("a", "b", "c"))


def _views(images: ImageSet) -> ViewMaker:
    return ViewMaker(images.images, SPEC, seed=SEED)


def _net() -> nn.Module:
    return Normalized(build("convnet-2-w4", num_classes=3, shape=(1, 8, 8), seed=1), [0.5], [0.2]).eval()


def _all(epoch: int, images: ImageSet) -> tuple[Tensor, Tensor]:
    return torch.full((images.num_images,), epoch), torch.arange(images.num_images)


def test_hard_labels_mix_by_area() -> None:
    images = _images()
    batch = _views(images).make(*_all(3, images))
    found = torch.softmax(HardSource(images.labels, 3).logits(batch), 1)
    for row in range(images.num_images):
        mix = float(batch.mix[row])
        expected = [0.0] * 3
        expected[int(images.labels[row])] += 1 - mix
        expected[int(images.labels[batch.partner_ids[row]])] += mix
        assert found[row].tolist() == pytest.approx(expected, abs=1e-6)
    assert float(batch.mix.max()) > 0


def test_a_networks_labels_are_its_scaled_logits_in_eval_mode() -> None:
    images, net = _images(), _net()
    batch = _views(images).make(*_all(0, images))
    source = NetworkSource(net.train(), num_classes=3, temperature=4.0, logit_scale=2.0)
    with torch.no_grad():
        expected = 2.0 * net.eval()(batch.pixels)
    assert torch.equal(source.logits(batch), expected)
    assert not net.training
    source = NetworkSource(net, num_classes=3, logit_scale=2.0, offsets=(1.0, 0.0, -1.0))
    assert torch.equal(source.logits(batch), expected + torch.tensor([1.0, 0.0, -1.0]))


def test_a_table_replays_the_network_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    images, net = _images(), _net()
    views = _views(images)
    monkeypatch.setattr(table_module, "CHUNK", 4)  # chunks that cross epochs
    logits = make_logits(NetworkSource(net, num_classes=3), views, epochs=5)
    assert logits.shape == (5, 6, 3)
    source = TableSource(logits, temperature=2.0, logit_scale=3.0)
    epochs, ids = torch.tensor([4, 0, 2]), torch.tensor([5, 1, 1])
    batch = views.make(epochs, ids)
    with torch.no_grad():
        expected = 3.0 * net(batch.pixels)
    assert torch.allclose(source.logits(batch), expected, atol=1e-5)
    source = TableSource(logits, logit_scale=3.0, offsets=(1.0, 0.0, -1.0))
    shifted = expected + torch.tensor([1.0, 0.0, -1.0])
    assert torch.allclose(source.logits(batch), shifted, atol=1e-5)


def test_fewer_epochs_are_cycled() -> None:
    source = TableSource(torch.zeros(3, 6, 2))
    epochs, ids = source.schedule(7, 6)
    assert epochs.tolist() == [1] * 6
    assert ids.tolist() == list(range(6))


def test_a_table_that_would_be_too_big_stays_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images()
    small = make_labels(_net(), _views(images), epochs=2, num_classes=3)
    monkeypatch.setattr(table_module, "LARGEST_TABLE", 4 * 2 * 6 * 3 - 1)
    large = make_labels(_net(), _views(images), epochs=2, num_classes=3)
    assert small.table is not None
    assert large.table is None
    batch = _views(images).make(*_all(1, images))
    labels = [made.source(temperature=4.0, logit_scale=2.0).logits(batch) for made in (small, large)]
    assert torch.allclose(labels[0], labels[1], atol=1e-5)


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    table = torch.randn(2, 3, 4, generator=generator(0, "t"))
    write_table(table, tmp_path / "t.npy")
    assert torch.equal(read_table(tmp_path / "t.npy"), table)
