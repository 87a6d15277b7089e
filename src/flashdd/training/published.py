"""The post-evaluations of the decoupled methods, as their papers and released code have them, the last epoch kept.

Each is published for CIFAR-10, CIFAR-100, Tiny-ImageNet and ImageNet-1K. Other data take the settings of the dataset
that `Dataset` says they are like, and an IPC that the paper lacks those of the nearest lower one, or of the lowest:
not published; ours. So is `image_passes`, which rounds to whole epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal, TypeVar

from flashdd.core.errors import UsageError
from flashdd.data.views import Mix, ViewSpec
from flashdd.training.losses import KL, Loss
from flashdd.training.optim import OptimizerSpec, RateSpec
from flashdd.training.order import steps_per_epoch
from flashdd.training.protocol import Protocol, Setting

Dataset = Literal["cifar10", "cifar100", "tiny", "imagenet"]
"""ImageNet above 64 pixels; up to there by the number of classes: Tiny-ImageNet from 200, CIFAR-100 from 100 on."""

T = TypeVar("T")

_RDED_BATCHES = {1: 10, 10: 50, 50: 100}
_DELT_BATCHES = {1: 10, 10: 50, 30: 100}
_RDED_RATES = {  # by how the student's name begins
    "vgg11": 5e-4,
    "efficientnet": 2e-3,
    "mobilenet": 2.5e-3,
    "alexnet": 1e-4,
    "vit": 1e-4,
    "swin": 1e-4,
}
_ALL_CROPS, _HALF_CROPS = (0.08, 1.0), (0.5, 1.0)


def dataset_like(setting: Setting) -> Dataset:
    """Whose settings such data take."""
    if setting.side > 64:
        return "imagenet"
    if setting.num_classes >= 200:
        return "tiny"
    return "cifar100" if setting.num_classes >= 100 else "cifar10"


def by_ipc(table: Mapping[int, T], ipc: int) -> T:
    """The entry of the nearest IPC that is not above `ipc`; of the lowest where there is none."""
    known = [key for key in table if key <= ipc]
    return table[max(known) if known else min(table)]


def _protocol(
    setting: Setting,
    *,
    name: str,
    citation: str,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    views: ViewSpec,
    temperature: float,
    optimizer: OptimizerSpec | None = None,
    rate: RateSpec | None = None,
    loss: Loss = KL,
    ema: float | None = None,
    accumulation: int = 1,
) -> Protocol:
    """Batches end with the epoch and never exceed the images; the rate changes once an epoch."""
    batch_size = min(batch_size, setting.num_images)
    per_epoch = steps_per_epoch(setting.num_images, batch_size)
    if setting.image_passes is not None:
        epochs = max(1, round(setting.image_passes / setting.num_images))
    return Protocol(
        name=name,
        citation=citation,
        steps=epochs * per_epoch,
        batch_size=batch_size,
        span=False,
        accumulation=accumulation,
        lr=lr,
        weight_decay=weight_decay,
        optimizer=optimizer or OptimizerSpec(),
        rate=rate or RateSpec(),
        rate_steps=per_epoch,
        views=views,
        loss=loss,
        temperature=temperature,
        ema=ema,
    )


def _sgd(momentum: float) -> OptimizerSpec:
    return OptimizerSpec(name="sgd", momentum=momentum)


def _crops(setting: Setting, scale: tuple[float, float], rand_augment: str | None = None) -> ViewSpec:
    """RandomResizedCrop, flip where the data allows it, CutMix."""
    return ViewSpec(rand_augment=rand_augment, crop_scale=scale, flip=setting.flip, mix=setting.mix)


def _without_cutmix(setting: Setting, name: str, mix: Mix) -> Mix:
    """`mix`, which such a protocol has in CutMix's place; UsageError where the setting asks for another CutMix."""
    if setting.mix != "cutmix":
        raise UsageError(
            f"views.mix is '{setting.mix}', but protocol {name} has no CutMix here (its mix is '{mix}'): leave "
            "views.mix out, or take another protocol."
        )
    return mix


