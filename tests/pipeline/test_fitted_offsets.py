"""Class offsets that no search has found: the labeler's on images that it was not made for, a named network's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Listening, tiny_config

from flashdd.artifact.format import has_class_offsets
from flashdd.artifact.read import load
from flashdd.core.record import Comparison, Record
from flashdd.core.stats import standard_error
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.data.sources import check_source
from flashdd.data.views import ViewMaker
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.labels.table import Labels
from flashdd.pipeline import material as material_module
from flashdd.pipeline import offsets as offsets_module
from flashdd.pipeline import suited as suited_module
from flashdd.pipeline.compare import compare
from flashdd.pipeline.context import Context
from flashdd.pipeline.material import Shipped, shipped_labeler
from flashdd.pipeline.networks import network_row
from flashdd.pipeline.offsets import Unfitted, fitted_offsets
from flashdd.pipeline.plan import _stages
from flashdd.pipeline.proxies import Proxy
from flashdd.pipeline.setup import resolve, source_options
from flashdd.pipeline.start import started
from flashdd.pipeline.subject import open_subject
from flashdd.pipeline.suited import offset_notes, suited_labeler

OFFSETS = (0.5, -0.75, 0.25)
Opened = tuple[Context, RealDataset, ImageSet, Shipped]


@pytest.fixture
def opened(finished: tuple[Path, Record], tmp_path: Path) -> Iterator[Opened]:
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

    monkeypatch.setattr(offsets_module, "train_proxy", train_proxy)
    return seen


def test_offsets_are_added_in_as_many_bytes(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    context, data, images, shipped = opened
    asked = [(0.4, -0.7, 0.3), (0.6, -0.8, 0.2), OFFSETS]
    seen = _proxies(monkeypatch, [0.1, 0.2, 0.1], asked)
    ours = suited_labeler(context, data, images, shipped, "other")
    assert seen == [(True, 0), (True, 1), (True, 2), (False, 0), (False, 1), (False, 2)]
    pixels = torch.rand(20, *shipped.labeler.shape, generator=torch.Generator().manual_seed(0))
    expected = shipped.labeler.logits_of(pixels) + torch.tensor(OFFSETS)
    assert torch.allclose(ours.labeler.logits_of(pixels), expected, atol=5e-3)
    assert ours.bytes == shipped.bytes == len(labeler_bytes(ours.labeler))
    assert ours.sha256 != shipped.sha256


@pytest.mark.parametrize("gains", [[0.1, -0.1, 0.05], [-0.1, -0.1, -0.1], [0.0, 0.0, 0.0]])
def test_offsets_that_gain_no_more_than_a_standard_error_are_left_out(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, gains: list[float]
) -> None:
    context, data, images, shipped = opened
    _proxies(monkeypatch, gains, [OFFSETS] * 3)
    ours = suited_labeler(context, data, images, shipped, "other")
    assert ours.sha256 == shipped.sha256
    assert ours.class_offsets is not None
    assert ours.class_offsets["offsets"] == []
    assert ours.class_offsets["gain"] == pytest.approx(sum(gains) / 3)
    assert ours.class_offsets["gain_stderr"] == pytest.approx(standard_error(gains))
    told = f"{100 * sum(gains) / 3:+.1f} ± {100 * standard_error(gains):.1f} points"
    assert offset_notes([{"scheme": "labeler", "images": "other", **ours.facts}]) == [
        "The labeler on other: it has the class offsets of the images that it was made for; others, fitted to these, "
        f"bring proxy students {told}, no more than chance, and are left out."
    ]
    assert offset_notes([{"scheme": "conv-3-w8@b8-o3", "images": "other", "ipc": 5, **ours.facts}]) == [
        f"conv-3-w8@b8-o3 on other, IPC 5: class offsets bring proxy students {told}, no more than chance, and are "
        "left out."
    ]


def test_a_long_name_of_images_is_no_matter(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    context, data, images, shipped = opened
    _proxies(monkeypatch, [0.1, 0.2, 0.1], [OFFSETS] * 3)
    ours = suited_labeler(context, data, images, shipped, 250 * "a" + "/b.pt")
    assert ours.sha256 != shipped.sha256


def test_whatever_labels_depend_on_makes_them_fitted_anew(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, data, images, _ = opened
    seen = _proxies(monkeypatch, [0.1] * 3, [OFFSETS] * 3)
    longer = replace(context.setup, protocol=replace(context.setup.protocol, steps=7))
    net = torch.nn.Identity()  # the proxies here ask it nothing
    labels = Unfitted(
        name="a",
        labels=lambda: Labels(num_classes=3, table=None, net=net),
        temperature=4.0,
        inputs={"network": "a"},
    )
    for where, what, how, seeds in (
        (context, images, labels, 3),
        (context, replace(images, images=255 - images.images), labels, 3),
        (replace(context, setup=longer), images, labels, 3),
        (context, images, replace(labels, inputs={"network": "b"}), 3),
        (context, images, replace(labels, temperature=1.0), 3),
        (context, images, replace(labels, logit_scale=2.0), 3),
        (context, images, labels, 2),
    ):
        seen.clear()
        for _ in range(2):
            fitted_offsets(where, data, what, how, seeds)
        assert len(seen) == 2 * seeds


@pytest.mark.parametrize(("name", "more"), [("strided-1-w4@b8-e1", 0), ("strided-1-w4@e1", 4 * 3)])
def test_a_named_networks_labels_have_those_that_its_proxies_ask_for(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, name: str, more: int
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
    assert offset.facts["class_offsets"]["offsets"] == list(OFFSETS)
    assert plain.facts == {}


def test_a_named_network_that_gains_nothing_is_the_one_without(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, data, images, _ = opened
    _proxies(monkeypatch, [0.1, -0.2], [OFFSETS] * 2)
    plain, offset = (
        network_row(context, data, images, "rded", f"strided-1-w4@b8-e1{dial}") for dial in ("", "-o2")
    )
    assert offset.key == plain.key
    assert offset.facts["class_offsets"]["offsets"] == []


@pytest.fixture
def _offset_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every artifact's labeler has class offsets, and other images ask for `OFFSETS`."""
    facts = {"offsets": list(OFFSETS), "gain": 0.1, "gain_stderr": 0.05, "n": 3, "seconds": 1.0}
    monkeypatch.setattr(material_module, "has_class_offsets", lambda provenance: True)
    monkeypatch.setattr(suited_module, "fitted_offsets", lambda *args: facts)


