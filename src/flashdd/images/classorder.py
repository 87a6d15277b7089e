"""Whether the labels of somebody else's images mean the classes that they say.

Class folders sorted as text, another order of classes, or two of them exchanged give images a wrong label, and
students that learn something else: the commonest complaint about published sets. A teacher tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.optimize import linear_sum_assignment
from scipy.special import bdtrc
from torch import Tensor

from flashdd.core.errors import DataError

_BY_CHANCE = 0.05
"""An order is refused where a right one would look so with at most this probability, by each of two tests."""
_OVER_CHANCE = 2.0
"""A witness whose best assignment agrees on fewer than so many times the images that chance does tells nothing,"""
_AT_LEAST = 5
"""nor does one that agrees on fewer images than these, nor do fewer of a class."""
_MAY_MIX = 0.1
"""Share of the classes that another order moves which may look like themselves as much: a witness knows some poorly."""


def check_class_order(
    logits: Tensor, labels: Tensor, class_names: tuple[str, ...], *, witness: str = "the teacher agrees"
) -> str:
    """On how many images the witness agrees, as a sentence, which says so where it is too weak to tell classes apart
    and where too few images speak for another order. DataError if another assignment of labels to classes, of all of
    them or of a circle of two and more, agrees clearly better with a teacher, or another witness.

    logits: (N, classes), the teacher's on the images; labels: int64 (N,). An assignment agrees on an image if the
    teacher's class is the one that it gives to the image's label; the best one is found by Hungarian matching
    (Kuhn 1955).
    """
    classes = len(class_names)
    counts = (labels * classes + logits.argmax(1)).bincount(minlength=classes**2).view(classes, classes)
    given = int(counts.diagonal().sum())
    _, best = linear_sum_assignment(counts.numpy(), maximize=True)
    circles = [_Move.of(circle, best.tolist(), counts) for circle in _circles(best.tolist())]
    circles = [move for move in circles if move.gained > move.lost]  # the others are ties
    moved = _Move.together(circles)
    clear = [move for move in circles if move.is_clear(given, counts)]
    if not clear and moved.is_clear(given, counts):
        clear = [moved]
    if not clear:
        usual = [_Move.of(range(classes), order, counts) for order in _usual_orders(class_names)]
        clear = [move for move in usual if move.is_clear(given, counts, among=len(usual))]
        clear = sorted(clear, key=lambda move: move.lost - move.gained)[:1]
    if clear:
        raise _other_order(_Move.together(clear), given, counts, class_names, witness)
    return f"{witness} with {given} of {len(labels)} labels{_doubt(moved, given, counts)}"


@dataclass(frozen=True)
class _Move:
    """Labels that an assignment gives another class: so many images agree then that did not, and the other way.

    circles: how many circles of the assignment they are; 1 where none was picked from several.
    """

    classes: tuple[tuple[int, int], ...]
    gained: int
    lost: int
    circles: int = 1

    @classmethod
    def of(cls, labels: Sequence[int], columns: Sequence[int], counts: Tensor) -> _Move:
        pairs = tuple((label, columns[label]) for label in labels if columns[label] != label)
        return cls(
            pairs,
            gained=sum(int(counts[label, looks_like]) for label, looks_like in pairs),
            lost=sum(int(counts[label, label]) for label, _ in pairs),
        )

    @classmethod
    def together(cls, moves: Sequence[_Move]) -> _Move:
        return cls(
            tuple(pair for move in moves for pair in move.classes),
            gained=sum(move.gained for move in moves),
            lost=sum(move.lost for move in moves),
            circles=sum(move.circles for move in moves),
        )

    def is_clear(self, given: int, counts: Tensor, among: int | None = None) -> bool:
        """Neither a witness's guesses nor classes that it takes for one another explain the better agreement.

        Guesses: the likelihood must rise by more than the number of assignments of which the best was taken: all that
        move so many classes, or `among`. Classes alike: an image of two classes that a witness cannot tell apart gets
        either one as likely, so that gains and losses are a fair coin's; each class may have one like it, and of so
        many pairs those that gain were picked. A third class may lie between two others; so where an assignment was
        picked by what the witness says, hardly a class that it moves may look like itself as much.
        """
        by_chance = self._log_fair_coin() + self._log_picks(len(counts), among)
        return (
            self.evidence(given, counts, among) > -math.log(_BY_CHANCE)
            and by_chance < math.log(_BY_CHANCE)
            and not (among is None and self.mixes(counts))
        )

    def _log_fair_coin(self) -> float:
        """Logarithm of the probability that a fair coin gains as many of gains and losses together, or more."""
        probability = float(bdtrc(self.gained - 1, self.gained + self.lost, 0.5))
        return math.log(probability) if probability > 0 else -math.inf

    def _log_picks(self, classes: int, among: int | None) -> float:
        """Logarithm of the number of choices of which this one was taken: one of so many classes' circles, or so many
        circles of as many as there can be."""
        if among is not None:
            return math.log(among)
        return max(math.log(classes), _log_combinations(classes // 2, self.circles))

    def evidence(self, given: int, counts: Tensor, among: int | None = None) -> float:
        """By how much the logarithm of the likelihood rises beyond that of the number of assignments compared."""
        classes, images = len(counts), int(counts.sum())
        moves = math.lgamma(classes + 1) - math.lgamma(classes - len(self.classes) + 1)
        rise = _log_likelihood(given + self.gained - self.lost, images, classes) - _log_likelihood(
            given, images, classes
        )
        return rise - (moves if among is None else math.log(among))

    def mixes(self, counts: Tensor) -> bool:
        """Whether classes that it moves, of as many images as tell, look like themselves as much as like the others."""
        mixed = [
            label
            for label, looks_like in self.classes
            if counts[label].sum() >= _AT_LEAST and 0 < counts[label, label] >= counts[label, looks_like]
        ]
        return len(mixed) > _MAY_MIX * len(self.classes)


def _log_combinations(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def _usual_orders(class_names: tuple[str, ...]) -> list[list[int]]:
    """How class orders are mistaken most often: counted from 1 or from -1; sorted as text, by numbers from 0, from 1 or
    by names, there and back.

    With one image per class the best of all assignments proves little, for whatever classes a witness says, one
    agrees with most of them; these were not picked by what it says.
    """
    numbers = range(len(class_names))
    keys = (str, lambda number: str(number + 1), class_names.__getitem__)
    there = [sorted(numbers, key=key) for key in keys]
    back = [sorted(numbers, key=order.__getitem__) for order in there]
    shifts = [[(number + by) % len(class_names) for number in numbers] for by in (1, -1)]
    return [*shifts, *there, *back]


def _circles(columns: Sequence[int]) -> list[list[int]]:
    """The circles of a permutation that hold two elements and more."""
    seen: set[int] = set()
    circles = []
    for start in range(len(columns)):
        circle = []
        at = start
        while at not in seen:
            seen.add(at)
            circle.append(at)
            at = columns[at]
        if len(circle) > 1:
            circles.append(circle)
    return circles


def _log_likelihood(agreed: int, images: int, classes: int) -> float:
    """Of a witness that is right as often as seen, but not less than by chance, and else says any class."""
    rate = max(agreed / images, 1 / classes)
    wrong = (images - agreed) * math.log((1 - rate) / (classes - 1)) if agreed < images else 0.0
    return agreed * math.log(rate) + wrong


def _doubt(moved: _Move, given: int, counts: Tensor) -> str:
    """What a reader should know who takes the agreement for a proof."""
    images, classes = int(counts.sum()), len(counts)
    best = given + moved.gained - moved.lost
    telling = min(_OVER_CHANCE / classes, (1 + 1 / classes) / 2)  # half way to all where chance has half
    evident = moved.evidence(given, counts) > 0
    guessed = 1.0 if given == 0 else float(bdtrc(given - 1, images, 1 / classes))
    if best < max(_AT_LEAST, telling * images) or (guessed > _BY_CHANCE and not evident):
        return ", too few to tell whether the labels mean these classes"
    if moved.gained > max(1, 2 * moved.lost) and evident:
        return f"; with {best} in another order, which these images do not prove"
    return ""


def _other_order(
    move: _Move, given: int, counts: Tensor, class_names: tuple[str, ...], witness: str
) -> DataError:
    named = [
        f"'{class_names[label]}' looks like '{class_names[looks_like]}'"
        for label, looks_like in sorted(move.classes)
        if counts[label, looks_like]
    ]
    shown = ", ".join(named[:5]) + (", ..." if len(named) > 5 else "")
    return DataError(
        f"the labels of the images seem to mean other classes: {witness} with {given} of {int(counts.sum())} as "
        f"they are, and with {given + move.gained - move.lost} in another order ({shown}): put the classes into the "
        "data's order; folders named as the classes cannot be mistaken. If the labels are right, "
        "--set images.check_classes=false takes them as they are."
    )
