"""Class offsets of labels that no search has chosen: the labeler's on other images, and a named network's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Listening, tiny_config

from flashdd.artifact.read import load
from flashdd.core.record import Comparison, Record
from flashdd.core.stages import StageResult
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewMaker
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.pipeline import compare as compare_module
from flashdd.pipeline import offsets, suited
from flashdd.pipeline.compare import compare
from flashdd.pipeline.context import Context
from flashdd.pipeline.material import Shipped, shipped_labeler
from flashdd.pipeline.networks import network_row
from flashdd.pipeline.package import has_class_offsets
from flashdd.pipeline.proxies import Proxy
from flashdd.pipeline.start import started
from flashdd.pipeline.subject import open_subject

OFFSETS = (0.5, -0.75, 0.25)


@pytest.fixture
def opened(finished: tuple[Path, Record], tmp_path: Path) -> Iterator[tuple[Context, Any, ImageSet, Shipped]]:
    out, _ = finished
    shipped = shipped_labeler(out / "artifact")
    with started(tiny_config(), tmp_path / "out", cache=out.parent / "cache", progress=None) as (
        context,
        data,
    ):
        yield context, data, load(out / "artifact").image_set, shipped


def _proxies(
    monkeypatch: pytest.MonkeyPatch, gains: list[float], asked: Sequence[tuple[float, ...]]
) -> list[tuple[bool, int]]:
    """Proxies of known accuracy, without any training; returns what will have been asked for."""
    seen = []

    def train_proxy(context: Any, data: Any, images: Any, work: Any, job: Any, seed: int) -> Proxy:
        seen.append((job.corrected, seed))
        if job.corrected:
            return Proxy(accuracy=0.5, corrected=0.9, offsets=asked[seed])
        return Proxy(accuracy=0.5 + gains[seed])

    monkeypatch.setattr(offsets, "train_proxy", train_proxy)
    return seen


def test_offsets_are_added_in_as_many_bytes(
    opened: tuple[Context, Any, ImageSet, Shipped], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, data, images, shipped = opened
    asked = [(0.4, -0.7, 0.3), (0.6, -0.8, 0.2), OFFSETS]
    seen = _proxies(monkeypatch, [0.1, 0.2, 0.1], asked)
    ours = suited.suited_labeler(context, data, images, shipped)
    assert seen == [(True, 0), (True, 1), (True, 2), (False, 0), (False, 1), (False, 2)]
    pixels = torch.rand(20, *shipped.labeler.shape, generator=torch.Generator().manual_seed(0))
    expected = shipped.labeler.logits_of(pixels) + torch.tensor(OFFSETS)
    assert torch.allclose(ours.labeler.logits_of(pixels), expected, atol=5e-3)
    assert ours.bytes == shipped.bytes == len(labeler_bytes(ours.labeler))
    assert ours.sha256 != shipped.sha256


@pytest.mark.parametrize("gains", [[0.1, -0.1, 0.05], [-0.1, -0.1, -0.1]])
def test_offsets_that_gain_less_than_a_standard_error_are_left_out(
    opened: tuple[Context, Any, ImageSet, Shipped], monkeypatch: pytest.MonkeyPatch, gains: list[float]
) -> None:
    context, data, images, shipped = opened
    _proxies(monkeypatch, gains, [OFFSETS] * 3)
    assert suited.suited_labeler(context, data, images, shipped) is shipped


def test_other_images_another_labeler_and_another_protocol_are_fitted_anew(
    opened: tuple[Context, Any, ImageSet, Shipped], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, data, images, shipped = opened
    seen = _proxies(monkeypatch, [0.1] * 3, [OFFSETS] * 3)
    longer = replace(context.setup, protocol=replace(context.setup.protocol, steps=7))
    for where, what, who in (
        (context, images, shipped),
        (context, replace(images, images=255 - images.images), shipped),
        (context, images, replace(shipped, sha256="another")),
        (replace(context, setup=longer), images, shipped),
    ):
        seen.clear()
        for _ in range(2):
            suited.suited_stage(where, data, what, who)
        assert len(seen) == 6


@pytest.mark.parametrize(("name", "more"), [("strided-1-w4@b8-e1", 0), ("strided-1-w4@e1", 4 * 3)])
def test_a_named_networks_labels_have_those_that_its_proxies_ask_for(
    opened: tuple[Context, Any, ImageSet, Shipped], monkeypatch: pytest.MonkeyPatch, name: str, more: int
) -> None:
    context, data, images, _ = opened
    seen = _proxies(monkeypatch, [0.1, 0.2], [OFFSETS] * 2)
    plain, offset = (
        network_row(context, data, images, "rded", scheme) for scheme in (f"{name}-x2", f"{name}-x2-o2")
    )
    assert seen == [(True, 0), (True, 1), (False, 0), (False, 1)]
    views = ViewMaker(images.images, context.setup.protocol.views, seed=0)
    batch = views.make(torch.zeros(6, dtype=torch.int64), torch.arange(6))
    without, having = (row.open()[2].logits(batch) for row in (plain, offset))
    assert torch.allclose(having, without + torch.tensor(OFFSETS))
    assert offset.label_bytes == plain.label_bytes + more
    assert offset.key != plain.key
    assert offset.network is not None
    assert offset.network()["offsets"] == list(OFFSETS)


def test_a_named_network_that_gains_nothing_is_the_one_without(
    opened: tuple[Context, Any, ImageSet, Shipped], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, data, images, _ = opened
    _proxies(monkeypatch, [0.1, -0.2], [OFFSETS] * 2)
    plain, offset = (
        network_row(context, data, images, "rded", f"strided-1-w4@b8-e1{dial}") for dial in ("", "-o2")
    )
    assert offset.key == plain.key
    assert offset.network is not None
    assert "offsets" not in offset.network()


@pytest.fixture
def _offset_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every artifact's labeler has class offsets, and other images ask for `OFFSETS`."""
    monkeypatch.setattr(compare_module, "has_class_offsets", lambda provenance: True)
    monkeypatch.setattr(suited, "suited_stage", _asked)


