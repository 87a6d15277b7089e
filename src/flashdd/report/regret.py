"""A regret study as Markdown: the search's choice beside the best of a grid, then the grid itself."""

from __future__ import annotations

from flashdd.core.record import ComparedRow, paired_difference
from flashdd.core.regret import Regret, RegretCase
from flashdd.report.tables import markdown_lines
from flashdd.report.text import (
    accuracy_text,
    bytes_text,
    counted,
    difference_text,
    percent_text,
    seconds_text,
)


def regret_markdown(record: Regret) -> str:
    """A row for every case; below it what each search cost, and for every case the grid as networks by epochs."""
    labeler = ["bytes", "students, %"]
    head = ["IPC", "image passes", "chosen", *labeler, "best of the grid", *labeler, "regret, points (95 %)"]
    body = [
        [
            *(str(case.ipc), _passes(case), *_labeler(case, case.chosen), *_labeler(case, case.best)),
            _regret(case),
        ]
        for case in record.cases
    ]
    sweeps = "".join(f"\n{_sweep(case)}" for case in record.cases)
    notes = "".join(f"- {note}\n" for note in [*map(_cost, record.cases), *record.notes])
    return f"{markdown_lines(head, body)}\n{notes}{sweeps}"


def _passes(case: RegretCase) -> str:
    return f"{case.image_passes:,} (x{case.times})"


def _cost(case: RegretCase) -> str:
    head = f"The search at IPC {case.ipc}, {_passes(case)} image passes"
    proxies = f"{counted(case.proxies, 'proxy student')}, trained in {seconds_text(case.seconds)}"
    costs = [search.reference_epochs for search in (case.search, case.tutor_search) if search is not None]
    epochs = sum(cost for cost in costs if cost is not None)
    if not epochs:
        return f"{head}: {proxies}."
    number = f"{epochs:.1f}" if epochs >= 0.1 else f"{epochs:.1g}"
    return (
        f"{head}: {proxies}; they and the networks that label took as many operations as {number} epochs of the "
        "reference ResNet-18 on these data."
    )


def _labeler(case: RegretCase, scheme: str) -> list[str]:
    row = case.final(scheme)
    return [scheme, bytes_text(row.label_bytes), accuracy_text(row.accuracy)]


def _regret(case: RegretCase) -> str:
    """The difference; where the choice itself is the grid's best, how far the next finalist is from it."""
    if case.best != case.chosen:
        return difference_text(case.regret)
    others = [row for row in case.finals if row.scheme != case.chosen]
    if not others:
        return "0, the choice"
    chosen = case.final(case.chosen).accuracy.values
    following = max(others, key=lambda row: row.accuracy.mean)
    behind = difference_text(paired_difference(following.accuracy.values, chosen))
    return f"0, the choice (next: {following.scheme}, {behind})"


def _sweep(case: RegretCase) -> str:
    """Test accuracy of students by network (rows, by bytes) and length of its training (columns)."""
    lengths = sorted({entry.epochs for entry in case.sweep})
    networks: dict[str, dict[int, ComparedRow]] = {}
    for entry in sorted(case.sweep, key=lambda entry: entry.row.label_bytes):
        networks.setdefault(entry.name, {})[entry.epochs] = entry.row
    head = ["network", "bytes", *(f"after {counted(epochs, 'epoch')}, %" for epochs in lengths)]
    body = [
        [name, bytes_text(max(row.label_bytes for row in rows.values()))]
        + [_cell(rows[epochs]) for epochs in lengths]
        for name, rows in networks.items()
    ]
    title = f"Grid at IPC {case.ipc}, {_passes(case)} image passes, n = {case.sweep[0].row.accuracy.n}:"
    return f"{title}\n\n{markdown_lines(head, body)}"


def _cell(row: ComparedRow) -> str:
    std = row.accuracy.std
    return percent_text(row.accuracy.mean) + ("" if std is None else f" ± {percent_text(std)}")
