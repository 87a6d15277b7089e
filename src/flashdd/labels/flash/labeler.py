"""The labeler at run time: packed members in, logits out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from flashdd.core.device import full_float32
from flashdd.core.errors import DataError, UsageError
from flashdd.labels.flash.fold import FoldedNet, fold
from flashdd.labels.flash.quantize import BITS, dequantize, quantize
from flashdd.labels.flash.stack import StackedNet
from flashdd.models.family import LabelerSpec, shrink_factor, spec_layers, spec_size
from flashdd.models.labelernet import LabelerNet

MAX_MEMBERS = 1000


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network of a labeler, quantized.

    integers: int8 weights per layer, head last, each in `integer_range(bits)`; scales: float16 (outputs,); biases:
    float16 (num_biases,). weight: the member's share in the mean of the logits, in 1e-6 .. 1e6, kept to six digits.
    Raises UsageError for another weight, or bits that are not 2, 3, 4, 6 or 8.
    """

    spec: LabelerSpec
    integers: tuple[Tensor, ...]
    scales: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    bits: int = 8
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise UsageError(f"a member's weights have {self.bits} bits; expected one of {BITS}.")
        object.__setattr__(self, "weight", six_digits("a member's weight", self.weight))


def quantize_member(
    net: LabelerNet, spec: LabelerSpec, shape: tuple[int, int, int], num_classes: int, *, bits: int = 8
) -> Member:
    """Fold the batch norms of `net` and round its weights to `bits` per output channel.

    Raises DataError for a network whose training has diverged.
    """
    folded = fold(net.cpu(), spec_layers(spec, shape, num_classes))
    pairs = [quantize(weight, bits) for weight in folded.weights]
    return rounded_member(spec, bits, pairs, list(folded.biases))


def _with_offsets(member: Member, offsets: Tensor) -> Member:
    """`member` with `offsets` (classes,) added to its logits: to the bias of its head, rounded to float16.

    Raises DataError for offsets that float16 cannot hold.
    """
    bias = (member.biases[-1].double() + offsets.double()).half()
    if not torch.isfinite(bias).all():
        raise DataError(f"class offsets of up to {offsets.abs().max():g} are beyond float16.")
    return replace(member, biases=(*member.biases[:-1], bias))


def rounded_member(
    spec: LabelerSpec, bits: int, pairs: Sequence[tuple[Tensor, Tensor]], biases: Sequence[Tensor]
) -> Member:
    """The member of these integers and scales, its float32 biases rounded; DataError if float16 cannot hold them."""
    member = Member(
        spec=spec,
        bits=bits,
        integers=tuple(integers for integers, _ in pairs),
        scales=tuple(scale for _, scale in pairs),
        biases=tuple(bias.detach().half() for bias in biases),
    )
    if not all(torch.isfinite(numbers).all() for numbers in (*member.scales, *member.biases)):
        raise DataError(
            f"{spec.name} has weights that are not finite, or beyond float16: its training diverged; train it anew."
        )
    return member


