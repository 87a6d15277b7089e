"""The protocol `flash` with another loss: logits of the labels matched, and the images' classes added (MSE-GT, arXiv
2311.17950) with ever more weight. For anchor-cifar10-cpu.toml."""

from __future__ import annotations

from dataclasses import replace

from flashdd.training.losses import Loss
from flashdd.training.protocols import Protocol, Setting, resolve_protocol


def matched(setting: Setting) -> Protocol:
    return _anchored(setting, 0.0)


def lightly(setting: Setting) -> Protocol:
    """With EDC's weight (arXiv 2404.13733)."""
    return _anchored(setting, 0.025)


def firmly(setting: Setting) -> Protocol:
    return _anchored(setting, 0.25)


def _anchored(setting: Setting, weight: float) -> Protocol:
    flash = resolve_protocol("flash", setting)
    name = f"flash-mse-gt-{weight:g}"
    return replace(flash, name=name, citation="flashdd", loss=Loss(name="mse-gt", weight=weight))
