"""From a model's name to the model."""

from __future__ import annotations

import re

from torch import nn

from flashdd.core.errors import unknown_name
from flashdd.models.convnet import ConvNet
from flashdd.models.count import Size, size_of
from flashdd.models.family import STEMS, LabelerNet, LabelerSpec, shrink_factor, spec_layers
from flashdd.models.initialize import ConvRule, initialized, on_meta
from flashdd.models.resnet import ResNet18

_CONVNET = re.compile(r"convnet-([1-9]\d?)-w([1-9]\d{0,3})(-in)?", re.ASCII)
_KNOWN = ("resnet18", "convnet-3-w128", "convnet-3-w128-in", "conv-3-w8", "strided-3-w16", "patch-2-w32")


def build(name: str, *, num_classes: int, shape: tuple[int, int, int], seed: int) -> nn.Module:
    """The network called `name` for images of `shape` (C, H, W), in training mode on the CPU.

    Names: "resnet18"; "convnet-DEPTH-wWIDTH" with batch norm, "-in" added for instance norm; the labeler's
    family, "conv-", "strided-" or "patch-DEPTH-wWIDTH". Same seed, same bits; torch's global random state is
    neither read nor changed. Raises UnknownNameError, and UsageError when the resolution is too low.
    """
    rule: ConvRule = "he" if name == "resnet18" else "default"
    return initialized(lambda: _construct(name, num_classes, shape), seed=seed, conv=rule)


def size_of_name(name: str, *, num_classes: int, shape: tuple[int, int, int]) -> Size:
    """The size of what `build` would make, without making it; raises the same errors."""
    return size_of(on_meta(lambda: _construct(name, num_classes, shape)), shape)


def default_student(shape: tuple[int, int, int]) -> str:
    """The student's name where none is asked for, for images of `shape` (C, H, W)."""
    return "convnet-2-w32" if min(shape[1:]) < 16 else "convnet-3-w32"


def _construct(name: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    if name == "resnet18":
        return ResNet18(num_classes=num_classes, shape=shape)
    if match := _CONVNET.fullmatch(name):
        return ConvNet(
            depth=int(match[1]),
            width=int(match[2]),
            num_classes=num_classes,
            shape=shape,
            instance_norm=match[3] is not None,
        )
    if name.startswith(tuple(f"{stem}-" for stem in STEMS)):
        return LabelerNet(spec_layers(LabelerSpec.parse(name), shape, num_classes), shrink_factor(shape))
    raise unknown_name("model", name, _KNOWN)
