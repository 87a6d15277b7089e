"""What long work shows on stderr."""

import io

import pytest
from rich.console import Console

from flashdd.cli.progress import Bars, Lines


def test_lines_end_with_what_came_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.start("student hard on random, seed 0", 250)
    lines.update(100)  # within half a minute: no line
    lines.finish("34.3 % of the test images")
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "student hard on random, seed 0",
        "student hard on random, seed 0: 34.3 % of the test images",
    ]


def test_a_bar_goes_and_its_result_stays() -> None:
    bars, shown = Bars(), io.StringIO()
    bars._console = Console(file=shown, force_terminal=False, width=100)
    bars.start("train conv-3-w8", 10)
    bars.update(10)
    bars.finish("61.8 % of the validation images")
    assert shown.getvalue().splitlines()[-1] == "train conv-3-w8: 61.8 % of the validation images"
    bars.close()  # nothing is open: nothing happens
