"""Numbers as text: units, rounding at the edges, signs."""

from __future__ import annotations

import pytest

from flashdd.core.record import Accuracy, Difference
from flashdd.report import text


@pytest.mark.parametrize(
    ("num_bytes", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (13408, "13.4 KB"),
        (804525, "804.5 KB"),
        (999_949, "999.9 KB"),
        (999_960, "1.0 MB"),
        (44_695_848, "44.7 MB"),
        (5_670_000_000, "5.7 GB"),
    ],
)
def test_kilobytes_are_thousands(num_bytes: int, expected: str) -> None:
    assert text.bytes_text(num_bytes) == expected


def test_accuracies_are_percent_with_their_n() -> None:
    assert (
        text.accuracy_text(Accuracy(mean=0.545, std=0.0042, n=3, values=(0.545,) * 3)) == "54.5 ± 0.4 (n=3)"
    )
    assert text.accuracy_text(Accuracy.of([0.842])) == "84.2 (n=1)"


def test_differences_are_signed_points() -> None:
    assert (
        text.difference_text(Difference(mean=-0.0031, low=-0.0094, high=0.0032, n=5)) == "-0.3 [-0.9, +0.3]"
    )
    assert text.difference_text(Difference(mean=-0.0001, low=None, high=None, n=1)) == "0.0"


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.0003, "0.030"), (0.018, "1.8"), (0.5, "50"), (0.002, "0.20"), (2.5e-5, "0.0025")],
)
def test_shares_keep_two_figures(ratio: float, expected: str) -> None:
    assert text.ratio_percent_text(ratio) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.04, "0.0 s"), (59.96, "1 min 0 s"), (200, "3 min 20 s"), (7260, "2 h 1 min")]
)
def test_times_read_like_a_clock(seconds: float, expected: str) -> None:
    assert text.seconds_text(seconds) == expected


def test_counts_rates_and_factors() -> None:
    assert [text.count_text(count) for count in (999, 658_000, 555_422_720)] == ["999", "658.0 K", "555.4 M"]
    assert [text.rate_text(rate) for rate in (1.25, 812.4, 14.7e6)] == ["1.2", "812", "14.7 M"]
    assert [text.times_text(ratio) for ratio in (1.5, 34.247, 843.81, 12345.6)] == [
        "1.50",
        "34.2",
        "844",
        "12,346",
    ]


def test_labelers_say_their_bits_and_members_where_these_are_news() -> None:
    assert text.labeler_text("conv-3-w8", 8, 1) == text.labeler_text("conv-3-w8", None, None) == "conv-3-w8"
    assert text.labeler_text("resnet18", 32, 1) == "resnet18"
    assert text.labeler_text("conv-3-w8", 4, 1) == "conv-3-w8, 4 bits"
    assert text.labeler_text("conv-3-w8", 8, 3) == "3 x conv-3-w8"
    assert text.labeler_text("conv-3-w8", 2, 2) == "2 x conv-3-w8, 2 bits"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.00042, "0.42 ms"),
        (0.001, "1 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1 s"),
        (4.24, "4.2 s"),
        (420.4, "420 s"),
    ],
)
def test_times_of_any_size_have_two_figures(seconds: float, expected: str) -> None:
    assert text.short_time_text(seconds) == expected


def test_one_stands_without_an_s() -> None:
    assert (text.counted(1, "thread"), text.counted(2, "thread")) == ("1 thread", "2 threads")
