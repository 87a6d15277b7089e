"""The labeler's file: folding, bytes, and a decoder that survives hostile ones."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
import torch
from member_samples import CLASSES, NAMES, SHAPE, make_labeler, make_member, make_net, normalized, pixels

from flashdd.core.errors import ArtifactError, DataError
from flashdd.labels.flash.fold import fold
from flashdd.labels.flash.labeler import Labeler, Member, quantize_member
from flashdd.labels.flash.pack import (
    labeler_bytes,
    packed_bytes,
    parse_labeler,
    read_labeler,
    write_labeler,
)
from flashdd.labels.flash.plan import Measurement, plan
from flashdd.labels.flash.quantize import BITS
from flashdd.models.family import LabelerSpec, spec_layers
from flashdd.models.labelernet import LabelerNet
from flashdd.models.table import build


@pytest.mark.parametrize("name", NAMES)
def test_folding_keeps_the_function(name: str) -> None:
    net = make_net(name)
    folded = fold(net, spec_layers(LabelerSpec.parse(name), SHAPE, CLASSES))
    with torch.no_grad():
        torch.testing.assert_close(folded(normalized()), net(normalized()), atol=1e-5, rtol=1e-5)


def test_fewer_bits_are_farther_from_the_trained_network() -> None:
    with torch.no_grad():
        expected = make_net("strided-2-w4")(normalized())
    errors = [
        float(
            (make_labeler([make_member("strided-2-w4", bits=bits)]).logits_of(pixels()) - expected)
            .square()
            .sum()
        )
        for bits in BITS
    ]
    assert errors == sorted(errors, reverse=True)


def test_a_diverged_network_is_a_sentence() -> None:
    for bits in (8, 2):
        net = make_net("conv-2-w4")
        net.get_parameter("layers.0.conv.weight").data[0, 0, 0, 0] = torch.nan
        with pytest.raises(
            DataError, match=r"conv-2-w4 has weights that are not finite.*: its training diverged"
        ):
            quantize_member(net, LabelerSpec.parse("conv-2-w4"), SHAPE, CLASSES, bits=bits)


def test_members_are_averaged_by_weight_and_scaled() -> None:
    one, two = make_member("conv-2-w4"), make_member("strided-2-w4", seed=1)
    heavy = Member(spec=two.spec, integers=two.integers, scales=two.scales, biases=two.biases, weight=3.0)
    both = make_labeler([one, heavy], logit_scale=2.0).logits_of(pixels())
    a, b = (make_labeler([member]).logits_of(pixels()) for member in (one, two))
    assert torch.allclose(both, 2.0 * (a + 3 * b) / 4, atol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_a_file_gives_the_same_labels_bit_for_bit(bits: int, tmp_path: Path) -> None:
    members = [make_member(name, seed, bits) for seed, name in enumerate(NAMES)]
    labeler = make_labeler([*members, make_member(NAMES[0], 7)], logit_scale=0.5)
    size = write_labeler(labeler, tmp_path / "l.safetensors")
    again = read_labeler(tmp_path / "l.safetensors")
    assert size == (tmp_path / "l.safetensors").stat().st_size
    assert torch.equal(again.logits_of(pixels()), labeler.logits_of(pixels()))
    assert labeler_bytes(again) == labeler_bytes(labeler)
    assert (again.temperature, again.logit_scale, again.num_members) == (4.0, 0.5, len(NAMES) + 1)
    assert [member.bits for member in again.members] == [bits] * len(NAMES) + [8]
    assert again.bits == 8


def _known_labeler() -> Labeler:
    """patch-1-w1 on 1x4x4 at 4 bits: 4 weights, then a head of 2 x 4."""
    member = Member(
        spec=LabelerSpec.parse("patch-1-w1"),
        integers=(
            torch.tensor([1, -1, 7, -8], dtype=torch.int8).view(1, 1, 2, 2),
            torch.tensor([[0, 1, 2, 3], [-4, -3, -2, -1]], dtype=torch.int8),
        ),
        scales=(torch.tensor([0.5]).half(), torch.tensor([1.0, -2.0]).half()),
        biases=(torch.tensor([-0.25]).half(), torch.tensor([0.0, 3.0]).half()),
        bits=4,
        weight=0.5,
    )
    return Labeler([member], shape=(1, 4, 4), num_classes=2, mean=[0.5], std=[0.25], temperature=4.0)


def test_the_file_is_these_bytes() -> None:
    text = (
        "format=1 shape=1,4,4 classes=2 mean=0.5 std=0.25 temperature=4.0 logit_scale=1.0 "
        "members=patch-1-w1@4*0.5"
    )
    header = f'{{"__metadata__":{{"flashdd":"{text}"}},"labeler":{{"dtype":"U8","shape":[18],"data_offsets":[0,18]}}}}'
    header += " " * (-len(header) % 8)
    blob = bytes.fromhex("f1 87  0038  00b4    10 32 dc fe  003c 00c0  0000 0042")
    expected = len(header).to_bytes(8, "little") + header.encode() + blob
    assert labeler_bytes(_known_labeler()) == expected
    assert labeler_bytes(parse_labeler(expected, "l")) == expected


def test_the_known_labels() -> None:
    labels = parse_labeler(labeler_bytes(_known_labeler()), "l").logits_of(torch.full((1, 1, 4, 4), 0.25))
    # every pixel is -1, so every cell is relu(-(1 - 1 + 7 - 8) * 0.5 - 0.25) = 0.25
    assert labels.tolist() == [[0.25 * 6, 0.25 * -10 * -2 + 3]]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", NAMES)
def test_every_byte_of_the_blob_is_accounted_for(name: str, bits: int) -> None:
    layers = spec_layers(LabelerSpec.parse(name), SHAPE, CLASSES)
    data = labeler_bytes(make_labeler([make_member(name, bits=bits)]))
    header = 8 + int.from_bytes(data[:8], "little")
    expected = sum((layer.num_weights * bits + 7) // 8 + 2 * layer.outputs for layer in layers)
    assert len(data) - header == expected + 2 * sum(layer.outputs for layer in layers if not layer.project)
    assert header <= 300
    assert len(data) <= packed_bytes(LabelerSpec.parse(name), SHAPE, CLASSES, bits=bits) <= len(data) + 64


@pytest.mark.parametrize("count", [1, 9])
def test_a_rung_is_as_large_as_the_longest_numbers_make_it(count: int) -> None:
    long = {"mean": [0.654321, 0.123456, 0.999999], "std": [0.222222, 0.333333, 0.123456]}
    numbers = {"temperature": 9.87654e-05, "logit_scale": 0.000123456}
    labeler = make_labeler([make_member("conv-2-w4", i, 2) for i in range(count)], **long, **numbers)
    expected = packed_bytes(LabelerSpec.parse("conv-2-w4"), SHAPE, CLASSES, bits=2, num_members=count)
    assert len(labeler_bytes(labeler)) == expected


def test_the_header_of_eight_members_is_small() -> None:
    members = [make_member("conv-2-w4", seed, 4) for seed in range(8)]
    alike = make_labeler(members)
    different = make_labeler(
        [
            Member(
                spec=m.spec,
                integers=m.integers,
                scales=m.scales,
                biases=m.biases,
                bits=4,
                weight=0.111111 * i,
            )
            for i, m in enumerate(members, 1)
        ],
        mean=[0.491399, 0.482158, 0.446531],
        std=[0.247032, 0.243485, 0.261588],
    )
    sizes = [8 + int.from_bytes(labeler_bytes(labeler)[:8], "little") for labeler in (alike, different)]
    assert sizes[0] <= 280
    assert sizes[1] <= 350


def test_planned_bytes_between_measured_ones_hold_the_real_file() -> None:
    spec = LabelerSpec.parse("strided-3-w8")

    def size(count: int) -> int:
        return packed_bytes(spec, (3, 32, 32), 10, bits=3, num_members=count)

    rows = [
        Measurement(
            name=spec.name, bits=3, num_members=n, bytes=size(n), macs=9 * n, accuracy=n / 1000, stderr=0
        )
        for n in (1, 12, 120)
    ]
    for count in range(1, 121):
        for budget in (size(count) + 64, size(count) + 200):
            found = plan(budget, rows)
            assert len(found.members) >= count
            assert size(len(found.members)) <= found.bytes <= budget


def test_params_and_operations_are_those_of_the_members() -> None:
    one, two = make_labeler([make_member("conv-2-w4")]), make_labeler([make_member("strided-2-w4", bits=2)])
    both = make_labeler([make_member("conv-2-w4"), make_member("strided-2-w4"), make_member("conv-2-w4", 1)])
    assert both.params == 2 * one.params + two.params
    assert two.params == 4 * 28 + 6 * 37 + 5 * 97
    assert both.macs == 2 * one.macs + two.macs == 2 * one.macs + 8 * 8 * 27 * 4 + 4 * 4 * 36 * 6 + 96 * 5


def test_as_a_teacher_it_takes_normalized_images() -> None:
    labeler = make_labeler([make_member("conv-2-w4")])
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    shift, factor = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
    teacher = labeler.as_teacher(mean, std)
    with torch.no_grad():
        found = teacher((pixels() - shift) / factor)
    assert torch.allclose(found, labeler.logits_of(pixels()), atol=1e-5)


def _with_text(data: bytes, old: str, new: str) -> bytes:
    """`data` with another header, as somebody would write it who wants to be believed."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert old in header["__metadata__"]["flashdd"]
    header["__metadata__"]["flashdd"] = header["__metadata__"]["flashdd"].replace(old, new)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("format=1", "format=2", "newer flashdd"),
        ("classes=5", "classes=6", "tensor 'labeler' has .* bytes, the architecture in the metadata needs"),
        ("classes=5", "classes=1000000", "the architecture in the metadata needs"),
        ("shape=3,16,16", "shape=3,4096,4096", "the architecture in the metadata needs"),
        ("shape=3,16,16", "shape=3,1,1", "field 'members': .* too deep"),
        ("shape=3,16,16", "shape=3,4096,1", "field 'members': .* take larger images"),
        ("conv-2-w4@8", "conv-9-w4@8", "field 'members': .* too deep"),
        ("conv-2-w4@8", "conv-2-w9999@8", "the architecture in the metadata needs"),
        ("conv-2-w4@8", "conv-2-w4-r6@8", "field 'members': .* a head of rank 6"),
        ("conv-2-w4@8", "1000xpatch-99-w9999@8", "the architecture in the metadata needs"),
        ("conv-2-w4@8", "2xconv-2-w4@8", "the architecture in the metadata needs"),
        ("conv-2-w4@8", "conv-2-w4@4", "the architecture in the metadata needs"),
        ("conv-2-w4@8", "conv-2-w4@7", "field 'members'"),
    ],
)
def test_a_wrong_field_is_named_before_anything_is_allocated(old: str, new: str, match: str) -> None:
    data = _with_text(labeler_bytes(make_labeler([make_member("conv-2-w4")])), old, new)
    tracemalloc.start()
    with pytest.raises(ArtifactError, match=match):
        parse_labeler(data, "labeler.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(("bits", "expected"), [(8, "finite and above 0"), (4, "finite and other than 0")])
def test_numbers_that_no_writer_makes_are_refused(bits: int, expected: str) -> None:
    layers = spec_layers(LabelerSpec.parse("conv-2-w4"), SHAPE, CLASSES)
    data = labeler_bytes(make_labeler([make_member("conv-2-w4", bits=bits)]))
    blob = 8 + int.from_bytes(data[:8], "little")
    scale = blob + layers[0].num_weights * bits // 8
    bias = scale + 2 * layers[0].outputs
    cases = [
        (scale, value, f"a scale of member conv-2-w4 is not {expected}")
        for value in (torch.nan, torch.inf, 0)
    ]
    cases += [(bias, value, "a bias of member conv-2-w4 is not finite") for value in (torch.nan, -torch.inf)]
    cases += [(scale, -1.0, "above 0")] if bits == 8 else []
    for offset, value, match in cases:
        broken = bytearray(data)
        broken[offset : offset + 2] = struct.pack("<e", value)
        with pytest.raises(ArtifactError, match=match):
            parse_labeler(bytes(broken), "l")


def test_weights_outside_their_range_are_refused() -> None:
    data = bytearray(labeler_bytes(make_labeler([make_member("conv-2-w4")])))
    data[8 + int.from_bytes(data[:8], "little")] = 0x80
    with pytest.raises(ArtifactError, match=r"weights of member conv-2-w4: a weight is -128, outside"):
        parse_labeler(bytes(data), "l")
    data = bytearray(labeler_bytes(make_labeler([make_member("conv-2-w1", bits=3)])))
    data[8 + int.from_bytes(data[:8], "little") + (27 * 3) // 8] |= 0x80  # 81 bits: the last byte has 7 left
    with pytest.raises(
        ArtifactError, match="weights of member conv-2-w1: a bit behind the last weight is set"
    ):
        parse_labeler(bytes(data), "l")


def test_a_header_beyond_reason_is_refused_before_it_is_read() -> None:
    header = json.dumps({"__metadata__": {"x": "y" * 300_000}, "labeler": {}}).encode()
    with pytest.raises(ArtifactError, match=r"its header would have 300.* bytes"):
        parse_labeler(len(header).to_bytes(8, "little") + header, "l")


@pytest.mark.parametrize("num_classes", [100, 1000])
def test_a_low_rank_head_of_many_classes_is_smaller_and_its_file_labels_as_its_network(
    num_classes: int,
) -> None:
    """The file of a rank of 4 instead of 24 holds 20 rows of 24 weights and of `num_classes` fewer."""

    def labeler(name: str) -> Labeler:
        spec = LabelerSpec.parse(name)
        net = build(name, num_classes=num_classes, shape=SHAPE, seed=0)
        assert isinstance(net, LabelerNet)
        member = quantize_member(net.eval(), spec, SHAPE, num_classes, bits=8)
        return make_labeler([member], num_classes=num_classes)

    low, full = (labeler_bytes(labeler(f"conv-2-w24-gap-r{rank}")) for rank in (4, 24))
    saved = 20 * (24 + num_classes) + 20 * 2  # and a scale of two bytes for each row of the projection
    assert len(full) - len(low) == pytest.approx(saved, abs=16)  # the header is padded
    net = build("conv-2-w24-gap-r4", num_classes=num_classes, shape=SHAPE, seed=0).eval()
    with torch.no_grad():
        found, expected = parse_labeler(low, "l").logits_of(pixels()), net(normalized())
    assert found.shape == (6, num_classes)
    assert float((found - expected).norm() / expected.norm()) < 0.02


def _files(bits: int) -> list[bytes]:
    """One of every layout, of a chain, and of two members of different bits."""
    names = [*NAMES, "chain-4k5s2-6k3m-gap"]
    mixed = make_labeler([make_member("conv-2-w4", bits=bits), make_member("conv-2-w6-gap-r3")])
    alone = [make_labeler([make_member(name, bits=bits)]) for name in names]
    return [labeler_bytes(labeler) for labeler in (mixed, *alone)]


@pytest.mark.parametrize("bits", BITS)
def test_a_file_cut_anywhere_is_refused(bits: int) -> None:
    for data in _files(bits):
        for length in range(len(data)):
            with pytest.raises(ArtifactError):
                parse_labeler(data[:length], "l")


@pytest.mark.parametrize("bits", BITS)
def test_hostile_bytes_end_in_an_error_of_ours_or_a_labeler(bits: int) -> None:
    dice = random.Random(0)
    for data in _files(bits):
        header = 8 + int.from_bytes(data[:8], "little")
        cases = [data + b"\0", b"PK\x03\x04" * 50]
        for _ in range(300):
            broken = bytearray(data)
            for _ in range(dice.choice([1, 1, 4])):
                broken[dice.randrange(len(data) if dice.random() < 0.3 else header)] = dice.randrange(256)
            cases.append(bytes(broken))
        refused = 0
        for case in cases:
            with contextlib.suppress(ArtifactError):  # any other exception fails the test
                again = labeler_bytes(parse_labeler(case, "l"))
                assert again[-len(data) + header :] == case[-len(data) + header :]
                refused -= 1
            refused += 1
        assert refused >= 150


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is missing: copy the whole artifact again"):
        read_labeler(tmp_path / "labeler.safetensors")
