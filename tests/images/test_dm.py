"""Distribution matching against direct formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tasks import split_of, task_of
from torch import Tensor

from flashdd.core.config import DmSection, Section
from flashdd.core.seeds import derive, generator
from flashdd.images.dm import default_network, dm_images, feature_distance
from flashdd.images.random import random_images
from flashdd.images.siamese import OPERATIONS, SiameseChange, draw_change
from flashdd.models.table import build

NETWORK = "convnet-2-w4-in"


def _images(count: int = 3, channels: int = 3, side: int = 8) -> Tensor:
    return torch.randn(count, channels, side, side, generator=generator(0, "images"))


def _change(operation: str, *numbers: float) -> Tensor:
    return SiameseChange(operation=operation, numbers=numbers)(_images())


def test_the_distance_is_that_of_mean_features() -> None:
    net = build(NETWORK, num_classes=2, shape=(3, 8, 8), seed=0)
    real, synthetic = _images(5), _images(2) + 1
    features = [net.get_submodule("features")(batch).flatten(1) for batch in (real, synthetic)]
    expected = (features[0].mean(0) - features[1].mean(0)).pow(2).sum()
    assert torch.allclose(feature_distance(net, real, synthetic, None), expected)


def test_two_iterations_are_two_steps_of_gradient_descent_with_momentum() -> None:
    """The naive loop of Algorithm 1: all classes in one graph, the update written out."""
    split = split_of(channels=1)
    task, settings = (
        task_of(split, ipc=2, seed=5),
        DmSection(iterations=2, real_batch=4, lr=3.0, network=NETWORK),
    )
    found = dm_images(task, settings)
    start = random_images(task, Section())
    pixels = ((start.images.float() / 255 - 0.5) / 0.25).requires_grad_()
    velocity = torch.zeros_like(pixels)
    for step in range(2):
        net = build(NETWORK, num_classes=2, shape=(1, 8, 8), seed=derive(5, "dm network", step))
        total = torch.zeros(())
        for label in (0, 1):
            stream = generator(5, "dm", step, label)
            rows = torch.nonzero(split.labels == label).flatten()
            chosen = rows[torch.randperm(8, generator=stream)[:4]].numpy()
            real = (torch.from_numpy(split.images[chosen]).float() / 255 - 0.5) / 0.25
            change = draw_change(stream, flip=True)
            total = total + feature_distance(net, real, pixels[start.labels == label], change)
        (gradient,) = torch.autograd.grad(total, pixels)
        velocity = 0.5 * velocity + gradient
        pixels = (pixels.detach() - 3.0 * velocity).requires_grad_()
    expected = ((pixels.detach() * 0.25 + 0.5) * 255).round().clamp(0, 255)
    assert (found.images.float() - expected).abs().max() <= 1
    assert (found.images.float() - expected).abs().mean() < 0.01
    assert (found.images != start.images).float().mean() > 0.1


def test_a_checkpoint_goes_on_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DmSection(iterations=4, real_batch=4, network=NETWORK)
    task = task_of(split_of(), ipc=1)
    whole = dm_images(task, settings)
    monkeypatch.setattr("flashdd.training.loop._SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    kept = replace(task, checkpoint=tmp_path / "images.pt", on_step=stop)
    with pytest.raises(KeyboardInterrupt):
        dm_images(kept, settings)
    steps: list[int] = []
    again = dm_images(replace(kept, on_step=steps.append), settings)
    assert steps == [3, 4]
    assert again.content_hash == whole.content_hash


def test_the_network_grows_with_the_resolution() -> None:
    names = [default_network((3, side, side)) for side in (8, 28, 32, 64, 128)]
    assert names == [f"convnet-{depth}-w128-in" for depth in (2, 3, 3, 4, 5)]


def test_color_is_brightness_then_saturation_then_contrast() -> None:
    x = _images()
    for image, found in zip(x, _change("color", 0.8, 0.3, 0.9), strict=True):
        bright = image + 0.3
        gray = bright.mean(0)
        saturated = torch.stack([gray + 0.6 * (channel - gray) for channel in bright])
        expected = saturated.mean() + 1.4 * (saturated - saturated.mean())
        assert torch.allclose(found, expected, atol=1e-6)


def test_crop_shifts_over_zeros() -> None:
    assert torch.equal(_change("crop", 0.5, 0.5), _images())
    shifted = _change("crop", 0.99, 0.0)  # down by one in the picture, right by one
    expected = torch.zeros(3, 3, 8, 8)
    expected[:, :, :-1, 1:] = _images()[:, :, 1:, :-1]
    assert torch.equal(shifted, expected)


def test_cutout_zeros_a_rectangle_of_half_the_sides() -> None:
    middle = _change("cutout", 0.5, 0.5)
    keep = torch.ones(8, 8)
    keep[2:6, 2:6] = 0
    assert torch.equal(middle, _images() * keep)
    assert int((_change("cutout", 0.0, 0.0) == 0).sum()) == 3 * 3 * 4  # a quarter of it lies inside


def test_flip_and_identity() -> None:
    assert torch.equal(_change("flip", 0.49), _images().flip(3))
    assert torch.equal(_change("flip", 0.5), _images())
    assert torch.allclose(_change("rotate", 0.5), _images(), atol=1e-5)
    one = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)
    assert torch.allclose(_change("scale", one, one), _images(), atol=1e-5)


def test_rotation_turns_by_the_angle() -> None:
    """A bright spot right of the center, turned by 15 degrees, is found where sine and cosine put it."""
    side = 65
    picture = torch.zeros(1, 1, side, side)
    picture[0, 0, 32, 60] = 1
    blurred = F.avg_pool2d(picture, 5, stride=1, padding=2)
    turned = SiameseChange(operation="rotate", numbers=(1.0,))(blurred)[0, 0]
    ys, xs = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    y, x = (float((turned * axis).sum() / turned.sum()) for axis in (ys, xs))
    assert math.hypot(y - 32, x - 32) == pytest.approx(28, abs=0.1)
    assert abs(math.degrees(math.atan2(y - 32, x - 32))) == pytest.approx(15, abs=0.2)


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_every_change_is_one_for_all_images_and_has_gradients(name: str) -> None:
    change = SiameseChange(operation=name, numbers=(0.1, 0.3, 0.7))
    x = _images().requires_grad_()
    together = change(x)
    assert together.shape == x.shape
    assert torch.allclose(together[1:2], change(x[1:2]), atol=1e-6)
    (gradient,) = torch.autograd.grad(together.sum(), x)
    assert gradient.abs().sum() > 0


def test_draws_cover_the_operations_and_leave_flips_out_where_they_change_the_class() -> None:
    stream = generator(0, "changes")
    assert {draw_change(stream, flip=True).operation for _ in range(200)} == set(OPERATIONS)
    assert {draw_change(stream, flip=False).operation for _ in range(200)} == set(OPERATIONS) - {"flip"}
