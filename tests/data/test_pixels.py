"""Sampling against crops that are cut out and resized one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flashdd.data.pixels import axis_places, permute_bands, plan_views, render
from flashdd.data.viewspec import ViewSpec


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def values_of(
    *,
    shift: tuple[int, int] = (0, 0),
    crop: tuple[int, int, int, int],
    flip: int = 0,
    box: tuple[int, ...] = (0,) * 4,
) -> torch.Tensor:
    return torch.tensor([[*shift, *crop, flip, 0, 0, *box, 0, 0]])


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (17, 29), (30, 10)])
@pytest.mark.parametrize("flip", [0, 1])
def test_every_crop_equals_resizing_it(size: tuple[int, int], flip: int) -> None:
    height, width = size
    image = noise(1, 3, height, width)
    spec = ViewSpec(crop_scale=(0.1, 1.0), flip=True)
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        h, w = (int(torch.randint(1, s + 1, (), generator=generator)) for s in size)
        top = int(torch.randint(0, height - h + 1, (), generator=generator))
        left = int(torch.randint(0, width - w + 1, (), generator=generator))
        values = values_of(crop=(top, left, h, w), flip=flip)
        view = render((image, values, plan_views(values, spec, size)), None, spec)
        crop = image[:, :, top : top + h, left : left + w].double()
        expected = F.interpolate(crop, size=size, mode="bilinear", align_corners=False)
        expected = expected.flip(-1) if flip else expected
        exact = size in {(32, 32), (8, 8)}  # places are sums of powers of two
        torch.testing.assert_close(view.double(), expected, rtol=0, atol=0 if exact else 255e-5)


def test_places_never_leave_the_box() -> None:
    start, length = torch.tensor([0, 3, 7]), torch.tensor([8, 4, 1])
    pixels = (axis_places(start, length, size=8, extent=16) + 1) * 8 - 0.5
    assert pixels.min(dim=1).values.tolist() == [0.0, 3.0, 7.0]
    assert pixels.max(dim=1).values.tolist() == [7.0, 6.0, 7.0]


@pytest.mark.parametrize("crop_scale", [None, (1.0, 1.0)])
def test_the_partner_fills_the_box_and_nothing_else(crop_scale: tuple[float, float] | None) -> None:
    own, other = noise(1, 3, 16, 8, seed=1), noise(1, 3, 16, 8, seed=2)
    spec = ViewSpec(crop_scale=crop_scale, flip=True, mix="cutmix")
    mine, theirs = values_of(crop=(0, 0, 16, 8), box=(5, 2, 16, 6)), values_of(crop=(0, 0, 16, 8), flip=1)
    plans = [plan_views(values, spec, (16, 8)) for values in (mine, theirs)]
    view = render((own, mine, plans[0]), (other, theirs, plans[1]), spec)
    expected = own.clone()
    expected[:, :, 5:16, 2:6] = other.flip(-1)[:, :, 5:16, 2:6]
    assert torch.equal(view, expected.float())
    assert float(plans[0][0, -1]) == 11 * 4 / (16 * 8)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("mix", ["none", "cutmix"])
def test_shifts_are_exact_with_zeros_around(flip: int, mix: str) -> None:
    own, other = noise(1, 1, 7, 9, seed=1), noise(1, 1, 7, 9, seed=2)
    spec = ViewSpec(padding=3, flip=True, mix="cutmix" if mix == "cutmix" else "none")
    padded = [np.pad(image.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3))) for image in (own, other)]
    for down in range(7):
        for right in range(7):
            mine = values_of(shift=(down, right), crop=(0, 0, 7, 9), flip=flip, box=(1, 1, 6, 4))
            theirs = values_of(shift=(right, down), crop=(0, 0, 7, 9))
            plans = [plan_views(values, spec, (7, 9)) for values in (mine, theirs)]
            partner = (other, theirs, plans[1]) if mix == "cutmix" else None
            view = render((own, mine, plans[0]), partner, spec)[0, 0].numpy()
            expected = padded[0][0, 0, down : down + 7, right : right + 9]
            expected = (expected[:, ::-1] if flip else expected).copy()
            if mix == "cutmix":
                expected[1:6, 1:4] = padded[1][0, 0, right : right + 7, down : down + 9][1:6, 1:4]
            assert np.array_equal(view, expected)


def test_bands_of_rows_then_of_columns() -> None:
    images = noise(2, 3, 6, 4)
    orders = torch.tensor([[[1, 0], [0, 1]], [[1, 0], [1, 0]]])
    got = permute_bands(images, orders)
    rows_swapped = torch.cat((images[:, :, 3:], images[:, :, :3]), dim=2)
    assert torch.equal(got[0], rows_swapped[0])
    assert torch.equal(got[1], torch.cat((rows_swapped[1, :, :, 2:], rows_swapped[1, :, :, :2]), dim=2))


def test_bands_in_three() -> None:
    images = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3)
    got = permute_bands(images, torch.tensor([[[2, 0, 1], [1, 2, 0]]]))
    assert got[0, 0].tolist() == [[7, 8, 6], [1, 2, 0], [4, 5, 3]]
