"""comparison.json as a table and as one page: a group of rows for every image set, IPC, student and protocol."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from flashdd.core.config import ImagesSection
from flashdd.core.record import ComparedRow, Comparison, paired_difference
from flashdd.report.bytesviews import View, verdict, views_of
from flashdd.report.dots import dots_figure
from flashdd.report.html import render
from flashdd.report.scores import side_markdown, side_tables
from flashdd.report.svg import standalone
from flashdd.report.tables import images_words, markdown_lines, scheme_words
from flashdd.report.text import (
    accuracy_text,
    bytes_text,
    counted,
    difference_text,
    percent_text,
    rate_text,
    short_time_text,
)
from flashdd.report.tradeoff import accuracy_limits, time_figure, tradeoff_figure

_ALWAYS = ("images", "IPC", "labels", "label bytes", "test accuracy, %")
_OWN = "network's own, %"
_REAL = ("real-whole", "real-equal-passes")  # images, and schemes, of students that see the real data


def comparison_markdown(comparison: Comparison) -> str:
    """The whole comparison: a table, those of scores and rankings, then the notes."""
    head, body = comparison_cells(comparison)
    notes = "".join(f"- {note}\n" for note in comparison.notes)
    return markdown_lines(head, body) + side_markdown(comparison) + ("\n" + notes if notes else "")


def comparison_document(comparison: Comparison) -> str:
    """comparison.md: the table and its notes, then for every group who wins at the labeler's bytes, and its views."""
    parts = [comparison_markdown(comparison)]
    for rows in _groups(comparison.rows):
        sentence, views = verdict(rows, comparison.ship, comparison.artifact), views_of(rows)
        if sentence or views:
            parts.append(f"\n## {_group_name(rows, comparison)}\n")
        parts += [f"\n{sentence}\n"] if sentence else []
        parts += [
            f"\n### {view.title}\n\n{view.text}\n\n{markdown_lines(view.head, view.body)}" for view in views
        ]
    return "".join(parts)


def overview_figure(comparison: Comparison) -> str | None:
    """All groups of distilled images in one SVG element; None where there is none of two rows."""
    groups = _distilled(comparison)
    if all(len(rows) < 2 for rows in groups):
        return None
    size = _size_words(comparison)
    names = [
        images_words(rows[0].images) + (f", {size}" if _changed(rows[0], comparison) else "")
        for rows in groups
    ]
    return dots_figure(groups, names, key="overview")


def _distilled(comparison: Comparison) -> list[list[ComparedRow]]:
    return [rows for rows in _groups(comparison.rows) if rows[0].images not in _REAL]


def comparison_figures(comparison: Comparison) -> dict[str, str]:
    """Of every group that has label bytes to compare, accuracy against bytes and against time: name -> SVG file."""
    figures = {}
    for number, rows in enumerate(_groups(comparison.rows)):
        if len(rows) < 2 or rows[0].images in _REAL:
            continue
        name, limits = f"{number}-{rows[0].images}-ipc{rows[0].ipc}", accuracy_limits(comparison.rows)
        figures[f"{name}-bytes"] = standalone(tradeoff_figure(rows, key="bytes", limits=limits))
        time_svg = time_figure(rows, key="time", limits=limits)
        if time_svg is not None:
            figures[f"{name}-time"] = standalone(time_svg)
    return figures


def verdicts(comparison: Comparison) -> list[str]:
    """The sentence of every group that has a labeler, after the group's name."""
    found = [(rows, verdict(rows, comparison.ship, comparison.artifact)) for rows in _groups(comparison.rows)]
    return [f"{_group_name(rows, comparison)}: {sentence}" for rows, sentence in found if sentence]


def comparison_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Column names, and a text for every cell; columns that say nothing are left out, but for the accuracy of the
    network that labels where students are below it.

    Image methods that were run with other settings than the published ones are marked. Differences go to the first row
    of the same images, IPC, student and protocol, paired over seeds.
    """
    rows = comparison.rows
    columns = {
        "images": [_images(row, comparison) for row in rows],
        "IPC": ["-" if row.images in _REAL else str(row.ipc or "uneven") for row in rows],
        "student": [row.student for row in rows],
        "protocol": [row.protocol for row in rows],
        **_columns(rows, _first_scheme(comparison)),
    }
    below = any(row.network and row.network.accuracy > row.accuracy.mean for row in rows)
    always = (*_ALWAYS, _OWN) if below else _ALWAYS
    spoken = [name for name, cells in columns.items() if len(set(cells)) > 1 or name in always]
    return spoken, [list(cells) for cells in zip(*(columns[name] for name in spoken), strict=True)]


def _images(row: ComparedRow, comparison: Comparison) -> str:
    """The method's name, and where its settings are not those that were published, which."""
    name = images_words(row.images) + (f", {row.image_passes:,}" if row.image_passes else "")
    changed = _changed(row, comparison)
    return f"{name} ({_size_words(comparison)}: {'; '.join(changed)})" if changed else name


def _changed(row: ComparedRow, comparison: Comparison) -> list[str]:
    """The settings of an image method that are not those that were published: "iterations 1000, not 20000"."""
    defaults = ImagesSection().model_dump(mode="json").get(row.images)
    settings = comparison.config.get("images", {}).get(row.images)
    if not isinstance(defaults, dict) or not isinstance(settings, dict):
        return []
    return [
        f"{dial} {value}" + ("" if defaults[dial] is None else f", not {defaults[dial]}")
        for dial, value in settings.items()
        if dial in defaults and value != defaults[dial]
    ]


def _size_words(comparison: Comparison) -> str:
    return "CPU-sized" if comparison.environment.device == "cpu" else "other settings"


