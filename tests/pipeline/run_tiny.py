"""Runs the tiny run into a folder; kills itself where a test asks for it, and is started again.

    run_tiny.py OUT CACHE [LABEL STEP]

With a label: SIGKILL at step STEP of the first bar whose label starts with LABEL.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tiny import tiny_config

import flashdd.training.loop as loop
from flashdd.core.progress import Silent
from flashdd.pipeline.run import run


class Bomb(Silent):
    """Kills this process, without any chance to clean up."""

    def __init__(self, label: str, step: int) -> None:
        self.label, self.step = label, step
        self.armed = False

    def start(self, label: str, total: int) -> None:
        self.armed = label.startswith(self.label)

    def update(self, done: int) -> None:
        if self.armed and done >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    loop._SECONDS_BETWEEN_CHECKPOINTS = 0.01  # so that kills fall behind checkpoints, too
    progress = Bomb(sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else Silent()
    run(tiny_config(), Path(sys.argv[1]), cache=Path(sys.argv[2]), progress=progress)