@final
class Labeler(nn.Module):
    """The shipped label generator: pixels float32 (N, C, H, W) in [0, 1] -> logits float32 (N, classes).

    mean, std: per channel, of pixels in [0, 1]. temperature: of the labels; logit_scale: factor on the members'
    weighted mean; both in 1e-6 .. 1e6, kept to six digits. UsageError for others, and for no members or over 1,000.
    Members of one architecture run in one pass (`stack.py`), different ones after another; in eager PyTorch,
    channels-last, on any device.
    """

    mean: Tensor
    std: Tensor
    backend = "eager"

    def __init__(
        self,
        members: Sequence[Member],
        *,
        shape: tuple[int, int, int],
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        temperature: float,
        logit_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not 1 <= len(members) <= MAX_MEMBERS:
            raise UsageError(f"a labeler of {len(members)} members; expected 1 to {MAX_MEMBERS}.")
        self.members = tuple(members)
        self.shape = shape
        self.num_classes = num_classes
        self.temperature = six_digits("the labeler's temperature", temperature)
        self.logit_scale = six_digits("the labeler's logit scale", logit_scale)
        self.statistics = rounded_statistics(mean, std)
        self.register_buffer("mean", torch.tensor(self.statistics[0], dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(self.statistics[1], dtype=torch.float32).view(1, -1, 1, 1))
        self.nets = nn.ModuleList(_stacks(self.members, shape, num_classes))
        self.eval()

    @property
    def num_members(self) -> int:
        return len(self.members)

    @property
    def params(self) -> int:
        """Weights and biases of all members, after folding."""
        return sum(t.numel() for member in self.members for t in (*member.integers, *member.biases))

    @property
    def bits(self) -> int:
        """Of the weights; where members differ, the most."""
        return max(member.bits for member in self.members)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image, over all members."""
        return sum(spec_size(member.spec, self.shape, self.num_classes).macs for member in self.members)

    def forward(self, pixels: Tensor) -> Tensor:
        normalized = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        logits = torch.zeros(len(pixels), self.num_classes, device=pixels.device)
        for net in self.nets:
            logits += net(normalized)
        return self.logit_scale * logits

    def with_settings(
        self, *, temperature: float | None = None, logit_scale: float = 1.0, offsets: Sequence[float] = ()
    ) -> Labeler:
        """A labeler of the same networks, on the CPU: at another temperature, with a factor on the logit scale, and
        with class offsets, one per class or none, added to the logits that it then has.

        Offsets stand in the bias of every member's head and take no bytes; DataError for those that float16 cannot
        hold.
        """
        scale = self.logit_scale * logit_scale
        members = self.members
        if offsets:
            before_scale = torch.tensor(offsets, dtype=torch.float64) / scale
            members = tuple(_with_offsets(member, before_scale) for member in members)
        return Labeler(
            members,
            shape=self.shape,
            num_classes=self.num_classes,
            mean=self.statistics[0],
            std=self.statistics[1],
            temperature=self.temperature if temperature is None else temperature,
            logit_scale=scale,
        )

    @torch.no_grad()
    def logits_of(self, pixels: Tensor) -> Tensor:
        """Logits before temperature, in full float32: softmax(logits / temperature) are the labels."""
        with full_float32():
            logits: Tensor = self(pixels.float())
        return logits

    def as_teacher(self, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
        """A module on images normalized by `mean` and `std`, to stand in for a teacher in any training script.

        mean, std: of pixels in [0, 1], a number per channel, deviations above 0; UsageError for others. The module
        gives logits; with its attribute `temperature`, softmax(logits / temperature) are the labels. It refuses images
        of another shape (C, H, W) than the labeler's. Class offsets, where the labeler has any, are those of the images
        that it was made for.
        """
        channels = self.shape[0]
        if len(mean) != channels or len(std) != channels:
            raise UsageError(
                f"as_teacher: {len(mean)} means and {len(std)} deviations: expected {channels} of each, one for every "
                "channel."
            )
        if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
            raise UsageError(
                f"as_teacher: mean {list(mean)} and std {list(std)}: expected finite numbers, deviations above 0."
            )
        return _AsTeacher(self, mean, std).eval()


@final
class _AsTeacher(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, labeler: Labeler, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.labeler = labeler
        self.temperature = labeler.temperature
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, normalized: Tensor) -> Tensor:
        if tuple(normalized.shape[1:]) != self.labeler.shape:
            raise UsageError(
                f"the labeler labels images {self.labeler.shape}; got {tuple(normalized.shape[1:])}: resize them, or "
                "make a labeler for that size."
            )
        logits: Tensor = self.labeler(normalized * self.std + self.mean)
        return logits


def rounded_statistics(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel as a labeler's file has them.

    Six decimals are far below a pixel's rounding, and short in the file.
    """
    return tuple(round(float(value), 6) for value in mean), tuple(round(float(value), 6) for value in std)


def six_digits(what: str, value: float) -> float:
    """`value` to six digits, which are short in the file and beyond what labels feel; UsageError outside 1e-6..1e6."""
    rounded = float(f"{value:.6g}")
    if not 1e-6 <= rounded <= 1e6:
        raise UsageError(f"{what} is {value}; expected a number in 1e-6 .. 1e6.")
    return rounded


def _stacks(members: Sequence[Member], shape: tuple[int, int, int], num_classes: int) -> Iterator[StackedNet]:
    """One network for the members of each architecture, in the order of their first; their sum is the mean."""
    total = sum(member.weight for member in members)
    for spec in dict.fromkeys(member.spec for member in members):
        same = [member for member in members if member.spec == spec]
        nets = [folded_member(member, shape, num_classes) for member in same]
        yield StackedNet(nets, [member.weight / total for member in same])


def folded_member(member: Member, shape: tuple[int, int, int], num_classes: int) -> FoldedNet:
    """The network of `member` by itself."""
    weights = [dequantize(*pair) for pair in zip(member.integers, member.scales, strict=True)]
    biases = [bias.float() for bias in member.biases]
    layers = spec_layers(member.spec, shape, num_classes)
    return FoldedNet(layers, weights, biases, shrink_factor(shape, member.spec.pixels))
