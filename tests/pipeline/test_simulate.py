"""The simulation, small: its formulas against files of full length, its record read back."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from flashdd.core.errors import FlashddError
from flashdd.core.record import Simulation
from flashdd.core.seeds import generator
from flashdd.labels.catalog import parse_scheme
from flashdd.labels.flash.pack import packed_bytes
from flashdd.labels.scheme import Subject
from flashdd.models.family import LabelerSpec
from flashdd.pipeline import simulate as module
from flashdd.pipeline import throughput
from flashdd.pipeline.simulate import LABELERS, SCHEMES, simulate
from flashdd.report.simulated import simulation_markdown

CLASSES, IPC, EPOCHS, MEASURED, SIDE = 12, 2, 7, 3, 16
LABELER = "strided-2-w4-gap-r3"
NAMES = ("static", "stored", "stored@4bit", "lpld@2x", "lpqld@k3", "hald", "lowrank@r3-int8", "vq@4")


@pytest.fixture(scope="module")
def record() -> Simulation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "_SECONDS", 0.01)
        patch.setattr(module, "_READING_SECONDS", 0.01)
        return simulate(
            num_classes=CLASSES,
            ipc=IPC,
            epochs=EPOCHS,
            measured_epochs=MEASURED,
            side=SIDE,
            batch=5,
            schemes=NAMES,
            labelers=(LABELER,),
        )


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_of_files_of_full_length(name: str, record: Simulation, tmp_path: Path) -> None:
    """Other logits: only their number matters."""
    row = next(row for row in record.schemes if row.scheme == parse_scheme(name).name)
    scheme = parse_scheme(name)
    subject = Subject(images=module._images(CLASSES, IPC), views=module._VIEWS, augmentation_seed=0)
    for epochs, expected in ((EPOCHS, row.bytes), (MEASURED, row.measured_bytes)):
        size = (epochs if scheme.of_views else 1, CLASSES * IPC, CLASSES)
        logits = torch.randn(size, generator=generator(epochs, "other logits"))
        assert scheme.write(tmp_path / str(epochs), logits, subject, temperature=20.0) == expected


def test_times_and_ratios_agree(record: Simulation) -> None:
    for row in record.schemes:
        assert row.labels_per_second == pytest.approx(5 / row.read_batch_seconds)
        assert row.write_seconds > 0
    (labeler,) = record.labelers
    assert labeler.bytes <= packed_bytes(LabelerSpec.parse(LABELER), (3, SIDE, SIDE), CLASSES)
    assert labeler.bytes_ratio == labeler.bytes / record.reference.bytes
    assert labeler.macs_ratio == record.reference.macs / labeler.macs
    assert record.simulated.num_images == CLASSES * IPC
    subject = Subject(images=module._images(CLASSES, IPC), views=module._VIEWS, augmentation_seed=0)
    assert labeler.stored_within
    for kept in labeler.stored_within:
        scheme = parse_scheme(kept.scheme)
        assert scheme.bytes_of(subject, epochs=EPOCHS, temperature=20.0) <= labeler.bytes
        assert kept.labels <= EPOCHS * CLASSES * IPC
    assert record.seconds > sum(row.write_seconds + row.open_seconds for row in record.schemes)


def test_the_record_survives_reading_and_writing(record: Simulation, tmp_path: Path) -> None:
    record.write(tmp_path / "record.json")
    assert Simulation.read(tmp_path / "record.json") == record


def test_the_table_lists_everything_by_bytes(record: Simulation) -> None:
    text = simulation_markdown(record)
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(lines) == len(NAMES) + 2
    assert "ResNet-18 as teacher" in lines[-1]
    assert [name for name in NAMES if f"({parse_scheme(name).name})" not in text] == []
    within = record.labelers[0].stored_within
    assert within
    kept = max(within, key=lambda entry: entry.labels)
    assert f"of {EPOCHS * CLASSES * IPC:,} views: " in text
    assert f"{kept.labels:,} ({kept.scheme})" in text


def test_random_logits_are_those_of_their_seed() -> None:
    subject = Subject(images=module._images(CLASSES, IPC), views=module._VIEWS, augmentation_seed=0)
    logits = module._random_logits(2, subject, 0)
    assert tuple(logits.shape) == (2, CLASSES * IPC, CLASSES)
    assert torch.equal(logits, module._random_logits(2, subject, 0))
    assert not torch.equal(logits, module._random_logits(2, subject, 1))
    assert float(logits.std()) == pytest.approx(3, rel=0.2)


def test_what_is_simulated_by_default_exists_at_a_thousand_classes() -> None:
    for name in SCHEMES:
        assert parse_scheme(name).name == name
    for name in LABELERS:
        assert packed_bytes(LabelerSpec.parse(name), (3, 224, 224), 1000) < 400_000
    assert packed_bytes(LabelerSpec.parse(LABELERS[0]), (3, 224, 224), 1000) <= 0.0003 * 46_758_048


def test_bytes_unlike_the_formula_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = parse_scheme("stored")
    monkeypatch.setattr(type(scheme), "bytes_of", lambda *_, **__: 1)
    subject = Subject(images=module._images(CLASSES, IPC), views=module._VIEWS, augmentation_seed=0)
    logits = module._random_logits(2, subject, 0)
    with pytest.raises(FlashddError, match="bytes on disk, 1 by their formula"):
        module._stored(scheme, subject, logits, epochs=2, batch=5)


@pytest.mark.parametrize("option", ["classes", "ipc", "epochs", "measured-epochs", "side", "batch"])
def test_numbers_below_1_are_refused(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parents[2] / "scripts" / "simulate_classes"
    main = runpy.run_path(str(script))["main"]
    for number in ("0", "-3"):
        arguments = [str(script), f"--{option}={number}", "--out", str(tmp_path / "out")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", arguments)
            assert main() == 2
        assert f"is {number}: expected 1 or more." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
