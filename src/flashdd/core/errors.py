"""What can go wrong, as one tree of exceptions.

Every message is one sentence or two: what was wrong, what was expected, what to do.

* FlashddError                    exit code 1
  * UsageError                    exit code 2: arguments, recipe or data that cannot be used
    * ConfigError                 a recipe, flag or `--set` value
    * UnknownNameError            a name that no table holds
    * DataError                   a dataset or image set that cannot be used
    * OutputError                 an output folder that cannot be written, or holds another run
  * ArtifactError                 a damaged, foreign or newer artifact, labeler or label file
  * StorageError                  the disk is full or fails in the middle of the work
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class FlashddError(Exception):
    """Root of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 1


class UsageError(FlashddError, ValueError):
    exit_code: ClassVar[int] = 2


class ConfigError(UsageError):
    pass


class UnknownNameError(UsageError):
    pass


class DataError(UsageError):
    pass


class OutputError(UsageError):
    pass


class ArtifactError(FlashddError, ValueError):
    pass


class StorageError(FlashddError, OSError):
    pass


def unknown_name(kind: str, got: str, known: Iterable[str]) -> UnknownNameError:
    """The error for `got`, a name of `kind` that is not among `known`, with the nearest match.

    >>> str(unknown_name("student", "resnet81", ["resnet18", "convnet-3-w32"]))
    "unknown student 'resnet81': did you mean 'resnet18'? Known: convnet-3-w32, resnet18."
    """
    names = sorted(known)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.4)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return UnknownNameError(f"unknown {kind} '{got}':{hint} Known: {', '.join(names)}.")
