"""What to spend a label budget on: a pure function of measurements; no network, file or tensor is touched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from flashdd.core.errors import ConfigError
from flashdd.core.stats import standard_error

_HEADER_GROWTH = 32
"""At most so many bytes of a larger ensemble's file stand in its header beyond a fixed number per member: digits of
counts and lengths, and padding to 8 bytes (`pack`'s tests hold this against real files)."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What students of one labeler reached.

    name: the architecture of its `num_members` members, all equal; bits: of their weights; bytes: on disk;
    macs: per image, over all members; accuracy: mean of the students, in 0..1; stderr: its standard error, ddof 1.
    values: of the students of seeds 0, 1, ..., where they are known: differences are then paired over seeds.
    """

    name: str
    bits: int
    num_members: int
    bytes: int
    macs: int
    accuracy: float
    stderr: float
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedMember:
    name: str
    bits: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Members, which count equally once their logits' scales are matched; bytes: at most so many on disk; accuracy,
    stderr: what to expect of a student; measured: False for a number of members between measured ones."""

    members: tuple[PlannedMember, ...]
    bytes: int
    macs: int
    accuracy: float
    stderr: float
    measured: bool


def plan(budget_bytes: int, measurements: Iterable[Measurement], *, max_macs: int | None = None) -> Plan:
    """The labeler to build within `budget_bytes`, and `max_macs` per image where given.

    Candidates are the measured labelers and, between two measured numbers of members of one architecture and bits,
    every number in between: its accuracy is interpolated linearly in the logarithm of the number, so it is monotone
    from one measurement to the next and never above the better; its standard error likewise; its bytes are an
    upper bound, its MACs exact. Nothing is extrapolated.

    Candidates are taken in the order of bytes. One replaces the choice so far only if its accuracy is higher by
    more than the standard error of the difference (paired where both have values of the same seeds, else as of
    independent measurements), so that chance does not buy bytes. The choice at a budget thus depends on smaller
    candidates alone, and what is chosen at a larger budget is never expected to be worse. Whether to prefer one
    network or several, wide or narrow, many bits or few, is left to the measurements.
    Members of one plan are alike: mixed ones, and snapshots of one training, were measured and are no better in the
    same bytes (docs/labeler.md, "One network or several?").

    Raises ConfigError where nothing fits, or for measurements that contradict themselves.
    """
    rows = list(measurements)
    _check(rows)
    candidates = [*((row, True) for row in rows), *((row, False) for row in _between(rows))]
    if max_macs is not None:
        candidates = [(row, measured) for row, measured in candidates if row.macs <= max_macs]
    affordable = [(row, measured) for row, measured in candidates if row.bytes <= budget_bytes]
    if not affordable:
        raise ConfigError(_too_small(budget_bytes, [row for row, _ in candidates], max_macs))
    chosen, measured = _climbed(affordable)
    member = PlannedMember(name=chosen.name, bits=chosen.bits)
    return Plan(
        members=(member,) * chosen.num_members,
        bytes=chosen.bytes,
        macs=chosen.macs,
        accuracy=chosen.accuracy,
        stderr=chosen.stderr,
        measured=measured,
    )


def _climbed(candidates: Sequence[tuple[Measurement, bool]]) -> tuple[Measurement, bool]:
    """The last that led, smallest bytes first; of equal bytes the higher accuracy, then fewer operations, first."""

    def order(pair: tuple[Measurement, bool]) -> tuple[float | str, ...]:
        row, measured = pair
        return (row.bytes, -row.accuracy, row.macs, row.stderr, not measured, row.name, row.bits)

    first, *later = sorted(candidates, key=order)
    choice = first
    for row, measured in later:
        if row.accuracy - choice[0].accuracy > _error(row, choice[0]):
            choice = row, measured
    return choice


def _error(one: Measurement, two: Measurement) -> float:
    """Standard error of the difference of their accuracies."""
    if len(one.values) == len(two.values) > 1:
        gaps = [a - b for a, b in zip(one.values, two.values, strict=True)]
        return standard_error(gaps)
    return math.hypot(one.stderr, two.stderr)


def _between(rows: Sequence[Measurement]) -> list[Measurement]:
    """The numbers of members between neighbouring measured ones, in every architecture and bits."""
    groups: dict[tuple[str, int], list[Measurement]] = {}
    for row in rows:
        groups.setdefault((row.name, row.bits), []).append(row)
    found = []
    for group in groups.values():
        ordered = sorted(group, key=lambda row: row.num_members)
        for low, high in pairwise(ordered):
            found += [
                _interpolated(low, high, count) for count in range(low.num_members + 1, high.num_members)
            ]
    return found


def _interpolated(low: Measurement, high: Measurement, count: int) -> Measurement:
    share = math.log(count / low.num_members) / math.log(high.num_members / low.num_members)
    least, most = sorted((low.accuracy, high.accuracy))
    accuracy = low.accuracy + share * (high.accuracy - low.accuracy)
    missing, steps = high.num_members - count, high.num_members - low.num_members
    return replace(
        low,
        values=(),
        num_members=count,
        bytes=high.bytes - missing * max(0, high.bytes - low.bytes - _HEADER_GROWTH) // steps,
        macs=low.macs // low.num_members * count,
        accuracy=min(max(accuracy, least), most),
        stderr=low.stderr + share * (high.stderr - low.stderr),
    )


def _check(rows: Sequence[Measurement]) -> None:
    seen = set()
    for row in rows:
        what = f"the measurement of {row.num_members} x {row.name} at {row.bits} bits"
        numbers = (row.accuracy, row.stderr)
        if min(row.num_members, row.bytes, row.macs) < 1 or not all(
            math.isfinite(x) and x >= 0 for x in numbers
        ):
            raise ConfigError(f"{what} has a number that cannot be: {row}.")
        if row.macs % row.num_members:
            raise ConfigError(
                f"{what} has {row.macs} MACs, which equal members cannot share: count all of them."
            )
        if (row.name, row.bits, row.num_members) in seen:
            raise ConfigError(f"{what} is there twice: average its students into one row.")
        seen.add((row.name, row.bits, row.num_members))


def _too_small(budget_bytes: int, rows: Sequence[Measurement], max_macs: int | None) -> str:
    ceiling = "" if max_macs is None else f" within {max_macs} MACs per image"
    if not rows:
        return f"there is no measured labeler{ceiling}: measure some, or raise the ceiling."
    smallest = min(row.bytes for row in rows)
    return (
        f"the label budget of {budget_bytes} bytes holds no measured labeler{ceiling}: the smallest has "
        f"{smallest} bytes."
    )
