"""A regret study: what it sweeps, what it compares, what it refuses."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from tiny import tiny_config

from flashdd.core.errors import UsageError
from flashdd.core.regret import Regret
from flashdd.pipeline.regret import Sweep, regret
from flashdd.report.regret import regret_markdown

SWEEP = Sweep(names=("strided-1-w4", "strided-2-w4"), epochs=(1, 2))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("regret")


@pytest.fixture(scope="module")
def record(out: Path) -> Regret:
    return regret(tiny_config(), out, sweep=SWEEP, ipc=(2,), times=(1, 2), cache=out / "cache")


def test_every_network_is_swept_in_every_length_at_the_temperature_of_the_choice(record: Regret) -> None:
    for case in record.cases:
        softness = case.chosen.rpartition("-")[2]
        assert [entry.row.scheme for entry in case.sweep] == [
            f"{name}@e{epochs}-b8-{softness}" for name in SWEEP.names for epochs in SWEEP.epochs
        ]
        assert [(entry.name, entry.epochs) for entry in case.sweep] == SWEEP.networks
        assert {entry.row.accuracy.n for entry in case.sweep} == {3}


def test_the_choice_meets_the_best_two_of_the_sweep(record: Regret) -> None:
    for case in record.cases:
        best = sorted((entry.row for entry in case.sweep), key=lambda row: -row.accuracy.mean)[:2]
        assert {row.scheme for row in case.finals} == {case.chosen, *(row.scheme for row in best)}
        assert {row.accuracy.n for row in case.finals} == {10}
        assert case.best in {row.scheme for row in best}
        assert case.final(case.best).accuracy.mean == max(
            case.final(row.scheme).accuracy.mean for row in best
        )


def test_regret_is_the_paired_difference_in_their_students(record: Regret) -> None:
    for case in record.cases:
        pairs = zip(
            case.final(case.best).accuracy.values, case.final(case.chosen).accuracy.values, strict=True
        )
        assert case.regret.mean == pytest.approx(statistics.fmean(best - chosen for best, chosen in pairs))


def test_a_case_of_twice_the_passes_trains_twice_as_long(record: Regret) -> None:
    assert [(case.ipc, case.times, case.image_passes) for case in record.cases] == [(2, 1, 600), (2, 2, 1200)]


def test_the_file_reads_back_and_is_drawn(record: Regret, out: Path) -> None:
    held = Regret.read(out / "regret.json")
    assert held == record
    tables = regret_markdown(held)
    assert all(f"| {case.chosen} |" in tables for case in record.cases)
    assert tables.count("| after 1 epoch, % | after 2 epochs, % |") == len(record.cases)


def test_a_network_that_the_search_may_not_choose_is_refused(tmp_path: Path) -> None:
    wide = Sweep(names=("strided-1-w64",), epochs=(1,))
    with pytest.raises(UsageError, match=r"strided-1-w64: .* the search may use 9,000 and 4,000"):
        regret(tiny_config(), tmp_path, sweep=wide, ipc=(2,), times=(1,))


def test_a_sweep_that_imitates_others_than_the_search_is_refused(out: Path) -> None:
    imitating = Sweep(names=SWEEP.names, epochs=(1,), tutors="d1-k3")
    with pytest.raises(UsageError, match="imitate nobody, the sweep's d1-k3"):
        regret(tiny_config(), out / "tutored", sweep=imitating, ipc=(2,), times=(1,), cache=out / "cache")
