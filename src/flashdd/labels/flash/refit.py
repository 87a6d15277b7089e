"""Refit of a member whose weights were rounded to few bits, to the logits of the network that it was rounded from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flashdd.core.errors import ConfigError
from flashdd.core.seeds import derive
from flashdd.data.dataset import Split
from flashdd.data.views import ViewMaker
from flashdd.labels.flash.fold import FoldedNet, fold, folded_forward
from flashdd.labels.flash.labeler import Member, rounded_member
from flashdd.labels.flash.quantize import TINIEST, integer_range, quantize, to_integers
from flashdd.models.family import LabelerSpec, LayerShape, spec_layers
from flashdd.models.labelernet import LabelerNet
from flashdd.training.classifier import shifted_views
from flashdd.training.engine import Engine
from flashdd.training.loop import Training, fit
from flashdd.training.optim import build_optimizer, cosine
from flashdd.training.order import BatchOrder
from flashdd.training.source import every_image

_LARGEST = 65504.0


@dataclass(frozen=True, kw_only=True)
class RefitRecipe:
    """AdamW without weight decay, cosine to 0. Raises ConfigError for numbers that cannot be used."""

    steps: int
    """0 only rounds."""
    batch_size: int = 128
    lr: float = 1e-2
    """In units of a channel's weights. 300 steps of a 13,050-parameter net: better than 3e-3 and 1e-3 at 2 bits."""
    flip: bool = False
    """Whether views of real images are mirrored at random, as the member was trained."""
    shift: float = 0.0
    """Share of their side by which they move at most, in whole pixels, as in the member's training."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or not self.lr > 0:
            raise ConfigError(
                "a refit takes 0 steps or more, batches of 1 or more and a rate above 0; got "
                f"{self.steps}, {self.batch_size} and {self.lr}."
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def refit_member(
    net: LabelerNet,
    spec: LabelerSpec,
    train: Split,
    recipe: RefitRecipe,
    engine: Engine,
    *,
    bits: int,
    seed: int,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    checkpoint: Path | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> Member:
    """The member of `bits` whose logits are nearest to those of the trained `net`, from its rounding on.

    Quantization-aware training: every pass rounds the folded weights, biases and scales as the file does, and the
    gradient goes straight through the rounding (Bengio et al., arXiv:1308.3432). Scales are learned as in LSQ
    (Esser et al., arXiv:1902.08153, eq. 1 to 3), by their logarithm, which keeps the sign; under AdamW they need no
    gradient scale. The loss is the squared error of logits: KL at the labels' temperature made no better students, nor,
    of the one network tried, four times the steps or views of the distilled images (docs/LOG.md, 2026-11-29).

    train: real images, uint8, as `net` was trained on; labels are not read. mean, std: normalization of pixels in
    [0, 1]. checkpoint: a file to go on from. Same seed, same bits; `net` is left as it is, in eval mode.
    Raises DataError where the refit diverged.
    """
    shape = (int(train.images.shape[1]), int(train.images.shape[2]), int(train.images.shape[3]))
    layers = spec_layers(spec, shape, num_classes)
    exact = fold(net.eval(), layers)
    model = _Rounded(exact, bits).to(engine.device)
    if recipe.steps:
        exact.to(engine.device)
        batch = _Batches(train, recipe, engine, seed)
        center = torch.tensor(mean, device=engine.device).view(1, -1, 1, 1)
        spread = torch.tensor(std, device=engine.device).view(1, -1, 1, 1)

        def loss(rounded: nn.Module, step: int) -> tuple[Tensor, int, int]:
            pixels = batch.pixels(step)
            images = ((pixels - center) / spread).contiguous(memory_format=torch.channels_last)
            return F.mse_loss(rounded(images), exact(images)), recipe.batch_size, len(pixels)

        training = Training(
            steps=recipe.steps,
            loss=loss,
            optimizer=build_optimizer(model, "adamw", lr=recipe.lr, weight_decay=0.0),
            lr=cosine(recipe.lr, recipe.steps),
        )
        fit(model, training, engine, checkpoint=checkpoint, on_step=on_step)
    return model.cpu().member(spec)


class _Batches:
    """The pixels of every step: views of real images, a pure function of (seed, step)."""

    def __init__(self, train: Split, recipe: RefitRecipe, engine: Engine, seed: int) -> None:
        self._engine = engine
        spec = shifted_views(train.images.shape[2:], recipe.shift, flip=recipe.flip)
        self._views = ViewMaker(train.images, spec, seed=derive(seed, "augmentation"), device=engine.device)
        num_images = self._views.num_images
        self._order = BatchOrder(
            lambda epoch: every_image(epoch, num_images),
            batch_size=recipe.batch_size,
            seed=derive(seed, "refit", 0),  # 0: keeps the bits of refits made before
            span=True,
            num_pairs=num_images,
        )

    def pixels(self, step: int) -> Tensor:
        """This process's rows of the batch, float32 in [0, 1]."""
        epochs, ids = (self._engine.share(rows) for rows in self._order.pairs(step))
        return self._views.make(epochs, ids).pixels


