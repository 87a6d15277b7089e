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
HUNDRED = tuple(map(str, range(100)))


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


def _swapped(ipc: int, accuracy: float, circle: tuple[int, ...], classes: int = 12) -> tuple[Tensor, Tensor]:
    """(what the teacher says, labels): labels of the circle's classes are those of the next in it; where the teacher
    is wrong it says any class."""
    truth = torch.arange(classes).repeat_interleave(ipc)
    draws = generator(ipc, "a teacher")
    noise = torch.randint(0, classes, truth.shape, generator=draws)
    said = torch.where(torch.rand(truth.shape, generator=draws) < accuracy, truth, noise)
    labels = truth.clone()
    for one, following in zip(circle, [*circle[1:], *circle[:1]], strict=True):
        labels[truth == one] = following
    return said, labels


@pytest.mark.parametrize(
    ("ipc", "accuracy", "circle"),
    [(10, 1.0, (3, 7)), (50, 0.75, (3, 7)), (50, 0.5, (0, 5, 9)), (1, 1.0, tuple(range(12)))],
)
def test_a_few_classes_exchanged_are_refused_and_named(
    ipc: int, accuracy: float, circle: tuple[int, ...]
) -> None:
    said, labels = _swapped(ipc, accuracy, circle)
    with pytest.raises(DataError, match="seem to mean other classes") as told:
        check_class_order(_logits(said), labels, NAMES)
    looks_like = sorted(zip([*circle[1:], circle[0]], circle, strict=True))
    shown = ", ".join(f"'{NAMES[label]}' looks like '{NAMES[other]}'" for label, other in looks_like[:5])
    assert shown in str(told.value)


def test_two_of_a_hundred_classes_exchanged_are_refused() -> None:
    said, labels = _swapped(20, 0.6, (17, 80), classes=100)
    with pytest.raises(DataError, match=r"\('17' looks like '80', '80' looks like '17'\)"):
        check_class_order(F.one_hot(said, 100).float(), labels, HUNDRED)


def test_two_images_exchanged_are_told_not_refused() -> None:
    said, labels = _swapped(1, 1.0, (3, 7))
    assert check_class_order(_logits(said), labels, NAMES) == (
        "the teacher agrees with 10 of 12 labels; with 12 in another order, which these images do not prove"
    )


@pytest.mark.parametrize("classes", [12, 100, 1000])
@pytest.mark.parametrize("ipc", [1, 2, 10])
@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.6])
def test_a_right_order_is_never_refused_for_a_teachers_guesses(
    classes: int, ipc: int, accuracy: float
) -> None:
    said, labels = _swapped(ipc, accuracy, (), classes)
    check_class_order(F.one_hot(said, classes).float(), labels, tuple(map(str, range(classes))))


@pytest.mark.parametrize(
    ("taken", "doubt"),
    [(13, ""), (15, "; with 115 in another order, which these images do not prove")],
)
def test_classes_that_the_teacher_cannot_tell_apart_are_not_an_order(taken: int, doubt: str) -> None:
    """Twenty images of two classes, most of which it takes for the other one."""
    labels = torch.arange(12).repeat_interleave(10)
    said = labels.clone()
    said[:taken] = 1 - said[:taken]
    told = check_class_order(_logits(said), labels, NAMES)
    assert told == f"the teacher agrees with {120 - taken} of 120 labels{doubt}"


def test_classes_exchanged_are_found_among_classes_of_too_few_images() -> None:
    """A set of uneven classes: a single image of most, half of which the teacher does not know, says nothing."""
    labels = torch.cat([torch.arange(2).repeat_interleave(20), torch.arange(2, 100)])
    said = labels.clone()
    said[:40] = 1 - labels[:40]
    said[40::2] = torch.randint(0, 100, (49,), generator=generator(0, "unknown"))
    with pytest.raises(DataError, match=r"\('0' looks like '1', '1' looks like '0'\)"):
        check_class_order(F.one_hot(said, 100).float(), labels, HUNDRED)


