"""Labels in other company: batch sizes change logits by rounding alone, stored codes by a step, workers nothing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from label_samples import (
    CLASSES,
    NUM_IMAGES,
    SEED,
    VIEWS,
    T,
    every_label,
    make_images,
    make_logits,
    make_subject,
    stored,
)
from torch import Tensor

from flashdd.data.views import ViewMaker
from flashdd.labels import table as table_module
from flashdd.labels.catalog import open_labels, parse_scheme
from flashdd.labels.network import NetworkSource
from flashdd.models.table import build

EPOCHS = 3


def _made(chunk: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    monkeypatch.setattr(table_module, "CHUNK", chunk)
    net = build("resnet18", num_classes=CLASSES, shape=(1, 8, 8), seed=1)
    views = ViewMaker(make_images().images, VIEWS, seed=SEED)
    return table_module.make_logits(NetworkSource(net, num_classes=CLASSES), views, EPOCHS)


def test_batch_sizes_move_logits_by_rounding_and_codes_by_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, *others = (_made(chunk, monkeypatch) for chunk in (500, 7, 1))
    size = make_subject().size(EPOCHS)
    for logits in others:
        assert float((logits - whole).abs().max()) <= 1e-5 * float(whole.abs().max())
        for bits in (8, 4, 3, 2):
            scheme = parse_scheme(f"stored@{bits}bit").resolve(size)
            expected, found = (scheme.encode(part, temperature=T, seed=SEED)[1] for part in (whole, logits))
            assert int((found.long() - expected.long()).abs().max()) <= 1
        halves = logits.half().float(), whole.half().float()
        step = 2.0 ** (torch.frexp(whole.abs().max()).exponent - 11)  # of float16 at the largest logit
        assert float((halves[0] - halves[1]).abs().max()) <= step


def _read(folder: Path, epochs: int) -> list[list[float]]:
    labels: list[list[float]] = (
        every_label(open_labels(folder, make_subject()), epochs).flatten(0, -2).tolist()
    )
    return labels


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # one thread: nothing to lose in a fork
@pytest.mark.parametrize("name", ["stored", "stored@4bit", "vq@4", "lowrank@r2-int8"])
def test_a_worker_reads_the_same_bits(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    stored(name, folder, make_logits(EPOCHS))
    with multiprocessing.get_context("fork").Pool(1) as workers:
        found = workers.apply(_read, (folder, EPOCHS))
    assert len(found) == EPOCHS * NUM_IMAGES
    assert found == _read(folder, EPOCHS)