def rded(setting: Setting) -> Protocol:
    """RDED's validation (arXiv 2312.03526 and its released code): 300 epochs, KL at T = 20, cosine to half the rate.

    Twice the batch from 100 classes on; 100 for the 200 classes of Tiny-ImageNet; ConvNets on 100 classes take
    batches of 25 at twice the rate; never more than there are images.
    """
    # at factor 1 the crop is the whole image
    scale = (1 / setting.factor, 1.0) if setting.factor > 1 else None
    views = ViewSpec(shuffle=setting.factor, crop_scale=scale, flip=setting.flip, mix=setting.mix)
    return _rded_like(
        setting, "rded", "Sun et al., CVPR 2024, arXiv 2312.03526", by_ipc(_RDED_BATCHES, setting.ipc), views
    )


def delt(setting: Setting) -> Protocol:
    """DELT's validation (arXiv 2411.19946): RDED's with timm's RandAugment, other crops and a longer table of batches.

    The batch grows to 100 from IPC 30 on; ResNet-101 takes half of it. No patch shuffle.
    """
    batch_size = by_ipc(_DELT_BATCHES, setting.ipc)
    views = _crops(setting, (0.25, 1.0), rand_augment="rand-m6-n2-mstd1.0")
    return _rded_like(setting, "delt", "Shen et al., CVPR 2025, arXiv 2411.19946", batch_size, views)


def _rded_like(setting: Setting, name: str, citation: str, batch_size: int, views: ViewSpec) -> Protocol:
    lr = next((rate for start, rate in _RDED_RATES.items() if setting.student.startswith(start)), 1e-3)
    if setting.num_classes == 200:
        batch_size = 100
    elif setting.num_classes >= 100:
        batch_size *= 2
    if setting.num_classes == 100 and setting.student.startswith("convnet"):
        lr, batch_size = 2e-3, 25
    if name == "delt" and setting.student.startswith("resnet101"):
        batch_size //= 2
    return _protocol(
        setting,
        name=name,
        citation=citation,
        epochs=300,
        batch_size=batch_size,
        lr=lr,
        weight_decay=0.01,
        rate=RateSpec(eta=2.0),
        views=views,
        temperature=20.0,
    )


