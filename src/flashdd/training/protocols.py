"""Named, cited, frozen protocols: everything of a student's training that changes its accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flashdd.core.errors import UsageError, unknown_name
from flashdd.core.plugins import call_plugin, is_plugin, registered
from flashdd.data.views import Mix, ViewSpec
from flashdd.training.order import steps_per_epoch

_FLASH_PASSES = 50_000
_FLASH_PASSES_TINY = 25_000  # below 16 pixels, where the students are smaller too
_RDED_BATCHES = {1: 10, 10: 50, 50: 100}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a protocol may depend on."""

    ipc: int
    num_images: int
    num_classes: int
    flip: bool
    factor: int
    student: str
    side: int
    """pixels of the images' shorter side"""
    image_passes: int | None = None
    mix: Mix = "cutmix"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol, resolved for a setting.

    steps: optimizer steps of `batch_size` views; span: batches run on over the ends of epochs.
    lr: peak of AdamW's rate, cosine over `eta` times the training; it changes every `rate_steps` steps.
    temperature: of the loss; None takes the label source's own.
    """

    name: str
    citation: str
    steps: int
    batch_size: int
    span: bool
    lr: float
    weight_decay: float
    eta: float
    rate_steps: int
    views: ViewSpec
    temperature: float | None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "views": self.views.to_json()}

    def epochs(self, num_images: int) -> int:
        """Distinct epochs of views that a training over `num_images` touches."""
        if self.span:
            return -(-self.steps * self.batch_size // num_images)
        return -(-self.steps // steps_per_epoch(num_images, self.batch_size))

    def passes(self, num_images: int) -> int:
        """Views that a training over `num_images` sees."""
        if self.span:
            return self.steps * self.batch_size
        return self.epochs(num_images) * num_images

    def of_passes(self, passes: int) -> Protocol:
        """This protocol for `passes` views of any set, in full batches; the rate changes as often as before."""
        if passes == self.steps * self.batch_size:
            return self
        steps = max(1, round(passes / self.batch_size))
        changes = self.steps / self.rate_steps
        return replace(self, steps=steps, span=True, rate_steps=max(1, round(steps / changes)))


def protocol_from_json(value: Mapping[str, Any]) -> Protocol:
    """The inverse of `Protocol.to_json`. KeyError, TypeError or ValueError where fields are missing or wrong."""
    temperature = value["temperature"]
    protocol = Protocol(
        name=str(value["name"]),
        citation=str(value["citation"]),
        steps=int(value["steps"]),
        batch_size=int(value["batch_size"]),
        span=bool(value["span"]),
        lr=float(value["lr"]),
        weight_decay=float(value["weight_decay"]),
        eta=float(value["eta"]),
        rate_steps=int(value["rate_steps"]),
        views=ViewSpec.from_json(value["views"]),
        temperature=None if temperature is None else float(temperature),
    )
    if min(protocol.steps, protocol.batch_size, protocol.rate_steps) < 1 or protocol.eta <= 0:
        raise ValueError("steps, batch_size, rate_steps and eta must be above 0")
    return protocol


def resolve_protocol(name: str, setting: Setting) -> Protocol:
    """The protocol `name` for a setting; UnknownNameError for a name that is not in the table.

    `module:name` is a user's own: called with `setting`, it returns a Protocol.
    """
    if is_plugin("protocol", name):
        protocol = call_plugin("protocol", name, setting=setting)
        if not isinstance(protocol, Protocol):
            raise UsageError(f"protocol '{name}' returned a {type(protocol).__name__}: expected a Protocol.")
        return protocol
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, (*PROTOCOLS, *registered("protocol")))
    return PROTOCOLS[name](setting)


def _flash(setting: Setting) -> Protocol:
    """Ours: short, and the same batch at every IPC (batches of 100 span epochs where there are fewer images)."""
    batch_size = 100
    passes = setting.image_passes or (_FLASH_PASSES_TINY if setting.side < 16 else _FLASH_PASSES)
    return Protocol(
        name="flash",
        citation="flashdd",
        steps=max(1, passes // batch_size),
        batch_size=batch_size,
        span=True,
        lr=2e-3,
        weight_decay=0.01,
        eta=1.0,
        rate_steps=1,
        views=ViewSpec(crop_scale=(0.25, 1.0), flip=setting.flip, mix=setting.mix),
        temperature=None,
    )


def _rded(setting: Setting) -> Protocol:
    """RDED's validation (arXiv 2312.03526 and its released code): 300 epochs, KL at T = 20, cosine to half the rate.

    For an IPC that the paper lacks, the batch of the nearest lower one. Twice that from 100 classes on; 100 for
    the 200 classes of Tiny-ImageNet; ConvNets on 100 classes take batches of 25 at twice the rate; never more than
    there are images.
    """
    batch_size = _RDED_BATCHES[max(known for known in _RDED_BATCHES if known <= setting.ipc)]
    if setting.num_classes == 200:
        batch_size = 100
    elif setting.num_classes >= 100:
        batch_size *= 2
    lr = 1e-3
    if setting.num_classes == 100 and setting.student.startswith("convnet"):
        lr, batch_size = 2e-3, 25
    batch_size = min(batch_size, setting.num_images)
    per_epoch = steps_per_epoch(setting.num_images, batch_size)
    epochs = 300 if setting.image_passes is None else max(1, round(setting.image_passes / setting.num_images))
    scale = (
        (1 / setting.factor, 1.0) if setting.factor > 1 else None
    )  # at factor 1 the crop is the whole image
    return Protocol(
        name="rded",
        citation="Sun et al., CVPR 2024, arXiv 2312.03526",
        steps=epochs * per_epoch,
        batch_size=batch_size,
        span=False,
        lr=lr,
        weight_decay=0.01,
        eta=2.0,
        rate_steps=per_epoch,
        views=ViewSpec(shuffle=setting.factor, crop_scale=scale, flip=setting.flip, mix=setting.mix),
        temperature=20.0,
    )


PROTOCOLS: dict[str, Callable[[Setting], Protocol]] = {"flash": _flash, "rded": _rded}
