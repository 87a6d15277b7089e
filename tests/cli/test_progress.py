"""What long work shows on stderr."""

import io

import pytest
from rich.console import Console

from flashdd.cli import progress
from flashdd.cli.progress import Bars, Lines


def test_lines_end_with_what_came_of_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    lines.start("student hard on random, seed 0", 250)
    lines.update(100)  # within half a minute: no line
    lines.finish("34.3 % of the test images")
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)
    lines.update(101)  # of nothing: no line
    assert capsys.readouterr().err.splitlines() == [
        "student hard on random, seed 0",
        "student hard on random, seed 0: 34.3 % of the test images",
    ]


def test_a_bar_goes_and_its_result_stays() -> None:
    bars, shown = Bars(), io.StringIO()
    bars._console = Console(file=shown, force_terminal=False, width=100)
    bars.start("train conv-3-w8", 10)
    bars.message("waiting for another process")  # hides the bar
    bars.update(10)
    bars.finish("61.8 % of the validation images")
    assert bars._bars is None
    assert [line for line in shown.getvalue().splitlines() if line.strip()] == [
        "waiting for another process",
        "train conv-3-w8: 61.8 % of the validation images",
    ]