def test_circles_are_clear_together_where_none_is_by_itself() -> None:
    """Two of five classes each, one image per class, and no usual mistake."""
    labels = torch.arange(12)
    for circle in ([0, 3, 5, 8, 10], [1, 4, 6, 9, 11]):
        labels[circle] = torch.tensor([*circle[1:], circle[0]])
    with pytest.raises(DataError, match="agrees with 2 of 12 as they are, and with 12 in another order"):
        check_class_order(_logits(torch.arange(12)), labels, NAMES)


@pytest.mark.parametrize("ipc", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pairs_of_classes_alike_are_not_an_order(ipc: int, seed: int) -> None:
    """Fifty pairs that a teacher takes for one another, a coin for each image: some pairs gain, and were picked."""
    labels = torch.arange(100).repeat_interleave(ipc)
    coin = torch.randint(0, 2, labels.shape, generator=generator(seed, "coin"))
    told = check_class_order(F.one_hot(labels ^ coin, 100).float(), labels, HUNDRED)
    assert told.startswith(f"the teacher agrees with {int((coin == 0).sum())} of {100 * ipc} labels")


@pytest.mark.parametrize(("images", "refused"), [(3, False), (4, True)])
def test_two_of_twelve_classes_exchanged_need_eight_images(images: int, refused: bool) -> None:
    """Seven heads of a coin any of twelve classes may have had."""
    labels = torch.cat(
        [torch.zeros(4).long(), torch.ones(images).long(), torch.arange(2, 12).repeat_interleave(4)]
    )
    said = torch.where(labels < 2, 1 - labels, labels)
    if refused:
        with pytest.raises(DataError, match="'a' looks like 'b', 'b' looks like 'a'"):
            check_class_order(_logits(said), labels, NAMES)
    else:
        assert "these images do not prove" in check_class_order(_logits(said), labels, NAMES)


def test_a_class_without_opinion_keeps_no_circle_from_being_clear() -> None:
    """Four classes in a circle; what the teacher says to images of the first is neither its class nor the next."""
    said, labels = _swapped(10, 1.0, (0, 3, 5, 8))
    said[labels == 3] = torch.arange(10) % 2 + 10
    with pytest.raises(DataError, match="'a' looks like 'i', 'f' looks like 'd', 'i' looks like 'f'"):
        check_class_order(_logits(said), labels, NAMES)


def test_a_class_that_looks_like_another_as_often_as_like_itself_is_not_exchanged() -> None:
    labels = torch.arange(12).repeat_interleave(50)
    said = labels.clone()
    said[:25] = 1  # half of class 0
    said[50:100] = 0  # all of class 1
    assert "these images do not prove" in check_class_order(_logits(said), labels, NAMES)


@pytest.mark.parametrize(("images", "refused"), [(4, True), (5, False)])
def test_a_class_of_five_images_and_more_has_a_say(images: int, refused: bool) -> None:
    """Class 0 looks like 1 throughout; most images of class 1 look like itself."""
    labels = torch.cat(
        [torch.zeros(40), torch.ones(images), torch.arange(2, 12).repeat_interleave(20)]
    ).long()
    said = labels.clone()
    said[:40] = 1
    said[40 : 40 + images - 3] = 0
    if refused:
        with pytest.raises(DataError, match="'a' looks like 'b', 'b' looks like 'a'"):
            check_class_order(_logits(said), labels, NAMES)
    else:
        assert "these images do not prove" in check_class_order(_logits(said), labels, NAMES)


@pytest.mark.parametrize("ipc", [4, 5, 10])
def test_a_scrambled_order_is_refused_though_some_classes_are_known_poorly(ipc: int) -> None:
    """A teacher that is right in 40 of 100 says as often the class that a few labels give."""
    said, labels = _swapped(ipc, 0.4, (), classes=100)
    scrambled = torch.randperm(100, generator=generator(0, "scrambled"))
    with pytest.raises(DataError, match="seem to mean other classes"):
        check_class_order(F.one_hot(said, 100).float(), scrambled[labels], HUNDRED)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("ipc", [1, 5])
def test_a_teacher_that_guesses_says_that_it_cannot_tell(classes: int, ipc: int) -> None:
    labels = torch.arange(classes).repeat_interleave(ipc)
    said = torch.randint(0, classes, labels.shape, generator=generator(1, "guesses"))
    told = check_class_order(F.one_hot(said, classes).float(), labels, tuple(map(str, range(classes))))
    assert told.endswith(", too few to tell whether the labels mean these classes")


def test_of_usual_mistakes_the_clearest_is_told() -> None:
    """As text and by name are one order here; what is told counts it once."""
    said, _ = _swapped(1, 0.7, (), classes=100)
    labels = torch.tensor(sorted(range(100), key=str))
    with pytest.raises(DataError) as told:
        check_class_order(F.one_hot(said, 100).float(), labels, HUNDRED)
    agreed = int((said == torch.arange(100)).sum())
    assert f"with {agreed} in another order" in str(told.value)


def test_confusions_that_lean_one_way_are_not_an_order() -> None:
    """Class 0 looks like 1, and 1 like 2: their exchange gains much of 0 and loses next to nothing of 1."""
    labels = torch.arange(12).repeat_interleave(50)
    said = labels.clone()
    said[:50] = torch.tensor([1] * 35 + [3] * 5 + [0] * 10)
    said[50:100] = torch.tensor([2] * 45 + [0] * 2 + [1] * 3)
    assert check_class_order(_logits(said), labels, NAMES) == (
        "the teacher agrees with 513 of 600 labels; with 537 in another order, which these images do not prove"
    )


@pytest.mark.parametrize(
    ("right", "doubt"), [(99, ""), (60, ", too few to tell whether the labels mean these classes")]
)
def test_two_classes(right: int, doubt: str) -> None:
    labels = torch.arange(2).repeat_interleave(50)
    said = labels.clone()
    said[: 100 - right] = 1 - said[: 100 - right]
    told = check_class_order(F.one_hot(said, 2).float(), labels, ("cat", "dog"))
    assert told == f"the teacher agrees with {right} of 100 labels{doubt}"


@pytest.mark.parametrize(
    "mistake",
    [
        "from 1",
        "from -1",
        "as text",
        "as text, back",
        "as text from 1",
        "as text from 1, back",
        "by name",
        "by name, back",
    ],
)
def test_the_usual_mistakes_are_refused_with_one_image_per_class(mistake: str) -> None:
    """By a teacher that is right in 70 of 100; some order fits most of whatever it says: the best proves nothing."""
    numbers = list(range(100))
    names = tuple(f"{37 * number % 100:02}" for number in numbers)
    by_text, by_name = sorted(numbers, key=str), sorted(numbers, key=names.__getitem__)
    from_one = sorted(numbers, key=lambda number: str(number + 1))
    orders = {
        "from 1": [*numbers[1:], 0],
        "from -1": [99, *numbers[:-1]],
        "as text": by_text,
        "as text, back": sorted(numbers, key=by_text.__getitem__),
        "as text from 1": from_one,
        "as text from 1, back": sorted(numbers, key=from_one.__getitem__),
        "by name": by_name,
        "by name, back": sorted(numbers, key=by_name.__getitem__),
    }
    said, _ = _swapped(1, 0.7, (), classes=100)
    labels = torch.tensor(orders[mistake])
    with pytest.raises(DataError, match="seem to mean other classes"):
        check_class_order(F.one_hot(said, 100).float(), labels, names)
    scrambled = torch.randperm(100, generator=generator(0, "no usual mistake"))
    check_class_order(F.one_hot(said, 100).float(), scrambled, names)


def test_an_assignment_that_agrees_equally_moves_no_class() -> None:
    """Class 0 is taken for class 1: their exchange would agree as often, and hides none elsewhere."""
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 4])
    said = labels.clone()
    said[:5] = 1
    said[10:12] = torch.tensor([3, 2])
    assert check_class_order(_logits(said), labels, NAMES) == (
        "the teacher agrees with 6 of 13 labels; with 8 in another order, which these images do not prove"
    )