def _asked(*args: Any) -> StageResult:
    return StageResult(
        name="offsets", folder=Path(), hash="", record={"offsets": list(OFFSETS)}, seconds=0.0, reused=True
    )


def _compared(finished: tuple[Path, Record], out: Path, **changes: Any) -> tuple[Comparison, Listening]:
    subject, progress = open_subject(finished[0]), Listening()
    config = tiny_config(compare__images=["rded", "random"], student__seeds=1, **changes)
    made = compare(
        config,
        out,
        artifact=subject.artifact,
        stages=subject.stages,
        cache=finished[0].parent / "cache",
        progress=progress,
    )
    return made, progress


@pytest.mark.usefixtures("_offset_elsewhere")
def test_a_comparison_suits_the_labeler_to_other_images(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    schemes = ["labeler", "static@by-labeler"]
    made, progress = _compared(finished, tmp_path / "out", compare__schemes=schemes)
    trained = [text for text in progress.started if text.startswith("student ")]
    assert "student labeler on rded, seed 0" not in trained  # the run's own
    assert "student labeler on random, seed 0" in trained
    assert suited.SUITED in made.notes
    own, other = (row.network for row in made.rows if row.scheme == "static@by-labeler")
    assert own is not None
    assert other is not None
    assert own.accuracy != other.accuracy  # that of the labeler with other offsets


@pytest.mark.usefixtures("_offset_elsewhere")
def test_a_comparison_may_leave_class_offsets_out(finished: tuple[Path, Record], tmp_path: Path) -> None:
    made, progress = _compared(
        finished, tmp_path / "out", compare__schemes=["labeler"], search__class_offsets=False
    )
    assert not [text for text in progress.started if text.startswith("student ")]
    assert suited.SUITED not in made.notes


@pytest.mark.usefixtures("_offset_elsewhere")
def test_a_comparison_without_the_labelers_labels_fits_nothing(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suited, "suited_stage", lambda *args: pytest.fail("nobody asked"))
    made, _ = _compared(finished, tmp_path / "out", compare__schemes=["hard"])
    assert suited.SUITED not in made.notes


@pytest.mark.parametrize(
    "training", [None, {}, {"class_offsets": "yes"}, "offsets", {"class_offsets": False}]
)
def test_an_artifact_that_does_not_say_so_has_no_class_offsets(training: Any) -> None:
    assert not has_class_offsets({} if training is None else {"labeler_training": training})
    assert has_class_offsets({"labeler_training": {"class_offsets": True}})
