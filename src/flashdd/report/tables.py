"""The students' table: rows as plain data, as Markdown, and the sentences that a fair reader expects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flashdd.core.record import Accuracy, Difference, Record, StudentRow
from flashdd.report.text import accuracy_text, bytes_text, difference_text, percent_text

# In the order of the table; the words are those of the reader.
_SCHEMES = {
    "hard": "hard labels",
    "labeler": "labeler (ours)",
    "teacher": "full teacher",
    "static": "static soft labels",
    "stored": "stored labels",
    "lpld": "LPLD",
    "lpqld": "LPQLD",
    "hald": "HALD",
    "lowrank": "low-rank labels",
    "vq": "vector-quantized labels",
    "committee": "committee",
}
_VARIANTS = {"searched": "searched settings", "published": "published settings"}
_IMAGES = {
    "random": "random real",
    "foreign": "made elsewhere",
    "real-equal-passes": "real, equal passes",
    "real-whole": "real, whole",
}
MIN_SEEDS = 3  # of a headline
_UNITS = re.compile(r"%|bytes|points|nats|IPC|second|time")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; `num_bytes` are the labels', where `ships_alone` those of all shipped."""

    labels: str
    images: str
    student: str
    protocol: str
    num_bytes: int
    accuracy: Accuracy
    best_epoch: Accuracy | None
    paired: Difference | None
    is_student: bool
    is_ours: bool
    ships_alone: bool

    @property
    def name(self) -> str:
        """Labels and images in one phrase, as a figure's axis wants it."""
        return f"{self.labels}, {self.images}" if self.images else self.labels


def student_rows(record: Record) -> list[Row]:
    """The table's rows: students in a fixed order, then the labeler and ship-the-classifier themselves.

    Order: by student and protocol as the record has them; the run's images, random, real at equal passes,
    real whole; hard, labeler, teacher searched, teacher published, static, stored, further schemes.
    """
    rows = [_student_row(row, record) for row in sorted_students(record)]
    own = Accuracy.of([record.labeler.accuracy])
    rows.append(_classifier_row("labeler itself, no student", record.labeler.bytes, own, False))
    if record.ship is not None:
        ship = Accuracy.of([record.ship.accuracy])
        name = f"ship the classifier: {record.ship.name}"
        rows.append(_classifier_row(name, record.ship.bytes, ship, True))
    return rows


def sorted_students(record: Record) -> list[StudentRow]:
    """`record.students` in the order of `student_rows`."""
    groups = list(dict.fromkeys((row.student, row.protocol) for row in record.students))

    def order(row: StudentRow) -> tuple[int, int, int, int, int, str]:
        scheme, variant = _scheme_order(row.scheme)
        images = _images_order(row.images, record.images.method)
        return groups.index((row.student, row.protocol)), images, scheme, variant, row.label_bytes, row.scheme

    return sorted(record.students, key=order)


def scheme_words(scheme: str) -> str:
    """ "teacher@searched" -> "full teacher, searched settings"; an unknown name stays as it is."""
    base, _, variant = scheme.partition("@")
    words = _SCHEMES.get(base, base)
    return f"{words}, {_VARIANTS.get(variant, variant)}" if variant else words


def images_words(images: str) -> str:
    """ "random" -> "random real"; an image method stays as it is."""
    return _IMAGES.get(images, images)


def markdown_table(rows: Sequence[Row]) -> str:
    """GitHub Markdown, ending in a line break; columns that would say nothing are left out."""
    return markdown_lines(*table_cells(rows))


def markdown_lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A GitHub Markdown table; columns of numbers, whose names hold a unit, stand to the right."""
    lines = [
        _line(head),
        _line(["---:" if _UNITS.search(name) else "---" for name in head]),
        *(_line([_escape(cell) for cell in cells]) for cells in body),
    ]
    return "\n".join(lines) + "\n"


def table_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names, and a text for every cell.

    Student and protocol get a column where they differ; best check and the paired difference where a row has
    one.
    """
    students = [row for row in rows if row.is_student]
    columns = {
        "labels": [row.labels for row in rows],
        "images": [row.images or "-" for row in rows],
        "student": [row.student or "-" for row in rows],
        "protocol": [row.protocol or "-" for row in rows],
        "label bytes": [bytes_text(row.num_bytes) + (" in all" if row.ships_alone else "") for row in rows],
        "test accuracy, %": [accuracy_text(row.accuracy) for row in rows],
        "best check on test, %": [accuracy_text(row.best_epoch) if row.best_epoch else "-" for row in rows],
        "to teacher, points (95 %)": [difference_text(row.paired) if row.paired else "-" for row in rows],
    }
    silent = {
        "student": len({row.student for row in students}) < 2,
        "protocol": len({row.protocol for row in students}) < 2,
        "best check on test, %": not any(row.best_epoch for row in rows),
        "to teacher, points (95 %)": not any(row.paired for row in rows),
    }
    head = [name for name in columns if not silent.get(name, False)]
    return head, [list(cells) for cells in zip(*(columns[name] for name in head), strict=True)]


