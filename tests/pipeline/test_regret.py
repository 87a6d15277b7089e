"""A regret study: what it sweeps, what it compares, what it refuses."""

from __future__ import annotations

import itertools
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tiny import tiny_config

from flashdd.artifact.format import IMAGES
from flashdd.core.config import CompareSection, ImagesSection, RunConfig
from flashdd.core.errors import FlashddError, OutputError, UsageError
from flashdd.core.record import Record
from flashdd.core.regret import Regret
from flashdd.data.sources import check_source
from flashdd.labels.flash.candidates import Candidate
from flashdd.pipeline import regret as regret_study
from flashdd.pipeline import search as search_module
from flashdd.pipeline.members import TutorDesign
from flashdd.pipeline.regret import _check_tutors, checked_cases, regret
from flashdd.pipeline.setup import resolve, source_options
from flashdd.report.regret import regret_markdown

NAMES, EPOCHS = ("strided-1-w4", "strided-2-w4"), (1, 2)


def study(**dials: Any) -> RunConfig:
    """A tiny run's configuration with a grid; dials of `regret` otherwise."""
    return tiny_config(regret={"names": NAMES, "epochs": EPOCHS, "ipc": (2,), **dials})


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("regret")


@pytest.fixture(scope="module")
def record(out: Path) -> Regret:
    return regret(study(passes=(1, 2)), out / "study", cache=out / "cache")


def test_every_network_is_swept_in_every_length_at_the_temperature_of_the_choice(record: Regret) -> None:
    for case in record.cases:
        softness = case.chosen.rpartition("-")[2]
        assert [entry.row.scheme for entry in case.sweep] == [
            f"{name}@e{epochs}-b8-{softness}" for name in NAMES for epochs in EPOCHS
        ]
        assert [(entry.name, entry.epochs) for entry in case.sweep] == list(itertools.product(NAMES, EPOCHS))
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
    held = Regret.read(out / "study" / "regret.json")
    assert held == record
    tables = regret_markdown(held)
    assert all(f"| {case.chosen} |" in tables for case in record.cases)
    assert tables.count("| after 1 epoch, % | after 2 epochs, % |") == len(record.cases)


def test_a_case_holds_the_search_that_made_the_choice(record: Regret) -> None:
    for case in record.cases:
        assert case.search is not None
        chosen = case.search.candidates[case.search.chosen]
        assert case.chosen.startswith(f"{chosen.name}@e{chosen.epochs:g}-b8-")
        assert case.proxies == sum(entry.n for entry in case.search.candidates)


def test_the_grid_is_by_default_all_that_the_search_may_choose() -> None:
    config = tiny_config(regret={"ipc": (2,)}, search__lengths=[0.5, 1.0])
    (case,) = checked_cases(config)
    widths = {2: (4, 8, 11), 1: (4, 8, 16, 32, 46)}
    names = [f"strided-{depth}-w{width}" for depth, chain in widths.items() for width in chain]
    assert case.grid == list(itertools.product(names, (1, 2)))


def test_a_recipes_own_axes_of_comparison_are_not_crossed(tmp_path: Path, out: Path) -> None:
    """Nor is anything trained again: the cells are those of the study before."""
    axes = {"images": ("random", "rded"), "ipc": (1, 2), "students": ("convnet-2-w8",), "plain": True}
    config = study(passes=(1, 2)).model_copy(update={"compare": CompareSection.model_validate(axes)})
    assert regret(config, out / "study", cache=out / "cache") == Regret.read(out / "study" / "regret.json")


def test_a_record_of_another_grid_goes_before_anything_is_trained(
    record: Regret, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    path = out / "study" / "regret.json"
    held = path.read_bytes()
    monkeypatch.setattr(regret_study, "_studied", stopped)
    with pytest.raises(KeyboardInterrupt):
        regret(study(passes=(1, 2)), out / "study", cache=out / "cache")
    assert path.read_bytes() == held
    with pytest.raises(KeyboardInterrupt):
        regret(study(passes=(1, 2), epochs=(1,)), out / "study", cache=out / "cache")
    assert not path.exists()
    path.write_bytes(held)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        (
            {"names": ("strided-1-w64",)},
            r"strided-1-w64: .* bytes and .*; the search may use 4,000 and 9,000",
        ),
        ({"names": ("strided-2-w4-in",)}, "strided-2-w4-in"),
        ({"ipc": ()}, "regret.ipc: nothing says at how many images per class"),
        ({"tutors": "d1-k3"}, "regret.tutors: the search's networks imitate nobody, the grid's d1-k3"),
        ({"ipc": (2, 10_000)}, "IPC 10000 is larger than class"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_made(
    dials: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(FlashddError, match=message):
        regret(study(**dials), tmp_path / "out", cache=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_a_set_made_elsewhere_is_refused(tmp_path: Path, finished: tuple[Path, Record]) -> None:
    config = study().model_copy(
        update={"images": ImagesSection(method=str(finished[0] / "artifact" / IMAGES))}
    )
    with pytest.raises(UsageError, match=r"parquet was made elsewhere.*name a method"):
        regret(config, tmp_path / "out", cache=tmp_path / "cache")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        regret(study(), tmp_path, cache=tmp_path / "cache")
    assert os.listdir(tmp_path) == ["precious.txt"]


def test_the_grid_imitates_whom_the_search_does() -> None:
    config = tiny_config(regret={"ipc": (2,), "tutors": "d1-k2"})
    setup = resolve(config, check_source(source_options(config)))
    same = TutorDesign(epochs=1, shift=setup.member_recipe.shift, copies=2)
    _check_tutors(setup, same)
    for other in (replace(same, epochs=2), replace(same, copies=3), None):
        with pytest.raises(UsageError, match="the grid's d1-k2"):
            _check_tutors(setup, other)
    with pytest.raises(UsageError, match=r"saw images move by 0\.5 of their side.*set teacher\.shift"):
        _check_tutors(setup, replace(same, shift=0.5))


def test_a_grid_that_imitates_others_than_the_search_is_refused(out: Path) -> None:
    """Whom its networks imitate, the teacher after 1 or 2 epochs or nobody, only the search can say."""
    config = tiny_config(
        regret={"names": NAMES, "epochs": (1,), "ipc": (2,), "tutors": "d1-k2"},
        search__teacher_lengths=[0.5, 1.0],
    )
    with pytest.raises(UsageError, match=r"networks imitate (nobody|d[12]-k3), the grid's d1-k2"):
        regret(config, out / "tutored", cache=out / "cache")


def test_trials_of_tutors_are_part_of_what_the_search_cost(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies that like the teacher's whole training and, as equals, imitate nobody."""

    def liked(proxies: object, candidate: Candidate, seed: int) -> float:
        return 0.3 + 0.1 * candidate.setting.length + 0.01 * seed

    monkeypatch.setattr(search_module._Proxies, "score", liked)
    config = tiny_config(
        regret={"names": NAMES, "epochs": (1,), "ipc": (2,)}, search__teacher_lengths=[0.5, 1.0]
    )
    (case,) = checked_cases(config)
    facts = regret_study._choice(case, tmp_path / "trials", out / "cache", None).facts
    trials, found = facts["tutor_search"], facts["search"]
    assert {row["tutor_epochs"] for row in trials["candidates"]} == {0, 1, 2}
    assert facts["proxies"] == sum(row["n"] for row in (*trials["candidates"], *found["candidates"]))
    assert facts["seconds"] == trials["seconds"] + found["seconds"]
