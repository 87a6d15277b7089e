"""Members and the labelers that they make: each against the networks behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_config
from torch import Tensor

from flashdd.core.files import read_json
from flashdd.core.record import Record
from flashdd.data.dataset import RealDataset
from flashdd.data.views import ViewBatch
from flashdd.labels import table
from flashdd.labels.flash.labeler import Labeler, Member
from flashdd.labels.flash.pack import labeler_bytes
from flashdd.labels.table import TableSource
from flashdd.pipeline.context import Context
from flashdd.pipeline.members import Design, TutorDesign, labeler_stage, rounded, single
from flashdd.pipeline.real import network_stage, tabled_epochs
from flashdd.pipeline.start import started
from flashdd.training.classifier import ClassifierRecipe
from flashdd.training.losses import kl_divergence, soft_targets


@pytest.fixture
def opened(finished: tuple[Path, Record], tmp_path: Path) -> Iterator[tuple[Context, RealDataset]]:
    with started(tiny_config(), tmp_path / "out", cache=finished[0].parent / "cache", progress=None) as pair:
        yield pair


def _alone(like: Labeler, member: Member) -> Labeler:
    return Labeler(
        [member],
        shape=like.shape,
        num_classes=like.num_classes,
        mean=like.statistics[0],
        std=like.statistics[1],
        temperature=1.0,
    )


def _recipe(context: Context, cycles: int = 1) -> ClassifierRecipe:
    return replace(context.setup.member_recipe, epochs=2, cycles=cycles)


def _pixels(data: RealDataset) -> Tensor:
    return torch.from_numpy(data.val.images[:50].copy()).float() / 255


def _same(a: Member, b: Member) -> bool:
    pairs = [*zip(a.integers, b.integers, strict=True), *zip(a.scales, b.scales, strict=True)]
    return all(torch.equal(left, right) for left, right in pairs)


def test_a_design_may_move_its_images_as_far_as_it_says(opened: tuple[Context, RealDataset]) -> None:
    context, data = opened
    still, moved = (
        labeler_stage(context, data, Design(names=("strided-1-w4",), epochs=2, shift=shift))
        for shift in (0.0, 0.5)
    )
    own = labeler_stage(context, data, Design(names=("strided-1-w4",), epochs=2))
    network = network_stage(context, data, "strided-1-w4", replace(_recipe(context), shift=0.0))
    assert labeler_bytes(still.open()) == labeler_bytes(single(network))
    assert len({labeler_bytes(made.open()) for made in (still, moved, own)}) == 3
    few = [Design(names=("strided-1-w4",), epochs=2, bits=4, shift=shift) for shift in (0.0, 0.5)]
    refits = [labeler_stage(context, data, design).parts[-1] for design in few]
    assert [read_json(stage.folder / "stage.json")["config"]["refit"]["shift"] for stage in refits] == [
        0.0,
        0.5,
    ]


def test_eight_bits_are_the_rounded_network(opened: tuple[Context, RealDataset]) -> None:
    context, data = opened
    made = labeler_stage(context, data, Design(names=("strided-1-w4",), epochs=2))
    network = network_stage(context, data, "strided-1-w4", _recipe(context))
    assert labeler_bytes(made.open()) == labeler_bytes(single(network))
    assert made.accuracy("val") == pytest.approx(network.accuracy("val"), abs=0.05)


_TUTOR = TutorDesign(epochs=2, shift=0.125)
_TUTORS = replace(_TUTOR, copies=2)
_IMITATOR = Design(names=("strided-1-w4",), epochs=9, shift=0.125, tutor=_TUTOR)


def test_a_network_comes_near_the_tutor_that_it_imitates(opened: tuple[Context, RealDataset]) -> None:
    context, data = opened
    (tutor,) = _TUTOR.networks(context, data)
    imitator = labeler_stage(context, data, _IMITATOR)
    alone = labeler_stage(context, data, replace(_IMITATOR, tutor=None))
    pixels = _pixels(data)
    with torch.no_grad():
        labels = soft_targets(tutor.open()(pixels), 4.0)
        near, far = (
            float(kl_divergence(made.open().logits_of(pixels), labels, 4.0)) for made in (imitator, alone)
        )
    assert near < 0.5 * far
    assert str(_IMITATOR) == "strided-1-w4@e9-s12.5-b8-d2"
    assert str(replace(_IMITATOR, tutor=_TUTORS)) == "strided-1-w4@e9-s12.5-b8-d2-k2"


def test_a_tutors_labels_are_those_of_the_views_that_are_trained_on(
    opened: tuple[Context, RealDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a training asks for is the mean of what the tutors say of the pixels that it shows."""
    context, data = opened
    first, second = _TUTORS.networks(context, data)
    asked: list[tuple[Tensor, Tensor]] = []
    take = TableSource.logits

    def watched(source: TableSource, views: ViewBatch) -> Tensor:
        logits = take(source, views)
        asked.append((views.pixels, logits))
        return logits

    monkeypatch.setattr(TableSource, "logits", watched)
    labeler_stage(context, data, replace(_IMITATOR, copies=2, epochs=8 + 1, tutor=_TUTORS))
    assert len(asked) > 9
    with torch.no_grad():
        for pixels, logits in asked[:: len(asked) // 9]:
            one, other = first.open()(pixels), second.open()(pixels)
            assert not torch.allclose(one, other, atol=0.1)
            torch.testing.assert_close(logits, (one + other) / 2, rtol=1e-4, atol=1e-4)


def test_a_table_has_the_views_that_are_asked_for_and_a_longer_one_teaches_the_same(
    opened: tuple[Context, RealDataset], tmp_path: Path
) -> None:
    context, data = opened
    two, nine = (context.setup.member_with(epochs=epochs) for epochs in (2, 9))
    assert [tabled_epochs(context, recipe) for recipe in (two, nine)] == [2, 8]
    config = tiny_config(search__lengths=[1.0, 2.0])
    with started(config, tmp_path / "again", cache=tmp_path / "cache", progress=None) as (other, same):
        assert tabled_epochs(other, two) == 4
        imitator = replace(_IMITATOR, epochs=2)
        longer, shorter = labeler_stage(other, same, imitator), labeler_stage(context, data, imitator)
        assert labeler_bytes(longer.open()) == labeler_bytes(shorter.open())
        assert longer.parts[0].hash == shorter.parts[0].hash


def test_who_is_imitated_and_how_many_make_another_network(opened: tuple[Context, RealDataset]) -> None:
    context, data = opened
    tutors = (None, _TUTOR, replace(_TUTOR, epochs=1), _TUTORS)
    designs = [replace(_IMITATOR, epochs=1, tutor=tutor) for tutor in tutors]
    made = [labeler_stage(context, data, design) for design in designs]
    assert (
        len({labeler.stage.hash for labeler in made}) == len({labeler.parts[0].hash for labeler in made}) == 4
    )


def test_labels_made_at_every_step_teach_the_same(
    opened: tuple[Context, RealDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, data = opened
    imitator = replace(_IMITATOR, tutor=_TUTORS)
    tabled = labeler_stage(context, data, imitator)  # nine epochs: one sees the first views again
    monkeypatch.setattr(table, "LARGEST_TABLE", 0)
    with started(tiny_config(), tmp_path / "again", cache=tmp_path / "cache", progress=None) as (other, same):
        online = labeler_stage(other, same, imitator)
    assert not list((tmp_path / "cache").rglob("logits.npy"))
    pixels = _pixels(data)
    torch.testing.assert_close(
        online.open().logits_of(pixels), tabled.open().logits_of(pixels), rtol=0.05, atol=0.05
    )


def test_copies_start_apart_and_count_equally(opened: tuple[Context, RealDataset]) -> None:
    context, data = opened
    pair = labeler_stage(context, data, Design(names=("strided-1-w4",), epochs=2, copies=2)).open()
    alone = labeler_stage(context, data, Design(names=("strided-1-w4",), epochs=2)).open()
    assert _same(pair.members[0], alone.members[0])
    assert not _same(pair.members[0], pair.members[1])
    assert b"2xstrided-1-w4@8" in labeler_bytes(pair)
    pixels = _pixels(data)
    mean = sum(_alone(pair, member).logits_of(pixels) for member in pair.members) / 2
    torch.testing.assert_close(pair.logits_of(pixels), mean, rtol=1e-5, atol=1e-5)


def test_different_networks_are_averaged_at_one_scale(opened: tuple[Context, RealDataset]) -> None:
    context, data = opened
    names = ("strided-1-w4", "strided-1-w6")
    labeler = labeler_stage(context, data, Design(names=names, epochs=2)).open()
    alone = [labeler_stage(context, data, Design(names=(name,), epochs=2)).open() for name in names]
    pixels = _pixels(data)  # fewer than the spread is measured on: all of validation here
    every = torch.from_numpy(data.val.images.copy()).float() / 255
    centered = [net.logits_of(every) - net.logits_of(every).mean(1, keepdim=True) for net in alone]
    spreads = [float(logits.double().square().mean().sqrt()) for logits in centered]
    middle = math.sqrt(spreads[0] * spreads[1])
    expected = sum(middle / s * net.logits_of(pixels) for s, net in zip(spreads, alone, strict=True)) / 2
    torch.testing.assert_close(labeler.logits_of(pixels), expected, rtol=1e-4, atol=1e-4)


def test_snapshots_are_members_and_the_last_is_the_network(opened: tuple[Context, RealDataset]) -> None:
    context, data = opened
    design = Design(names=("strided-1-w4",), epochs=2, cycles=2)
    made = labeler_stage(context, data, design)
    assert [part.name for part in made.parts].count("network-strided-1-w4") == 1  # one training
    trained = network_stage(context, data, "strided-1-w4", _recipe(context, cycles=2))
    assert trained.num_snapshots == 2
    members = made.open().members
    assert _same(members[0], rounded(trained, 0))
    assert _same(members[1], rounded(trained))
    assert not _same(members[0], members[1])


def test_few_bits_are_refitted_and_repeat_bit_for_bit(
    opened: tuple[Context, RealDataset], tmp_path: Path
) -> None:
    context, data = opened
    design = Design(names=("strided-1-w4",), epochs=2, bits=3)
    made = labeler_stage(context, data, design)
    network = network_stage(context, data, "strided-1-w4", _recipe(context))
    assert not _same(made.open().members[0], rounded(network, bits=3))  # it moved
    with started(tiny_config(), tmp_path / "again", cache=tmp_path / "cache", progress=None) as (other, same):
        assert labeler_bytes(labeler_stage(other, same, design).open()) == labeler_bytes(made.open())


def test_temperature_and_scale_are_given_when_it_is_opened(opened: tuple[Context, RealDataset]) -> None:
    context, data = opened
    made = labeler_stage(context, data, Design(names=("strided-1-w4",), epochs=2))
    plain, scaled = made.open(), made.open(temperature=4.0, logit_scale=2.0)
    pixels = _pixels(data)
    torch.testing.assert_close(scaled.logits_of(pixels), 2 * plain.logits_of(pixels))
    assert (plain.temperature, scaled.temperature) == (1.0, 4.0)
