"""Every row of a comparison in one figure: a line for each label scheme, a dot for each group that has it."""

from __future__ import annotations

from collections.abc import Sequence

from flashdd.core.record import ComparedRow
from flashdd.report.svg import SERIES, canvas, legend_beside, to_svg
from flashdd.report.tables import scheme_words
from flashdd.report.text import accuracy_text, bytes_text

_MARKERS = ("o", "s", "^", "D")


def dots_figure(groups: Sequence[Sequence[ComparedRow]], images: Sequence[str], *, key: str) -> str:
    """Accuracy with its standard deviation, a line for each scheme in the order of the rows, a color for each of
    `groups`: the rows of one image set, which `images` names, IPC, student and protocol."""
    rows = [row for group in groups for row in group]
    schemes = list(dict.fromkeys(row.scheme for row in rows))
    with canvas(8.0, 0.9 + 0.12 * len(groups) + 0.36 * len(schemes)) as (figure, axes):
        for number, (name, group) in enumerate(zip(group_words(groups, images), groups, strict=True)):
            apart = 0.5 * ((number + 0.5) / len(groups) - 0.5)  # side by side, so that equal ones can be told
            axes.errorbar(
                [100 * row.accuracy.mean for row in group],
                [schemes.index(row.scheme) + apart for row in group],
                xerr=[100 * (row.accuracy.std or 0.0) for row in group],
                color=SERIES[number % len(SERIES)],
                marker=_MARKERS[number // len(SERIES) % len(_MARKERS)],
                markersize=5,
                capsize=2.5,
                linestyle="none",
                label=name,
            )
        axes.set_yticks(range(len(schemes)), [_scheme_words(scheme, rows) for scheme in schemes])
        axes.set_ylim(len(schemes) - 0.5, -0.5)
        axes.tick_params(axis="both", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel("test accuracy, %")
        legend_beside(axes)
        best = max(rows, key=lambda row: row.accuracy.mean)
        return to_svg(
            figure,
            key=key,
            title="Test accuracy by labels",
            description=f"{len(schemes)} label schemes in {len(groups)} groups; the highest is "
            f"{scheme_words(best.scheme)} with {accuracy_text(best.accuracy)} percent.",
        )


def group_words(groups: Sequence[Sequence[ComparedRow]], images: Sequence[str]) -> list[str]:
    """What tells the groups apart: "rded, IPC 10"; of a single group its images and IPC."""
    words = []
    for group, name in zip(groups, images, strict=True):
        first = group[0]
        amount = "IPC uneven" if first.ipc is None else f"IPC {first.ipc}"
        words.append((name, amount, first.student, first.protocol))
    told = [place for place, column in enumerate(zip(*words, strict=True)) if len(set(column)) > 1] or [0, 1]
    return [", ".join(parts[place] for place in told) for parts in words]


def _scheme_words(scheme: str, rows: Sequence[ComparedRow]) -> str:
    """With its bytes, where all groups agree about them."""
    sizes = {row.label_bytes for row in rows if row.scheme == scheme}
    return scheme_words(scheme) + (f", {bytes_text(sizes.pop())}" if len(sizes) == 1 else "")
