"""Losses between a student's logits and a source's labels; which one a protocol takes is a value in its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from flashdd.core.errors import UsageError
from flashdd.core.jsonfields import exact_fields, number
from flashdd.data.views import ViewBatch

LossName = Literal["kl", "kl-t2", "cross-entropy", "mse-gt", "gift"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Name and dials of a loss; `loss_value` says what each computes. UsageError for dials that do not fit.

    weight: of the hard labels, in "mse-gt" (at least 0) and "gift" (0..1); None in the others.
    smoothing: of the hard labels in "gift", in 0..1, 1 excluded; None in the others.
    """

    name: LossName
    weight: float | None = None
    smoothing: float | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(LossName):
            raise UsageError(f"loss.name is {self.name!r}: expected one of {', '.join(get_args(LossName))}.")
        for dial, value, used in (
            ("weight", self.weight, self.needs_classes),
            ("smoothing", self.smoothing, self.name == "gift"),
        ):
            if (value is not None) != used:
                expected = "a number" if used else "none"
                raise UsageError(f"loss.{dial} is {value!r}: expected {expected} with loss '{self.name}'.")
        if self.weight is not None and not 0 <= self.weight <= (1 if self.name == "gift" else float("inf")):
            raise UsageError(
                f"loss.weight is {self.weight!r}: expected at least 0, and at most 1 with 'gift'."
            )
        if self.smoothing is not None and not 0 <= self.smoothing < 1:
            raise UsageError(f"loss.smoothing is {self.smoothing!r}: expected 0 or more, and less than 1.")

    @property
    def needs_classes(self) -> bool:
        """Whether it looks at the images' classes too, and at logits rather than at probabilities."""
        return self.name in ("mse-gt", "gift")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Loss:
        """The inverse of `to_json`. ValueError where fields are missing, unknown or wrong."""
        fields = exact_fields(value, cls, "loss")
        dials = {
            dial: None if fields[dial] is None else number(fields[dial], f"loss.{dial}")
            for dial in ("weight", "smoothing")
        }
        return cls(name=fields["name"], **dials)


KL = Loss(name="kl")
CROSS_ENTROPY = Loss(name="cross-entropy")


def loss_value(
    loss: Loss,
    student_logits: Tensor,
    source_logits: Tensor,
    temperature: float | Tensor,
    classes: Tensor | None,
    *,
    student_temperature: float | Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The mean of `loss` over the batch, a scalar.

    student_logits, source_logits: (N, classes), before temperature; that is a number, or (N, 1), and the student's is
    the same unless said. weights: (N,), factors on the rows of "kl", the one loss whose size moves with the
    temperature. classes: float32 (N, classes), the classes of the images as distributions (`mixed_classes`),
    where the loss needs them. UsageError where it needs finite logits and the source gives others.
    """
    if not loss.needs_classes:
        targets = soft_targets(source_logits, temperature)
        if loss.name == "cross-entropy":
            return soft_cross_entropy(student_logits, targets)
        at = temperature if student_temperature is None else student_temperature
        rows = kl_rows(student_logits, targets, at)
        if loss.name == "kl":
            return (rows if weights is None else rows * weights).mean()
        squared = at.flatten() ** 2 if isinstance(at, Tensor) else at**2
        return (rows * squared).mean()
    if not bool(torch.isfinite(source_logits).all()):
        raise UsageError(
            f"loss '{loss.name}' needs finite logits, and these labels are probabilities of which some are 0: "
            "take a protocol whose loss is kl or cross-entropy, or labels from a network."
        )
    assert classes is not None, "a loss that looks at classes gets them"
    assert loss.weight is not None, "and weighs them"
    if loss.name == "mse-gt":
        return mse_with_classes(student_logits, source_logits, classes, loss.weight)
    assert loss.smoothing is not None, "gift smooths them"
    return gift(student_logits, source_logits, classes, loss.weight, loss.smoothing)


def soft_targets(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax(logits / temperature), float32 (N, classes); exact zeros where a logit is -inf.

    temperature: one number, or one per row (N, 1).
    """
    return torch.softmax(logits.float() / temperature, dim=1)


def mixed_classes(labels: Tensor, views: ViewBatch, num_classes: int) -> Tensor:
    """float32 (N, num_classes): one-hot classes, (1 - mix) of the view's own and mix of its partner's.

    labels: int64, the class of every image. CutMix (arXiv 1905.04899), equation 1; MixUp (arXiv 1710.09412).
    """
    labels = labels.to(views.image_ids.device)
    own = F.one_hot(labels[views.image_ids], num_classes).float()
    partner = F.one_hot(labels[views.partner_ids], num_classes).float()
    mix = views.mix[:, None]
    return (1 - mix) * own + mix * partner


def kl_rows(student_logits: Tensor, targets: Tensor, temperature: float | Tensor) -> Tensor:
    """KL(targets || softmax(student / T)) of every row, (N,); temperature: a number, or (N, 1)."""
    log_student = F.log_softmax(student_logits.float() / temperature, dim=1)
    return torch.xlogy(targets, targets).sum(1) - (targets * log_student).sum(1)


def kl_divergence(student_logits: Tensor, targets: Tensor, temperature: float | Tensor) -> Tensor:
    """KL(targets || softmax(student / T)), mean over the batch, not multiplied by T^2.

    The field's habit since SRe2L (arXiv 2306.13092); under AdamW the missing T^2 changes nothing but the relative
    weight of the epsilon, as long as T stays (`TemperatureRule.weights`). Under SGD it divides the rate by T^2: hence
    "kl-t2", which SRe2L takes for Tiny-ImageNet (Hinton et al., arXiv 1503.02531, section 2). student_logits, targets:
    (N, classes); temperature: a number, or (N, 1).
    """
    return kl_rows(student_logits, targets, temperature).mean()


def soft_cross_entropy(student_logits: Tensor, targets: Tensor) -> Tensor:
    """-sum(targets * log softmax(student)), mean over the batch; the student's own temperature is 1.

    What somebody's own loop does with soft labels, and with hard ones. student_logits, targets: (N, classes).
    """
    return -(targets * F.log_softmax(student_logits.float(), dim=1)).sum(1).mean()


def mse_with_classes(student_logits: Tensor, source_logits: Tensor, classes: Tensor, weight: float) -> Tensor:
    """Mean squared difference of the logits + weight * cross-entropy with the classes ("MSE-GT").

    G-VBSM (arXiv 2311.17950), section 3.3, and EDC (arXiv 2404.13733); temperature plays no part. Their code takes
    the class of the view's own image even where CutMix has covered it; here classes are mixed as the pixels are.
    """
    difference = F.mse_loss(student_logits.float(), source_logits.float())
    return difference + weight * soft_cross_entropy(student_logits, classes)


def gift(
    student_logits: Tensor, source_logits: Tensor, classes: Tensor, weight: float, smoothing: float
) -> Tensor:
    """1 - cos(student, (1 - weight) * source / |source| + weight * smoothed / |smoothed|), mean over the batch.

    GIFT (arXiv 2405.14736), section 4: label refinement, then the cosine loss, on logits as in the released code
    (whose 1 : 0.1 is a weight of 1/11). smoothed = (1 - smoothing) * class + smoothing * (the others, evenly).
    """
    others = (1 - classes) / (classes.shape[1] - 1)
    smoothed = (1 - smoothing) * classes + smoothing * others
    refined = (1 - weight) * F.normalize(source_logits.float(), dim=1) + weight * F.normalize(smoothed, dim=1)
    return 1 - F.cosine_similarity(student_logits.float(), refined, dim=1).mean()
