"""The comparison's table and page: what stands in a cell, what is left out, and that the page needs nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flashdd.core.record import Comparison
from flashdd.report.comparison import (
    comparison_cells,
    comparison_document,
    comparison_markdown,
    comparison_page,
    overview_figure,
    verdicts,
)
from flashdd.report.dots import group_words
from flashdd.report.tradeoff import accuracy_limits

RECORD = Path(__file__).with_name("record.json")


def _row(scheme: str, values: list[float], **more: Any) -> dict[str, Any]:
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    accuracy = {"mean": mean, "std": spread, "n": len(values), "values": values}
    row = {"scheme": scheme, "images": "rded", "student": "convnet-3-w32", "protocol": "flash", "ipc": 10}
    return {**row, "label_bytes": 0, "accuracy": accuracy, "best_epoch": None, "seconds": 1.0, **more}


@pytest.fixture
def comparison() -> Comparison:
    top = {
        key: value
        for key, value in json.loads(RECORD.read_text()).items()
        if key in ("flashdd", "format", "environment", "config", "data")
    }
    network = {
        "params": 9,
        "macs": 9,
        "accuracy": 0.617,
        "val_accuracy": 0.6,
        "temperature": 4.0,
        "entropy": 2.194,
    }
    rows = [
        _row("hard", [0.3, 0.32]),
        _row("conv-3-w8@t4", [0.5, 0.54], label_bytes=10_824, network=network),
        _row("hard", [0.2, 0.2], ipc=1),
        _row("labeler", [0.4, 0.4, 0.4], ipc=1, label_bytes=4_719),
    ]
    return Comparison.model_validate({**top, "rows": rows, "notes": ["a <note>"]})


def test_rows_are_compared_to_the_first_of_their_group(comparison: Comparison) -> None:
    head, body = comparison_cells(comparison)
    assert head == [
        "images",
        "IPC",
        "labels",
        "label bytes",
        "test accuracy, %",
        "to the first, points (95 %)",
        "network's own, %",
        "entropy, nats",
    ]
    columns = dict(zip(head, zip(*body, strict=True), strict=True))
    # 20 and 22 points over two seeds: 21 +- 12.706 * 1.414 / sqrt(2); other seeds are not paired
    assert columns["to the first, points (95 %)"] == ("-", "+21.0 [+8.3, +33.7]", "-", "-")
    assert columns["entropy, nats"] == ("-", "2.19", "-", "-")
    assert columns["network's own, %"] == ("-", "61.7", "-", "-")
    assert columns["label bytes"] == ("0 B", "10.8 KB", "0 B", "4.7 KB")


def test_a_network_above_its_students_is_told_where_all_rows_are_of_the_same(comparison: Comparison) -> None:
    row = comparison.rows[1]
    alike = comparison.model_copy(update={"rows": (row, row.model_copy(update={"student": "convnet-3-w64"}))})
    head, body = comparison_cells(alike)
    assert [cells[head.index("network's own, %")] for cells in body] == ["61.7", "61.7"]
    better = row.model_copy(update={"accuracy": row.accuracy.model_copy(update={"mean": 0.62})})
    head, _ = comparison_cells(comparison.model_copy(update={"rows": (better,)}))
    assert "network's own, %" not in head
    head, _ = comparison_cells(comparison.model_copy(update={"rows": (row, better)}))
    assert "network's own, %" in head


def test_the_markdown_ends_with_the_notes(comparison: Comparison) -> None:
    text = comparison_markdown(comparison)
    assert text.startswith("| images | IPC | labels |")
    assert text.endswith("\n\n- a <note>\n")


def test_image_methods_with_other_settings_are_marked(comparison: Comparison) -> None:
    images = {
        "dm": {"iterations": 1000, "momentum": 0.5, "network": "convnet-3-w32-in"},
        "rded": {"factor": None},
    }
    rows = [comparison.rows[0].model_copy(update={"images": name}) for name in ("dm", "rded")]
    config = {**comparison.config, "images": images}
    _, body = comparison_cells(comparison.model_copy(update={"rows": tuple(rows), "config": config}))
    where = "CPU-sized" if comparison.environment.device == "cpu" else "other settings"
    expected = f"dm ({where}: iterations 1000, not 20000; network convnet-3-w32-in)"
    assert [cells[0] for cells in body] == [expected, "rded"]
    marked = comparison.model_copy(update={"rows": (rows[0], rows[0], rows[1]), "config": config})
    assert f">dm, {where}</text>" in str(overview_figure(marked))


def test_figures_of_all_groups_have_one_axis_of_accuracy(comparison: Comparison) -> None:
    low, high = accuracy_limits(comparison.rows)
    # from 20 % without a deviation to 52 % and 2.83; the margin is 0.06 of that
    top = 52 + 100 * 0.02 * 2**0.5
    assert (low, high) == pytest.approx((20 - 0.06 * (top - 20), top + 0.06 * (top - 20)))
    assert accuracy_limits(comparison.rows[2:3]) == pytest.approx((19, 21))
    ticks = [
        re.findall(r">(\d+)</text>", svg)
        for svg in re.findall(r"<svg.*?</svg>", comparison_page(comparison), re.S)
    ]
    numbers = [[tick for tick in found if 15 <= int(tick) <= 60 and int(tick) % 5 == 0] for found in ticks]
    assert len(numbers) == 3
    assert numbers[1] == numbers[2]  # the first is the overview


def test_an_overview_has_a_line_for_every_scheme_and_a_dot_for_every_row(comparison: Comparison) -> None:
    svg = overview_figure(comparison)
    assert svg is not None
    texts = re.findall(r">([^<>]+)</text>", svg)
    names = ["hard labels, 0 B", "conv-3-w8, t4, 10.8 KB", "labeler (ours), 4.7 KB"]
    assert [text for text in texts if text in names] == names
    assert [text for text in texts if text.startswith("IPC")] == ["IPC 10", "IPC 1"]
    assert "3 label schemes in 2 groups; the highest is conv-3-w8, t4 with 52.0" in svg
    heights = re.findall(r'<use [^>]* y="([\d.]+)"', svg)
    # a dot and the two ends of its line, of every row and of both names
    assert len(heights) == 3 * (len(comparison.rows) + 2)
    assert len(set(heights)) == len(comparison.rows) + 2


def test_a_schemes_bytes_are_named_where_all_groups_agree(comparison: Comparison) -> None:
    rows = [comparison.rows[1], comparison.rows[1].model_copy(update={"ipc": 1, "label_bytes": 7})]
    both = comparison.model_copy(update={"rows": (comparison.rows[0], *rows)})
    assert ">conv-3-w8, t4</text>" in str(overview_figure(both))


def test_groups_are_told_apart_by_what_differs(comparison: Comparison) -> None:
    row = comparison.rows[0]
    other = row.model_copy(update={"student": "resnet18", "ipc": None})
    assert group_words([[row]], ["rded"]) == ["rded, IPC 10"]
    assert group_words([[row], [other]], ["rded", "rded"]) == [
        "IPC 10, convnet-3-w32",
        "IPC uneven, resnet18",
    ]


def test_real_data_have_no_place_in_the_overview(comparison: Comparison) -> None:
    rows = [_row("hard", [0.7, 0.72], images="real-whole", ipc=None)] * 2
    real = Comparison.model_validate({**comparison.model_dump(mode="json"), "rows": rows})
    assert overview_figure(real) is None


def test_one_row_alone_makes_a_page(comparison: Comparison) -> None:
    alone = comparison.model_copy(update={"rows": comparison.rows[:1]})
    assert comparison_page(alone).count("<svg") == 1


def test_no_rows_make_an_empty_table(comparison: Comparison) -> None:
    empty = comparison.model_copy(update={"rows": ()})
    assert comparison_cells(empty)[1] == []
    assert comparison_document(empty) == comparison_markdown(empty)
    assert "<svg" not in comparison_page(empty)


def test_real_data_of_other_passes_are_another_group(comparison: Comparison) -> None:
    rows = [
        _row("hard", [0.7, 0.72], images="real-equal-passes", ipc=None, image_passes=passes)
        for passes in (600, 800)
    ]
    both = Comparison.model_validate({**comparison.model_dump(mode="json"), "rows": rows})
    page = comparison_page(both)
    assert page.count('<h2 id="group-') == 2
    assert "real, equal passes, 600, the whole" in page
    assert "real, equal passes, 800, the whole" in page


def test_the_page_stands_alone(comparison: Comparison) -> None:
    page = comparison_page(comparison)
    assert page.count("<svg") - 1 == page.count('<h2 id="group-') == 2  # the overview has no heading
    assert "a &lt;note&gt;" in page
    assert "<script" not in page
    assert "src=" not in page
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    assert comparison_page(comparison) == page


@pytest.fixture
def timed(comparison: Comparison) -> Comparison:
    """One group of three timed schemes and a classifier that could be shipped, another of one scheme without times."""
    speed = {"labels_per_second": 34_567.8, "seconds_per_epoch": 0.0123}
    rows = [
        _row("hard", [0.3, 0.32], **speed),
        _row("labeler", [0.5, 0.54], label_bytes=4_719, **speed),
        _row("stored@4bit", [0.4, 0.42], label_bytes=4_000, **{**speed, "seconds_per_epoch": 1.26}),
        _row("hard", [0.2, 0.2], ipc=1),
    ]
    ship = {"name": "convnet-3-w64", "bytes": 86_824, "accuracy": 0.783, "budget_bytes": 238_832}
    asked = {**comparison.config, "compare": {"schemes": ["ship", "labeler", "hard", "stored@4bit"]}}
    changed = {**comparison.model_dump(mode="json"), "rows": rows, "ship": ship, "config": asked}
    return Comparison.model_validate(changed)


def test_speeds_stand_in_the_table(timed: Comparison) -> None:
    head, body = comparison_cells(timed)
    columns = dict(zip(head, zip(*body, strict=True), strict=True))
    assert columns["labels per second"] == ("34.6 K", "34.6 K", "34.6 K", "-")
    assert columns["time per epoch"] == ("12 ms", "12 ms", "1.3 s", "-")
    gaps = columns["to the first, points (95 %)"]
    assert (gaps[0][:6], gaps[1]) == ("-21.0 ", "-")  # to the labeler: shipping is no row


def test_the_document_goes_on_with_who_wins_and_the_views(timed: Comparison) -> None:
    text = comparison_document(timed)
    assert text.startswith(comparison_markdown(timed))
    assert text.count("\n## rded, IPC ") == 1
    assert (
        "\n## rded, IPC 10, convnet-3-w32, protocol flash\n\nBeside the labeler (4.7 KB), two seeds" in text
    )
    (said,) = verdicts(timed)
    assert said.startswith("rded, IPC 10, convnet-3-w32, protocol flash: Beside the labeler (4.7 KB), ")
    assert said.split(": ", 1)[1] in text
    for title in ("At equal bytes", "At equal accuracy", "Efficiency of use"):
        assert text.count(f"\n\n### {title}\n\n") == 1
    assert "\n| within bytes | best labels |" in text


def test_the_page_shows_the_views_and_a_figure_of_time(timed: Comparison) -> None:
    page = comparison_page(timed)
    assert page.count("<svg") == 4
    assert page.count("<h3>") == 4
    assert "86.8 KB in all: 78.3 % on test" in page
    assert "1.3 s</text>" not in page  # ticks are round
    assert "10 ms" in page
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    assert comparison_page(timed) == page