def headline_students(record: Record) -> list[StudentRow]:
    """The labeler's students on the run's own images: one row for every student and protocol."""
    method = record.images.method
    return [row for row in sorted_students(record) if row.scheme == "labeler" and row.images == method]


def warnings(record: Record) -> list[str]:
    """What speaks against the labeler's students, in sentences: whatever is simpler and better."""
    sentences: list[str] = []
    for ours in headline_students(record):
        sentences += [*_classifier_warnings(ours, record), *_rival_warnings(ours, record)]
        if ours.accuracy.n < MIN_SEEDS:
            sentences.append(
                f"The {ours.student} students are n = {ours.accuracy.n}: below n = {MIN_SEEDS} seeds "
                "their mean and spread say little."
            )
    return sentences


def _classifier_warnings(ours: StudentRow, record: Record) -> list[str]:
    sentences = []
    mean, own, ship = ours.accuracy.mean, record.labeler.accuracy, record.ship
    if own > mean:
        sentences.append(
            f"The labeler itself, as a classifier, reaches {percent_text(own)} %, above the "
            f"{percent_text(mean)} % of the {ours.student} students that learn from its labels."
        )
    if ship is not None and ship.accuracy > mean:
        sentences.append(
            f"Shipping a classifier instead ({ship.name}, {bytes_text(ship.bytes)}, no more than the whole "
            f"artifact) reaches {percent_text(ship.accuracy)} %, above the {percent_text(mean)} % of the "
            f"{ours.student} students."
        )
    return sentences


def _rival_warnings(ours: StudentRow, record: Record) -> list[str]:
    sentences = []
    mean = ours.accuracy.mean
    for row in sorted_students(record):
        same_student = (row.student, row.protocol) == (ours.student, ours.protocol)
        if not same_student or row is ours or row.accuracy.mean <= mean:
            continue
        reached = f"reach {percent_text(row.accuracy.mean)} %"
        base = row.scheme.partition("@")[0]
        if (
            row.images == ours.images
            and base not in ("labeler", "teacher")
            and row.label_bytes <= ours.label_bytes
        ):
            words, size = scheme_words(row.scheme), bytes_text(row.label_bytes)
            sentences.append(
                f"{words[0].upper()}{words[1:]} ({size}) {reached} with {ours.student}, above the "
                f"{percent_text(mean)} % of the labeler ({bytes_text(ours.label_bytes)})."
            )
        if row.images == "random" and row.scheme == ours.scheme:
            sentences.append(
                f"Random real images with the same labeler {reached} with {ours.student}, above the "
                f"{percent_text(mean)} % of the {ours.images} images."
            )
    return sentences


def _student_row(row: StudentRow, record: Record) -> Row:
    return Row(
        labels=scheme_words(row.scheme),
        images=images_words(row.images),
        student=row.student,
        protocol=row.protocol,
        num_bytes=row.label_bytes,
        accuracy=row.accuracy,
        best_epoch=row.best_epoch,
        paired=row.paired_to_teacher,
        is_student=True,
        is_ours=row.scheme == "labeler" and row.images == record.images.method,
        ships_alone=False,
    )


def _classifier_row(labels: str, num_bytes: int, accuracy: Accuracy, ships_alone: bool) -> Row:
    return Row(
        labels=labels,
        images="",
        student="",
        protocol="",
        num_bytes=num_bytes,
        accuracy=accuracy,
        best_epoch=None,
        paired=None,
        is_student=False,
        is_ours=False,
        ships_alone=ships_alone,
    )


def _scheme_order(scheme: str) -> tuple[int, int]:
    base, _, variant = scheme.partition("@")
    bases, variants = list(_SCHEMES), ["", *_VARIANTS]
    return (
        bases.index(base) if base in bases else len(bases),
        variants.index(variant) if variant in variants else len(variants),
    )


def _images_order(images: str, method: str) -> int:
    if images == method:
        return 0
    kinds = list(_IMAGES)
    return 2 + kinds.index(images) if images in kinds else 1


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|")
