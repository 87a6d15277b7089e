"""Committees in a comparison: spelling, the mean at matched scale, bytes, and labels that do not replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_config

from flashdd.core.errors import UsageError
from flashdd.core.record import Record
from flashdd.core.seeds import generator
from flashdd.labels.committee import Committee
from flashdd.labels.flash.ensemble import logit_spread
from flashdd.pipeline.committees import committee_row, mean_logits, parse_committee, replay_note
from flashdd.pipeline.compare import compare
from flashdd.pipeline.distill import images_stage, open_images
from flashdd.pipeline.networks import NetworkScheme, parse_network, trained_network
from flashdd.pipeline.speed import student_batches
from flashdd.pipeline.start import started

NETS = "convnet-2-w4@e1+strided-1-w4@e1"


def test_members_and_dials_are_read() -> None:
    plain = parse_committee(f"committee@{NETS}")
    assert plain.names == ("convnet-2-w4@e1", "strided-1-w4@e1")
    assert plain.members[0] == NetworkScheme(names=("convnet-2-w4",), epochs=1)
    assert (plain.temperature, plain.entropy, plain.logit_scale, plain.group) == (None, None, 1.0, None)
    dialed = parse_committee("committee@t4-x2.5-b8@resnet18+vgg11@e3+convnet-3-w8")
    assert dialed.names == ("resnet18", "vgg11@e3", "convnet-3-w8")
    assert (dialed.temperature, dialed.logit_scale, dialed.group) == (4.0, 2.5, 8)
    assert parse_committee("committee@h1.5@a+b").entropy == 1.5
    assert (parse_committee("committee@r1@a+b").raw, dialed.raw) == (True, False)


@pytest.mark.parametrize(
    ("scheme", "match"),
    [
        ("committee@a", "expected two or more networks that differ, joined by"),
        ("committee@a+a", "expected two or more networks that differ"),
        ("committee@a+", "expected two or more networks that differ"),
        ("committee@t4@", "expected two or more networks that differ"),
        ("committee@a@t4+b", "'a@t4' has dials of its own: a member says its epochs"),
        ("committee@q4@a+b", "got 'q4', which is no dial: there are temperature"),
        ("committee@t4-t2@a+b", "got 't2', expected each at most once"),
        ("committee@t4-h2@a+b", "a temperature or an entropy, not both"),
        ("committee@r2@a+b", "r1 is all there is"),
        ("committee@b1@a+b", "with b, a whole number of at least 2"),
        ("committee@b2.5@a+b", "with b, a whole number of at least 2"),
        ("committee@h2-b8@a+b", "no entropy, for it is measured on labels that replay"),
    ],
)
def test_other_spellings_are_refused(scheme: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        parse_committee(scheme)


@torch.no_grad()
def test_the_mean_of_tables_is_what_the_committee_says() -> None:
    nets = [torch.nn.Linear(4, 3) for _ in range(3)]
    pixels = torch.rand(10, 4, generator=generator(0, "pixels"))
    weights = [0.5, 2.0, 1.0]
    expected = Committee(nets, weights)(pixels)
    assert torch.allclose(mean_logits([net(pixels) for net in nets], weights), expected, atol=1e-6)


def test_a_comparison_with_committees(finished: tuple[Path, Record], tmp_path: Path) -> None:
    """Bytes are those of the members' files; weights match their spread; what does not replay says so."""
    out, _ = finished
    schemes = [f"committee@{NETS}", f"committee@h0.9@{NETS}", f"committee@b4@{NETS}", *NETS.split("+")]
    config = tiny_config(compare__schemes=schemes, student__seeds=1)
    comparison = compare(config, tmp_path / "out", cache=out.parent / "cache")
    rows = {row.scheme: row for row in comparison.rows}
    assert list(rows) == schemes
    alone = [rows[name] for name in NETS.split("+")]
    for scheme in schemes[:3]:
        row, network = rows[scheme], rows[scheme].network
        assert network is not None
        assert network.members is not None
        assert row.label_bytes == sum(member.label_bytes for member in alone)
        assert [member.bytes for member in network.members] == [member.label_bytes for member in alone]
        assert sum(member.weight for member in network.members) == pytest.approx(1.0)
        assert network.params == sum(member.network.params for member in alone if member.network)
        assert row.labels_per_second is not None
        assert row.seconds_per_epoch is not None
    soft, batchwise = rows[schemes[1]].network, rows[schemes[2]].network
    assert soft is not None
    assert batchwise is not None
    assert soft.entropy == pytest.approx(0.9, abs=1e-3)
    assert (batchwise.batch_statistics, batchwise.entropy) == (4, None)
    assert soft.batch_statistics is None
    notes = [note for note in comparison.notes if "do not replay" in note]
    assert notes == [
        f"committee@b4@{NETS} on rded: batch norms see 4 views at a time, so these labels do not replay; they were "
        "made at every step of every student."
    ]


@pytest.mark.parametrize("dials", ["x3", "x3-r1"])
def test_labels_are_the_mean_at_the_members_common_spread_or_raw(
    dials: str, finished: tuple[Path, Record], tmp_path: Path
) -> None:
    """By hand, x3 times the mean of S / s_m times each member's logits, s_m its spread on the validation split."""
    scheme = f"committee@{dials}@{NETS}"
    with started(tiny_config(), tmp_path / "out", cache=finished[0].parent / "cache", progress=None) as (
        context,
        data,
    ):
        images = open_images(images_stage(context, data, "random"))
        row = committee_row(context, data, images, "random", scheme)
        members = [trained_network(context, data, parse_network(name)) for name in NETS.split("+")]
        nets = [member.open() for member in members]
        assert row.online is not None
        online = row.online()
        views = student_batches(online, context.setup.protocol, context)[0]
        with torch.no_grad():
            held_out = torch.from_numpy(np.array(data.val.images)).float() / 255
            spreads = [logit_spread(net(held_out)) for net in nets]
            middle = (spreads[0] * spreads[1]) ** 0.5
            factors = [1.0, 1.0] if "r1" in dials else [middle / spread for spread in spreads]
            parts = [factor * net(views.pixels) for net, factor in zip(nets, factors, strict=True)]
        expected = 3 * (parts[0] + parts[1]) / 2
        assert torch.allclose(online[2].logits(views), expected, rtol=1e-4, atol=1e-4)
        assert torch.allclose(row.open()[2].logits(views), expected, rtol=1e-4, atol=1e-4)
        assert row.label_bytes == sum(member.path().stat().st_size for member in members)


def test_rows_without_batch_statistics_have_no_note() -> None:
    assert replay_note({"scheme": "hard", "images": "rded"}) is None
    assert replay_note({"scheme": "committee@a+b", "images": "rded", "network": {"params": 1}}) is None
