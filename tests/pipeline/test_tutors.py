"""Whom labelers imitate: as the teacher's search says, or as trials of its trainings and of nobody do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from tiny import Listening, tiny_config, tiny_workload

from flashdd.artifact.format import IMAGES
from flashdd.core.record import Record
from flashdd.data.sources import check_source
from flashdd.labels.flash.candidates import Candidate, Measured, Rung, Setting
from flashdd.labels.flash.choice import best
from flashdd.pipeline import search as search_module
from flashdd.pipeline import tutors as tutors_module
from flashdd.pipeline.cost import search_flops
from flashdd.pipeline.distill import images_stage, open_images
from flashdd.pipeline.label import label
from flashdd.pipeline.members import TutorDesign
from flashdd.pipeline.plan import plan
from flashdd.pipeline.run import run
from flashdd.pipeline.search import SearchResult, tutor_trial
from flashdd.pipeline.setup import resolve, source_options
from flashdd.pipeline.start import started
from flashdd.pipeline.tutors import Tutoring, tutor_of, unimitated

_TUTOR = TutorDesign(epochs=2, shift=0.125)
_FOUR = {"teacher__epochs": 4, "search__teacher_lengths": [0.25, 0.5, 1.0]}


def _result(length: float, values: tuple[float, ...] = (), tutor: TutorDesign | None = None) -> SearchResult:
    rung = Rung(name="convnet-2-w8", params=1, bytes=1, macs=1)
    setting = Setting(length=length, shift=0.125, temperature=4.0, logit_scale=1.0)
    measured = [Measured(candidate=Candidate(rung=rung, setting=setting), values=values)]
    return SearchResult(stage=cast(Any, None), measured=measured, chosen=0, facts=[], tutor=tutor)


def _found(
    finished: tuple[Path, Record],
    tmp_path: Path,
    length: float,
    reached: dict[int, float | tuple[float, ...]],
    monkeypatch: pytest.MonkeyPatch,
    **changes: object,
) -> tuple[Tutoring, list[TutorDesign | None], list[str]]:
    """Whom labelers imitate where the teacher's choice has that length and a trial reaches so much (one figure: seeds
    differ alike), by the tutor's epochs, 0 for nobody; who was tried; what was said."""
    tried: list[TutorDesign | None] = []
    heard = Listening()

    def trial(context: object, data: object, images: object, tutor: TutorDesign | None) -> SearchResult:
        tried.append(tutor)
        values = reached[tutor.epochs if tutor else 0]
        return _result(1.0, values if isinstance(values, tuple) else (values - 0.02, values + 0.02), tutor)

    monkeypatch.setattr(tutors_module, "tutor_trial", trial)
    cache = finished[0].parent / "cache"
    config = tiny_config(**_FOUR | changes)
    with started(config, tmp_path / "out", cache=cache, progress=heard) as (context, data):
        found = tutor_of(context, data, cast(Any, None), lambda: _result(length))
    return found, tried, heard.messages


