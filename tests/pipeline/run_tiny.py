"""Runs the tiny run into a folder; started, killed and started again by a test."""

from __future__ import annotations

import sys
from pathlib import Path

from tiny import tiny_config

import flashdd.training.loop as loop
from flashdd.pipeline.run import run

if __name__ == "__main__":
    loop._SECONDS_BETWEEN_CHECKPOINTS = 0.05  # so that kills fall behind checkpoints, too
    run(tiny_config(), Path(sys.argv[1]), cache=Path(sys.argv[2]))