def sre2l(setting: Setting) -> Protocol:
    """SRe2L's validation (arXiv 2306.13092 and its released code, the CIFAR and Tiny-ImageNet repositories too).

    CIFAR: shifts of 4 pixels at 32 (an eighth of the side), MixUp, AdamW that decays every parameter, T = 30.
    Tiny-ImageNet: SGD, KL times T^2, five epochs of warm-up, no mixing. ImageNet-1K: crops, CutMix, batches of 1,024.
    """
    dataset = dataset_like(setting)
    made = partial(_protocol, setting, name="sre2l", citation="Yin et al., NeurIPS 2023, arXiv 2306.13092")
    if dataset == "imagenet":
        views = _crops(setting, _ALL_CROPS)
        return made(
            epochs=300,
            batch_size=1024,
            lr=1e-3,
            weight_decay=0.01,
            views=views,
            temperature=20.0,
        )
    if dataset == "tiny":
        mix = _without_cutmix(setting, "sre2l", "none")
        return made(
            epochs=100,
            batch_size=256,
            lr=0.2,
            weight_decay=1e-4,
            optimizer=OptimizerSpec(name="sgd", momentum=0.9, decays="all"),
            rate=RateSpec(warm_up=0.05),
            loss=Loss(name="kl-t2"),
            views=ViewSpec(crop_scale=_ALL_CROPS, flip=setting.flip, mix=mix),
            temperature=20.0,
        )
    mix = _without_cutmix(setting, "sre2l", "mixup")
    return made(
        epochs=400,
        batch_size=128,
        lr=1e-3,
        weight_decay=0.01,
        optimizer=OptimizerSpec(decays="all"),
        views=ViewSpec(padding=max(1, setting.side // 8), flip=setting.flip, mix=mix, alpha=0.8),
        temperature=30.0,
    )


def g_vbsm(setting: Setting) -> Protocol:
    """G-VBSM's validation (arXiv 2311.17950 and its released code): MSE-GT, cosine to 0, RandomResizedCrop, CutMix.

    On Tiny-ImageNet a batch goes through the student in two halves.
    """
    dataset = dataset_like(setting)
    epochs, batch_size, lr, weight_decay, weight = {
        "cifar10": (1000, 100, 1e-3, 0.0, 0.15),
        "cifar100": (1000, 64, 0.1, 5e-4, 0.15),
        "tiny": (100, 100, 0.1, 5e-4, 0.1),
        "imagenet": (300, 1024, 1e-3, 0.01, 0.1),
    }[dataset]
    return _protocol(
        setting,
        name="g-vbsm",
        citation="Shao et al., CVPR 2024, arXiv 2311.17950",
        epochs=epochs,
        batch_size=batch_size,
        accumulation=2 if dataset == "tiny" else 1,
        lr=lr,
        weight_decay=weight_decay,
        optimizer=_sgd(0.9) if dataset in ("cifar100", "tiny") else None,
        loss=Loss(name="mse-gt", weight=weight),
        views=_crops(setting, _ALL_CROPS),
        temperature=1.0,
    )


def edc(setting: Setting) -> Protocol:
    """EDC's validation (arXiv 2404.13733 and its released code): MSE-GT, averaged weights, smoothed rates, CutMix.

    The batch of 10 on CIFAR-10 is published for IPC 1. Unlike the released code, the average takes the statistics
    of batch norm along with the weights. Its patch shuffle on ImageNet-1K does nothing and is left out.
    """
    dataset = dataset_like(setting)
    thrice_halved = RateSpec(name="multistep", milestones=(0.8, 0.9, 0.95), factor=0.5)
    epochs, batch_size, lr, weight_decay, rate = {
        "cifar10": (1000, 10, 1e-3, 0.01, thrice_halved),
        "cifar100": (1000, 50, 0.1, 5e-4, RateSpec(name="cosine-linear", eta=2.0)),
        "tiny": (300, 100, 0.1, 5e-4, RateSpec(eta=2.0)),
        "imagenet": (300, 100, 1e-3, 0.01, RateSpec(eta=2.0)),
    }[dataset]
    return _protocol(
        setting,
        name="edc",
        citation="Shao et al., NeurIPS 2024, arXiv 2404.13733",
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        optimizer=_sgd(0.875) if dataset in ("cifar100", "tiny") else None,
        rate=rate,
        loss=Loss(name="mse-gt", weight=0.025),
        views=_crops(
            setting,
            _ALL_CROPS if dataset == "cifar10" else _HALF_CROPS,
            rand_augment=None if dataset == "imagenet" else "torchvision-m9-n2",
        ),
        temperature=1.0,
        ema=0.99,
    )


def cv_dd(setting: Setting) -> Protocol:
    """CV-DD's validation, and SRe2L++'s (arXiv 2501.07575 and the released code): KL at T = 20, batches of 16.

    A batch goes through the student in two halves, as its labels are made. Rate and length of the cosine come from
    a table by dataset, student and IPC; students other than ResNets take ResNet-18's (not published; ours).
    """
    lr, eta = _cv_dd_rate(dataset_like(setting), setting.student, setting.ipc)
    return _protocol(
        setting,
        name="cv-dd",
        citation="Cui et al., arXiv 2501.07575",
        epochs=300,
        batch_size=16,
        accumulation=2,
        lr=lr,
        weight_decay=0.01,
        rate=RateSpec(eta=eta),
        views=_crops(setting, _ALL_CROPS),
        temperature=20.0,
    )


def _cv_dd_rate(dataset: Dataset, student: str, ipc: int) -> tuple[float, float]:
    """Peak rate and eta."""
    deep = student.startswith("resnet101")
    lr = 5e-4 if deep else 1e-3
    if dataset == "cifar10":
        return lr, 1.0
    if dataset == "cifar100":
        return lr, by_ipc({1: 1.0, 10: 2.0, 50: 1.0}, ipc)
    if dataset == "tiny":
        if student.startswith("resnet50"):
            return lr, 1.0
        return lr, 2.0 if deep else by_ipc({1: 2.0, 10: 1.0, 50: 2.0}, ipc)
    if deep:
        return by_ipc({1: 1e-3, 50: 5e-4}, ipc), 2.0
    return lr, by_ipc({1: 2.0, 50: 1.0}, ipc)


def rd3(setting: Setting) -> Protocol:
    """RD3's common protocol (arXiv 2509.19743): one for all data, Adam, batches of 50, RDED's augmentation.

    ResNet-18's rate goes to 0, that of others to half. KL at RDED's temperature (not published; ours).
    """
    return _protocol(
        setting,
        name="rd3",
        citation="Zhong et al., ICLR 2026, arXiv 2509.19743",
        epochs=400,
        batch_size=50,
        lr=1e-3,
        weight_decay=0.0,
        optimizer=OptimizerSpec(name="adam"),
        rate=RateSpec(eta=1.0 if setting.student == "resnet18" else 2.0),
        views=rded(setting).views,
        temperature=20.0,
    )