@final
class _Rounded(nn.Module):
    """A folded member that computes with rounded numbers and learns the exact ones behind them.

    Normalized images -> logits. What is learned starts at 0 and counts in units of its own channel, because folded
    norms leave channels of very different sizes: weights in their root mean square, biases in the norm of the
    channel's weights, the logarithm of a scale by its growth.
    """

    def __init__(self, exact: FoldedNet, bits: int) -> None:
        super().__init__()
        self.layers: tuple[LayerShape, ...] = exact.layers
        self.shrink, self.bits = exact.shrink, bits
        weights, biases = [w.detach() for w in exact.weights], [b.detach() for b in exact.biases]
        norms = [weight.flatten(1).norm(dim=1) for weight in weights]
        units = [norm / weight[0].numel() ** 0.5 for norm, weight in zip(norms, weights, strict=True)]
        starts = [quantize(weight.cpu(), bits)[1].float().to(weight.device) for weight in weights]
        self.weights, self.biases, self.starts = _fixed(weights), _fixed(biases), _fixed(starts)
        self.weight_units = _fixed([_column(unit, w) for unit, w in zip(units, weights, strict=True)])
        self.bias_units = _fixed([norm[: len(bias)] for norm, bias in zip(norms, biases, strict=True)])
        self.weight_moves, self.bias_moves, self.growths = (
            _learned(weights),
            _learned(biases),
            _learned(starts),
        )

    def forward(self, images: Tensor) -> Tensor:
        scales = self._scales()
        weights = [_rounded(w, scale, self.bits) for w, scale in zip(self._weights(), scales, strict=True)]
        biases = [_half(bias) for bias in self._biases()]
        return folded_forward(images, self.layers, weights, biases, self.shrink)

    @torch.no_grad()
    def member(self, spec: LabelerSpec) -> Member:
        scales = [scale.half() for scale in self._scales()]
        integers = [to_integers(w, s, self.bits) for w, s in zip(self._weights(), scales, strict=True)]
        return rounded_member(spec, self.bits, list(zip(integers, scales, strict=True)), self._biases())

    def _weights(self) -> list[Tensor]:
        return _moved(self.weights, self.weight_units, self.weight_moves)

    def _biases(self) -> list[Tensor]:
        return _moved(self.biases, self.bias_units, self.bias_moves)

    def _scales(self) -> list[Tensor]:
        pairs = zip(self.starts, self.growths, strict=True)
        return [_half(_held(start * growth.exp())) for start, growth in pairs]


def _fixed(tensors: Sequence[Tensor]) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(tensor.clone(), requires_grad=False) for tensor in tensors)


def _learned(like: Sequence[Tensor]) -> nn.ParameterList:
    """Zeros; an empty one (a layer without biases) gets no gradient, and must not ask for one."""
    return nn.ParameterList(
        nn.Parameter(torch.zeros_like(tensor), requires_grad=tensor.numel() > 0) for tensor in like
    )


def _moved(starts: nn.ParameterList, units: nn.ParameterList, moves: nn.ParameterList) -> list[Tensor]:
    return [start + unit * move for start, unit, move in zip(starts, units, moves, strict=True)]


def _column(rows: Tensor, like: Tensor) -> Tensor:
    """(out,) as (out, 1, ...), to go with `like` (out, ...)."""
    return rows.view(-1, *[1] * (like.ndim - 1))


def _held(scale: Tensor) -> Tensor:
    """Within what float16 holds, the sign kept."""
    return scale.sign() * scale.abs().clamp(TINIEST, _LARGEST)


def _half(values: Tensor) -> Tensor:
    """Rounded to float16, the gradient as if they were not."""
    return values + (values.half().float() - values).detach()


def _rounded(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """`weight` to the nearest integer times its row's scale; the gradient passes the rounding, not the clipping."""
    column = _column(scale, weight)
    clipped = (weight / column).clamp(*integer_range(bits))
    return (clipped + (clipped.round() - clipped).detach()) * column
