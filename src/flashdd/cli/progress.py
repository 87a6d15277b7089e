"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars

from flashdd.core.progress import Progress

_SECONDS_BETWEEN_LINES = 30.0


def progress_on_stderr() -> Progress:
    return Bars() if sys.stderr.isatty() else Lines()


@final
class Bars(Progress):
    """One bar at a time, which disappears when it is done; its result stays."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars: RichBars | None = None
        self._task: TaskID | None = None
        self._label = ""

    def message(self, text: str) -> None:
        self._hide()
        self._console.print(text, markup=False)

    def start(self, label: str, total: int) -> None:
        self.close()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._bars = RichBars(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._bars.start()
        self._task = self._bars.add_task(label, total=total)
        self._label = label

    def update(self, done: int) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done)

    def finish(self, result: str) -> None:
        self.message(f"{self._label}: {result}")
        self.close()

    def close(self) -> None:
        self._hide()
        self._label = ""

    def _hide(self) -> None:
        """A message in the middle of work hides its bar, not whose result is to come."""
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = None


@final
class Lines(Progress):
    """A line when work starts, every half minute while it goes on, and with its result."""

    def __init__(self) -> None:
        self._label, self._total, self._last = "", 0, 0.0

    def message(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def start(self, label: str, total: int) -> None:
        self._label, self._total, self._last = label, total, time.monotonic()
        self.message(label)

    def update(self, done: int) -> None:
        if self._label and time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.message(f"{self._label}: {done}/{self._total}")

    def finish(self, result: str) -> None:
        self.message(f"{self._label}: {result}")
        self.close()

    def close(self) -> None:
        self._label = ""
