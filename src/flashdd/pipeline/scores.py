"""DD-Ranking's scores (arXiv 2505.13300) of the rows of a comparison, seed by seed, and the rows that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flashdd.core.record import ComparedRow, Comparison
from flashdd.core.scores import PLAIN, Score, Spread
from flashdd.data.viewspec import ViewSpec
from flashdd.pipeline.context import Context
from flashdd.pipeline.rankings import rankings
from flashdd.pipeline.realrows import EQUAL_PASSES, REAL, WHOLE
from flashdd.students.metrics import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)

_RANDOM, _HARD = "random", "hard"
Values = tuple[float, ...]
_Cell = tuple[str, str, int | None, str, str]  # scheme, images, IPC, student, protocol


def without_augmentation(context: Context) -> Context:
    """The same context, its protocol without any augmentation and named so; settings that were searched stay."""
    setup = context.setup
    protocol = replace(setup.protocol, name=f"{setup.protocol.name}{PLAIN}", views=ViewSpec())
    return replace(context, setup=replace(setup, protocol=protocol))


def with_scores(comparison: Comparison) -> Comparison:
    """The comparison with the scores and rankings that its rows allow.

    Where its rows were made for scores, a note names those that are missing.
    """
    found, missing = scores(comparison.rows)
    ranked = rankings(comparison.rows, seed=int(comparison.config["seed"]))
    changes: dict[str, object] = {}
    if found:
        changes["scores"] = tuple(found)
    if ranked:
        changes["rankings"] = tuple(ranked)
    if missing and _asks_for_scores(comparison):
        text = f"DD-Ranking's scores are not complete; rows that they lack: {'; '.join(missing)}."
        changes["notes"] = (*comparison.notes, text)
    return comparison.model_copy(update=changes)


def _asks_for_scores(comparison: Comparison) -> bool:
    """Whether rows are there that only scores need: all real data, random images beside others, no augmentation."""
    sets = {row.images for row in comparison.rows} - {EQUAL_PASSES}
    beside_random = _RANDOM in sets and len(sets - {WHOLE}) > 1
    return WHOLE in sets or beside_random or bool(comparison.config.get("compare", {}).get("plain"))


def scores(rows: Sequence[ComparedRow]) -> tuple[list[Score], list[str]]:
    """The scores of every row on an image set, and phrases that say which rows are missing for the others.

    HLR: real data as a whole with hard labels (trained once, so its one value stands for every seed) less hard labels
    on the same images. IOR: the row less the same scheme on random real images of the same number. LRS: of the two, at
    weight .5. ARS: IOR with and without augmentation, at weight .5. All of one student, and of one protocol but for
    the whole of the real data. A row of which no score can be had is left out, and random images have HLR alone, once:
    they gain nothing over themselves.
    """
    table = {
        (row.scheme, row.images, row.ipc, row.student, row.protocol): row.accuracy.values for row in rows
    }
    whole = {row.student: row.accuracy.values for row in rows if row.images == WHOLE}
    found: list[Score] = []
    missing: dict[str, None] = {}
    for row in rows:
        if (
            row.images in REAL
            or row.protocol.endswith(PLAIN)
            or (row.images == _RANDOM and row.scheme != _HARD)
        ):
            continue
        score, lacking = _score(row, table, whole)
        missing |= dict.fromkeys(lacking)
        if any(spread is not None for spread in (score.hlr, score.ior, score.ars)):
            found.append(score)
    return found, list(missing)


def _score(row: ComparedRow, table: dict[_Cell, Values], whole: dict[str, Values]) -> tuple[Score, list[str]]:
    """The scores of one row, and what is missing for those that are None."""
    own = row.accuracy.values

    def look(scheme: str, images: str, protocol: str = row.protocol) -> Values | None:
        return table.get((scheme, images, row.ipc, row.student, protocol))

    real, hard = whole.get(row.student), look(_HARD, row.images)
    random = look(row.scheme, _RANDOM)
    plain, random_plain = (look(row.scheme, name, row.protocol + PLAIN) for name in (row.images, _RANDOM))
    hlr = ior = lrs = ars = None
    if real is not None and hard is not None:
        hlr = [hard_label_recovery(a, b) for a, b in zip(_for_each(real, hard), hard, strict=True)]
    if random is not None and row.images != _RANDOM:
        ior = [improvement_over_random(a, b) for a, b in zip(own, random, strict=True)]
    if hlr is not None and ior is not None:
        lrs = [label_robust_score(a, b) for a, b in zip(hlr, ior, strict=True)]
    if ior is not None and random is not None and plain is not None and random_plain is not None:
        ars = [
            augmentation_robust_score(
                distilled_augmented=a, random_augmented=b, distilled_plain=c, random_plain=d
            )
            for a, b, c, d in zip(own, random, plain, random_plain, strict=True)
        ]
    score = Score(
        scheme=row.scheme,
        images=row.images,
        ipc=row.ipc,
        student=row.student,
        protocol=row.protocol,
        hlr=_spread(hlr),
        ior=_spread(ior),
        lrs=_spread(lrs),
        ars=_spread(ars),
    )
    there = {"real": real, "hard": hard, "random": random, "plain": plain}
    return score, [phrase for name, phrase in _needed(row).items() if there[name] is None]


def _needed(row: ComparedRow) -> dict[str, str]:
    """Which rows the scores of `row` need beside it, and for what."""
    amount = f"IPC {row.ipc}" if row.ipc else "classes of different sizes"
    return {
        "real": f"real data with hard labels (scheme {WHOLE}) for HLR and LRS of {row.student}",
        "hard": f"hard labels (scheme hard) on {row.images} for its HLR and LRS",
        "random": f"the same labels on random real images (image method random, {amount}) for IOR, LRS and ARS",
        "plain": "the same without augmentation (compare.plain=true) for ARS",
    }


def _for_each(real: Values, seeds: Values) -> Values:
    """A value for every seed: the one of a row that was trained once, for all of them."""
    return real * len(seeds) if len(real) == 1 else real


def _spread(values: Sequence[float] | None) -> Spread | None:
    return None if values is None else Spread.of(values)
