"""Automatic capacity: the labels that make the best student, in the fewest bytes that do so.

Pure decisions over a `score` function; training and labelling stand behind it. The same search, over settings
only, is given to the full teacher: a comparison with one that was not searched would not be fair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from flashdd.labels.flash.candidates import Candidate, Course, Measured, Rung, Setting
from flashdd.labels.flash.choice import (
    best,
    capacity_of,
    choose,
    contenders,
    finalists,
    gains,
    order,
    settled,
    within,
)
from flashdd.labels.flash.plan import Measurement, plan

_DEFAULT_LENGTH = 1.0


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """seeds: of every candidate, two at least; finalists: so many rungs, and the best of every chain, vary their
    settings, and so many candidates get `finalist_seeds`, as do up to so many contenders on either side of the choice;
    settling_seeds: of a choice and of the best, before it is taken for being smaller; patience: rungs without gain.
    """

    seeds: int
    finalists: int
    finalist_seeds: int
    settling_seeds: int
    patience: int


Score = Callable[[Candidate, int], float]


@dataclass(frozen=True, kw_only=True)
class Offsets:
    """applied: the candidate with the class offsets that its proxies ask for; plain: what the proxies of a candidate
    without any reach as they are, where `Score` is of logits that offsets of their own have corrected."""

    applied: Callable[[Measured], Candidate]
    plain: Callable[[Measured], Measured]


@dataclass(frozen=True, kw_only=True)
class Variants:
    """What a rung may become within both ceilings.

    fewer_bits: rungs of the next smaller number of bits, none below the smallest; with_members: `count` members of it,
    None beyond a ceiling.
    """

    fewer_bits: Callable[[Rung], Sequence[Rung]]
    with_members: Callable[[Rung, int], Rung | None]
    max_bytes: int
    max_macs: int


def search(
    families: Sequence[Sequence[Sequence[Rung]]],
    settings: Sequence[Setting],
    score: Score,
    budget: SearchBudget,
    variants: Variants | None = None,
    offsets: Offsets | None = None,
) -> tuple[list[Measured], int]:
    """Measure candidates and choose one: all that were measured, by capacity, and the index of the choice.

    families: of every family its chains, none empty, each of ascending capacity.

    1. Climb every chain at the default setting, until `patience` rungs bring no gain.
    2. Vary the settings of the best `finalists` rungs and of the best of every chain, for another course may suit what
       the whole training does not; one dial at a time: temperature or scale, then length, both away from the default
       for as long as that gains, then shift. Another course may want another size: while a new one leads, its family
       is climbed again at its setting.
    3. Raise `finalists` candidates, the best of each rung before any second, to `finalist_seeds`; seeds are paired
       across candidates.
    4. Choose the smallest capacity within one standard error, and half a point, of the best.
    5. Raise as many more that might be chosen instead, of no more capacity, and as many larger ones that might show the
       choice to lose too much: within half a point of the best on the seeds that they have; again the best of each
       rung before any second. Choose again, and settle it: of many candidates the smallest that stays in is one that
       its seeds flatter, so it and the best get `settling_seeds`, and if these put it further behind, it is left out
       and the next one is chosen.
    6. Fewer bits: measure the choice's rungs of the next smaller number of bits with `finalist_seeds`, and choose
       again and settle it, without those of another network that are not above the choice, for as long as one of them
       becomes it.
    7. More members: measure twice as many members of the choice with `finalist_seeds`, and again twice as many or as
       many as fit, until that brings no gain. `plan` says how many the budget is spent on; a number between two is
       measured, too.
    8. Class offsets: measure the choice with them, beside what 5. would choose, among all that were raised or might be
       chosen since and were not left out, by what their proxies reach without any. With them it is chosen if it gains
       more than one standard error or, being of less capacity, is within one standard error and half a point.
    """
    measured: dict[Candidate, Measured] = {}

    def measure(candidate: Candidate, seeds: int = budget.seeds) -> Measured:
        known = measured[candidate].values if candidate in measured else ()
        values = known + tuple(score(candidate, seed) for seed in range(len(known), seeds))
        measured[candidate] = Measured(candidate=candidate, values=values)
        return measured[candidate]

    default = default_setting(settings)
    for chain in itertools.chain.from_iterable(families):
        climb([Candidate(rung=rung, setting=default) for rung in chain], measure, budget.patience)
    for rung in _varied(families, list(measured.values()), budget.finalists):
        _vary(rung, settings, default, measure)
    _climb_at_other_courses(families, settings, measured, measure, budget)
    seeds = max(budget.seeds, budget.finalist_seeds)
    raised = [measure(entry.candidate, seeds) for entry in finalists(measured.values(), budget.finalists)]
    raised += [measure(c, seeds) for c in contenders(measured.values(), raised, budget.finalists)]
    final, settling = (partial(measure, seeds=count) for count in (seeds, max(seeds, budget.settling_seeds)))
    raised = settled(raised, settling)
    chosen = choose(raised)
    if variants is not None:
        raised = _with_fewer_bits(raised, final, settling, variants)
        chosen = _with_more_members(choose(raised), final, variants)
    if offsets is not None:
        chosen = _with_offsets(chosen, [*raised, chosen], final, settling, offsets)
    table = sorted(measured.values(), key=order)
    return table, [entry.candidate for entry in table].index(chosen.candidate)


def _with_fewer_bits(
    raised: Sequence[Measured],
    measure: Callable[[Candidate], Measured],
    settling: Callable[[Candidate], Measured],
    variants: Variants,
) -> list[Measured]:
    """`raised`, and those of fewer bits that may be chosen beside them."""
    found, chosen = list(raised), choose(raised)
    while rungs := variants.fewer_bits(chosen.candidate.rung):
        reduced = [measure(replace(chosen.candidate, rung=rung)) for rung in rungs]
        name = chosen.candidate.rung.name
        # another network has to gain: it computes more
        found += [entry for entry in reduced if entry.candidate.rung.name == name or entry.mean > chosen.mean]
        found = settled(found, settling)
        chosen = choose(found)
        if chosen not in reduced:
            break
    return found


def _with_more_members(
    single: Measured, measure: Callable[[Candidate], Measured], variants: Variants
) -> Measured:
    """As many members of `single` as `plan` spends the budget on."""
    rung, setting = single.candidate.rung, single.candidate.setting
    reached = {1: single}
    count, last = 2, 1
    while (more := _most_members(rung, last, count, variants)) is not None:
        reached[more.num_members] = measure(Candidate(rung=more, setting=setting))
        if reached[more.num_members].mean <= reached[last].mean:
            break
        count, last = 2 * more.num_members, more.num_members
    while True:
        rows = [_row(entry) for entry in reached.values()]
        planned = len(plan(variants.max_bytes, rows, max_macs=variants.max_macs).members)
        if planned in reached:
            return reached[planned]
        between = variants.with_members(rung, planned)
        assert between is not None, "a plan keeps to both ceilings"
        reached[planned] = measure(Candidate(rung=between, setting=setting))


def _with_offsets(
    chosen: Measured,
    raised: Sequence[Measured],
    measure: Callable[[Candidate], Measured],
    settling: Callable[[Candidate], Measured],
    offsets: Offsets,
) -> Measured:
    """`chosen` with offsets, or else the choice of `raised` without any."""
    corrected = measure(offsets.applied(chosen))
    without = [offsets.plain(entry) for entry in raised]
    plain = choose(settled(without, lambda candidate: offsets.plain(settling(candidate))))
    if gains(corrected, plain) or (capacity_of(corrected) < capacity_of(plain) and within(plain, corrected)):
        return corrected
    return next(entry for entry in raised if entry.candidate == plain.candidate)


def _most_members(rung: Rung, last: int, count: int, variants: Variants) -> Rung | None:
    """`count` members of `rung`, or the largest number above `last` that fits; None if none does."""
    while count > last:
        more = variants.with_members(rung, count)
        if more is not None:
            return more
        count -= 1
    return None


def _row(entry: Measured) -> Measurement:
    rung = entry.candidate.rung
    return Measurement(
        name=rung.name,
        bits=rung.bits,
        num_members=rung.num_members,
        bytes=rung.bytes,
        macs=rung.macs,
        accuracy=entry.mean,
        stderr=entry.stderr,
        values=entry.values,
    )


def default_setting(settings: Sequence[Setting]) -> Setting:
    """The setting at which capacities are compared first: the whole training, the first shift, logits as they are and
    the middle temperature, or else the middle scale."""
    course = Course(length=_DEFAULT_LENGTH, shift=settings[0].shift)
    whole = [setting for setting in settings if setting.course == course]
    plain = [setting for setting in whole if setting.logit_scale == 1.0] or whole
    return sorted(plain, key=_softness)[len(plain) // 2]


def softness_dial(settings: Sequence[Setting], default: Setting) -> list[Setting]:
    """The settings that differ from the default in temperature or scale alone, and itself, the hardest first."""
    return sorted((setting for setting in settings if setting.course == default.course), key=_softness)


def _softness(setting: Setting) -> tuple[float, float]:
    return setting.temperature, -setting.logit_scale


def _varied(
    families: Sequence[Sequence[Sequence[Rung]]], measured: Sequence[Measured], count: int
) -> list[Rung]:
    """The best `count` rungs, then the best of every chain."""
    chains = itertools.chain.from_iterable(families)
    climbed = [[entry for entry in measured if entry.candidate.rung in chain] for chain in chains]
    leading = [*best(measured, count), *(best(entries, 1)[0] for entries in climbed)]
    return list(dict.fromkeys(entry.candidate.rung for entry in leading))


def _vary(
    rung: Rung, settings: Sequence[Setting], default: Setting, measure: Callable[[Candidate], Measured]
) -> None:
    start = measure(Candidate(rung=rung, setting=default))
    _vary_course(_best_along(softness_dial(settings, default), start, measure), settings, measure)


def _vary_course(
    start: Measured, settings: Sequence[Setting], measure: Callable[[Candidate], Measured]
) -> None:
    """Other lengths of training than that of `start`, then every other shift at the best length."""
    found = start.candidate.setting
    lengths = [replace(found, length=length) for length in sorted({setting.length for setting in settings})]
    top = _best_along(lengths, start, measure).candidate
    for shift in dict.fromkeys(setting.shift for setting in settings):
        measure(replace(top, setting=replace(top.setting, shift=shift)))


def _best_along(
    dial: Sequence[Setting], start: Measured, measure: Callable[[Candidate], Measured]
) -> Measured:
    """The best of a dial on which `start` stands: each direction from there, the nearest first, for as long as every
    step gains over `start` and over the step before."""
    here, top = dial.index(start.candidate.setting), start
    for direction in (dial[:here][::-1], dial[here + 1 :]):
        chain = [replace(start.candidate, setting=setting) for setting in direction]
        top = best([top, *climb(chain, measure, patience=1, above=start.mean)], 1)[0]
    return top


def _climb_at_other_courses(
    families: Sequence[Sequence[Sequence[Rung]]],
    settings: Sequence[Setting],
    measured: Mapping[Candidate, Measured],
    measure: Callable[[Candidate], Measured],
    budget: SearchBudget,
) -> None:
    climbed = {default_setting(settings).course}
    while True:
        lead = best(list(measured.values()), 1)[0].candidate
        if lead.setting.course in climbed:
            return
        climbed.add(lead.setting.course)
        family = next(family for family in families if any(lead.rung in chain for chain in family))
        for chain in family:
            climb([Candidate(rung=rung, setting=lead.setting) for rung in chain], measure, budget.patience)
        _vary_course(best(list(measured.values()), 1)[0], settings, measure)


def climb(
    chain: Sequence[Candidate],
    measure: Callable[[Candidate], Measured],
    patience: int,
    above: float = -math.inf,
) -> list[Measured]:
    """Measure a chain from its first candidate on; stop after `patience` in a row without a new best mean over
    `above`. Returns what was measured."""
    found: list[Measured] = []
    top, without_gain = above, 0
    for candidate in chain:
        found.append(measure(candidate))
        without_gain = 0 if found[-1].mean > top else without_gain + 1
        top = max(top, found[-1].mean)
        if without_gain == patience:
            break
    return found
