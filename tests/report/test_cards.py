"""The headline cards: what they say and which rows they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashdd.core.record import Difference, Record
from flashdd.report.cards import headline_cards, headline_throughput


@pytest.fixture
def record() -> Record:
    return Record.read(Path(__file__).parent / "record.json")


def with_difference(record: Record, low: float | None) -> Record:
    paired = Difference(mean=0.001, low=low, high=None if low is None else 0.004, n=5)
    students = [
        row.model_copy(update={"paired_to_teacher": paired}) if row.scheme == "labeler" else row
        for row in record.students
    ]
    return record.model_copy(update={"students": tuple(students)})


def test_the_cards_carry_the_claims(record: Record) -> None:
    assert [(card.title, card.value, card.unit) for card in headline_cards(record)] == [
        ("Student accuracy", "54.5 ± 0.3", "%"),
        ("Against the full teacher", "-0.4", "points"),
        ("Label bytes", "13.4", "KB"),
        ("Label cost", "844", "x fewer MACs"),
        ("Label speed", "612", "x faster"),
        ("Artifact", "251.3", "KB"),
    ]


def test_comparable_needs_the_lower_bound(record: Record) -> None:
    details = [headline_cards(with_difference(record, low))[1].detail for low in (-0.0049, -0.0051, None)]
    assert details == [
        "95 % interval -0.5 to +0.4, n=5; comparable",
        "95 % interval -0.5 to +0.4, n=5; comparable would need above -0.5",
        "one seed, so no interval",
    ]


def test_the_speed_is_that_of_the_largest_batch_on_the_runs_device(record: Record) -> None:
    small, large, *rest = record.throughput
    flattering = small.model_copy(update={"ratio": 9999.0})
    record = record.model_copy(update={"throughput": (flattering, large, *rest)})
    assert headline_throughput(record).batch == 4096
    elsewhere = record.environment.model_copy(update={"device": "cpu"})
    assert headline_throughput(record.model_copy(update={"environment": elsewhere})).ratio == 634.1


def test_what_was_not_measured_has_no_card(record: Record) -> None:
    bare = record.model_copy(update={"students": (), "throughput": ()})
    assert [card.title for card in headline_cards(bare)] == ["Label bytes", "Label cost", "Artifact"]
