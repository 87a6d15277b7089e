"""Published protocols against the settings that METHODS (sections B1 to B8) and the papers' code give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flashdd.core.errors import UsageError
from flashdd.data.views import ViewSpec
from flashdd.training.losses import CROSS_ENTROPY, KL, Loss
from flashdd.training.optim import OptimizerSpec, RateSpec
from flashdd.training.protocols import PROTOCOLS, Protocol, Setting, protocol_from_json, resolve_protocol

DATA = {"cifar10": (10, 32), "cifar100": (100, 32), "tiny": (200, 64), "imagenet": (1000, 224)}
ADAMW = OptimizerSpec()
HALVED = RateSpec(name="multistep", milestones=(0.8, 0.9, 0.95), factor=0.5)


def setting(data: str, ipc: int = 10, student: str = "resnet18", **changes: Any) -> Setting:
    classes, side = DATA[data]
    fields: dict[str, Any] = {
        "ipc": ipc,
        "num_images": ipc * classes,
        "num_classes": classes,
        "flip": True,
        "factor": 2 if side > 64 else 1,
        "student": student,
        "side": side,
        **changes,
    }
    return Setting(**fields)


def sgd(momentum: float, decays: Any = "matrices") -> OptimizerSpec:
    return OptimizerSpec(name="sgd", momentum=momentum, decays=decays)


def crops(low: float, rand_augment: str | None = None) -> ViewSpec:
    return ViewSpec(rand_augment=rand_augment, crop_scale=(low, 1.0), flip=True, mix="cutmix")


PLAIN = ViewSpec(flip=True, mix="cutmix")
SHUFFLED = ViewSpec(shuffle=2, crop_scale=(0.5, 1.0), flip=True, mix="cutmix")
MIXUP = ViewSpec(padding=4, flip=True, mix="mixup", alpha=0.8)
UNMIXED = ViewSpec(crop_scale=(0.08, 1.0), flip=True)
ETA = {eta: RateSpec(eta=eta) for eta in (1.0, 2.0)}
DELT = "rand-m6-n2-mstd1.0"


def gt(weight: float) -> Loss:
    return Loss(name="mse-gt", weight=weight)


T2 = Loss(name="kl-t2")
ALL = OptimizerSpec(decays="all")
EDC_10, EDC_100 = (crops(least, "torchvision-m9-n2") for least in (0.08, 0.5))
# protocol, data: epochs, batch, lr, weight decay, optimizer, rate, views, loss, temperature, EMA, accumulation
TABLE: dict[tuple[str, str], tuple[Any, ...]] = {
    # B4; batch 50 at IPC 10, twice that from 100 classes on, 100 for Tiny
    ("rded", "cifar10"): (300, 50, 1e-3, 0.01, ADAMW, ETA[2.0], PLAIN, KL, 20.0, None, 1),
    ("rded", "cifar100"): (300, 100, 1e-3, 0.01, ADAMW, ETA[2.0], PLAIN, KL, 20.0, None, 1),
    ("rded", "tiny"): (300, 100, 1e-3, 0.01, ADAMW, ETA[2.0], PLAIN, KL, 20.0, None, 1),
    ("rded", "imagenet"): (300, 100, 1e-3, 0.01, ADAMW, ETA[2.0], SHUFFLED, KL, 20.0, None, 1),
    # B1; a batch of 128 is all of CIFAR-10 at IPC 10
    ("sre2l", "cifar10"): (400, 100, 1e-3, 0.01, ALL, ETA[1.0], MIXUP, KL, 30.0, None, 1),
    ("sre2l", "cifar100"): (400, 128, 1e-3, 0.01, ALL, ETA[1.0], MIXUP, KL, 30.0, None, 1),
    ("sre2l", "tiny"): (
        100,
        256,
        0.2,
        1e-4,
        sgd(0.9, "all"),
        RateSpec(warm_up=0.05),
        UNMIXED,
        T2,
        20.0,
        None,
        1,
    ),
    ("sre2l", "imagenet"): (300, 1024, 1e-3, 0.01, ADAMW, ETA[1.0], crops(0.08), KL, 20.0, None, 1),
    # B3
    ("g-vbsm", "cifar10"): (1000, 100, 1e-3, 0.0, ADAMW, ETA[1.0], crops(0.08), gt(0.15), 1.0, None, 1),
    ("g-vbsm", "cifar100"): (1000, 64, 0.1, 5e-4, sgd(0.9), ETA[1.0], crops(0.08), gt(0.15), 1.0, None, 1),
    ("g-vbsm", "tiny"): (100, 100, 0.1, 5e-4, sgd(0.9), ETA[1.0], crops(0.08), gt(0.1), 1.0, None, 2),
    ("g-vbsm", "imagenet"): (300, 1024, 1e-3, 0.01, ADAMW, ETA[1.0], crops(0.08), gt(0.1), 1.0, None, 1),
    # B5
    ("edc", "cifar10"): (1000, 10, 1e-3, 0.01, ADAMW, HALVED, EDC_10, gt(0.025), 1.0, 0.99, 1),
    ("edc", "cifar100"): (
        *(1000, 50, 0.1, 5e-4, sgd(0.875), RateSpec(name="cosine-linear", eta=2.0), EDC_100),
        *(gt(0.025), 1.0, 0.99, 1),
    ),
    ("edc", "tiny"): (300, 100, 0.1, 5e-4, sgd(0.875), ETA[2.0], EDC_100, gt(0.025), 1.0, 0.99, 1),
    ("edc", "imagenet"): (300, 100, 1e-3, 0.01, ADAMW, ETA[2.0], crops(0.5), gt(0.025), 1.0, 0.99, 1),
    # B6
    ("cv-dd", "cifar10"): (300, 16, 1e-3, 0.01, ADAMW, ETA[1.0], crops(0.08), KL, 20.0, None, 2),
    ("cv-dd", "cifar100"): (300, 16, 1e-3, 0.01, ADAMW, ETA[2.0], crops(0.08), KL, 20.0, None, 2),
    ("cv-dd", "tiny"): (300, 16, 1e-3, 0.01, ADAMW, ETA[1.0], crops(0.08), KL, 20.0, None, 2),
    ("cv-dd", "imagenet"): (300, 16, 1e-3, 0.01, ADAMW, ETA[2.0], crops(0.08), KL, 20.0, None, 2),
    # B8
    ("delt", "cifar10"): (300, 50, 1e-3, 0.01, ADAMW, ETA[2.0], crops(0.25, DELT), KL, 20.0, None, 1),
    ("delt", "cifar100"): (300, 100, 1e-3, 0.01, ADAMW, ETA[2.0], crops(0.25, DELT), KL, 20.0, None, 1),
    ("delt", "tiny"): (300, 100, 1e-3, 0.01, ADAMW, ETA[2.0], crops(0.25, DELT), KL, 20.0, None, 1),
    ("delt", "imagenet"): (300, 100, 1e-3, 0.01, ADAMW, ETA[2.0], crops(0.25, DELT), KL, 20.0, None, 1),
    # LITERATURE 2.1
    ("rd3", "cifar10"): (400, 50, 1e-3, 0.0, OptimizerSpec(name="adam"), ETA[1.0], PLAIN, KL, 20.0, None, 1),
    ("rd3", "imagenet"): (
        400,
        50,
        1e-3,
        0.0,
        OptimizerSpec(name="adam"),
        ETA[1.0],
        SHUFFLED,
        KL,
        20.0,
        None,
        1,
    ),
}


@pytest.mark.parametrize(("name", "data"), TABLE)
def test_resolved_values(name: str, data: str) -> None:
    facts = setting(data)
    protocol = resolve_protocol(name, facts)
    assert (
        protocol.epochs(facts.num_images),
        protocol.batch_size,
        protocol.lr,
        protocol.weight_decay,
        protocol.optimizer,
        protocol.rate,
        protocol.views,
        protocol.loss,
        protocol.temperature,
        protocol.ema,
        protocol.accumulation,
    ) == TABLE[name, data]
    assert protocol.name == name
    assert "arXiv 2" in protocol.citation
    assert not protocol.span
    assert protocol.steps == protocol.rate_steps * protocol.epochs(facts.num_images)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("ipc", [1, 50])
def test_a_protocol_survives_json(name: str, data: str, ipc: int) -> None:
    protocol = resolve_protocol(name, setting(data, ipc))
    assert protocol_from_json(protocol.to_json()) == protocol
    assert protocol.batch_size <= ipc * DATA[data][0] or protocol.span


@pytest.mark.parametrize(
    ("data", "student", "rates"),
    [  # (lr, eta) at IPC 1, 10, 20 and 50; METHODS B6
        ("cifar10", "resnet50", [(1e-3, 1.0)] * 4),
        ("cifar10", "resnet101", [(5e-4, 1.0)] * 4),
        ("cifar100", "resnet18", [(1e-3, 1.0), (1e-3, 2.0), (1e-3, 2.0), (1e-3, 1.0)]),
        ("cifar100", "resnet101", [(5e-4, 1.0), (5e-4, 2.0), (5e-4, 2.0), (5e-4, 1.0)]),
        ("tiny", "resnet18", [(1e-3, 2.0), (1e-3, 1.0), (1e-3, 1.0), (1e-3, 2.0)]),
        ("tiny", "resnet50", [(1e-3, 1.0)] * 4),
        ("tiny", "resnet101", [(5e-4, 2.0)] * 4),
        ("imagenet", "resnet50", [(1e-3, 2.0), (1e-3, 2.0), (1e-3, 2.0), (1e-3, 1.0)]),
        ("imagenet", "resnet101", [(1e-3, 2.0), (1e-3, 2.0), (1e-3, 2.0), (5e-4, 2.0)]),
        ("imagenet", "convnet-6-w128", [(1e-3, 2.0), (1e-3, 2.0), (1e-3, 2.0), (1e-3, 1.0)]),
    ],
)
def test_rates_of_cv_dd(data: str, student: str, rates: list[tuple[float, float]]) -> None:
    found = [resolve_protocol("cv-dd", setting(data, ipc, student)) for ipc in (1, 10, 20, 50)]
    assert [(protocol.lr, protocol.rate.eta) for protocol in found] == rates


@pytest.mark.parametrize(
    ("ipc", "student", "batch"),
    [
        (1, "resnet18", 10),
        (10, "resnet18", 50),
        (20, "resnet18", 50),
        (30, "resnet18", 100),
        (40, "resnet18", 100),
        (50, "resnet18", 100),
        (10, "resnet101", 25),
        (50, "resnet101", 50),
    ],
)
def test_batches_of_delt(ipc: int, student: str, batch: int) -> None:
    assert resolve_protocol("delt", setting("cifar10", ipc, student)).batch_size == batch
    assert resolve_protocol("delt", setting("imagenet", ipc, student)).batch_size == 2 * batch


@pytest.mark.parametrize(
    ("student", "lr"),
    [
        ("resnet18", 1e-3),
        ("vgg11", 5e-4),
        ("mobilenet_v2", 2.5e-3),
        ("efficientnet_b0", 2e-3),
        ("alexnet", 1e-4),
    ],
)
def test_rates_of_rded_by_student(student: str, lr: float) -> None:
    assert resolve_protocol("rded", setting("cifar10", student=student)).lr == lr
    assert resolve_protocol("delt", setting("cifar10", student=student)).lr == lr


def test_other_data_take_the_settings_of_what_they_are_like() -> None:
    """Ours: ImageNet above 64 pixels, below that by the number of classes."""
    for data, classes, side in [
        ("imagenet", 10, 128),
        ("cifar10", 47, 28),
        ("cifar100", 101, 32),
        ("tiny", 1000, 64),
    ]:
        other = resolve_protocol("g-vbsm", setting(data, num_classes=classes, side=side))
        assert replace(other, name="") == replace(resolve_protocol("g-vbsm", setting(data)), name="")


def test_passes_round_to_epochs() -> None:
    protocol = resolve_protocol("edc", setting("cifar10", image_passes=12_345))
    assert (protocol.epochs(100), protocol.steps, protocol.rate_steps) == (123, 1230, 10)


def test_another_cutmix_is_refused_where_there_is_none() -> None:
    for data, mix in (("cifar10", "mixup"), ("tiny", "none")):
        with pytest.raises(UsageError, match=rf"protocol sre2l has no CutMix here \(its mix is '{mix}'\)"):
            resolve_protocol("sre2l", setting(data, mix="cutmix-batch"))
    assert resolve_protocol("edc", setting("cifar10", mix="cutmix-batch")).views.mix == "cutmix-batch"


def test_hard_labels_get_cross_entropy_where_logits_are_compared() -> None:
    edc, rded = (resolve_protocol(name, setting("cifar10")) for name in ("edc", "rded"))
    assert edc.for_hard_labels() == replace(edc, loss=CROSS_ENTROPY)
    assert rded.for_hard_labels() is rded


def without(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in value.items() if name != key}


GOOD = resolve_protocol("edc", setting("cifar10")).to_json()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (without("loss", GOOD), "protocol.loss is missing"),  # as it was before protocols had a loss
        (without("ema", GOOD), "protocol.ema is missing"),
        ({**GOOD, "eta": 1.0}, "protocol.eta is unknown to this version"),
        ({**GOOD, "steps": 0}, "steps is 0, expected an integer of at least 1"),
        ({**GOOD, "steps": 1.5}, "steps is 1.5, expected an integer"),
        ({**GOOD, "accumulation": True}, "accumulation is True, expected an integer"),
        ({**GOOD, "span": 1}, "span is 1, expected true or false"),
        ({**GOOD, "name": 1}, "name is 1, expected text"),
        ({**GOOD, "lr": float("inf")}, "lr is inf, expected a number"),
        ({**GOOD, "lr": 0}, "lr 0.0 and weight_decay 0.01: must be above 0"),
        ({**GOOD, "temperature": -1}, "temperature is -1.0: expected a number above 0"),
        ({**GOOD, "ema": 1.0}, "ema is 1.0: expected a decay between 0 and 1"),
        ({**GOOD, "loss": "kl"}, "loss is 'kl', expected an object"),
        ({**GOOD, "rate": {}}, "rate.name is missing"),
        ({**GOOD, "optimizer": None}, "optimizer is None, expected an object"),
        ({**GOOD, "views": {}}, "views.alpha is missing"),
    ],
)
def test_damaged_json(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        protocol_from_json(value)


def test_a_protocol_by_hand_needs_no_more_than_before() -> None:
    """Own protocols that name only what a first version had train with AdamW, a cosine to 0 and KL."""
    made = Protocol(
        name="own",
        citation="me",
        steps=10,
        batch_size=5,
        span=True,
        lr=1e-3,
        weight_decay=0.0,
        rate_steps=1,
        views=ViewSpec(),
        temperature=None,
    )
    assert (made.optimizer, made.rate, made.loss, made.ema, made.accumulation) == (
        ADAMW,
        RateSpec(),
        KL,
        None,
        1,
    )
