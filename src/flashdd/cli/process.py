"""The command as a process: how it meets other work on the machine, how it is stopped, and where it speaks."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import typer

INTERRUPTED, TERMINATED = 130, 143
_GLANCE_SECONDS = 0.15


def spare_a_busy_machine() -> None:
    """Let threads sleep, not spin, while they wait, if other work fills the machine at this moment.

    Measured on two cores, 100 images through a ConvNet-3-w32 step: spinning 43 ms alone and 112 ms beside another
    training, sleeping 56 and 67. A load average would not do: it still counts what ended a minute ago, such as the
    installation before a first run. OpenMP reads the setting when torch is loaded, inside the commands.
    """
    with contextlib.suppress(OSError, ValueError):  # no such file on this platform
        before = _busy_and_all()
        time.sleep(_GLANCE_SECONDS)
        busy, total = (now - then for now, then in zip(_busy_and_all(), before, strict=True))
        if busy > 0.5 * total:
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _busy_and_all() -> tuple[int, int]:
    """Ticks of all cores since the machine started: those with work, and all of them (proc(5), /proc/stat)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)  # less idle, and idle that waits for a disk


@contextlib.contextmanager
def interruptible(left: str) -> Iterator[None]:
    """An interrupt, or a request to terminate, becomes a sentence, which says what is left of the work, and a code."""
    terminated = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        say(f"{'terminated' if terminated else 'interrupted'}: {left}")
        raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: str) -> None:
    typer.echo("\n".join(f"flashdd: {line}" for line in text.splitlines()), err=True)
