"""What a search costs: every part written out once by hand, and of the tiny run counted anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_workload

from flashdd.core.record import Record
from flashdd.pipeline.cost import Workload, reference_epochs, search_flops, tutor_flops

WORK = Workload(
    train=100,
    validation=10,
    proxy_validation=30,
    views=50,
    proxy_macs=7,
    reference_macs=1000,
    refit_images=20,
)


def _row(**changes: Any) -> dict[str, Any]:
    course = {"epochs": 2, "length": 1.0, "shift": 0.125}
    return {"name": "a", **course, "bits": 8, "num_members": 1, "macs": 5, "n": 0} | changes


def test_a_candidate_trains_its_network_labels_with_it_and_trains_its_proxies() -> None:
    training, labels = 6 * 5 * 2 * 100, 2 * 5 * (50 + 10)
    assert search_flops([_row()], WORK) == training + labels
    proxies = 3 * (6 * 7 * 50 + 2 * 7 * 30)
    assert search_flops([_row(n=3)], WORK) == training + labels + proxies


def test_settings_of_one_network_share_its_training_and_labels() -> None:
    once = search_flops([_row()], WORK)
    assert search_flops([_row(), _row()], WORK) == once


def test_of_more_members_the_smaller_set_is_a_part() -> None:
    alone, pair = _row(), _row(num_members=2, macs=10)
    labels = 2 * 5 * 60 + 2 * 10 * 60
    assert search_flops([alone, pair], WORK) == 6 * 10 * 2 * 100 + labels


def test_fewer_bits_cost_a_refit_to_the_float_logits_and_no_training() -> None:
    labels = 2 * (2 * 5 * 60)
    expected = 6 * 5 * 2 * 100 + (6 + 2) * 5 * 20 + labels
    assert search_flops([_row(), _row(bits=4)], WORK) == expected


def test_a_teacher_was_trained_before_but_not_at_other_lengths() -> None:
    whole, half = _row(bits=32), _row(bits=32, epochs=1, length=0.5)
    labels = 2 * 5 * 60
    assert search_flops([whole], WORK, trained=0.125) == labels
    assert search_flops([whole, half], WORK, trained=0.125) == 2 * labels + 6 * 5 * 1 * 100


def test_a_tutor_labels_once_or_at_every_step_of_every_training() -> None:
    rows = [_row(), _row(bits=4), _row(num_members=3), _row(name="b", epochs=4)]
    one = {"epochs": 5, "copies": 1, "trained": 0}
    assert tutor_flops(rows, WORK, 1000, **one, views=8) == 2 * 1000 * 100 * 8
    assert tutor_flops(rows, WORK, 1000, **one, views=None) == 2 * 1000 * 100 * (3 * 2 + 4)


def test_tutors_label_and_those_that_were_not_there_are_trained() -> None:
    rows, three = [_row()], {"epochs": 5, "copies": 3, "trained": 2}
    trained = 2 * 6 * 1000 * 100 * 5
    assert tutor_flops(rows, WORK, 1000, **three, views=8) == 3 * 2 * 1000 * 100 * 8 + trained
    assert tutor_flops(rows, WORK, 1000, **three, views=None) == 3 * 2 * 1000 * 100 * 2 + trained


def test_a_training_at_another_shift_is_another_training() -> None:
    near, far, few = _row(shift=0.0), _row(), _row(shift=0.0, bits=4)
    training, labels = 6 * 5 * 2 * 100, 2 * 5 * 60
    assert search_flops([near, far], WORK) == 2 * (training + labels)
    assert search_flops([near, far], WORK, trained=0.125) == training + 2 * labels
    assert search_flops([near, far, few, _row(bits=4)], WORK) == 2 * (training + 2 * labels + 8 * 5 * 20)


def test_the_reference_costs_its_macs_three_times_over() -> None:
    assert reference_epochs(6 * 1000 * 100 * 4, WORK) == 4.0


def test_a_record_says_what_its_searches_cost(finished: tuple[Path, Record]) -> None:
    _, record = finished
    work = tiny_workload(record)
    for search, trained in ((record.capacity, None), (record.teacher_search, 1 / 8)):
        assert search is not None
        assert search.flops is not None
        rows = [candidate.model_dump() for candidate in search.candidates]
        assert search.flops == search_flops(rows, work, trained=trained)
        assert search.reference_epochs == pytest.approx(reference_epochs(int(search.flops), work))
