"""report.html: one self-contained page, a pure function of a run's record and report files."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from flashdd.core.files import write_atomic
from flashdd.core.record import Record
from flashdd.report import figures, text
from flashdd.report.cards import headline_cards
from flashdd.report.files import CurveRow, Curves, Gallery, Matrix
from flashdd.report.heat import heat_of
from flashdd.report.html import render
from flashdd.report.tables import images_words, student_rows, table_cells, warnings

MAX_GALLERY = 50  # classes; a thousand would make a page that no browser scrolls well


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """What stands in OUT/report; None for what a run did not leave."""

    gallery: Gallery | None = None
    mean_labels: Matrix | None = None
    confusion: Matrix | None = None
    curves: Curves | None = None

    @staticmethod
    def read(folder: Path) -> ReportFiles:
        """Raises ArtifactError for a damaged file."""
        return ReportFiles(
            gallery=Gallery.read(folder / "gallery.json"),
            mean_labels=Matrix.read(folder / "mean_labels.json"),
            confusion=Matrix.read(folder / "confusion.json"),
            curves=Curves.read(folder / "curves.json"),
        )


def build_report(out: Path) -> Path:
    """Write `out`/report.html from `out`/record.json and `out`/report/*, and return its path.

    Raises ArtifactError where the record is missing or a file is damaged, OutputError or StorageError where
    the page cannot be written.
    """
    page = render_page(Record.read(out / "record.json"), ReportFiles.read(out / "report"))
    path = out / "report.html"
    write_atomic(path, page.encode())
    return path


def render_page(record: Record, files: ReportFiles) -> str:
    """The page as HTML text: no script, no reference to the network, the same text for the same inputs."""
    filters: dict[str, Callable[..., Any]] = {
        "bytes": text.bytes_text,
        "count": text.count_text,
        "percent": text.percent_text,
        "rate": text.rate_text,
        "seconds": text.seconds_text,
        "times": text.times_text,
        "labeler": lambda candidate: text.labeler_text(candidate.name, candidate.bits, candidate.num_members),
        "gallery_side": _gallery_side,
        "images_words": images_words,
    }
    return render("page.html.jinja", filters, kind="report", notes=record.notes, **_context(record, files))


def _context(record: Record, files: ReportFiles) -> dict[str, Any]:
    rows = student_rows(record)
    curves = files.curves.rows if files.curves else ()
    searches = [
        ("The labeler's search", record.capacity),
        ("Whom the labeler imitates", record.tutor_search),
        ("The teacher's search", record.teacher_search),
    ]
    return {
        "record": record,
        "title": _title(record),
        "facts": _facts(record),
        "cards": headline_cards(record),
        "warnings": warnings(record),
        "rows": rows,
        "table": table_cells(rows),
        "accuracy_svg": Markup(figures.accuracy_figure(rows)),
        "capacity_svg": _capacity_svg(record),
        "searches": [(name, search) for name, search in searches if search is not None],
        "offsets": any(
            candidate.offsets for _, search in searches if search for candidate in search.candidates
        ),
        "gallery": files.gallery.classes if files.gallery else (),
        "max_gallery": MAX_GALLERY,
        "mean_labels": heat_of(files.mean_labels) if files.mean_labels else None,
        "confusion": heat_of(files.confusion) if files.confusion else None,
        "curves": _curve_tables(curves),
        "curves_svg": Markup(figures.curves_figure(curves)) if curves else None,
        "seconds_svg": Markup(figures.seconds_figure(record.seconds)) if record.seconds else None,
        "config": json.dumps(record.config, indent=2, ensure_ascii=False),
    }


def _capacity_svg(record: Record) -> Markup | None:
    search = record.capacity
    if search is None or all(candidate.proxy_mean is None for candidate in search.candidates):
        return None
    return Markup(figures.capacity_figure(search, record.labeler.budget_bytes))


def _title(record: Record) -> str:
    images = record.images
    amount = f"{text.counted(images.ipc, 'image')} per class" if images.ipc else f"{images.num_images} images"
    return f"{record.data.name}, {amount}, {images_words(images.method)}"


def _facts(record: Record) -> list[tuple[str, str]]:
    data, labeler, where = record.data, record.labeler, record.environment
    channels, height, width = data.shape
    facts = [
        (
            "Data",
            f"{data.name}: {data.num_classes} classes, {channels} x {height} x {width}, "
            f"{data.num_train:,} train, {data.num_val:,} validation, {data.num_test:,} test"
            + (f", {data.codec}" if data.codec else ""),
        ),
        ("Images", f"{images_words(record.images.method)}: {record.images.num_images:,} images"),
    ]
    if record.teacher is not None:
        accuracy = text.percent_text(record.teacher.accuracy)
        facts.append(
            (
                "Teacher",
                f"{record.teacher.name}: {accuracy} % on test, {text.bytes_text(record.teacher.bytes)}",
            )
        )
    members = "1 member" if labeler.num_members == 1 else f"{labeler.num_members} members"
    budget = f", budget {text.bytes_text(labeler.budget_bytes)}" if labeler.budget_bytes else ""
    own = text.percent_text(labeler.accuracy)
    tutor = labeler.tutor
    imitates = ""
    if tutor:
        whom = tutor.name if tutor.num_networks == 1 else f"the mean of {tutor.num_networks} {tutor.name}"
        imitates = f"; imitates {whom} after {text.counted(tutor.epochs, 'epoch')}"
    facts.append(
        (
            "Labeler",
            f"{members}, {labeler.params:,} parameters at {labeler.bits} bits{budget}; {own} % on test{imitates}",
        )
    )
    protocols = dict.fromkeys(f"{row.student} under protocol {row.protocol}" for row in record.students)
    if protocols:
        facts.append(("Students", "; ".join(protocols)))
    facts.append(
        (
            "Made on",
            f"{where.device}, {where.cpu}, {text.counted(where.threads, 'thread')}; "
            f"torch {where.torch}, flashdd {record.flashdd}",
        )
    )
    return facts


def _curve_tables(curves: Sequence[CurveRow]) -> dict[tuple[int, ...], list[tuple[str, CurveRow]]]:
    """Named curves by their steps: those with the same steps share a table."""
    tables: dict[tuple[int, ...], list[tuple[str, CurveRow]]] = {}
    for curve in curves:
        tables.setdefault(curve.steps, []).append((figures.curve_name(curve), curve))
    return tables


def _gallery_side(png: str) -> tuple[int, bool]:
    """Width on the page of a base64 PNG in CSS pixels, and whether its pixels are to be seen.

    Small images grow by a whole factor to about 64, large ones shrink to 112.
    """
    width = int(struct.unpack(">I", base64.b64decode(png[:32])[16:20])[0])
    if width > 64:
        return min(width, 112), False
    return width * max(1, round(64 / max(width, 1))), True
