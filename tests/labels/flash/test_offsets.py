"""Class offsets: fitted to a student's logits, and added to a labeler's for no bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from member_samples import make_labeler, make_member, pixels

from flashdd.core.errors import DataError
from flashdd.labels.flash.offsets import fit_offsets
from flashdd.labels.flash.pack import labeler_bytes, parse_labeler


def _scores(count: int, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Calibrated logits, and classes drawn from their softmax."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, classes, generator=generator)
    logits -= logits.mean(1, keepdim=True)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_what_was_taken_from_logits_is_found(scale: float) -> None:
    logits, classes = _scores(20_000)
    taken = torch.tensor([1.5, -0.5, 0.0, -2.0, 1.0])
    found = fit_offsets(scale * (logits - taken), classes)
    assert found.dtype == torch.float64
    assert torch.allclose(found.float(), scale * taken, atol=0.1 * scale)
    assert found.mean().abs() < 1e-9


def test_students_with_offsets_predict_every_class_as_often_as_it_is() -> None:
    """The likelihood is stationary where shares agree, at the scale that it finds."""
    logits, classes = _scores(4000)
    skewed = logits + torch.tensor([2.0, 0.0, -2.0, 0.5, 0.0])
    corrected = skewed.double() + fit_offsets(skewed, classes)
    shares = torch.bincount(classes, minlength=5) / len(classes)
    assert torch.allclose(corrected.softmax(1).mean(0).float(), shares, atol=0.01)
    assert (skewed.softmax(1).mean(0) - shares).abs().max() > 0.1


def test_a_class_that_is_not_there_has_a_bounded_offset() -> None:
    logits, classes = _scores(500)
    found = fit_offsets(logits, classes.clamp(max=3))
    assert -3 * logits.std() < found[4] == found.min()


def test_a_wild_logit_decides_nothing() -> None:
    logits, classes = _scores(2000)
    skewed = logits - torch.tensor([1.5, -0.5, 0.0, -2.0, 1.0])
    wild = skewed.clone()
    for row, value in ((7, 1e6), (9, 1e12)):
        wild[row, (classes[row] + 1) % 5] = value  # in a class that it is not
    assert torch.allclose(fit_offsets(wild, classes), fit_offsets(skewed, classes), atol=0.1)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_logits_that_say_nothing_have_none(value: float) -> None:
    assert not fit_offsets(torch.full((10, 3), value), torch.arange(10) % 3).any()


def test_a_labeler_with_offsets_is_the_labeler_plus_offsets_in_as_many_bytes() -> None:
    first, second = make_member("conv-2-w4", 1, bits=4), replace(make_member("strided-2-w4", 2), weight=3.0)
    offsets = (0.5, -0.25, 1.0, 0.0, -1.25)
    plain = make_labeler([first, second], logit_scale=2.0)
    shifted = plain.with_settings(temperature=7.0, logit_scale=1.5, offsets=offsets)
    expected = 1.5 * plain.logits_of(pixels()) + torch.tensor(offsets)
    assert torch.allclose(shifted.logits_of(pixels()), expected, atol=3e-3)
    assert (shifted.temperature, plain.with_settings().temperature) == (7.0, 4.0)
    assert labeler_bytes(plain.with_settings()) == labeler_bytes(plain)
    data = labeler_bytes(shifted)
    assert len(data) == len(labeler_bytes(plain))
    assert torch.equal(parse_labeler(data, "file").logits_of(pixels()), shifted.logits_of(pixels()))


def test_offsets_beyond_float16_are_refused() -> None:
    with pytest.raises(DataError, match=r"class offsets of up to 1e\+06 are beyond float16"):
        make_labeler([make_member("conv-2-w4")]).with_settings(offsets=(1e6, 0.0, 0.0, 0.0, 0.0))


def test_logits_that_say_nothing_of_classes_end_in_numbers() -> None:
    """Logits of two hundredths around three numbers, of classes at random."""
    generator = torch.Generator().manual_seed(49)
    logits = torch.randn(1, 3, generator=generator) + torch.randn(365, 3, generator=generator) * 0.01
    torch.randint(0, 8, (1,), generator=generator)  # the draw at which another search for them ran away
    classes = torch.randint(0, 3, (365,), generator=generator)
    assert fit_offsets(logits, classes).abs().max() < 1000  # so none of them is NaN either


@pytest.mark.parametrize("absent", [False, True])
def test_offsets_are_those_of_most_likelihood_by_autograd(absent: bool) -> None:
    """At what is found the gradient of the naive loss is zero, whatever the scale beside it."""
    logits, classes = _scores(300)
    classes = classes.clamp(max=3) if absent else classes
    skewed = logits.double() + torch.tensor([2.0, 0.0, -2.0, 0.5, 0.0])
    skewed = skewed - skewed.mean(1, keepdim=True)
    spread = skewed.abs().median()
    offsets = (fit_offsets(skewed.clone().requires_grad_(), classes) / spread).requires_grad_()
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        said = log_scale.exp() * (skewed / spread + offsets)
        return torch.nn.functional.cross_entropy(said, classes) + offsets.square().sum() / (2 * len(classes))

    optimizer = torch.optim.LBFGS(
        [log_scale], max_iter=100, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    (gradient,) = torch.autograd.grad(loss(), offsets)
    assert gradient.abs().max() < 1e-5
    assert offsets.detach().abs().max() > 0.3


@pytest.mark.parametrize(
    ("logits", "classes"),
    [
        ([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]], [0, 1, 2]),
        ([[0.0, 4.0, 0.0], [0.0, 0.0, 4.0], [4.0, 0.0, 0.0]], [0, 1, 2]),
        ([[0.7376294732093811, 1.9459291696548462, -0.6995416283607483]], [0]),
    ],
)
def test_where_no_scale_is_best_offsets_are_finite(logits: list[list[float]], classes: list[int]) -> None:
    """Logits that know every class, or none, or have one alone: the likelihood grows with the scale, or against it."""
    found = fit_offsets(torch.tensor(logits), torch.tensor(classes))
    assert found.isfinite().all()
    assert found.abs().max() < 30.0