def _first_scheme(comparison: Comparison) -> str:
    """What the others are compared to; "" where nothing was asked for and nothing made."""
    asked = comparison.config.get("compare", {}).get("schemes", ())
    first_made = next((row.scheme for row in comparison.rows), "")
    return next((str(scheme) for scheme in asked if scheme not in (*_REAL, "ship")), first_made)


def _columns(rows: Sequence[ComparedRow], first: str) -> dict[str, list[str]]:
    return {
        "labels": [scheme_words(row.scheme) for row in rows],
        "label bytes": [bytes_text(row.label_bytes) for row in rows],
        "test accuracy, %": [accuracy_text(row.accuracy) for row in rows],
        "to the first, points (95 %)": [cell for group in _groups(rows) for cell in _to_first(group, first)],
        "labels per second": [
            rate_text(row.labels_per_second) if row.labels_per_second else "-" for row in rows
        ],
        "time per epoch": [
            short_time_text(row.seconds_per_epoch) if row.seconds_per_epoch else "-" for row in rows
        ],
        "made by": [_network(row) for row in rows],
        _OWN: [percent_text(row.network.accuracy) if row.network else "-" for row in rows],
        "entropy, nats": [_entropy(row) for row in rows],
    }


def _groups(rows: Sequence[ComparedRow]) -> list[list[ComparedRow]]:
    def key(row: ComparedRow) -> tuple[str, int | None, str, str, int | None]:
        return row.images, row.ipc, row.student, row.protocol, row.image_passes

    return [list(group) for _, group in itertools.groupby(rows, key=key)]


def _network(row: ComparedRow) -> str:
    """Whose labels they are: "convnet-3-w64, 8 epochs, moved 12.5 %, T = 4", "conv-3-w8 of 4 bits, T = 4, class
    offsets"; a scheme that names its network says it already."""
    network = row.network
    if network is None or network.name is None:
        return "-"
    bits = "" if network.bits in (None, 8) else f" of {network.bits} bits"
    training = "" if network.epochs is None else f", {counted(network.epochs, 'epoch')}"
    training += "" if network.shift is None else f", moved {100 * network.shift:.3g} %"
    scale = "" if network.logit_scale in (None, 1.0) else f", logits x {network.logit_scale:g}"
    offsets = ", class offsets" if network.offsets or network.class_offsets else ""
    return f"{network.name}{bits}{training}, T = {network.temperature:g}{scale}{offsets}"


def _entropy(row: ComparedRow) -> str:
    return "-" if row.network is None or row.network.entropy is None else f"{row.network.entropy:.2f}"


def _to_first(group: Sequence[ComparedRow], scheme: str) -> list[str]:
    """Differences to the group's row of `scheme`; none where it has no such row, or other seeds."""
    first = next((row.accuracy.values for row in group if row.scheme == scheme), ())
    return [
        difference_text(paired_difference(row.accuracy.values, first))
        if row.scheme != scheme and len(row.accuracy.values) == len(first)
        else "-"
        for row in group
    ]


@dataclass(frozen=True, kw_only=True)
class _Group:
    name: str
    sentence: str | None
    svg: Markup
    time_svg: Markup | None
    head: list[str]
    body: list[list[str]]
    views: list[View]


def comparison_page(comparison: Comparison) -> str:
    """One self-contained page: for every group who wins, accuracy against bytes and time, the table, and its views."""
    data, where = comparison.data, comparison.environment
    facts = [
        (
            "Data",
            f"{data.name}: {data.num_classes} classes, {' x '.join(map(str, data.shape))}, {data.codec or ''}",
        ),
        ("Made on", f"{where.device}, {where.cpu}, {counted(where.threads, 'thread')}; torch {where.torch}"),
        ("flashdd", f"{comparison.flashdd}" + (f", commit {where.commit}" if where.commit else "")),
    ]
    if ship := comparison.ship:
        words = f"{ship.name}, {bytes_text(ship.bytes)} in all: {percent_text(ship.accuracy)} % on test"
        facts.append(("Shipping a classifier", words))
    groups = [_group(rows, number, comparison) for number, rows in enumerate(_groups(comparison.rows))]
    overview = overview_figure(comparison) if len(_distilled(comparison)) > 1 else None
    return render(
        "comparison.html.jinja",
        {},
        kind="comparison",
        title=comparison.config.get("title") or f"{data.name}: label schemes compared",
        notes=comparison.notes,
        facts=facts,
        overview=None if overview is None else Markup(overview),
        groups=groups,
        sides=side_tables(comparison),
        config=json.dumps(comparison.config, indent=2, ensure_ascii=False),
    )


def _group(rows: Sequence[ComparedRow], number: int, comparison: Comparison) -> _Group:
    columns: dict[str, Any] = {
        name: cells
        for name, cells in _columns(rows, _first_scheme(comparison)).items()
        if len(set(cells)) > 1 or name in _ALWAYS
    }
    key = f"{chr(97 + number % 26)}{number}"
    limits = accuracy_limits(comparison.rows)
    time_svg = time_figure(rows, key=f"time{key}", limits=limits)
    return _Group(
        name=_group_name(rows, comparison),
        sentence=verdict(rows, comparison.ship, comparison.artifact),
        svg=Markup(tradeoff_figure(rows, key=f"tradeoff{key}", limits=limits)),
        time_svg=None if time_svg is None else Markup(time_svg),
        head=list(columns),
        body=[list(cells) for cells in zip(*columns.values(), strict=True)],
        views=views_of(rows),
    )


def _group_name(rows: Sequence[ComparedRow], comparison: Comparison) -> str:
    first = rows[0]
    amount = f"IPC {first.ipc}" if first.ipc else "classes of different sizes"
    if first.images in _REAL:
        amount = "the whole training split"
    return f"{_images(first, comparison)}, {amount}, {first.student}, protocol {first.protocol}"
