"""The report's figures, each a pure function from facts to an SVG element."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from flashdd.core.record import Candidate, Search
from flashdd.report.files import CurveRow
from flashdd.report.svg import ACCENT, FAINT, GRID, INK, MUTED, PAPER, SERIES, canvas, legend_beside, to_svg
from flashdd.report.tables import Row, images_words, scheme_words
from flashdd.report.text import accuracy_text, bytes_text, labeler_text, percent_text, seconds_text

_WIDTH = 8.0  # inches; the page scales the figure to its column
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "--", ":", "-.")


def accuracy_figure(rows: Sequence[Row]) -> str:
    """Horizontal bars of the mean with the standard deviation, a dot for every seed, and the value."""
    with canvas(_WIDTH, 0.7 + 0.36 * len(rows)) as (figure, axes):
        several = len({row.student for row in rows if row.is_student}) > 1
        for place, row in enumerate(rows):
            _accuracy_bar(axes, place, row)
        axes.set_yticks(range(len(rows)), [_bar_name(row, several) for row in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        _plain_bars(axes)
        ends = [_bar_end(row) for row in rows]
        axes.set_xlim(0, max(1.25 * max(ends), 1.0))
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 100])
        axes.set_xlabel("test accuracy, %")
        best = max(
            (row for row in rows if row.is_student), key=lambda row: row.accuracy.mean, default=rows[0]
        )
        return to_svg(
            figure,
            key="accuracy",
            title="Test accuracy by labels and images",
            description=f"Horizontal bars, {len(rows)} rows; the highest student is {best.name} with "
            f"{accuracy_text(best.accuracy)} percent. Dots are single seeds, lines the standard deviation.",
        )


def capacity_figure(search: Search, budget_bytes: int | None) -> str:
    """Proxy accuracy with its standard error against bytes (log), a line for each stem and depth, the choice marked.

    Lines join the best candidate of every size; the other candidates of that size (training lengths,
    temperatures) are faint dots. What the climb's choice became with fewer bits, and with more members, has lines of
    its own.
    """
    scored = [candidate for candidate in search.candidates if candidate.proxy_mean is not None]
    chosen = search.candidates[search.chosen]
    with canvas(_WIDTH, 4.2) as (figure, axes):
        axes.set_xscale("log")
        sizes = [candidate.bytes for candidate in scored]
        bytes_axis(axes, sizes)  # before the points: those of one size alone would leave nothing to scale by
        most = max(candidate.bits or 0 for candidate in scored)
        chains = list(dict.fromkeys(_chain_name(candidate, most) for candidate in scored))
        for chain, style in _chain_styles(chains).items():
            members = [candidate for candidate in scored if _chain_name(candidate, most) == chain]
            _capacity_line(axes, chain, members, style)
        if chosen.proxy_mean is not None:
            _mark_choice(axes, chosen, scored)
        if budget_bytes is not None and min(sizes) <= budget_bytes <= 1.3 * max(sizes):
            axes.axvline(budget_bytes, color=MUTED, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
            axes.annotate(
                f"budget {bytes_text(budget_bytes)}",
                (budget_bytes, 0.0),
                (-5, 5),  # on the side of the networks that fit it
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="right",
                color=MUTED,
                fontsize=9,
            )
        axes.grid(axis="y")
        axes.set_ylabel("proxy students' accuracy, %")
        axes.set_xlabel("label bytes of the candidate")
        if len(chains) > 1:
            axes.legend(
                frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), labelcolor=INK, fontsize=9
            )
        return to_svg(
            figure,
            key="capacity",
            title="Search for the labeler's capacity",
            description=f"Accuracy of proxy students against bytes, {len(scored)} "
            f"candidates from {bytes_text(min(sizes))} to {bytes_text(max(sizes))}; chosen: {_text(chosen)}, "
            f"{bytes_text(chosen.bytes)}.",
        )


def curves_figure(curves: Sequence[CurveRow]) -> str:
    """Accuracy against training steps, one line for each label scheme and image set."""
    with canvas(_WIDTH, 4.0) as (figure, axes):
        for number, curve in enumerate(curves):
            axes.plot(
                curve.steps,
                [100 * value for value in curve.mean],
                color=SERIES[number % len(SERIES)],
                linestyle=("-", "--", ":")[number // len(SERIES) % 3],
                linewidth=2.2 if number == 0 else 1.5,
                label=curve_name(curve),
            )
        axes.grid(axis="y")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.set_xlabel("training steps")
        axes.set_ylabel("accuracy, %")
        legend_beside(axes)
        return to_svg(
            figure,
            key="curves",
            title="Accuracy while the students train",
            description=f"{len(curves)} lines; at the last step: "
            + "; ".join(f"{curve_name(curve)} {percent_text(curve.mean[-1])} percent" for curve in curves),
        )


def seconds_figure(seconds: Mapping[str, float]) -> str:
    """Horizontal bars of wall time, in the order of the stages."""
    with canvas(_WIDTH, 0.5 + 0.3 * len(seconds)) as (figure, axes):
        largest = max([*seconds.values(), 1e-9])
        for place, value in enumerate(seconds.values()):
            axes.barh(place, value, height=0.6, color=FAINT)
            label, end = seconds_text(value), (value, place)
            axes.annotate(
                label, end, (5, 0), textcoords="offset points", va="center", color=MUTED, fontsize=9
            )
        axes.set_yticks(range(len(seconds)), list(seconds))
        axes.set_ylim(len(seconds) - 0.45, -0.55)
        axes.set_xlim(0, 1.18 * largest)
        _plain_bars(axes)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        longest = max(seconds, key=lambda stage: seconds[stage])
        return to_svg(
            figure,
            key="seconds",
            title="Wall time by stage",
            description=f"Horizontal bars, {len(seconds)} stages; the longest is {longest} with "
            f"{seconds_text(seconds[longest])}.",
        )


def curve_name(curve: CurveRow) -> str:
    return f"{scheme_words(curve.scheme)}, {images_words(curve.images)}"


def _accuracy_bar(axes: Axes, place: int, row: Row) -> None:
    mean, values = 100 * row.accuracy.mean, [100 * value for value in row.accuracy.values]
    if row.is_student:
        axes.barh(place, mean, height=0.62, color=ACCENT if row.is_ours else FAINT, alpha=0.85)
    else:
        axes.barh(place, mean, height=0.62, color="none", edgecolor=MUTED, linewidth=1, linestyle=(0, (3, 2)))
    if row.accuracy.std is not None:
        spread = 100 * row.accuracy.std
        axes.errorbar(mean, place, xerr=spread, color=INK, linewidth=1.3, capsize=3, zorder=3)
        # seeds side by side, so that equal ones can be told
        step = 0.4 / len(values)
        places = [place + (seed - (len(values) - 1) / 2) * step for seed in range(len(values))]
        axes.scatter(values, places, s=13, color=PAPER, edgecolors=INK, linewidths=0.8, zorder=4)
    spread_text = "" if row.accuracy.std is None else f" ± {percent_text(row.accuracy.std)}"
    weight = "bold" if row.is_ours else "normal"
    label = f"{percent_text(row.accuracy.mean)}{spread_text}"
    end = (_bar_end(row), place)
    axes.annotate(
        label, end, (8, 0), textcoords="offset points", va="center", fontsize=9.5, fontweight=weight
    )


def _bar_end(row: Row) -> float:
    spread = row.accuracy.std or 0.0
    return 100 * max(row.accuracy.mean + spread, *row.accuracy.values)


def _bar_name(row: Row, several_students: bool) -> str:
    return f"{row.name}, {row.student}" if several_students and row.is_student else row.name


def _plain_bars(axes: Axes) -> None:
    axes.grid(axis="x")
    axes.tick_params(axis="both", length=0)
    axes.spines["left"].set_visible(False)


def _chain_name(candidate: Candidate, most_bits: int) -> str:
    """ "strided-3-w16-ds" -> "strided-3-ds": candidates that differ in width alone."""
    if (candidate.num_members or 1) > 1:
        return "ensembles"
    if (candidate.bits or 0) < most_bits:
        return "fewer bits"
    return re.sub(r"-w\d+", "", candidate.name)


def _chain_styles(chains: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Color, marker and line of every chain, stem after stem, shallow to deep: a stem has one color, its deepest chain
    the solid line."""
    depths: dict[str, list[str]] = {}
    for chain in sorted(chains, key=_by_number):
        depths.setdefault(re.sub(r"-\d+", "", chain, count=1), []).append(chain)
    styles = {}
    for number, of_stem in enumerate(depths.values()):
        color = SERIES[number % len(SERIES)]
        marker = _MARKERS[(number + number // len(SERIES)) % len(_MARKERS)]
        for place, chain in enumerate(of_stem):
            styles[chain] = (color, marker, _LINES[(len(of_stem) - 1 - place) % len(_LINES)])
    return styles


def _by_number(name: str) -> list[str | int]:
    """A key that puts "conv-9" before "conv-10"."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _capacity_line(axes: Axes, chain: str, members: Sequence[Candidate], style: tuple[str, str, str]) -> None:
    color, marker, line = style
    axes.scatter(
        [member.bytes for member in members],
        [100 * (member.proxy_mean or 0.0) for member in members],
        s=14,
        color=color,
        alpha=0.35,
        marker=marker,
        linewidths=0,
    )
    best: dict[int, Candidate] = {}
    for member in sorted(members, key=lambda member: (member.bytes, -(member.proxy_mean or 0.0))):
        best.setdefault(member.bytes, member)
    axes.errorbar(
        list(best),
        [100 * (member.proxy_mean or 0.0) for member in best.values()],
        yerr=[100 * (member.proxy_stderr or 0.0) for member in best.values()],
        color=color,
        marker=marker,
        linestyle=line,
        markersize=5,
        linewidth=1.6,
        elinewidth=1.1,
        capsize=2.5,
        label=chain,
    )


def _text(candidate: Candidate) -> str:
    return labeler_text(candidate.name, candidate.bits, candidate.num_members)


def _mark_choice(axes: Axes, chosen: Candidate, scored: Sequence[Candidate]) -> None:
    mean = 100 * (chosen.proxy_mean or 0.0)
    axes.plot(chosen.bytes, mean, "o", markersize=15, color=INK, markerfacecolor="none", zorder=5)
    sizes = sorted(candidate.bytes for candidate in scored)
    right_half = chosen.bytes**2 > sizes[0] * sizes[-1]
    axes.annotate(
        f"chosen: {_text(chosen)}, {bytes_text(chosen.bytes)}",
        (chosen.bytes, mean),
        xytext=(-12 if right_half else 12, 16),
        textcoords="offset points",
        ha="right" if right_half else "left",
        fontweight="bold",
        bbox={"facecolor": PAPER, "edgecolor": GRID, "linewidth": 0.8, "boxstyle": "round,pad=0.3"},
        zorder=6,
    )
    axes.margins(y=0.16)


def bytes_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """Ticks of round sizes, in words, around all `sizes`."""
    ticks = [step * 10**power for power in range(13) for step in (1, 2, 5)]
    low, high = min(sizes) / 1.3, max(sizes) * 1.3
    axes.set_xlim(low, high)
    shown = [tick for tick in ticks if low <= tick <= high]
    if len(shown) > 8:
        shown = [tick for tick in shown if str(tick)[0] == "1"]
    axes.xaxis.set_major_locator(FixedLocator(shown or sizes[:1]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: bytes_text(round(value)).replace(".0 ", " "))
    )
