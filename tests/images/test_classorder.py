"""The check of class order: wrong orders are refused, weak teachers and small sets are not."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flashdd.core.errors import DataError
from flashdd.core.seeds import generator
from flashdd.images.classorder import check_class_order

NAMES = tuple("abcdefghijkl")


def _logits(said: Tensor) -> Tensor:
    return F.one_hot(said, 12).float()


def test_folders_sorted_as_text_are_refused() -> None:
    truth = torch.arange(12).repeat_interleave(2)
    as_text = sorted(range(12), key=str)  # 0, 1, 10, 11, 2, ...
    labels = torch.tensor([as_text.index(int(label)) for label in truth])
    order = torch.argsort(labels, stable=True)
    with pytest.raises(DataError, match=r"agrees with 4 of 24 as they are, and with 24 .*'c' looks like 'k'"):
        check_class_order(_logits(truth[order]), labels[order], NAMES)


def test_the_right_order_passes_with_a_weak_teacher() -> None:
    labels = torch.arange(12).repeat_interleave(10)
    noise = torch.randint(0, 12, (120,), generator=generator(0, "noise"))
    said = torch.where(torch.rand(120, generator=generator(0, "weak")) < 0.3, labels, noise)
    agreed = int((said == labels).sum())
    assert (
        check_class_order(_logits(said), labels, NAMES) == f"the teacher agrees with {agreed} of 120 labels"
    )


def test_a_teacher_that_knows_nothing_says_that_it_cannot_tell() -> None:
    labels = torch.arange(12).repeat_interleave(10)
    told = check_class_order(_logits(torch.zeros_like(labels)), labels, NAMES)
    assert told == (
        "the teacher agrees with 10 of 120 labels, too few to tell whether the labels mean these classes"
    )


def test_one_image_per_class_is_not_refused_by_chance() -> None:
    labels = torch.arange(12)
    said = labels.clone()
    said[:4] = torch.tensor([1, 2, 3, 0])  # four images in a circle: another order agrees with all
    check_class_order(_logits(said), labels, NAMES)


def test_the_other_order_is_the_best_of_all() -> None:
    """Against every permutation of four classes."""
    said = torch.randint(0, 4, (40,), generator=generator(1, "said"))
    labels = (said + 1) % 4
    labels[:8] = said[:8]
    names = ("a", "b", "c", "d")
    agreements = [int((torch.tensor(p)[labels] == said).sum()) for p in itertools.permutations(range(4))]
    given = int((labels == said).sum())
    with pytest.raises(DataError, match=f"with {given} of 40 as they are, and with {max(agreements)} in"):
        check_class_order(_logits(said)[:, :4], labels, names)
