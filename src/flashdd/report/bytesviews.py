"""Views of one group of a comparison's rows by bytes: what is best within a size, which size reaches an accuracy, how
well a family of schemes uses its bytes, and who wins at the labeler's bytes.

A group has one image set, IPC, student and protocol. Everything here is a pure function of its rows. Accuracies are
those on test: the best of several is flattered a little by chance, which the tables say; nothing is chosen by them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from flashdd.core.record import (
    CLAIMING_SEEDS,
    ArtifactImages,
    ComparedRow,
    Difference,
    ShipFacts,
    paired_difference,
)
from flashdd.core.scores import PLAIN
from flashdd.report.efficiency import HIGH, LOW, area
from flashdd.report.tables import scheme_words
from flashdd.report.text import (
    accuracy_text,
    bytes_text,
    counted,
    difference_text,
    percent_text,
    points_text,
)

SIZES = (4_000, 16_000, 64_000, 256_000, 1_000_000)
"""Bytes that a reader may look at beside the labeler's own."""
WITHIN = 0.01
"""Equal accuracy: so much below the full teacher's mean at most, a fraction (one point)."""
LABELERS = ("labeler", "packed", "packed-ensemble")  # chosen by search, one network, several
STORED = ("static", "stored", "lpld", "lpqld", "hald", "lowrank", "vq")
_TOO_FEW = 2
"""Seeds; their t-interval has 12.7 standard errors a side."""
_CHOSEN = "stored@equal-bytes"  # the one stored row whose scheme was chosen on validation data
_TEACHERS = ("teacher@searched", "teacher@published")
_ROUNDING = 1e-9  # of a mean that is exactly one point below
_FAMILIES = {
    "network": "networks (float32)",
    "committee": "committees of networks (float32)",
    "packed": "packed labelers",
    "packed-ensemble": "packed ensembles",
}


@dataclass(frozen=True, kw_only=True)
class View:
    """A small table with a sentence about how to read it."""

    title: str
    text: str
    head: list[str]
    body: list[list[str]]


def views_of(rows: Sequence[ComparedRow]) -> list[View]:
    """The views of a group; none where fewer than two of its schemes cost any bytes."""
    if sum(row.label_bytes > 0 for row in rows) < 2:
        return []
    made = (_equal_bytes(rows), _equal_accuracy(rows), _areas(rows))
    return [view for view in made if view is not None]


def family(row: ComparedRow) -> str:
    """What a row counts as: its scheme's bare name, for a network's name `network`, `packed` or `packed-ensemble`.

    A row at equal bytes counts as the scheme that was chosen for it. A network is packed where its weights have bits.
    """
    scheme = row.equal_bytes.name if row.equal_bytes else row.scheme
    base = scheme.partition("@")[0]
    if row.network is None or base in (*STORED, "labeler", "teacher", "committee"):
        return base
    if row.network.bits is None:
        return "network"
    return "packed-ensemble" if (row.network.num_members or 1) > 1 else "packed"


def family_words(name: str) -> str:
    return _FAMILIES.get(name) or scheme_words(name)


def row_words(row: ComparedRow) -> str:
    """The row's labels in words, and at equal bytes which scheme that is."""
    words = scheme_words(row.scheme)
    return f"{words} ({row.equal_bytes.name})" if row.equal_bytes else words


def labeler_row(rows: Sequence[ComparedRow]) -> ComparedRow | None:
    return next((row for row in rows if row.scheme == "labeler"), None)


def best_within(rows: Sequence[ComparedRow], size: int) -> ComparedRow | None:
    """The row of the highest mean with at most `size` label bytes, of equal ones the smallest; None where none fits."""
    fitting = [row for row in rows if row.label_bytes <= size]
    return max(fitting, key=lambda row: (row.accuracy.mean, -row.label_bytes), default=None)


def shown_sizes(rows: Sequence[ComparedRow]) -> list[int]:
    """The labeler's bytes, and of `SIZES` all up to the first that holds every row."""
    largest = max(row.label_bytes for row in rows)
    fixed = [size for place, size in enumerate(SIZES) if largest > (SIZES[place - 1] if place else 0)]
    ours = labeler_row(rows)
    return sorted({*fixed, *([] if ours is None else [ours.label_bytes])})


