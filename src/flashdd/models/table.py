"""From a model's name to the model."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Protocol, get_args

import torch
from torch import nn

from flashdd.core.errors import UsageError, unknown_name
from flashdd.core.plugins import call_plugin, is_plugin, registered
from flashdd.models.convnet import ConvNet
from flashdd.models.count import Size, size_of
from flashdd.models.densenet import DenseNet121
from flashdd.models.efficientnet import EfficientNetB0
from flashdd.models.family import STEMS, LabelerSpec, Stem
from flashdd.models.initialize import ConvRule, LinearRule, initialized, on_meta
from flashdd.models.labelernet import labeler_net
from flashdd.models.mobilenetv2 import MobileNetV2
from flashdd.models.resnet import resnet18, resnet50
from flashdd.models.shufflenetv2 import ShuffleNetV2
from flashdd.models.vgg import VGG11
from flashdd.models.vit import ViTSmall
from flashdd.models.wrn import WRN16x2


class _Construct(Protocol):
    def __call__(self, *, num_classes: int, shape: tuple[int, int, int]) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Published:
    """An architecture of fixed size; its weights start as in torchvision unless said."""

    construct: _Construct
    conv: ConvRule = "default"
    linear: LinearRule = "default"


PUBLISHED: dict[str, Published] = {
    "resnet18": Published(construct=resnet18, conv="he"),
    "resnet50": Published(construct=resnet50, conv="he"),
    "mobilenetv2": Published(construct=MobileNetV2, conv="he", linear="normal"),
    "mobilenetv2-x0.5": Published(
        construct=functools.partial(MobileNetV2, width=0.5), conv="he", linear="normal"
    ),
    "shufflenetv2-x0.5": Published(construct=functools.partial(ShuffleNetV2, "x0.5")),
    "shufflenetv2-x1.0": Published(construct=functools.partial(ShuffleNetV2, "x1.0")),
    "efficientnet-b0": Published(construct=EfficientNetB0, conv="he", linear="fan-out"),
    "densenet121": Published(construct=DenseNet121, conv="he-fan-in", linear="zero-bias"),
    "vgg11": Published(construct=VGG11, conv="he", linear="normal"),
    "vit-small": Published(construct=ViTSmall, linear="transformer"),  # DeiT's
    "wrn-16-2": Published(construct=WRN16x2, conv="he", linear="zero-bias"),  # its authors'
}
_CONVNET = re.compile(r"convnet-([1-9]\d?)-w([1-9]\d{0,3})(-in)?", re.ASCII)
_SHAPES = ("convnet-DEPTH-wWIDTH", "convnet-DEPTH-wWIDTH-in", *(f"{stem}-DEPTH-wWIDTH" for stem in STEMS))
_KNOWN = (*PUBLISHED, *_SHAPES)


def build(name: str, *, num_classes: int, shape: tuple[int, int, int], seed: int) -> nn.Module:
    """The network called `name` for images of `shape` (C, H, W), in training mode on the CPU.

    Names: those of `PUBLISHED`; "convnet-DEPTH-wWIDTH" with batch norm, "-in" added for instance norm; the
    labeler's family, "conv-", "strided-" or "patch-DEPTH-wWIDTH" or "chain-...", with its options. Same seed, same
    bits; torch's global random state is neither read nor changed, not in training either: no network has dropout.
    `module:factory` is a user's own, called with num_classes and shape. Raises UnknownNameError, and UsageError
    when the resolution does not suit the network or a user's factory fails.
    """
    if name not in PUBLISHED and is_plugin("model", name):
        return _own(name, num_classes, shape, seed)

    def construct() -> nn.Module:
        return _construct(name, num_classes, shape)

    published = PUBLISHED.get(name)
    if published is None:
        return initialized(construct, seed=seed)
    return initialized(construct, seed=seed, conv=published.conv, linear=published.linear)


def size_of_name(name: str, *, num_classes: int, shape: tuple[int, int, int]) -> Size:
    """The size of what `build` would make, without making it; raises the same errors."""
    if name not in PUBLISHED and is_plugin("model", name):
        return _own_size(name, num_classes, shape)
    return _counted(name, num_classes, shape)


@functools.cache  # a pass through modules each, and every row of a table asks
def _counted(name: str, num_classes: int, shape: tuple[int, int, int]) -> Size:
    return size_of(on_meta(lambda: _construct(name, num_classes, shape)), shape)


def default_student(shape: tuple[int, int, int]) -> str:
    """The student's name where none is asked for, for images of `shape` (C, H, W)."""
    return "convnet-2-w32" if min(shape[1:]) < 16 else "convnet-3-w32"


def _own(name: str, num_classes: int, shape: tuple[int, int, int], seed: int) -> nn.Module:
    """A user's network; whatever it draws from torch's global state is drawn from `seed`, and leaves no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = call_plugin("model", name, num_classes=num_classes, shape=shape)
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"model '{name}' returned a {type(net).__name__}: expected a torch.nn.Module, normalized images "
            "(N, C, H, W) -> logits (N, classes)."
        )
    return net


def _own_size(name: str, num_classes: int, shape: tuple[int, int, int]) -> Size:
    net = _own(name, num_classes, shape, seed=0)
    try:
        with torch.no_grad():
            logits = net.eval()(torch.zeros(2, *shape))
    except Exception as error:  # a user's module may raise anything
        raise UsageError(
            f"model '{name}' failed on two images {shape} ({type(error).__name__}: {error}): correct it."
        ) from error
    found = tuple(getattr(logits, "shape", ()))
    if found != (2, num_classes):
        raise UsageError(
            f"model '{name}' gives {found or type(logits).__name__} for two images: expected logits (2, {num_classes})."
        )
    return size_of(net, shape)


def _construct(name: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    if published := PUBLISHED.get(name):
        return published.construct(num_classes=num_classes, shape=shape)
    if match := _CONVNET.fullmatch(name):
        return ConvNet(
            depth=int(match[1]),
            width=int(match[2]),
            num_classes=num_classes,
            shape=shape,
            instance_norm=match[3] is not None,
        )
    if name.startswith(tuple(f"{stem}-" for stem in get_args(Stem))):
        return labeler_net(LabelerSpec.parse(name), shape, num_classes)
    raise unknown_name("model", name, (*_KNOWN, *registered("model")))