def _compared(finished: tuple[Path, Record], out: Path, **changes: Any) -> tuple[Comparison, list[str]]:
    """The comparison of two sets of images, and the students that it trained."""
    subject, progress = open_subject(finished[0]), Listening()
    made = compare(
        tiny_config(compare__images=["rded", "random"], student__seeds=1, **changes),
        out,
        artifact=subject.artifact,
        stages=subject.stages,
        cache=finished[0].parent / "cache",
        progress=progress,
    )
    return made, [text for text in progress.started if text.startswith("student ")]


@pytest.mark.usefixtures("_offset_elsewhere")
def test_a_comparison_suits_the_labeler_to_other_images(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    schemes = ["labeler", "static@by-labeler"]
    made, trained = _compared(finished, tmp_path / "out", compare__schemes=schemes)
    assert "student labeler on rded, seed 0" not in trained  # the run's own
    assert "student labeler on random, seed 0" in trained
    told = {(row.scheme, row.images): row.class_offsets for row in made.rows}
    for scheme in schemes:
        assert told[scheme, "rded"] is None
        other = told[scheme, "random"]
        assert other is not None
        assert other.offsets == OFFSETS
    assert all(row.network is not None and row.network.class_offsets for row in made.rows)
    assert [note for note in made.notes if note.startswith("The labeler on")] == [
        "The labeler on random, IPC 2: beside the class offsets of the images that it was made for it has others, "
        "fitted to these, which bring proxy students +10.0 ± 5.0 points."
    ]


@pytest.mark.usefixtures("_offset_elsewhere")
def test_a_comparison_may_leave_class_offsets_as_they_are(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    made, _ = _compared(finished, tmp_path / "out", compare__schemes=["labeler"], search__class_offsets=False)
    assert all(row.class_offsets is None for row in made.rows)
    assert [note for note in made.notes if note.startswith("The labeler on")] == [
        "The labeler on random, IPC 2: it has the class offsets of the images that it was made for, and none of these "
        "(search.class_offsets)."
    ]


@pytest.mark.usefixtures("_offset_elsewhere")
def test_a_comparison_without_the_labelers_labels_fits_nothing(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suited_module, "fitted_offsets", lambda *args: pytest.fail("nobody asked"))
    made, _ = _compared(finished, tmp_path / "out", compare__schemes=["hard"])
    assert not any(note.startswith("The labeler on") for note in made.notes)


def test_a_plan_counts_the_proxies_of_random_images() -> None:
    def planned(**changes: object) -> list[str]:
        config = tiny_config(**changes)
        stages = _stages(resolve(config, check_source(source_options(config))))
        return [text for name, text in stages if name == "offsets"]

    assert planned() == ["for random images, if the labeler has any: up to 6 proxy students"]
    assert planned(images__method="random") == []
    assert planned(search__class_offsets=False) == []


@pytest.mark.parametrize(
    "training", [None, {}, {"class_offsets": "yes"}, "offsets", {"class_offsets": False}]
)
def test_an_artifact_that_does_not_say_so_has_no_class_offsets(training: Any) -> None:
    assert not has_class_offsets({} if training is None else {"labeler_training": training})
    assert has_class_offsets({"labeler_training": {"class_offsets": True}})
