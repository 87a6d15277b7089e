"""Accuracy of students against what their labels cost: bytes, and time."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from flashdd.core.record import ComparedRow
from flashdd.report.figures import bytes_axis
from flashdd.report.svg import SERIES, canvas, legend_beside, to_svg
from flashdd.report.tables import scheme_words
from flashdd.report.text import accuracy_text, bytes_text, short_time_text

_SMALLEST = 100  # bytes; labels of none stand here, at the left edge


def accuracy_limits(rows: Sequence[ComparedRow]) -> tuple[float, float]:
    """Ends of an axis in percent on which all rows with their deviations lie, so that figures can be compared."""
    accuracies = [row.accuracy for row in rows]
    low = min(100 * (accuracy.mean - (accuracy.std or 0.0)) for accuracy in accuracies)
    high = max(100 * (accuracy.mean + (accuracy.std or 0.0)) for accuracy in accuracies)
    margin = max(1.0, 0.06 * (high - low))
    return low - margin, high + margin


def tradeoff_figure(
    rows: Sequence[ComparedRow], *, key: str, limits: tuple[float, float] | None = None
) -> str:
    """A point with its standard deviation for every row, named at its side; bytes on a logarithmic axis.

    limits: ends of the axis of accuracy, in percent; by default those of `rows`.
    """
    with canvas(8.0, 3.4 + 0.08 * len(rows)) as (figure, axes):
        axes.set_xscale("log")
        sizes = [max(row.label_bytes, _SMALLEST) for row in rows]
        bytes_axis(axes, sizes)  # before the points: one alone would leave nothing to scale by
        _points(axes, rows, sizes)
        axes.set_ylim(*(limits or accuracy_limits(rows)))
        if min(row.label_bytes for row in rows) < _SMALLEST:
            words = axes.xaxis.get_major_formatter()
            axes.xaxis.set_major_formatter(
                FuncFormatter(lambda value, place: "none" if value <= _SMALLEST else words(value, place))
            )
        axes.set_xlabel("label bytes")
        best = max(rows, key=lambda row: row.accuracy.mean)
        return to_svg(
            figure,
            key=key,
            title="Test accuracy by label bytes",
            description=f"{len(rows)} label schemes; the highest is {scheme_words(best.scheme)} with "
            f"{accuracy_text(best.accuracy)} percent at {bytes_text(best.label_bytes)}.",
        )


def time_figure(
    rows: Sequence[ComparedRow], *, key: str, limits: tuple[float, float] | None = None
) -> str | None:
    """As `tradeoff_figure`, against a student's seconds per epoch; None where no row was timed."""
    timed = [(row, row.seconds_per_epoch) for row in rows if row.seconds_per_epoch is not None]
    if not timed:
        return None
    with canvas(8.0, 3.4 + 0.08 * len(timed)) as (figure, axes):
        axes.set_xscale("log")
        times = [seconds for _, seconds in timed]
        _time_axis(axes, times)
        _points(axes, [row for row, _ in timed], times)
        axes.set_ylim(*(limits or accuracy_limits(rows)))
        axes.set_xlabel("time of a student per epoch, its labels included")
        fastest, least = min(timed, key=lambda pair: pair[1])
        return to_svg(
            figure,
            key=key,
            title="Test accuracy by time per epoch",
            description=f"{len(timed)} label schemes; the fastest is {scheme_words(fastest.scheme)} with "
            f"{accuracy_text(fastest.accuracy)} percent at {short_time_text(least)} per epoch.",
        )


def _points(axes: Axes, rows: Sequence[ComparedRow], places: Sequence[float]) -> None:
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        axes.errorbar(
            place,
            100 * row.accuracy.mean,
            yerr=100 * (row.accuracy.std or 0.0),
            color=SERIES[number % len(SERIES)],
            marker=("o", "s", "^", "D")[number // len(SERIES) % 4],
            markersize=6,
            capsize=3,
            linestyle="none",
            label=scheme_words(row.scheme),
        )
    axes.grid(axis="y")
    axes.set_ylabel("test accuracy, %")
    legend_beside(axes)


def _time_axis(axes: Axes, times: Sequence[float]) -> None:
    """Ticks of round times, in words, around all `times`."""
    low, high = min(times) / 1.5, max(times) * 1.5
    axes.set_xlim(low, high)
    ticks = [step * 10.0**power for power in range(-7, 7) for step in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    if len(shown) > 8:
        shown = [10.0**power for power in range(-7, 7) if low <= 10.0**power <= high]
    axes.xaxis.set_major_locator(FixedLocator(shown or list(times[:1])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_time_text(value)))
