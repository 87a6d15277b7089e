"""Many classes: what a method holds in memory beside its result is one class, or one batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from many_classes import PER_CLASS, SHAPE

SCRIPT = Path(__file__).with_name("many_classes.py")
CLASSES = 1000
PIXELS = SHAPE[0] * SHAPE[1] * SHAPE[2]


@pytest.mark.parametrize("method", ["herding", "kmeans", "rded", "dm"])
def test_memory_does_not_hold_the_real_images(method: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), method, str(CLASSES), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = map(int, done.stdout.split())
    mapped = (
        CLASSES * PER_CLASS * PIXELS
    )  # pages of the file that were read count as resident, but can be dropped
    distilled = 4 * CLASSES * PIXELS  # float32: images, gradient, momentum and products of DM
    held = 6 * distilled if method == "dm" else distilled
    assert after - before < mapped + held + 40_000_000
    if method != "dm":  # all real images as floats at once would be seen
        assert mapped + held + 40_000_000 < 4 * mapped