def to_row(row: ComparedRow, other: ComparedRow | None) -> Difference | None:
    """`row` minus `other`, paired over seeds; None for the same row, or other numbers of seeds."""
    if other is None or row is other or row.accuracy.n != other.accuracy.n:
        return None
    return paired_difference(row.accuracy.values, other.accuracy.values)


def _equal_bytes(rows: Sequence[ComparedRow]) -> View:
    ours = labeler_row(rows)
    body = []
    for size in shown_sizes(rows):
        best = best_within(rows, size)
        if best is None:
            continue
        mark = " (the labeler's)" if ours is not None and size == ours.label_bytes else ""
        gap = to_row(best, ours)
        body.append(
            [
                f"{bytes_text(size)}{mark}",
                row_words(best),
                bytes_text(best.label_bytes),
                accuracy_text(best.accuracy),
                "-" if gap is None else difference_text(gap),
            ]
        )
    return View(
        title="At equal bytes",
        text="The labels of the highest mean test accuracy within so many bytes: the best of several means is "
        "flattered a little by chance.",
        head=[
            "within bytes",
            "best labels",
            "label bytes",
            "test accuracy, %",
            "to the labeler, points (95 %)",
        ],
        body=body,
    )


def target_row(rows: Sequence[ComparedRow]) -> ComparedRow | None:
    """Whose accuracy is to be reached: the full teacher's, searched settings first; else the labeler's."""
    named = {row.scheme: row for row in rows}
    return next((named[scheme] for scheme in (*_TEACHERS, "labeler") if scheme in named), None)


def cheapest_reaching(rows: Sequence[ComparedRow], mean: float) -> ComparedRow | None:
    """The row of the fewest label bytes whose mean is at least `mean` less `WITHIN`; None where none is."""
    reaching = [row for row in rows if row.accuracy.mean >= mean - WITHIN - _ROUNDING]
    return min(reaching, key=lambda row: (row.label_bytes, -row.accuracy.mean), default=None)


def _equal_accuracy(rows: Sequence[ComparedRow]) -> View | None:
    target = target_row(rows)
    if target is None:
        return None
    body = []
    for name, members in families(rows).items():
        found = cheapest_reaching(members, target.accuracy.mean)
        shown = found or max(members, key=lambda row: row.accuracy.mean)
        reached = bytes_text(shown.label_bytes) if found else f"never, up to {_largest(members)}"
        body.append([family_words(name), reached, row_words(shown), accuracy_text(shown.accuracy)])
    return View(
        title="At equal accuracy",
        text=f"The fewest label bytes of each scheme whose mean is within {100 * WITHIN:g} point of the "
        f"{percent_text(target.accuracy.mean)} % of {row_words(target)}; where it is never reached, the scheme's "
        "highest row.",
        head=["scheme", "fewest bytes", "labels", "test accuracy, %"],
        body=body,
    )


def _largest(rows: Sequence[ComparedRow]) -> str:
    return bytes_text(max(row.label_bytes for row in rows))


def families(rows: Sequence[ComparedRow]) -> dict[str, list[ComparedRow]]:
    """The rows by `family`, families in the order of their first row."""
    found: dict[str, list[ComparedRow]] = {}
    for row in rows:
        found.setdefault(family(row), []).append(row)
    return found


def areas(rows: Sequence[ComparedRow]) -> dict[str, float]:
    """`efficiency.area` of every family with label bytes, and of several of stored labels, or of labelers, together.

    Labelers, and networks with a number of bits, count by their packed bytes, other networks by their float32 files.
    Empty without a row of hard labels, which says what no bytes give.
    """
    hard = next((row.accuracy.mean for row in rows if row.scheme == "hard"), None)
    if hard is None:
        return {}
    grouped = {name: members for name, members in families(rows).items() if name != "hard"}
    for words, several in (("any stored labels", STORED), ("any labelers", LABELERS)):
        if len(names := [name for name in grouped if name in several]) > 1:
            grouped[words] = [row for name in names for row in grouped[name]]
    return {
        name: area([(row.label_bytes, row.accuracy.mean) for row in members], hard)
        for name, members in grouped.items()
    }


