"""A simulation of many classes as Markdown: what label schemes weigh and how fast they are."""

from __future__ import annotations

from collections.abc import Sequence

from flashdd.core.record import Simulation
from flashdd.core.simulated import KeptLabels
from flashdd.report.tables import markdown_lines, scheme_words
from flashdd.report.text import bytes_text, rate_text, short_time_text


def simulation_markdown(simulation: Simulation) -> str:
    """A row for every scheme and labeler, smallest first; then what else the labelers' bytes could hold."""
    task = simulation.simulated
    rows = [
        (row.bytes, f"{scheme_words(row.scheme)} ({row.scheme})", row.labels_per_second)
        for row in simulation.schemes
    ]
    rows += [(row.bytes, f"labeler {row.name}", row.labels_per_second) for row in simulation.labelers]
    reference_speed = max(row.reference_labels_per_second for row in simulation.labelers)
    rows.append((simulation.reference.bytes, "ResNet-18 as teacher (float32)", reference_speed))
    body = [
        [name, bytes_text(size), rate_text(speed), short_time_text(task.num_images / speed)]
        for size, name, speed in sorted(rows)
    ]
    head = ["labels", "label bytes", "labels per second", "labels of an epoch, time"]
    within = "".join(
        f"- {_within(row.name, row.bytes, row.stored_within, task.num_images * task.epochs)}\n"
        for row in simulation.labelers
        if row.stored_within is not None
    )
    notes = "".join(f"- {note}\n" for note in simulation.notes)
    return f"{markdown_lines(head, body)}\n{within}{notes}"


def _within(name: str, budget: int, stored: Sequence[KeptLabels], num_views: int) -> str:
    """Of each kind of scheme the setting that keeps most labels."""
    most: dict[str, tuple[int, str]] = {}
    for kept in stored:
        kind = kept.scheme.partition("@")[0]
        most[kind] = max(most.get(kind, (0, "")), (kept.labels, kept.scheme))
    found = ", ".join(f"{labels:,} ({scheme})" for labels, scheme in most.values())
    return (
        f"Within the {bytes_text(budget)} of {name} stored labels hold, of {num_views:,} views: "
        f"{found or 'none'}."
    )
