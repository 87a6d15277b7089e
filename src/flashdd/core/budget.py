"""What a label budget means in bytes."""

from __future__ import annotations

import re

from flashdd.core.errors import ConfigError

_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%|[kKmM]?[bB])?\s*")
_UNITS = {None: 1, "B": 1, "KB": 1_000, "MB": 1_000_000}


def parse_budget(text: str, reference_bytes: int) -> int:
    """Bytes of a budget: `13408`, `16KB`, `1.2MB` (KB = 1000) or `0.03%` of `reference_bytes`.

    >>> parse_budget("0.03%", 44_695_848)
    13408
    """
    match = _BUDGET.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"labeler.budget: got '{text}'; expected bytes (13408), a size (16KB) or a share (0.03%)."
        )
    number, unit = float(match[1]), match[2]
    size = number / 100 * reference_bytes if unit == "%" else number * _UNITS[unit and unit.upper()]
    if size < 1:
        meant = not unit and number / 100 * reference_bytes >= 1
        share = f", or {text.strip()}% if a share of the reference is meant" if meant else ""
        raise ConfigError(f"labeler.budget: '{text}' is less than one byte; give more{share}.")
    return int(size)
