"""The headline figures of a run, one card each."""

from __future__ import annotations

from dataclasses import dataclass

from flashdd.core.record import Difference, Record, StudentRow, ThroughputRow
from flashdd.report.tables import headline_students
from flashdd.report.text import (
    bytes_text,
    count_text,
    percent_text,
    points_text,
    rate_text,
    ratio_percent_text,
    times_text,
)

COMPARABLE = -0.005  # "comparable" to the teacher: the interval's lower bound lies above this


@dataclass(frozen=True, kw_only=True)
class Card:
    title: str
    value: str
    unit: str
    detail: str


def headline_cards(record: Record) -> list[Card]:
    """Accuracy and its distance to the teacher, then bytes, cost and speed of the labels, then the artifact.

    With several students the first one speaks for the run.
    """
    cards = []
    ours = next(iter(headline_students(record)), None)
    if ours is not None:
        cards.append(_accuracy_card(ours))
        if ours.paired_to_teacher is not None:
            cards.append(_teacher_card(ours.paired_to_teacher))
    cards += [_bytes_card(record), _macs_card(record)]
    if record.throughput:
        cards.append(_throughput_card(headline_throughput(record)))
    cards.append(_artifact_card(record))
    return cards


def headline_throughput(record: Record) -> ThroughputRow:
    """The largest batch on the run's own device, else on any: a rule, so that nobody picks the best ratio."""
    here = [row for row in record.throughput if row.device == record.environment.device]
    return max(here or record.throughput, key=lambda row: row.batch)


def _accuracy_card(ours: StudentRow) -> Card:
    accuracy = ours.accuracy
    spread = "" if accuracy.std is None else f" ± {percent_text(accuracy.std)}"
    return Card(
        title="Student accuracy",
        value=f"{percent_text(accuracy.mean)}{spread}",
        unit="%",
        detail=f"{ours.student} on test, last epoch, n={accuracy.n}",
    )


def _teacher_card(paired: Difference) -> Card:
    if paired.low is None or paired.high is None:
        detail = "one seed, so no interval"
    else:
        needed = points_text(COMPARABLE)
        verdict = "comparable" if paired.low > COMPARABLE else f"comparable would need above {needed}"
        interval = f"{points_text(paired.low)} to {points_text(paired.high)}"
        detail = f"95 % interval {interval}, n={paired.n}; {verdict}"
    return Card(
        title="Against the full teacher", value=points_text(paired.mean), unit="points", detail=detail
    )


def _bytes_card(record: Record) -> Card:
    value, unit = bytes_text(record.labeler.bytes).split(" ")
    share = ratio_percent_text(record.labeler.bytes_ratio)
    return Card(
        title="Label bytes",
        value=value,
        unit=unit,
        detail=f"{share} % of a ResNet-18 of {bytes_text(record.reference.bytes)}",
    )


def _macs_card(record: Record) -> Card:
    return Card(
        title="Label cost",
        value=times_text(record.labeler.macs_ratio),
        unit="x fewer MACs",
        detail=f"{count_text(record.labeler.macs)} per label against {count_text(record.reference.macs)}",
    )


def _throughput_card(row: ThroughputRow) -> Card:
    ours, teacher = rate_text(row.labeler_labels_per_second), rate_text(row.teacher_labels_per_second)
    return Card(
        title="Label speed",
        value=times_text(row.ratio),
        unit="x faster",
        detail=f"{ours} labels/s, a ResNet-18 {teacher}; {row.device}, batch {row.batch}, {row.dtype}",
    )


def _artifact_card(record: Record) -> Card:
    value, unit = bytes_text(record.artifact_bytes).split(" ")
    return Card(
        title="Artifact",
        value=value,
        unit=unit,
        detail=f"everything shipped; {record.images.num_images} images are {bytes_text(record.images.bytes)}",
    )
