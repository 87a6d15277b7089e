"""Planning: within the budget to the byte, never worse for more bytes, nothing beyond what was measured."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashdd.core.errors import ConfigError
from flashdd.labels.flash.plan import Measurement, plan


def _row(
    accuracy: float,
    num_bytes: int,
    *,
    name: str = "conv-3-w8",
    bits: int = 4,
    num_members: int = 1,
    macs: int = 100,
    stderr: float = 0.0,
) -> Measurement:
    return Measurement(
        name=name,
        bits=bits,
        num_members=num_members,
        bytes=num_bytes,
        macs=macs * num_members,
        accuracy=accuracy,
        stderr=stderr,
    )


_VALUES = st.one_of(
    st.just(()), *(st.tuples(*[st.integers(0, 20).map(lambda x: x / 20)] * count) for count in (2, 3))
)
_KEYS = st.tuples(st.sampled_from(["conv-3-w8", "patch-2-w16"]), st.sampled_from([2, 8]), st.integers(1, 9))


@st.composite
def _measurements(draw: st.DrawFn) -> list[Measurement]:
    keys = draw(st.lists(_KEYS, min_size=1, max_size=8, unique=True))
    rows = [
        _row(
            draw(st.integers(0, 20)) / 20,
            200 + draw(st.integers(1, 60)) * 10 * count,
            name=name,
            bits=bits,
            num_members=count,
            macs=draw(st.integers(1, 3)),
            stderr=draw(st.sampled_from([0.0, 0.01, 0.2])),
        )
        for name, bits, count in keys
    ]
    if draw(st.booleans()):  # seeds that a few rows share, and one that pairs with none
        rows = [replace(row, values=draw(_VALUES)) for row in rows]
        rows = [replace(row, accuracy=fmean(row.values)) if row.values else row for row in rows]
    return rows


@settings(deadline=None, max_examples=100)
@given(_measurements(), st.one_of(st.none(), st.integers(5, 30)))
def test_more_bytes_are_never_worse_and_never_overspent(
    rows: list[Measurement], max_macs: int | None
) -> None:
    reached = -1.0
    for budget in range(200, 6000, 97):
        try:
            found = plan(budget, rows, max_macs=max_macs)
        except ConfigError:
            assert reached == -1.0
            continue
        assert found.bytes <= budget
        assert max_macs is None or found.macs <= max_macs
        assert found.accuracy >= reached
        reached = found.accuracy
        same = [row for row in rows if (row.name, row.bits) == (found.members[0].name, found.members[0].bits)]
        counts = [row.num_members for row in same]
        assert min(counts) <= len(found.members) <= max(counts)
        assert found.measured == (len(found.members) in counts)


@settings(deadline=None, max_examples=50)
@given(_measurements(), st.randoms())
def test_the_order_of_measurements_is_of_no_account(rows: list[Measurement], dice: object) -> None:
    shuffled = list(rows)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan(10_000, rows) == plan(10_000, shuffled)


def test_the_budget_holds_to_the_byte() -> None:
    rows = [_row(0.5, 1000), _row(0.7, 2000, name="conv-3-w16")]
    assert plan(1999, rows).members[0].name == "conv-3-w8"
    assert plan(2000, rows).members[0].name == "conv-3-w16"
    with pytest.raises(
        ConfigError, match="budget of 999 bytes holds no measured labeler: the smallest has 1000"
    ):
        plan(999, rows)


def test_chance_does_not_buy_bytes() -> None:
    base = _row(0.60, 1000, stderr=0.03)
    assert plan(9000, [base, _row(0.649, 2000, bits=8, stderr=0.04)]).bytes == 1000
    assert plan(9000, [base, _row(0.651, 2000, bits=8, stderr=0.04)]).bytes == 2000
    drift = [_row(0.60 + 0.03 * i, 1000 * (i + 1), name=f"conv-3-w{i + 1}", stderr=0.03) for i in range(5)]
    assert [plan(1000 * (i + 1), drift).accuracy for i in range(5)] == pytest.approx(
        [0.6, 0.6, 0.66, 0.66, 0.72]
    )


def test_numbers_of_members_in_between_are_on_the_line() -> None:
    rows = [_row(0.5, 1000), _row(0.7, 4000, num_members=4, stderr=0.1)]
    found = plan(2100, rows)
    assert (len(found.members), found.measured, found.macs) == (2, False, 200)
    assert found.accuracy == pytest.approx(0.6)  # log2(2) is half way from log2(1) to log2(4)
    assert found.stderr == pytest.approx(0.05)
    assert found.bytes == 4000 - 2 * (3000 - 32) // 3
    assert plan(found.bytes - 1, rows).bytes == 1000
    assert {(member.name, member.bits) for member in found.members} == {("conv-3-w8", 4)}


def test_a_worse_ensemble_is_not_chosen_on_the_way() -> None:
    rows = [_row(0.7, 1000), _row(0.5, 8000, num_members=8)]
    assert len(plan(9000, rows).members) == 1


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "there is no measured labeler"),
        ([_row(0.5, 0)], "1 x conv-3-w8 at 4 bits has a number that cannot be"),
        ([_row(float("nan"), 10)], "a number that cannot be"),
        ([_row(0.5, 10, stderr=-0.1)], "a number that cannot be"),
        ([_row(0.5, 10), _row(0.6, 10)], "is there twice: average its students"),
        (
            [Measurement(name="a", bits=4, num_members=2, bytes=9, macs=3, accuracy=0.5, stderr=0.0)],
            "has 3 MACs, which equal members cannot share",
        ),
    ],
)
def test_measurements_that_cannot_be_are_refused(rows: list[Measurement], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        plan(100, rows)


def test_a_ceiling_on_operations_is_named() -> None:
    with pytest.raises(
        ConfigError, match="no measured labeler within 99 MACs per image: measure some, or raise"
    ):
        plan(9000, [_row(0.5, 1000)], max_macs=99)


def test_differences_are_paired_where_seeds_are_known() -> None:
    """Both spread by 0.1 over seeds that they share, and differ by 0.01 in every one."""
    shared = (0.4, 0.5, 0.6)
    one = _row(0.50, 1000, stderr=0.058)
    two = _row(0.51, 2000, name="conv-3-w16", stderr=0.058)
    assert plan(2000, [one, two]).members[0].name == "conv-3-w8"
    paired = [replace(one, values=shared), replace(two, values=tuple(v + 0.01 for v in shared))]
    assert plan(2000, paired).members[0].name == "conv-3-w16"
    assert plan(2000, [paired[0], two]).members[0].name == "conv-3-w8"  # nothing to pair
