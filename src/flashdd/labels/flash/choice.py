"""Which of the candidates that were measured is chosen, and which of them deserve more seeds before."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from flashdd.core.stats import standard_error
from flashdd.labels.flash.candidates import Candidate, Measured, Rung

_MOST_LOST = 0.005 + 1e-9
"""Accuracy that a choice may lose to the best candidate for being smaller: half a point, and what floats round."""


def choose(candidates: Sequence[Measured]) -> Measured:
    """The smallest capacity within one standard error of the best, paired over seeds, and within half a point.

    A candidate stays in if the mean of (best - candidate) over the seeds is at most its standard error (ddof 1), and at
    most `_MOST_LOST`: few seeds make errors so large that a smaller one would lose more than it is worth.
    Among the settings of the smallest capacity left, the one of the highest mean.
    """
    top = best(candidates, 1)[0]
    smallest = min((entry for entry in candidates if within(top, entry)), key=order)
    same = [
        entry
        for entry in candidates
        if entry.candidate.rung == smallest.candidate.rung and within(top, entry)
    ]
    return best(same, 1)[0]


def settled(entries: Sequence[Measured], settling: Callable[[Candidate], Measured]) -> list[Measured]:
    """`entries` without those that were chosen for being smaller and that more seeds, of them and of the best, show to
    be further behind than a choice may be. settling: measures a candidate with more seeds."""
    # as they were measured: later ones are compared with them over the seeds that all have
    left = list(dict.fromkeys(entries))
    while (chosen := choose(left)) != (top := best(left, 1)[0]):
        if within(settling(top.candidate), settling(chosen.candidate)):
            break
        left.remove(chosen)
    return left


def gains(entry: Measured, over: Measured) -> bool:
    """Whether `entry` is more than one standard error above `over`, paired over the seeds that both have."""
    above = _behind(entry, over)
    return statistics.fmean(above) > standard_error(above)


def contenders(measured: Iterable[Measured], raised: Sequence[Measured], count: int) -> list[Candidate]:
    """Who may change the choice of `raised` with more seeds: `count` at most of its capacity or less, which may be
    chosen instead, and as many larger ones, which may show that it loses too much; of both the best of every rung
    first, and all half a point behind the best of `raised` or less, on the seeds that they share with it."""
    top, limit = best(raised, 1)[0], capacity_of(choose(raised))
    near = [
        entry
        for entry in measured
        if entry not in raised and statistics.fmean(_behind(top, entry)) <= _MOST_LOST
    ]
    smaller = [entry for entry in near if capacity_of(entry) <= limit]
    larger = [entry for entry in near if capacity_of(entry) > limit]
    return [entry.candidate for entry in (*finalists(smaller, count), *finalists(larger, count))]


def finalists(measured: Iterable[Measured], count: int) -> list[Measured]:
    """`count` candidates by mean: the best of every rung first, then seconds, and so on."""
    rank: dict[Rung, int] = {}
    ranked = []
    entries = list(measured)
    for entry in best(entries, len(entries)):
        rank[entry.candidate.rung] = rank.get(entry.candidate.rung, -1) + 1
        ranked.append((rank[entry.candidate.rung], entry))
    return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])[:count]]  # sorted() is stable


def best(measured: Sequence[Measured], count: int) -> list[Measured]:
    """The `count` highest means; on equal means the smaller capacity first."""
    return sorted(measured, key=lambda entry: (-entry.mean, *order(entry)))[:count]


def within(top: Measured, entry: Measured) -> bool:
    """Whether `entry` is no further behind `top` than a choice may be."""
    lost = _behind(top, entry)
    return statistics.fmean(lost) <= min(standard_error(lost), _MOST_LOST)


def _behind(top: Measured, entry: Measured) -> list[float]:
    """How far `entry` is below `top`, seed by seed, of those that both have."""
    return [a - b for a, b in zip(top.values, entry.values, strict=False)]


def capacity_of(entry: Measured) -> tuple[int, int, str, int]:
    """By which candidates are smaller or larger: bytes first, then what a label computes."""
    rung = entry.candidate.rung
    return rung.bytes, rung.macs, rung.name, rung.bits


def order(entry: Measured) -> tuple[float | str, ...]:
    """By which tables are sorted: capacity, then the setting."""
    setting = entry.candidate.setting
    course, softness = (setting.length, setting.shift), (setting.temperature, setting.logit_scale)
    return (*capacity_of(entry), *course, *softness, len(setting.offsets))
