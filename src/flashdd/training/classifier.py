"""Training of a classifier on the real dataset: teachers, members of a labeler, and the upper bounds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flashdd.core.errors import ConfigError
from flashdd.core.seeds import derive
from flashdd.data.dataset import Split
from flashdd.data.views import ViewMaker, ViewSpec
from flashdd.training.engine import Engine
from flashdd.training.loop import Fitted, Training, fit
from flashdd.training.losses import Loss, loss_value
from flashdd.training.optim import Schedule, build_optimizer, one_cycle
from flashdd.training.order import BatchOrder
from flashdd.training.source import LabelSource, every_image

_PEAK_RATE = 0.1
_WEIGHT_DECAY = 5e-4
_IMITATION = Loss(name="kl-t2")
ViewSchedule = Callable[[int, int], tuple[Tensor, Tensor]]
"""(epoch, number of images) -> epochs and image ids of its views (`LabelSource.schedule`)."""


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """SGD with Nesterov momentum, weight decay 5e-4, random shifts and flips, one cycle of the rate up to 0.1.

    shift: an image moves by up to this share of its side, whole pixels, over zero padding; 0: not at all.
    cycles: so many of them in a row, of equal length but for a rest of steps, which the first ones share; the network
    at the end of each is a member of a snapshot ensemble (Huang et al., arXiv:1704.00109, section 3).
    """

    epochs: int
    batch_size: int
    flip: bool
    shift: float
    cycles: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "flip": self.flip,
            "shift": self.shift,
            "cycles": self.cycles,
            "lr": _PEAK_RATE,
            "weight_decay": _WEIGHT_DECAY,
        }

    def steps(self, num_images: int) -> int:
        return self.epochs * self.order(num_images, seed=0).steps_per_epoch

    def ends(self, num_images: int) -> list[int]:
        """The last step of every cycle, ascending. Raises ConfigError where a cycle would be without steps."""
        steps = self.steps(num_images)
        if not 1 <= self.cycles <= steps:
            raise ConfigError(f"{self.cycles} cycles in a training of {steps} steps: expected 1 to {steps}.")
        whole, rest = divmod(steps, self.cycles)
        return list(accumulate(whole + (cycle < rest) for cycle in range(self.cycles)))

    def rate(self, num_images: int) -> Schedule:
        ends = self.ends(num_images)
        starts = [0, *ends[:-1]]
        cycles = [one_cycle(_PEAK_RATE, end - start) for start, end in zip(starts, ends, strict=True)]

        def at(step: int) -> float:
            cycle = bisect_right(starts, step) - 1
            return cycles[cycle](step - starts[cycle])

        return at

    def order(self, num_images: int, *, seed: int, schedule: ViewSchedule = every_image) -> BatchOrder:
        """Every image once an epoch, in batches of at most all images; `schedule` says which views of them."""
        return BatchOrder(
            lambda epoch: schedule(epoch, num_images),
            batch_size=min(self.batch_size, num_images),
            seed=seed,
            span=False,
            num_pairs=num_images,
        )


@dataclass(frozen=True, kw_only=True)
class Tutor:
    """Whom a network imitates instead of learning the classes. source: its labels, at their temperature, of the views
    of the real images that `augmentation_seed` draws; epochs: of views, which longer trainings see again."""

    source: LabelSource
    augmentation_seed: int
    epochs: int

    def schedule(self, epoch: int, num_images: int) -> tuple[Tensor, Tensor]:
        return every_image(epoch % self.epochs, num_images)


def fit_classifier(
    model: nn.Module,
    train: Split,
    recipe: ClassifierRecipe,
    engine: Engine,
    *,
    seed: int,
    tutor: Tutor | None = None,
    visits: Sequence[int] = (),
    visit: Callable[[int, nn.Module], Any] = lambda step, model: None,
    checkpoint: Path | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> Fitted:
    """Train `model` (pixels in [0, 1] -> logits) on the real images, with hard labels or with those of `tutor`.

    The latter by KL at the labels' temperature, times its square (Hinton et al., arXiv 1503.02531, section 2).
    """
    spec = shifted_views(train.images.shape[2:], recipe.shift, flip=recipe.flip)
    views_seed = tutor.augmentation_seed if tutor else derive(seed, "augmentation")
    views = ViewMaker(train.images, spec, seed=views_seed, device=engine.device)
    labels = train.labels.to(engine.device)
    num_images = len(labels)
    schedule = tutor.schedule if tutor else every_image
    order = recipe.order(num_images, seed=derive(seed, "classifier"), schedule=schedule)

    def loss(net: nn.Module, step: int) -> tuple[Tensor, int, int]:
        epochs, ids = order.pairs(step)
        own = views.make(engine.share(epochs), engine.share(ids))
        output = net(own.pixels)
        if tutor is None:
            value = F.cross_entropy(output, labels[own.image_ids.to(labels.device)])
        else:
            source = tutor.source
            value = loss_value(_IMITATION, output, source.logits(own), source.temperature, None)
        return value, len(ids), len(own.image_ids)

    steps = recipe.steps(num_images)
    training = Training(
        steps=steps,
        loss=loss,
        optimizer=build_optimizer(model, "sgd", lr=_PEAK_RATE, weight_decay=_WEIGHT_DECAY),
        lr=recipe.rate(num_images),
        visits=visits,
        visit=visit,
    )
    return fit(model, training, engine, checkpoint=checkpoint, on_step=on_step)


def whole_pixels(size: Sequence[int], share: float) -> float:
    """The share of the shorter side of images of `size` (H, W) that `share` comes to in whole pixels: rounded down, a
    pixel at least unless it is 0.

    >>> [32 * whole_pixels((32, 48), share) for share in (0.0, 0.001, 1 / 32, 0.07, 1 / 8)]
    [0.0, 1.0, 1.0, 2.0, 4.0]
    """
    if not share:
        return 0.0
    pixels = int(min(size) * share + 1e-9)  # 29 % of 100 pixels are 28.999... in floats
    return max(1, pixels) / min(size)


def shifted_views(size: Sequence[int], shift: float, *, flip: bool) -> ViewSpec:
    """The views of real images of `size` (H, W) that a classifier is trained on; shift: a share in whole pixels."""
    return ViewSpec(padding=round(min(size) * shift), flip=flip)


def state_on_cpu(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the model's tensors on the CPU, contiguous, as a file holds them."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
