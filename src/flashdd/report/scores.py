"""The tables that stand below a comparison's own: DD-Ranking's scores, and how far label schemes rank alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flashdd.core.record import CLAIMING_SEEDS, Comparison
from flashdd.core.scores import Ranking, Score, Spread
from flashdd.report.tables import images_words, markdown_lines, scheme_words
from flashdd.report.text import percent_text, points_text

_SCORES = (
    "From fractions, seed by seed. HLR: hard labels on the whole real data less hard labels on these images, small is "
    "good. IOR: these images less random real ones, both with the same scheme. LRS and ARS: 0 to 100 %, 26.9 % where "
    "nothing is gained or lost."
)
_HARD = "hard"
_RANKINGS = (
    "Kendall's tau-b between the image sets' mean accuracies under two label schemes: 1 for the same order, -1 for the "
    f"opposite. Intervals, from {CLAIMING_SEEDS} seeds on, are over resampled seeds of the students and say nothing "
    "about other image methods."
)


@dataclass(frozen=True, kw_only=True)
class SideTable:
    """A table with its heading and what it means; `body` has a text for every column of `head`."""

    title: str
    text: str
    head: list[str]
    body: list[list[str]]


def side_tables(comparison: Comparison) -> list[SideTable]:
    """Those that have rows."""
    tables = []
    scores = [score for score in comparison.scores if _says_more(score)]
    if scores:
        head, body = _spoken(_score_columns(scores))
        tables.append(SideTable(title="DD-Ranking's scores", text=_SCORES, head=head, body=body))
    if comparison.rankings:
        head, body = _spoken(_ranking_columns(comparison.rankings))
        tables.append(SideTable(title="Do labels rank images alike?", text=_RANKINGS, head=head, body=body))
    return tables


def side_markdown(comparison: Comparison) -> str:
    """The tables as Markdown, each after an empty line; nothing where there are none."""
    return "".join(
        f"\n**{table.title}** {table.text}\n\n{markdown_lines(table.head, table.body)}"
        for table in side_tables(comparison)
    )


def _says_more(score: Score) -> bool:
    """HLR is of the images: where rows have no other, that of hard labels says it for all."""
    return score.scheme == _HARD or any(spread is not None for spread in (score.ior, score.lrs, score.ars))


def _score_columns(scores: Sequence[Score]) -> dict[str, list[str]]:
    return {
        "images": [images_words(score.images) for score in scores],
        "IPC": [str(score.ipc or "uneven") for score in scores],
        "student": [score.student for score in scores],
        "protocol": [score.protocol for score in scores],
        "labels": [scheme_words(score.scheme) for score in scores],
        "HLR, points": [_spread_text(score.hlr, signed=True) for score in scores],
        "IOR, points": [_spread_text(score.ior, signed=True) for score in scores],
        "LRS, %": [_spread_text(score.lrs, signed=False) for score in scores],
        "ARS, %": [_spread_text(score.ars, signed=False) for score in scores],
    }


def _ranking_columns(rankings: Sequence[Ranking]) -> dict[str, list[str]]:
    return {
        "labels": [scheme_words(ranking.schemes[0]) for ranking in rankings],
        "and": [scheme_words(ranking.schemes[1]) for ranking in rankings],
        "IPC": [str(ranking.ipc or "uneven") for ranking in rankings],
        "student": [ranking.student for ranking in rankings],
        "protocol": [ranking.protocol for ranking in rankings],
        "image sets": [str(ranking.num_sets) for ranking in rankings],
        "tau-b (95 %)": [_tau_text(ranking) for ranking in rankings],
        "seeds": [str(ranking.n) for ranking in rankings],
    }


def _spoken(columns: Mapping[str, list[str]]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows, without a student or protocol that is everywhere the same, and without empty columns."""
    kept = {
        name: cells
        for name, cells in columns.items()
        if set(cells) != {"-"} and (name not in ("student", "protocol") or len(set(cells)) > 1)
    }
    return list(kept), [list(cells) for cells in zip(*kept.values(), strict=True)]


def _spread_text(spread: Spread | None, *, signed: bool) -> str:
    """ "-1.4 ± 0.5 (n=3)" in points or percent; "-" where there is no score."""
    if spread is None:
        return "-"
    mean = points_text(spread.mean) if signed else percent_text(spread.mean)
    width = "" if spread.std is None else f" ± {percent_text(spread.std)}"
    return f"{mean}{width} (n={spread.n})"


def _tau_text(ranking: Ranking) -> str:
    if ranking.tau is None:
        return "-"
    interval = ""
    if ranking.low is not None and ranking.high is not None and ranking.n >= CLAIMING_SEEDS:
        interval = f" [{ranking.low:+.2f}, {ranking.high:+.2f}]"
    return f"{ranking.tau:+.2f}{interval}"