def _areas(rows: Sequence[ComparedRow]) -> View | None:
    found = areas(rows)
    if not found:
        return None
    counts = {name: len(members) for name, members in families(rows).items()}
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    return View(
        title="Efficiency of use",
        text=f"Area under the best test accuracy within so many bytes, against log2(bytes) from {bytes_text(LOW)} to "
        f"{bytes_text(HIGH)}, divided by the range's length: the mean accuracy over these sizes, where hard labels, "
        "which cost no bytes, stand in for all that is below them. A family of one row is judged by that row.",
        head=["family", "rows", "area, %"],
        body=[
            [family_words(name), str(counts[name]) if name in counts else "all", percent_text(value)]
            for name, value in ordered
        ],
    )


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What could be shipped at the labeler's bytes: accuracies by seed, of a classifier one alone.

    chosen_on_test: picked for its test accuracy, which is flattered by that, so no interval says anything about it.
    """

    words: str
    values: tuple[float, ...]
    alone: bool = False
    chosen_on_test: bool = False

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)


def verdict(
    rows: Sequence[ComparedRow], ship: ShipFacts | None, home: ArtifactImages | None = None
) -> str | None:
    """Which of labeler, stored labels within its bytes, the labeler as a classifier, and ship-the-classifier wins; None
    without a labeler. At n = 1 and 2 no interval says anything, and only accuracies are told.

    The row `stored@equal-bytes`, chosen on validation data, stands for all stored labels; without one the best on test
    of those within the labeler's bytes is told, and neither wins nor loses. The contender of the highest mean leads;
    who is behind it by an interval (95 %, paired over seeds) that does not contain 0 has lost, who is not ties. A
    shipped classifier is one network, so the interval to it is over the students' seeds alone. Without an interval
    (other seeds) nothing can be told apart, and that too is a tie.

    ship: at the bytes of an artifact that holds the images `home`; in a group of other images or IPC, or without
    augmentation, it does not compete. Where `home` is not known, the sentence says whose bytes they are.
    """
    ours = labeler_row(rows)
    if ours is None:
        return None
    contenders, remarks = _contenders(ours, rows, ship, home)
    head = f"Beside the labeler ({bytes_text(ours.label_bytes)})"
    aside = " ".join(_aside(contender) for contender in contenders if contender.chosen_on_test)
    fair = [contender for contender in contenders if not contender.chosen_on_test]
    if len(fair) > 1 and _seeds(fair) <= _TOO_FEW:
        told = ", ".join(f"{contender.words} {percent_text(contender.mean)} %" for contender in fair)
        few = "one seed is" if _seeds(fair) == 1 else "two seeds are"
        said = f"{head}, {few} too few to tell who is better ({told}): take three or more."
    elif len(fair) > 1:
        few = ", too few of them for a claim" if _seeds(fair) < CLAIMING_SEEDS else ""
        said = f"{head}, {_outcome(fair)}; differences in points, 95 % intervals over students' seeds{few}."
    elif aside:
        said = f"{head}, which has {percent_text(ours.accuracy.mean)} %:"
    else:
        said = f"{head}, which has {percent_text(ours.accuracy.mean)} %, nothing stands."
    return " ".join(part for part in (said, aside, remarks) if part)


def _aside(contender: Contender) -> str:
    return (
        f"{contender.words} has {percent_text(contender.mean)} %: it was picked on test, so no win is claimed for it "
        "or over it (scheme stored@equal-bytes is chosen on validation data)."
    )


def _outcome(contenders: Sequence[Contender]) -> str:
    """Who leads, over whom, and from whom it cannot be told; two single networks have no interval between them."""
    lead = max(contenders, key=lambda contender: contender.mean)
    claimed = _seeds(contenders) >= CLAIMING_SEEDS
    lost: list[str] = []
    tied: list[str] = []
    single: list[str] = []
    for other in contenders:
        if other is lead:
            continue
        if other.alone and lead.alone:
            single.append(f"; {other.words} has {percent_text(other.mean)} %")
            continue
        gap = contender_gap(lead, other)
        clear = gap is not None and gap.low is not None and gap.low > 0
        (lost if clear else tied).append(f"{other.words} ({_gap_text(gap, lead, other)})")
    said = f"{lead.words} with {percent_text(lead.mean)} %"
    if not tied:
        said += f" {'wins over' if claimed else 'is above'} {' and '.join(lost)}"
    else:
        said += f" cannot be told from {' and '.join(tied)}"
        said += f", and is above {' and '.join(lost)}" if lost else ""
    return said + "".join(single)


def _seeds(contenders: Sequence[Contender]) -> int:
    """The fewest of those that have several."""
    return min(len(contender.values) for contender in contenders if not contender.alone)


def contender_gap(lead: Contender, other: Contender) -> Difference | None:
    """`lead` minus `other`, paired over seeds; None where there is nothing to pair."""
    one, two = lead.values, other.values
    if lead.alone and not other.alone:
        one = one * len(two)
    if other.alone and not lead.alone:
        two = two * len(one)
    return paired_difference(one, two) if len(one) == len(two) else None


def _gap_text(gap: Difference | None, lead: Contender, other: Contender) -> str:
    if gap is None or gap.low is None:
        return f"{points_text(lead.mean - other.mean)}, no interval"
    return difference_text(gap)


def _contenders(
    ours: ComparedRow, rows: Sequence[ComparedRow], ship: ShipFacts | None, home: ArtifactImages | None
) -> tuple[list[Contender], str]:
    """Who competes with `ours`, and sentences about who does not."""
    contenders = [Contender(words="the labeler", values=ours.accuracy.values)]
    if ours.network is not None:
        itself = "the labeler itself as a classifier (one network)"
        contenders.append(Contender(words=itself, values=(ours.network.accuracy,), alone=True))
    missing = []
    hard = max((row.accuracy.mean for row in rows if row.scheme == "hard"), default=0.0)
    if hard > ours.accuracy.mean:
        missing.append(f"Hard labels, of no bytes, reach {percent_text(hard)} %, above the labeler.")
    stored = _stored_contender(rows, ours.label_bytes)
    if stored is not None:
        contenders.append(stored)
    else:
        missing.append(
            "No stored labels within these bytes are in this comparison (scheme stored@equal-bytes)."
        )
    if ship is None:
        missing.append("Shipping a classifier instead is not in this comparison (scheme ship).")
    elif _beside(ours, home):
        words = (
            f"shipping a classifier (one {ship.name}, {bytes_text(ship.bytes)}, {_whose_bytes(ship, home)})"
        )
        contenders.append(Contender(words=words, values=(ship.accuracy,), alone=True))
    else:
        missing.append(
            "Shipping a classifier is compared only on the artifact's own images, with augmentation."
        )
    return contenders, " ".join(missing)


def _beside(row: ComparedRow, home: ArtifactImages | None) -> bool:
    """Whether what fits an artifact with the images `home` competes in the group of `row`."""
    if row.protocol.endswith(PLAIN):
        return False
    return home is None or (row.images, row.ipc) == (home.images, home.ipc)


def _whose_bytes(ship: ShipFacts, home: ArtifactImages | None) -> str:
    within = "no more than" if ship.budget_bytes is None else f"within the {bytes_text(ship.budget_bytes)} of"
    if home is None:
        return f"{within} the whole artifact, whose images and IPC may be others"
    return f"{within} the whole artifact" + (f" at IPC {home.ipc}" if home.ipc else "")


def _stored_contender(rows: Sequence[ComparedRow], size: int) -> Contender | None:
    """Who stands for the stored labels within `size` bytes; None where none fits."""
    fitting = [row for row in rows if family(row) in STORED and row.label_bytes <= size]
    chosen = next((row for row in fitting if row.scheme == _CHOSEN), None)
    best = chosen or best_within(fitting, size)
    if best is None:
        return None
    words = f"{row_words(best)}, {bytes_text(best.label_bytes)}"
    if chosen is None:
        words += f" (highest on test of {counted(len(fitting), 'row')})"
    return Contender(words=words, values=best.accuracy.values, chosen_on_test=chosen is None)