@pytest.mark.parametrize(("length", "epochs"), [(0.5, 2), (0.25, 1), (0.6, 2)])
def test_a_teacher_that_its_search_stops_early_is_imitated_without_a_trial(
    length: float,
    epochs: int,
    finished: tuple[Path, Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, tried, _ = _found(finished, tmp_path, length, {}, monkeypatch)
    assert found == Tutoring(design=TutorDesign(epochs=epochs, shift=0.125, copies=3))
    assert tried == []


@pytest.mark.parametrize("length", [1.0, 0.99])  # the second rounds to all epochs
@pytest.mark.parametrize(
    ("reached", "epochs", "trials"),
    [
        ({0: 0.5, 4: 0.6, 2: 0.7, 1: 0.8}, 1, [0, 4, 2, 1]),
        ({0: 0.5, 4: 0.6, 2: 0.7, 1: 0.7}, 2, [0, 4, 2, 1]),
        ({0: 0.5, 4: 0.6, 2: 0.6, 1: 0.9}, 4, [0, 4, 2]),
        ({0: 0.5, 4: 0.3, 2: 0.4, 1: 0.6}, 1, [0, 4, 2, 1]),
        ({0: 0.5, 4: 0.5, 2: 0.4, 1: 0.9}, 0, [0, 4, 2]),
        ({0: 0.7, 4: 0.6, 2: 0.65, 1: 0.6}, 0, [0, 4, 2, 1]),
        ({0: (0.5, 0.6, 0.7), 4: (0.66, 0.61, 0.62), 2: 0.1}, 0, [0, 4, 2]),  # +0.03 ± 0.07
        ({0: (0.5, 0.6, 0.7), 4: (0.6, 0.64, 0.69), 2: 0.1}, 4, [0, 4, 2]),  # +0.043 ± 0.032
    ],
)
def test_trials_say_who_is_imitated_where_the_whole_training_is_best(
    length: float,
    reached: dict[int, float | tuple[float, ...]],
    epochs: int,
    trials: list[int],
    finished: tuple[Path, Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody if it gains no more than a standard error; three teachers where one has won."""
    found, tried, messages = _found(finished, tmp_path, length, reached, monkeypatch)
    assert found.design == (TutorDesign(epochs=epochs, shift=0.125, copies=3) if epochs else None)
    assert [tutor.epochs if tutor else 0 for tutor in tried] == trials
    assert {tutor.copies for tutor in tried if tutor} == {1}
    assert [trial.tutor for trial in found.trials] == tried
    assert trials[found.chosen] == epochs
    assert any("labeler.tutor" in message for message in messages) == (epochs == 0)
    assert [message for message in messages if "imitates nobody" in message]


@pytest.mark.parametrize(
    ("lengths", "length", "reached", "trials", "epochs"),
    [
        ([0.125, 0.25, 0.5, 1.0], 1.0, {0: 0.1, 8: 0.2, 4: 0.3, 2: 0.3, 1: 0.9}, [0, 8, 4, 2], 4),
        ([0.5, 1.0, 2.0], 2.0, {0: 0.1, 16: 0.2, 8: 0.4, 4: 0.3}, [0, 16, 8, 4], 8),
        ([0.5, 1.0, 2.0], 1.0, {0: 0.1, 8: 0.4, 4: 0.3}, [0, 8, 4], 8),
    ],
)
def test_trainings_are_tried_from_the_chosen_one_down_for_as_long_as_they_gain(
    lengths: list[float],
    length: float,
    reached: dict[int, float | tuple[float, ...]],
    trials: list[int],
    epochs: int,
    finished: tuple[Path, Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    eight = {"teacher__epochs": 8, "search__teacher_lengths": lengths}
    found, tried, _ = _found(finished, tmp_path, length, reached, monkeypatch, **eight)
    assert [tutor.epochs if tutor else 0 for tutor in tried] == trials
    assert found.design is not None
    assert found.design.epochs == epochs


def test_nobody_is_tried_where_nobody_may_be_imitated(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for changes in ({"labeler__tutor": "none"}, {"search__teacher_lengths": [1.0]}):
        found, tried, _ = _found(finished, tmp_path, 1.0, {}, monkeypatch, **changes)
        assert (found, tried) == (Tutoring(design=None), [])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"search__teacher_lengths": [0.5, 1.0]}, "best students after its whole training"),
        ({}, r"shorter than 2 epochs is tried \(search.teacher_lengths\)"),
        (
            {"teacher__epochs": 1, "search__teacher_lengths": [0.5, 1.0]},
            r"shorter than 1 epoch .*teacher.epochs",
        ),
        ({"labeler__tutor": "none"}, None),
    ],
)
def test_a_note_says_why_nobody_is_imitated(changes: dict[str, object], told: str | None) -> None:
    config = tiny_config(**changes)
    setup = resolve(config, check_source(source_options(config)))
    notes = unimitated(setup, None)
    assert len(notes) == (told is not None)
    assert told is None or re.search(told, notes[0])
    assert unimitated(setup, _TUTOR) == []


@pytest.mark.parametrize("imitating", [True, False])
def test_a_run_keeps_its_trials_and_what_they_cost(
    imitating: bool, finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies that like the teacher's whole training, hard labels, and early-stopped tutors, or none."""
    whom: list[TutorDesign | None] = []

    def watched(context: Any, data: Any, images: Any, tutor: TutorDesign | None) -> SearchResult:
        whom.append(tutor)
        return tutor_trial(context, data, images, tutor)

    def liked(proxies: search_module._Proxies, candidate: Candidate, seed: int) -> float:
        value = 0.3 + 0.1 * (candidate.setting.temperature == 2.0) + 0.1 * candidate.setting.length
        if proxies.name == "tutor-search":
            value += 0.01 / whom[-1].epochs if whom[-1] else 0.02 * (not imitating)
        return value + 0.01 * seed

    monkeypatch.setattr(tutors_module, "tutor_trial", watched)
    monkeypatch.setattr(search_module._Proxies, "score", liked)
    config = tiny_config(**_FOUR, labeler__image_passes=400)
    told = {stage["name"]: stage["what"] for stage in plan(config)["stages"]}
    assert "up to 4 networks (strided-2-w" in told["tutor-search"]
    assert (
        "up to 24 proxy students" in told["tutor-search"]
    )  # at 2 temperatures, both of which may get a third
    record = run(config, tmp_path / "out", cache=finished[0].parent / "cache")
    found = record.tutor_search
    assert found is not None
    assert record.capacity is not None
    assert [(row.tutor_epochs, row.temperature) for row in found.candidates] == [
        (epochs, temperature) for epochs in (0, 4, 2, 1) for temperature in (2.0, 8.0)
    ]
    (rung,) = resolve(config, check_source(source_options(config))).tried_rungs
    assert {(row.name, row.bytes, row.bits, row.num_members) for row in found.candidates} == {
        (rung.name, rung.bytes, 8, 1)
    }
    assert [row.n for row in found.candidates] == [3, 2] * 4
    chosen = found.candidates[found.chosen]
    assert (chosen.tutor_epochs, chosen.temperature) == (1 if imitating else 0, 2.0)
    tutor = record.labeler.tutor
    assert (tutor.epochs if tutor else 0) == chosen.tutor_epochs
    assert found.flops == _flops(record)
    assert record.seconds["tutor-search"] == found.seconds > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Whom the labeler imitates: 8 candidates" in page
    assert "imitated teacher, epochs</th>" in page
    foreign = config.images.model_copy(update={"method": str(tmp_path / "out" / "artifact" / IMAGES)})
    cache = finished[0].parent / "cache"
    facts = label(config.model_copy(update={"images": foreign}), tmp_path / "labeled", cache=cache)
    assert ("tutor" in facts) == imitating
    assert facts["bytes"] == record.labeler.bytes
    assert any("labeler.tutor" in note for note in facts["notes"]) != imitating


def test_a_trial_varies_the_scale_where_the_protocol_fixes_the_temperature(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def liked(proxies: search_module._Proxies, candidate: Candidate, seed: int) -> float:
        return 0.5 - 0.1 * candidate.setting.logit_scale + 0.01 * seed

    monkeypatch.setattr(search_module._Proxies, "score", liked)
    config = tiny_config(**_FOUR, protocol__name="rded", search__logit_scales=[0.25, 0.5, 1.0])
    with started(config, tmp_path / "out", cache=finished[0].parent / "cache", progress=None) as (
        context,
        data,
    ):
        images = open_images(images_stage(context, data, "random"))
        found = tutor_trial(context, data, images, None)
    tried = {entry.candidate.setting for entry in found.measured}
    assert {setting.temperature for setting in tried} == {20.0}
    assert {setting.logit_scale for setting in tried} == {0.25, 0.5, 1.0}
    assert found.measured[found.chosen].candidate.setting.logit_scale == 0.25


def test_a_trial_does_not_settle_its_choice(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It compares settings of training, not sizes: of two networks the smaller one is chosen on three seeds."""
    config = tiny_config(**_FOUR, labeler__stems=["strided", "conv"])
    small, large = sorted(
        resolve(config, check_source(source_options(config))).tried_rungs, key=lambda r: r.bytes
    )

    def liked(proxies: search_module._Proxies, candidate: Candidate, seed: int) -> float:
        ahead = 0.001 + (0.004 if seed % 2 == 0 else -0.004)
        return (
            0.5 + ahead * (candidate.rung.name == large.name) - 0.1 * (candidate.setting.temperature == 2.0)
        )

    monkeypatch.setattr(search_module._Proxies, "score", liked)
    with started(config, tmp_path / "out", cache=finished[0].parent / "cache", progress=None) as (
        context,
        data,
    ):
        found = tutor_trial(context, data, open_images(images_stage(context, data, "random")), None)
    assert found.choice.rung.name == small.name
    assert best(found.measured, 1)[0].candidate.rung.name == large.name
    assert max(len(entry.values) for entry in found.measured) == config.search.finalist_seeds


def _flops(record: Record) -> int:
    """Of four trials: networks and proxies, three tables of tutors' labels, and the one tutor that no search had
    trained, for one epoch."""
    assert record.tutor_search is not None
    assert record.teacher is not None
    assert record.teacher_search is not None
    assert {row.epochs for row in record.teacher_search.candidates} == {4, 2}
    work = tiny_workload(record)
    rows = [row.model_dump() for row in record.tutor_search.candidates]
    trials = sum(search_flops(rows[first : first + 2], work) for first in (0, 2, 4, 6))
    views = int(rows[0]["epochs"])
    return trials + (3 * 2 * views + 6) * record.teacher.macs * work.train
