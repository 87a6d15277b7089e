"""What a simulation of many classes leaves: bytes and times of label schemes and labelers, without any accuracy."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flashdd.core.facts import Amount, Facts, Positive, Ratio


class SimulatedTask(Facts):
    """The distillation that is simulated."""

    num_classes: Positive
    ipc: Positive
    num_images: Positive
    epochs: Positive  # of the student's training, which `bytes` are for
    measured_epochs: Positive  # that were written to disk
    shape: tuple[Positive, Positive, Positive]  # C, H, W of what labelers and the reference read
    batch: Positive  # labels that are read at a time
    seed: Annotated[int, Field(ge=0)]


class SimulatedScheme(Facts):
    """A scheme of stored labels: random logits, written and read back."""

    scheme: str
    bytes: Positive  # at `epochs`, by the scheme's own formula
    measured_bytes: Positive  # on disk at `measured_epochs`, where the formula gave the same
    write_seconds: Amount  # at `measured_epochs`: encoding and writing
    open_seconds: Amount  # the same files, every number checked
    read_batch_seconds: Amount  # median, from the page cache
    labels_per_second: Ratio


class KeptLabels(Facts):
    """A scheme of stored labels within some bytes."""

    scheme: str
    labels: Positive


class SimulatedLabeler(Facts):
    """A labeler of random weights beside a ResNet-18, in one process."""

    name: str
    params: Positive
    bits: Positive
    bytes: Positive  # of its file on disk
    bytes_ratio: Ratio  # labeler over reference
    macs: Positive
    macs_ratio: Ratio  # reference over labeler
    batch: Positive
    labels_per_second: Ratio
    reference_labels_per_second: Ratio
    ratio: Ratio  # labeler over reference
    stored_within: tuple[KeptLabels, ...] | None = None
    """stored labels within `bytes`; schemes that keep none are left out"""
